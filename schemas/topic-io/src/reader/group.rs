//! A member of a consumer group that reads in batches.
//!
//! How: partitions are forwarded to a queue of our own *before* they are assigned, so every message comes in a batch from
//! there, while the main queue carries only rebalances and errors. They are served in [`GroupReader::serve_group`] and
//! nowhere else: between two calls of it the set of partitions does not change, whatever the group does.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, RebalanceProtocol};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};
use rdkafka::{Message as _, Offset, TopicPartitionList};

use super::positions::Positions;
use super::{
    Assigned, Committed, GroupEvent, GroupMetadata, StartAt, committed_offsets, open_consumer, poll, read_error,
};
use crate::admin::PartitionLag;
use crate::batch::{Batch, BatchQueue, cached_watermarks, committed_metadata, generation};
use crate::config::{KafkaConfig, ReaderRole};
use crate::context::{ConsumerEvents, Rebalance, answer_leaving};
use crate::error::{self, KafkaError};
use crate::metrics;
use crate::transaction::{OffsetCommit, offset_list};

/// How a group reader reads.
#[derive(Clone, Debug)]
pub struct GroupOptions {
    /// See only what was committed. Default true.
    pub read_committed: bool,
    /// A name that keeps the member's partitions over a restart within the session time-out (`group.instance.id`).
    pub instance_id: Option<String>,
    /// Bound of what is fetched ahead, in KiB for the whole reader, not per partition. Default 32768.
    pub prefetch_kbytes_total: u32,
    /// Where a partition starts for which nothing is committed. Default earliest.
    pub start: StartWithout,
    /// How long questions to the brokers may take (committed offsets, watermarks, commits). Default 30 s.
    pub request_timeout: Duration,
}

impl Default for GroupOptions {
    fn default() -> Self {
        Self {
            read_committed: true,
            instance_id: None,
            prefetch_kbytes_total: 32 * 1024,
            start: StartWithout::Earliest,
            request_timeout: Duration::from_secs(30),
        }
    }
}

/// Where to start without a committed offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartWithout {
    /// At the oldest record.
    #[default]
    Earliest,
    /// Behind the newest record.
    Latest,
}

/// How many of the client's events are served in one call: more than can come between two cycles, and a bound.
const EVENTS_PER_CALL: usize = 64;
/// How long a rebalance is waited for before a member leaves in the middle of it, and a look at it.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);
const LEAVE_POLL: Duration = Duration::from_millis(10);

/// A member of a consumer group. Not to be shared between threads; may be moved.
pub struct GroupReader {
    // The queue goes first when this is dropped: its messages belong to the client.
    queue: BatchQueue,
    consumer: Arc<BaseConsumer<ConsumerEvents>>,
    group_id: String,
    options: GroupOptions,
    positions: Positions,
    events: Vec<GroupEvent>,
    errors: VecDeque<KafkaError>,
}

impl GroupReader {
    /// Joins the group in the background; partitions come by [`serve_group`](Self::serve_group).
    ///
    /// # Errors
    /// A setting that the client does not accept.
    pub fn new(
        config: &KafkaConfig,
        group_id: &str,
        topics: &[&str],
        options: GroupOptions,
    ) -> Result<Self, KafkaError> {
        let properties = config.reader_properties(&ReaderRole {
            group_id,
            instance_id: options.instance_id.as_deref(),
            read_committed: options.read_committed,
            prefetch_kbytes_total: options.prefetch_kbytes_total,
            report_end: false,
        })?;
        let consumer = Arc::new(open_consumer(config, &properties)?);
        consumer.subscribe(topics).map_err(|error| KafkaError::client("subscribing", &error))?;
        Ok(Self {
            queue: BatchQueue::new(Arc::clone(&consumer)),
            consumer,
            group_id: group_id.to_owned(),
            options,
            positions: Positions::default(),
            events: Vec::new(),
            errors: VecDeque::new(),
        })
    }

    /// Serves what the group and the client have to say, without waiting for more. To be called between any two cycles: while
    /// a rebalance waits for it, the group waits too and [`read`](Self::read) finds nothing, since the client holds all
    /// partitions back. `start_at` decides, for each partition that comes, where it starts.
    ///
    /// # Errors
    /// Trouble that does not pass by itself; events are kept for the next call.
    pub fn serve_group(
        &mut self,
        start_at: &mut dyn FnMut(&str, i32, Option<&Committed>) -> StartAt,
    ) -> Result<Vec<GroupEvent>, KafkaError> {
        for _ in 0..EVENTS_PER_CALL {
            self.stay()?;
            loop {
                // Taken out of the lock first: assigning may call back.
                let Some(rebalance) = self.consumer.context().rebalances().pop_front() else { break };
                if let Err(error) = self.rebalance(&rebalance, start_at) {
                    self.consumer.context().rebalances().push_front(rebalance);
                    return Err(error);
                }
            }
        }
        Ok(std::mem::take(&mut self.events))
    }

    /// Stays a member without taking part: the group takes nobody for gone who calls this, and a rebalance waits for
    /// [`serve_group`](Self::serve_group). For whoever has to wait for something else, for longer than `max.poll.interval.ms` perhaps.
    ///
    /// # Errors
    /// Trouble that does not pass by itself.
    pub fn stay(&self) -> Result<(), KafkaError> {
        match poll(&self.consumer) {
            None => Ok(()),
            Some(Ok(message)) => {
                let (topic, partition, offset) = (message.topic().to_owned(), message.partition(), message.offset());
                drop(message);
                self.reroute(&topic, partition, offset)
            }
            Some(Err(error)) => self.heed(&error),
        }
    }

    /// Reads up to `max` messages, waiting up to `timeout` for the first. Serves no rebalance.
    ///
    /// # Errors
    /// What came in place of a message: lost records, a deleted topic, a lost right. Passing trouble is not an error.
    pub fn read(&mut self, max: usize, timeout: Duration) -> Result<Batch<'_>, KafkaError> {
        if let Some(error) = self.errors.pop_front() {
            return Err(error);
        }
        let (mut errors, positions) = (Vec::new(), &mut self.positions);
        positions.start_batch();
        self.queue.fill(max, timeout, &mut errors, |message| positions.accept(message));
        for error in errors {
            if error::is_passing(error.code) {
                metrics::client_error();
            } else {
                self.errors.push_back(read_error(&error, self.positions.get(&error.topic, error.partition)));
            }
        }
        if self.queue.is_empty()
            && let Some(error) = self.errors.pop_front()
        {
            return Err(error);
        }
        let batch = self.queue.batch();
        metrics::records_read(batch.len());
        Ok(batch)
    }

    /// Goes back (or ahead) in partitions that are owned: after an aborted cycle, to what is committed. What was fetched ahead
    /// is dropped and fetched again; a partition that is not owned any more is left out.
    ///
    /// # Errors
    /// No answer in time.
    pub fn rewind(&mut self, offsets: &[(&str, i32, i64)]) -> Result<(), KafkaError> {
        let failed = |error| self.failed_to_go_back(&error);
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for (topic, partition, offset) in offsets {
            if self.positions.get(topic, *partition).is_some() {
                list.add_partition_offset(topic, *partition, Offset::Offset(*offset)).map_err(failed)?;
            }
        }
        if list.count() == 0 {
            return Ok(());
        }
        let list = self.consumer.seek_partitions(list, self.options.request_timeout).map_err(failed)?;
        for entry in list.elements() {
            entry.error().map_err(failed)?;
        }
        for (topic, partition, offset) in offsets {
            if self.positions.get(topic, *partition).is_some() {
                self.positions.insert(topic, *partition, *offset);
            }
        }
        Ok(())
    }

    /// The membership to commit offsets under in a transaction; to be taken anew for each.
    ///
    /// # Errors
    /// This is no member at the moment: brokers take offsets of nobody's without a check, so none may be sent. Abort the cycle.
    pub fn group_metadata(&self) -> Result<GroupMetadata, KafkaError> {
        // Asked before and after: the metadata does not tell its own generation, and a rejoin in between changes it.
        let before = generation(&self.consumer);
        let metadata = self.consumer.group_metadata();
        match metadata.filter(|_| before >= 0 && before == generation(&self.consumer)) {
            Some(metadata) => Ok(GroupMetadata(metadata)),
            None => Err(KafkaError::of_code("committing offsets", Code::IllegalGeneration)),
        }
    }

    /// Whether this is a member of the group at the moment, be it of no partition.
    pub fn is_member(&self) -> bool {
        generation(&self.consumer) >= 0
    }

    /// Whether what is owned is still this member's to commit: not once the group has given it to others, which
    /// [`serve_group`](Self::serve_group) will tell.
    pub fn owns_still(&self) -> bool {
        self.is_member() && !self.consumer.assignment_lost()
    }

    /// Goes back in owned partitions to where `start_at` decides by what is committed for them, as at their assignment: after a cycle
    /// that was given up.
    ///
    /// # Errors
    /// No answer in time.
    pub fn go_back(
        &mut self,
        partitions: &[(String, i32)],
        start_at: &mut dyn FnMut(&str, i32, Option<&Committed>) -> StartAt,
    ) -> Result<Vec<Assigned>, KafkaError> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        // What came in place of messages is of before.
        self.errors.clear();
        let assigned = self.decide_starts(partitions, start_at)?;
        let starts: Vec<_> = assigned.iter().map(|at| (at.topic.as_str(), at.partition, at.start_offset)).collect();
        self.rewind(&starts)?;
        Ok(assigned)
    }

    /// What the group has committed for these partitions, in their order. A transaction that is being settled is waited for.
    ///
    /// # Errors
    /// No answer in time.
    pub fn committed(&self, partitions: &[(String, i32)]) -> Result<Vec<Option<Committed>>, KafkaError> {
        let list = self.committed_list(partitions)?;
        let committed = list.elements().into_iter().zip(committed_metadata(&list));
        Ok(committed.map(|(entry, metadata)| committed_of(entry.offset(), metadata)).collect())
    }

    /// The owned partitions, in order, with the next offset of each.
    pub fn positions(&self) -> impl ExactSizeIterator<Item = (&str, i32, i64)> {
        self.positions.iter().map(|position| (position.topic.as_str(), position.partition, position.next_offset))
    }

    /// The oldest offset of a partition and the one behind its newest, asked of the broker.
    ///
    /// # Errors
    /// No answer in time, or no such partition.
    pub fn watermarks(&self, topic: &str, partition: i32) -> Result<(i64, i64), KafkaError> {
        let ask = |remaining| self.consumer.fetch_watermarks(topic, partition, remaining);
        let found = error::retry_passing(self.options.request_timeout, ask);
        found.map_err(|error| KafkaError::client("asking for watermarks", &error))
    }

    /// How far behind each owned partition is, as of its last fetch: costs no request. A partition that was never fetched is
    /// left out.
    pub fn lag(&self) -> Vec<PartitionLag> {
        let lag = |((topic, partition), offset): ((String, i32), i64)| {
            let (_, end_offset) = cached_watermarks(&self.consumer, &topic, partition)?;
            let records = (end_offset - offset).max(0);
            Some(PartitionLag { topic, partition, committed: Some(offset), end_offset, lag: records })
        };
        self.read_to().into_iter().filter_map(lag).collect()
    }

    /// How far each owned partition has been read, in order: all before the offset, records and the end markers of transactions.
    pub fn read_to(&self) -> Vec<((String, i32), i64)> {
        // The client's own position counts a transaction's end marker, which ours does not see.
        let native = self.consumer.position().ok();
        let read_to = |position: &super::positions::Position| {
            let (topic, partition) = (position.topic.as_str(), position.partition);
            let native =
                native.as_ref().and_then(|list| list.find_partition(topic, partition)).map(|entry| entry.offset());
            let native = if let Some(Offset::Offset(offset)) = native { offset } else { 0 };
            ((topic.to_owned(), partition), position.next_offset.max(native))
        };
        self.positions.iter().map(read_to).collect()
    }

    /// Commits offsets outside of a transaction and waits for it: for a reader whose results are not in Kafka.
    ///
    /// # Errors
    /// The commit was not accepted, for example because the partition was lost.
    pub fn commit(&self, offsets: &[OffsetCommit<'_>]) -> Result<(), KafkaError> {
        if offsets.is_empty() {
            return Ok(());
        }
        let committed = self.consumer.commit(&offset_list(offsets)?, CommitMode::Sync);
        committed.map_err(|error| KafkaError::client("committing offsets", &error))
    }

    fn rebalance(
        &mut self,
        rebalance: &Rebalance,
        start_at: &mut dyn FnMut(&str, i32, Option<&Committed>) -> StartAt,
    ) -> Result<(), KafkaError> {
        let cooperative = matches!(self.consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
        match rebalance {
            Rebalance::Assign(partitions) => {
                let assigned = self.decide_starts(partitions, start_at)?;
                let mut list = TopicPartitionList::with_capacity(assigned.len());
                for Assigned { topic, partition, start_offset, .. } in &assigned {
                    let failed = |error| KafkaError::client("assigning a partition", &error);
                    list.add_partition_offset(topic, *partition, Offset::Offset(*start_offset)).map_err(failed)?;
                    self.queue.forward(topic, *partition);
                }
                let done =
                    if cooperative { self.consumer.incremental_assign(&list) } else { self.consumer.assign(&list) };
                done.map_err(|error| KafkaError::client("assigning partitions", &error))?;
                if !cooperative {
                    self.positions.clear();
                }
                for Assigned { topic, partition, start_offset, .. } in &assigned {
                    self.positions.insert(topic, *partition, *start_offset);
                }
                metrics::rebalanced("assigned", assigned.len());
                if !assigned.is_empty() {
                    self.events.push(GroupEvent::Assigned(assigned));
                }
            }
            Rebalance::Revoke { partitions, lost } => {
                let mut list = TopicPartitionList::with_capacity(partitions.len());
                for (topic, partition) in partitions {
                    list.add_partition(topic, *partition);
                    self.positions.remove(topic, *partition);
                }
                let done =
                    if cooperative { self.consumer.incremental_unassign(&list) } else { self.consumer.unassign() };
                done.map_err(|error| KafkaError::client("giving partitions up", &error))?;
                metrics::rebalanced(if *lost { "lost" } else { "revoked" }, partitions.len());
                let event = if *lost { GroupEvent::Lost } else { GroupEvent::Revoked };
                if !partitions.is_empty() {
                    self.events.push(event(partitions.clone()));
                }
            }
        }
        Ok(())
    }

    /// Asks what is committed, then asks the caller where to start, and turns the answer into an offset.
    fn decide_starts(
        &self,
        partitions: &[(String, i32)],
        start_at: &mut dyn FnMut(&str, i32, Option<&Committed>) -> StartAt,
    ) -> Result<Vec<Assigned>, KafkaError> {
        let list = self.committed_list(partitions)?;
        let metadata = committed_metadata(&list);
        let mut assigned = Vec::with_capacity(partitions.len());
        for (entry, metadata) in list.elements().iter().zip(metadata) {
            let (topic, partition) = (entry.topic(), entry.partition());
            let committed = committed_of(entry.offset(), metadata);
            let start = start_at(topic, partition, committed.as_ref());
            let start_offset = self.resolve(topic, partition, start, committed.as_ref())?;
            assigned.push(Assigned { topic: topic.to_owned(), partition, committed, start_offset });
        }
        Ok(assigned)
    }

    fn committed_list(&self, partitions: &[(String, i32)]) -> Result<TopicPartitionList, KafkaError> {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for (topic, partition) in partitions {
            list.add_partition(topic, *partition);
        }
        // Reading committed data also waits for open transactions to settle their offsets.
        let list = committed_offsets(&self.consumer, &list, self.options.request_timeout);
        list.map_err(|error| KafkaError::client("asking for committed offsets", &error))
    }

    fn resolve(
        &self,
        topic: &str,
        partition: i32,
        start: StartAt,
        committed: Option<&Committed>,
    ) -> Result<i64, KafkaError> {
        match (start, committed, self.options.start) {
            (StartAt::Offset(offset), _, _) => Ok(offset),
            (StartAt::Committed, Some(committed), _) => Ok(committed.offset),
            (StartAt::Beginning, _, _) | (StartAt::Committed, None, StartWithout::Earliest) => {
                self.watermarks(topic, partition).map(|(low, _)| low)
            }
            (StartAt::End, _, _) | (StartAt::Committed, None, StartWithout::Latest) => {
                self.watermarks(topic, partition).map(|(_, high)| high)
            }
        }
    }

    /// A message came by the main queue, so its partition is not forwarded to ours: forward it, and fetch again from where we
    /// are, so that nothing is lost and nothing comes twice.
    fn reroute(&self, topic: &str, partition: i32, offset: i64) -> Result<(), KafkaError> {
        let Some(position) = self.positions.get(topic, partition) else { return Ok(()) };
        tracing::warn!(topic, partition, offset, position, "a message came by the main queue: fetching it again");
        metrics::record_rerouted();
        self.queue.forward(topic, partition);
        let sought = self.consumer.seek(topic, partition, Offset::Offset(position), self.options.request_timeout);
        sought.map_err(|error| self.failed_to_go_back(&error))
    }

    /// A client that was expelled says only that it cannot.
    fn failed_to_go_back(&self, error: &ClientError) -> KafkaError {
        match self.consumer.client().fatal_error() {
            Some((_, reason)) => self.expelled(reason),
            None => KafkaError::client("going back to a position", error),
        }
    }

    /// An error of the client: passing trouble it handles itself, the rest ends the reader.
    fn heed(&self, error: &ClientError) -> Result<(), KafkaError> {
        let Some(code) = error.rdkafka_error_code() else { return Ok(()) };
        let reason = self.consumer.context().events.last().filter(|(last, _)| *last == code).map(|(_, reason)| reason);
        let reason = reason.unwrap_or_else(|| code.to_string());
        let fatal = matches!(error, ClientError::MessageConsumptionFatal(_));
        match code {
            Code::FencedInstanceId | Code::Fatal | Code::Fenced => Err(self.expelled(reason)),
            _ if fatal => Err(self.expelled(reason)),
            Code::GroupAuthorizationFailed => {
                let resource = format!("consumer group {:?}", self.group_id);
                Err(KafkaError::NotAuthorized { operation: "join", resource, reason })
            }
            Code::TopicAuthorizationFailed => {
                let resource = format!("topic {:?}", named_topic(&reason));
                Err(KafkaError::NotAuthorized { operation: "read", resource, reason })
            }
            Code::UnknownTopic | Code::UnknownTopicOrPartition => {
                Err(KafkaError::UnknownTopic { topic: named_topic(&reason).to_owned() })
            }
            Code::InconsistentGroupProtocol
            | Code::SaslAuthenticationFailed
            | Code::Authentication
            | Code::GroupMaxSizeReached => {
                Err(KafkaError::Client { operation: "joining the consumer group", code: Some(code), reason })
            }
            // Everything else the client tries again; `context` has counted and logged it.
            _ => Ok(()),
        }
    }

    /// Answers a rebalance that waits to be served, as it would hold the closing up: there is nothing to keep any more.
    fn give_back(&self) {
        while let Some(rebalance) = { self.consumer.context().rebalances().pop_front() } {
            let (assigned, partitions) = match rebalance {
                Rebalance::Assign(partitions) => (true, partitions),
                Rebalance::Revoke { partitions, .. } => (false, partitions),
            };
            let mut list = TopicPartitionList::with_capacity(partitions.len());
            for (topic, partition) in &partitions {
                list.add_partition(topic, *partition);
            }
            answer_leaving(&self.consumer, assigned, &list);
        }
    }

    fn expelled(&self, reason: String) -> KafkaError {
        KafkaError::Expelled { group: self.group_id.clone(), reason }
    }
}

fn committed_of(offset: Offset, metadata: String) -> Option<Committed> {
    if let Offset::Offset(offset) = offset { Some(Committed { offset, metadata }) } else { None }
}

/// The topic in the client's words, "Subscribed topic not available: NAME: Broker: ...".
fn named_topic(reason: &str) -> &str {
    reason.split(": ").nth(1).unwrap_or(reason)
}

impl Drop for GroupReader {
    /// Leaves the group; the consumer itself is closed when its last holder goes.
    ///
    /// It leaves before it closes: a client that closes without partitions says nothing to the group, and in the middle of a rebalance
    /// what it says comes too late (librdkafka 2.12). Either way the others would wait for it until its session times out.
    fn drop(&mut self) {
        self.consumer.context().close();
        // What has come already is answered before the client begins to close: one that closes by itself in the middle of an
        // answer never gives it back.
        drop(poll(&self.consumer));
        self.give_back();
        // A static member is to be back: it stays.
        if self.options.instance_id.is_some() {
            return;
        }
        self.consumer.unsubscribe();
        let until = Instant::now() + LEAVE_TIMEOUT;
        while self.is_member() && Instant::now() < until {
            // Serves what else the rebalance asks for, which is over before the client leaves.
            drop(self.consumer.poll(LEAVE_POLL));
        }
    }
}

impl fmt::Debug for GroupReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupReader").field("group", &self.group_id).finish_non_exhaustive()
    }
}
