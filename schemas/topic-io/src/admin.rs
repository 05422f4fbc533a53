//! Topics, offsets and lag, and the first connection: a wrong address or password is one line within seconds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic, OwnedResourceSpecifier, ResourceSpecifier, TopicReplication,
};
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::metadata::Metadata;
use rdkafka::producer::Producer as _;
use rdkafka::{ClientConfig, Offset};

use crate::batch::committed_metadata;
use crate::config::{KafkaConfig, ReaderRole};
use crate::context::{ConsumerEvents, ProducerEvents};
use crate::error::{KafkaError, retry_passing};
use crate::oauth::Tokens;
use crate::reader::{Committed, GroupMetadata, PartitionReader, committed_offsets, open_consumer};
use crate::topic_id;
use crate::writer::{Producer, open, poll};

/// A topic that is to exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// Its name.
    pub name: String,
    /// How many partitions it has.
    pub partitions: i32,
    /// How many brokers keep each; -1 is the cluster's default.
    pub replication: i32,
    /// Keep the last record of each key instead of the records of some time.
    pub compacted: bool,
    /// How long records are kept, -1 for ever; `None` is the cluster's default.
    pub retention_ms: Option<i64>,
    /// Any topic setting, by Kafka's name.
    pub properties: BTreeMap<String, String>,
    /// As `properties`, of a broker that knows them: those that are newer than it are left out.
    pub properties_if_known: BTreeMap<String, String>,
}

impl TopicSpec {
    /// A topic with the cluster's defaults for everything but its partitions.
    pub fn new(name: impl Into<String>, partitions: i32) -> Self {
        let [properties, properties_if_known] = [BTreeMap::new(), BTreeMap::new()];
        let name = name.into();
        Self {
            name,
            partitions,
            replication: -1,
            compacted: false,
            retention_ms: None,
            properties,
            properties_if_known,
        }
    }

    fn settings(&self, are_all_known: bool) -> BTreeMap<String, String> {
        let mut settings = if are_all_known { self.properties_if_known.clone() } else { BTreeMap::new() };
        if self.compacted {
            settings.insert("cleanup.policy".to_owned(), "compact".to_owned());
        }
        if let Some(retention_ms) = self.retention_ms {
            settings.insert("retention.ms".to_owned(), retention_ms.to_string());
        }
        settings.extend(self.properties.clone());
        settings
    }
}

/// A topic that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    /// Its name.
    pub name: String,
    /// How many partitions it has.
    pub partitions: usize,
    /// On how many brokers each is kept.
    pub replication: usize,
}

/// Where a partition begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionOffsets {
    /// The partition.
    pub partition: i32,
    /// The oldest offset.
    pub low: i64,
    /// The offset behind the newest.
    pub high: i64,
}

/// How far a group is behind in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionLag {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The next offset to read, if the group has one.
    pub committed: Option<i64>,
    /// The offset behind the newest.
    pub end_offset: i64,
    /// How many offsets lie between: records, and the end markers of transactions.
    pub lag: i64,
}

const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// One attempt to get the cluster's metadata: short, so that a refusal is seen soon.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(250);
/// How long events are served between two attempts: all that wait, where no time at all is one event.
const EVENTS_TIME: Duration = Duration::from_millis(10);

/// A connection for questions and topic creation.
pub struct Admin {
    config: KafkaConfig,
    client: Producer,
}

impl Admin {
    /// Connects, or says within `connect_timeout` why not.
    ///
    /// # Errors
    /// [`KafkaError::Setting`], [`KafkaError::Unreachable`] or [`KafkaError::Refused`].
    pub fn connect(config: &KafkaConfig) -> Result<Self, KafkaError> {
        config.validate()?;
        let properties = config.base_properties()?;
        let client = open(config, &properties)?;
        let admin = Self { config: config.clone(), client };
        let start = Instant::now();
        loop {
            let remaining = config.connect_timeout.saturating_sub(start.elapsed());
            let answer = admin.client.client().fetch_metadata(None, remaining.min(ATTEMPT_TIMEOUT));
            admin.client.poll(EVENTS_TIME); // what went wrong comes as an event, behind the lines that the client logs
            if answer.is_ok() {
                return Ok(admin);
            }
            let last = admin.client.context().events.last();
            if let Some((code, reason)) = &last
                && let Some(settings) = refusing(*code)
            {
                let (bootstrap_servers, reason) = (config.bootstrap_servers.clone(), reason.clone());
                return Err(KafkaError::Refused { bootstrap_servers, settings, reason });
            }
            if start.elapsed() >= config.connect_timeout {
                let reason = last.map_or_else(|| "no answer at all".to_owned(), |(_, reason)| reason);
                let (bootstrap_servers, waited) = (config.bootstrap_servers.clone(), config.connect_timeout);
                return Err(KafkaError::Unreachable { bootstrap_servers, waited, reason });
            }
        }
    }

    /// Creates the topics that are missing and returns their names; those that are there must have the partitions asked for.
    ///
    /// # Errors
    /// Another partition count, no right to create, or a refusal by the cluster.
    pub fn ensure_topics(&self, topics: &[TopicSpec]) -> Result<Vec<String>, KafkaError> {
        let existing = self.counts()?;
        let (present, missing): (Vec<_>, Vec<_>) = topics.iter().partition(|topic| existing.contains_key(&topic.name));
        for topic in present {
            check_partitions(topic, existing[&topic.name])?;
        }
        let mut created = Vec::new();
        if missing.is_empty() {
            return Ok(created);
        }
        let mut unknowing = Vec::new();
        for (&topic, result) in missing.iter().zip(self.create(&missing, true)?) {
            match result {
                // It does not say which.
                Err(Code::InvalidConfig) if !topic.properties_if_known.is_empty() => unknowing.push(topic),
                other => created.extend(as_created(topic, other)?),
            }
        }
        for (&topic, result) in unknowing.iter().zip(self.create(&unknowing, false)?) {
            created.extend(as_created(topic, result)?);
            tracing::info!(topic = topic.name, "created without the settings that this broker does not know");
        }
        self.wait_until_known(&missing)?;
        Ok(created)
    }

    fn create(&self, topics: &[&TopicSpec], are_all_known: bool) -> Result<Vec<Result<String, Code>>, KafkaError> {
        if topics.is_empty() {
            return Ok(Vec::new());
        }
        let settings: Vec<_> = topics.iter().map(|topic| topic.settings(are_all_known)).collect();
        let new: Vec<_> = topics.iter().zip(&settings).map(|(topic, settings)| new_topic(topic, settings)).collect();
        let (client, options) = self.requests()?;
        let results = block_on(client.create_topics(&new, &options));
        let results = results.map_err(|error| KafkaError::client("creating topics", &error))?;
        Ok(results.into_iter().map(|result| result.map_err(|(_, code)| code)).collect())
    }

    /// All topics, by name, without the brokers' internal ones.
    ///
    /// # Errors
    /// No answer in time.
    pub fn list(&self) -> Result<Vec<TopicInfo>, KafkaError> {
        let metadata = self.metadata(None)?;
        let healthy =
            metadata.topics().iter().filter(|topic| topic.error().is_none() && !topic.name().starts_with("__"));
        let info = |topic: &rdkafka::metadata::MetadataTopic| TopicInfo {
            name: topic.name().to_owned(),
            partitions: topic.partitions().len(),
            replication: topic.partitions().first().map_or(0, |partition| partition.replicas().len()),
        };
        let mut topics: Vec<_> = healthy.map(info).collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// How many partitions a topic has.
    ///
    /// # Errors
    /// There is no such topic, no right to see it, or no answer in time.
    pub fn partitions(&self, topic: &str) -> Result<i32, KafkaError> {
        let metadata = self.metadata(Some(topic))?;
        let Some(found) = metadata.topics().first() else {
            return Err(KafkaError::UnknownTopic { topic: topic.to_owned() });
        };
        match found.error().map(Code::from) {
            // The list of a topic with an error is not to be looked at: it may be null.
            None => Ok(found.partitions().len() as i32),
            Some(Code::TopicAuthorizationFailed) => Err(KafkaError::NotAuthorized {
                operation: "see topic",
                resource: format!("{topic:?}"),
                reason: Code::TopicAuthorizationFailed.to_string(),
            }),
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => {
                Err(KafkaError::UnknownTopic { topic: topic.to_owned() })
            }
            Some(code) => Err(KafkaError::of_code("asking for a topic's partitions", code)),
        }
    }

    /// The id of a topic, which one of the same name that is made again does not have; `None` where the cluster gives none.
    ///
    /// # Errors
    /// As [`partitions`](Self::partitions).
    pub fn topic_id(&self, topic: &str) -> Result<Option<String>, KafkaError> {
        topic_id::ask(self.client.client(), topic, REQUEST_TIMEOUT).map_err(|code| match code {
            Code::UnknownTopicOrPartition | Code::UnknownTopic => KafkaError::UnknownTopic { topic: topic.to_owned() },
            code => KafkaError::of_code("asking for a topic's id", code),
        })
    }

    /// The largest batch of records that each of these topics takes, in bytes as it is compressed (`max.message.bytes`). `None` where the
    /// cluster does not say: that is a right of its own (`DescribeConfigs`), which a writer need not have.
    ///
    /// # Errors
    /// No answer in time.
    pub fn batch_bytes_max<const N: usize>(&self, topics: [&str; N]) -> Result<[Option<usize>; N], KafkaError> {
        let (client, options) = self.requests()?;
        let answer = block_on(client.describe_configs(topics.map(ResourceSpecifier::Topic).iter(), &options));
        let answer = answer.map_err(|error| KafkaError::client("asking for a topic's settings", &error))?;
        let found: Vec<_> = answer.into_iter().filter_map(Result::ok).collect();
        Ok(topics.map(|topic| {
            let is_of_it = |settings: &&ConfigResource| match &settings.specifier {
                OwnedResourceSpecifier::Topic(name) => name == topic,
                _ => false,
            };
            found.iter().find(is_of_it)?.get("max.message.bytes")?.value.as_ref()?.parse().ok()
        }))
    }

    /// A client of what asks the cluster's controller, and how long it is waited for.
    fn requests(&self) -> Result<(AdminClient<ProducerEvents>, AdminOptions), KafkaError> {
        let properties = self.config.base_properties()?;
        let client = AdminClient::from_config_and_context(&properties, ProducerEvents::new(&self.config));
        let client = client.map_err(|error| self.config.refused(&error))?;
        Tokens::start(client.inner().context().tokens.as_ref(), client.inner())?;
        let options =
            AdminOptions::new().operation_timeout(Some(REQUEST_TIMEOUT)).request_timeout(Some(REQUEST_TIMEOUT));
        Ok((client, options))
    }

    /// Where each partition of a topic begins and ends, as a reader of committed data sees it: before the first transaction that is
    /// open.
    ///
    /// # Errors
    /// As [`partitions`](Self::partitions).
    pub fn offsets(&self, topic: &str) -> Result<Vec<PartitionOffsets>, KafkaError> {
        (0..self.partitions(topic)?).map(|partition| self.watermarks(topic, partition)).collect()
    }

    /// As [`offsets`](Self::offsets), with what open transactions have written. Clients see what is committed unless they are told
    /// otherwise, producers too, so that this takes a client of its own.
    ///
    /// # Errors
    /// As [`partitions`](Self::partitions).
    pub fn written(&self, topic: &str) -> Result<Vec<PartitionOffsets>, KafkaError> {
        self.written_as_seen_by(&self.reader_of_all()?, topic)
    }

    /// A reader that also sees what is not committed.
    pub(crate) fn reader_of_all(&self) -> Result<PartitionReader, KafkaError> {
        PartitionReader::new(&self.config, false)
    }

    pub(crate) fn written_as_seen_by(
        &self,
        reader: &PartitionReader,
        topic: &str,
    ) -> Result<Vec<PartitionOffsets>, KafkaError> {
        let ends = |partition| {
            let (low, high) = reader.watermarks(topic, partition)?;
            Ok(PartitionOffsets { partition, low, high })
        };
        (0..self.partitions(topic)?).map(ends).collect()
    }

    /// How far a group is behind in each partition of some topics. A partition without a committed offset lags by all it holds.
    ///
    /// # Errors
    /// No right to see the group, or no answer in time.
    pub fn lag(&self, group: &str, topics: &[&str]) -> Result<Vec<PartitionLag>, KafkaError> {
        let failed = |error: rdkafka::error::KafkaError| match error.rdkafka_error_code() {
            Some(Code::GroupAuthorizationFailed) => KafkaError::NotAuthorized {
                operation: "see",
                resource: format!("consumer group {group:?}"),
                reason: error.to_string(),
            },
            _ => KafkaError::client("asking for committed offsets", &error),
        };
        let mut list = TopicPartitionList::new();
        for topic in topics {
            for partition in 0..self.partitions(topic)? {
                list.add_partition(topic, partition);
            }
        }
        let consumer = self.consumer_of(group)?;
        let list = committed_offsets(&consumer, &list, REQUEST_TIMEOUT).map_err(failed)?;
        let mut lags = Vec::with_capacity(list.count());
        for entry in list.elements() {
            let offsets = self.watermarks(entry.topic(), entry.partition())?;
            let committed = if let Offset::Offset(offset) = entry.offset() { Some(offset) } else { None };
            lags.push(PartitionLag {
                topic: entry.topic().to_owned(),
                partition: entry.partition(),
                committed,
                end_offset: offsets.high,
                lag: (offsets.high - committed.unwrap_or(offsets.low)).max(0),
            });
        }
        Ok(lags)
    }

    /// What a group has committed for each partition of a topic, in their order. An open transaction's offsets are waited for.
    ///
    /// # Errors
    /// As [`lag`](Self::lag).
    pub fn committed(&self, group: &str, topic: &str) -> Result<Vec<Option<Committed>>, KafkaError> {
        let mut list = TopicPartitionList::new();
        for partition in 0..self.partitions(topic)? {
            list.add_partition(topic, partition);
        }
        let found = committed_offsets(&self.consumer_of(group)?, &list, REQUEST_TIMEOUT);
        let found = found.map_err(|error| KafkaError::client("asking for committed offsets", &error))?;
        let committed = |(entry, metadata): (rdkafka::topic_partition_list::TopicPartitionListElem<'_>, String)| {
            if let Offset::Offset(offset) = entry.offset() { Some(Committed { offset, metadata }) } else { None }
        };
        Ok(found.elements().into_iter().zip(committed_metadata(&found)).map(committed).collect())
    }

    /// The partitions of some topics that no member of a group owns: all, of a group without members. `None` while the group itself is
    /// settling who owns what.
    ///
    /// # Errors
    /// As [`lag`](Self::lag).
    pub fn unowned(&self, group: &str, topics: &[&str]) -> Result<Option<BTreeSet<(String, i32)>>, KafkaError> {
        let found = self.consumer_of(group)?.fetch_group_list(Some(group), REQUEST_TIMEOUT);
        let found = found.map_err(|error| KafkaError::client("asking for a group's members", &error))?;
        let found = found.groups().iter().find(|found| found.name() == group);
        if found.is_some_and(|found| !["Stable", "Empty", "Dead"].contains(&found.state())) {
            return Ok(None);
        }
        let mut unowned = BTreeSet::new();
        for topic in topics {
            unowned.extend((0..self.partitions(topic)?).map(|partition| (String::from(*topic), partition)));
        }
        for member in found.into_iter().flat_map(|found| found.members()) {
            // Whose assignment cannot be read may own any.
            let Some(owned) = assignment(member.assignment().unwrap_or_default()) else { return Ok(None) };
            unowned.retain(|place| !owned.contains(place));
        }
        Ok(Some(unowned))
    }

    /// What commits the offsets of a group that nobody is a member of: its writer is alone by its transactional id.
    ///
    /// # Errors
    /// A setting that the client does not accept.
    pub fn group_metadata(&self, group: &str) -> Result<GroupMetadata, KafkaError> {
        let metadata = self.consumer_of(group)?.group_metadata();
        Ok(GroupMetadata(metadata.expect("a consumer with a group.id has metadata")))
    }

    fn watermarks(&self, topic: &str, partition: i32) -> Result<PartitionOffsets, KafkaError> {
        let ask = |remaining| self.client.client().fetch_watermarks(topic, partition, remaining);
        let found = retry_passing(REQUEST_TIMEOUT, ask);
        let (low, high) = found.map_err(|error| KafkaError::client("asking for watermarks", &error))?;
        Ok(PartitionOffsets { partition, low, high })
    }

    /// A client that speaks for a group without joining it.
    fn consumer_of(&self, group: &str) -> Result<BaseConsumer<ConsumerEvents>, KafkaError> {
        let role = ReaderRole {
            group_id: group,
            instance_id: None,
            read_committed: true,
            prefetch_kbytes_total: 1024,
            report_end: false,
        };
        let properties: ClientConfig = self.config.reader_properties(&role)?;
        let consumer = open_consumer(&self.config, &properties)?;
        consumer.context().close();
        Ok(consumer)
    }

    fn counts(&self) -> Result<BTreeMap<String, usize>, KafkaError> {
        let metadata = self.metadata(None)?;
        let healthy = metadata.topics().iter().filter(|topic| topic.error().is_none());
        Ok(healthy.map(|topic| (topic.name().to_owned(), topic.partitions().len())).collect())
    }

    fn metadata(&self, topic: Option<&str>) -> Result<Metadata, KafkaError> {
        let metadata = self.client.client().fetch_metadata(topic, REQUEST_TIMEOUT);
        poll(&self.client, Duration::ZERO);
        metadata.map_err(|error| KafkaError::client("asking for metadata", &error))
    }

    /// A topic that was created is not known to every broker, nor led by one, at once.
    fn wait_until_known(&self, topics: &[&TopicSpec]) -> Result<(), KafkaError> {
        let start = Instant::now();
        for topic in topics {
            loop {
                let metadata = self.metadata(Some(&topic.name))?;
                let found =
                    metadata.topics().iter().find(|found| found.name() == topic.name && found.error().is_none());
                let led = |found: &rdkafka::metadata::MetadataTopic| found.partitions().iter().all(|p| p.leader() >= 0);
                if let Some(found) = found
                    && led(found)
                    && !found.partitions().is_empty()
                {
                    check_partitions(topic, found.partitions().len())?;
                    break;
                }
                if start.elapsed() >= REQUEST_TIMEOUT {
                    return Err(KafkaError::TimedOut { operation: "creating topics", waited: REQUEST_TIMEOUT });
                }
                thread::sleep(Duration::from_millis(20)); // waiting for another machine: there is nothing to be woken by
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("bootstrap_servers", &self.config.bootstrap_servers).finish_non_exhaustive()
    }
}

/// The settings to check when a connection fails with this code for good.
fn refusing(code: Code) -> Option<&'static str> {
    match code {
        Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState => Some("kafka.sasl_mechanism, kafka.sasl_username and kafka.sasl_password"),
        Code::SSL => Some("kafka.security_protocol and kafka.ssl_ca_location"),
        _ => None,
    }
}

fn check_partitions(topic: &TopicSpec, found: usize) -> Result<(), KafkaError> {
    let wanted = usize::try_from(topic.partitions).unwrap_or(0);
    if found == wanted { Ok(()) } else { Err(KafkaError::PartitionCount { topic: topic.name.clone(), found, wanted }) }
}

fn new_topic<'a>(topic: &'a TopicSpec, settings: &'a BTreeMap<String, String>) -> NewTopic<'a> {
    let new = NewTopic::new(&topic.name, topic.partitions, TopicReplication::Fixed(topic.replication));
    settings.iter().fold(new, |new, (name, value)| new.set(name, value))
}

/// The name, if it was created now.
fn as_created(topic: &TopicSpec, result: Result<String, Code>) -> Result<Option<String>, KafkaError> {
    match result {
        Ok(name) => Ok(Some(name)),
        // Somebody else was faster: its count is checked in the end.
        Err(Code::TopicAlreadyExists) => Ok(None),
        Err(code) => Err(not_created(topic, code)),
    }
}

fn not_created(topic: &TopicSpec, code: Code) -> KafkaError {
    let reason = code.to_string();
    match code {
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => {
            KafkaError::NotAuthorized { operation: "create topic", resource: format!("{:?}", topic.name), reason }
        }
        _ => {
            let (partitions, replication) = (topic.partitions, topic.replication);
            KafkaError::NotCreated { topic: topic.name.clone(), partitions, replication, reason }
        }
    }
}

/// The partitions of a consumer's assignment, as its leader has written it; `None` if it is none. Source: Apache Kafka's
/// `ConsumerProtocolAssignment.json`, of which all versions begin alike.
fn assignment(bytes: &[u8]) -> Option<Vec<(String, i32)>> {
    fn number(bytes: &mut &[u8]) -> Option<i32> {
        let (number, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        Some(i32::from_be_bytes(*number))
    }
    // A member that was left out has no bytes at all.
    let Some((_version, mut rest)) = bytes.split_first_chunk::<2>() else { return Some(Vec::new()) };
    let mut places = Vec::new();
    for _ in 0..number(&mut rest)? {
        let (len, after) = rest.split_first_chunk()?;
        let (topic, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
        let topic = std::str::from_utf8(topic).ok()?;
        rest = after;
        for _ in 0..number(&mut rest)? {
            places.push((topic.to_owned(), number(&mut rest)?));
        }
    }
    Some(places)
}

/// Waits for a future on this thread: the admin client answers from a thread of its own.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}
