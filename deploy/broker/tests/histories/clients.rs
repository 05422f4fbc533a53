//! Clients that go on when the broker is gone for a while, and that keep what they were told.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{Message, Offset, TopicPartitionList};

pub(crate) const TOPIC: &str = "history";
pub(crate) const PARTITIONS: i32 = 3;

/// A call is given up, and the test with it, when the broker does not come back in this time.
const PATIENCE: Duration = Duration::from_secs(120);

/// What readers see of each partition.
pub(crate) type Shown = BTreeMap<i32, Vec<String>>;

/// What a producer was told is committed.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) shown: Shown,
    pub(crate) committed: Option<i64>,
}

fn client(servers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", servers)
        .set("reconnect.backoff.ms", "10")
        .set("reconnect.backoff.max.ms", "50")
        .set("retry.backoff.ms", "10")
        .set("retry.backoff.max.ms", "50");
    config
}

/// Asks for the topic until the broker has made it.
pub(crate) fn make_topic(servers: &str) {
    let producer: ThreadedProducer<DefaultProducerContext> = client(servers).create().unwrap();
    until_ok("make the topic", || {
        let metadata = producer.client().fetch_metadata(Some(TOPIC), Duration::from_secs(5))?;
        let is_there = metadata.topics()[0].partitions().len() == usize::try_from(PARTITIONS).unwrap();
        if is_there { Ok(()) } else { Err(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition)) }
    });
}

/// Calls again while it says that this may help.
fn until_ok<T>(what: &str, mut call: impl FnMut() -> Result<T, KafkaError>) -> T {
    let start = Instant::now();
    loop {
        match call() {
            Ok(value) => return value,
            Err(error) => {
                let may_help = match &error {
                    KafkaError::Transaction(error) => error.is_retriable(),
                    KafkaError::MetadataFetch(_) | KafkaError::OffsetFetch(_) => true,
                    _ => false,
                };
                assert!(may_help && start.elapsed() < PATIENCE, "cannot {what}: {error:?}");
            }
        }
    }
}

/// A transactional producer and its group, both called `name`.
pub(crate) struct Transactional {
    servers: String,
    name: String,
    /// None only while one is made in the place of another.
    producer: Option<ThreadedProducer<DefaultProducerContext>>,
    group: BaseConsumer,
    told: Told,
    open: Told,
    values: u32,
}

impl Transactional {
    pub(crate) fn start(servers: &str, name: &str) -> Self {
        let producer = Some(Self::instance(servers, name));
        let group = client(servers).set("group.id", name).create().unwrap();
        let (servers, name) = (servers.to_owned(), name.to_owned());
        Self { servers, name, producer, group, told: Told::default(), open: Told::default(), values: 0 }
    }

    fn instance(servers: &str, name: &str) -> ThreadedProducer<DefaultProducerContext> {
        let producer: ThreadedProducer<DefaultProducerContext> =
            client(servers).set("transactional.id", name).set("linger.ms", "0").create().unwrap();
        until_ok("initialise transactions", || producer.init_transactions(Duration::from_secs(10)));
        producer
    }

    fn producer(&self) -> &ThreadedProducer<DefaultProducerContext> {
        self.producer.as_ref().unwrap()
    }

    pub(crate) fn begin(&mut self) {
        self.producer().begin_transaction().unwrap();
        self.open = Told::default();
    }

    pub(crate) fn send(&mut self, partition: i32) {
        self.values += 1;
        let value = format!("{} {}", self.name, self.values);
        let record = BaseRecord::<(), str>::to(TOPIC).partition(partition).payload(&value);
        self.producer().send(record).map_err(|(error, _)| error).unwrap();
        self.open.shown.entry(partition).or_default().push(value);
    }

    pub(crate) fn send_offset(&mut self, offset: i64) {
        let group = self.group.group_metadata().unwrap();
        let offsets = offsets(Offset::Offset(offset));
        until_ok("send offsets", || {
            self.producer().send_offsets_to_transaction(&offsets, &group, Duration::from_secs(10))
        });
        self.open.committed = Some(offset);
    }

    pub(crate) fn commit(&mut self) {
        // rust-rdkafka's flush, which a commit begins with, sleeps for 100 ms if there is anything to wait for.
        let start = Instant::now();
        while self.producer().in_flight_count() > 0 && start.elapsed() < PATIENCE {
            thread::sleep(Duration::from_micros(200));
        }
        until_ok("commit", || self.producer().commit_transaction(Duration::from_secs(10)));
        let Told { shown, committed } = std::mem::take(&mut self.open);
        for (partition, values) in shown {
            self.told.shown.entry(partition).or_default().extend(values);
        }
        self.told.committed = committed.or(self.told.committed);
    }

    pub(crate) fn abort(&mut self) {
        until_ok("abort", || self.producer().abort_transaction(Duration::from_secs(10)));
    }

    /// What the old instance has still on its way meets the new one's beginning.
    pub(crate) fn crash(&mut self) {
        let gone = self.producer.take();
        thread::spawn(move || drop(gone));
        self.producer = Some(Self::instance(&self.servers, &self.name));
    }

    pub(crate) fn replace(&mut self) {
        let late = self.producer.replace(Self::instance(&self.servers, &self.name)).unwrap();
        let start = Instant::now();
        // A transaction without anything in it is ended without asking the broker.
        if self.open.shown.is_empty() && self.open.committed.is_none() {
            return;
        }
        loop {
            match late.commit_transaction(Duration::from_secs(10)) {
                Err(KafkaError::Transaction(error)) if error.is_retriable() && start.elapsed() < PATIENCE => {}
                Err(_) => return,
                Ok(()) => panic!("{}: a replaced instance has committed", self.name),
            }
        }
    }

    /// Leaves nothing open.
    pub(crate) fn finish(self) -> Told {
        drop(Self::instance(&self.servers, &self.name));
        self.told
    }
}

/// A producer without transactions.
pub(crate) struct Plain(ThreadedProducer<DefaultProducerContext>);

impl Plain {
    pub(crate) fn start(servers: &str) -> Self {
        Self(client(servers).set("enable.idempotence", "true").create().unwrap())
    }

    /// One record to each, all of them delivered at the end.
    pub(crate) fn send_all(&self, partitions: &[i32]) -> Shown {
        let mut shown = Shown::new();
        for (at, &partition) in partitions.iter().enumerate() {
            let value = format!("plain {at}");
            let record = BaseRecord::<(), str>::to(TOPIC).partition(partition).payload(&value);
            self.0.send(record).map_err(|(error, _)| error).unwrap();
            shown.entry(partition).or_default().push(value);
        }
        self.0.flush(PATIENCE).unwrap();
        shown
    }
}

/// A read_committed reader of all partitions from their beginning.
pub(crate) struct Follower {
    consumer: BaseConsumer,
    shown: Shown,
    ends: usize,
}

impl Follower {
    pub(crate) fn start(servers: &str, name: &str) -> Self {
        let consumer: BaseConsumer = client(servers)
            .set("group.id", name)
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("fetch.wait.max.ms", "50")
            .set("fetch.error.backoff.ms", "10")
            .create()
            .unwrap();
        let mut assignment = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            assignment.add_partition_offset(TOPIC, partition, Offset::Beginning).unwrap();
        }
        consumer.assign(&assignment).unwrap();
        Self { consumer, shown: Shown::new(), ends: 0 }
    }

    pub(crate) fn poll(&mut self) {
        match self.consumer.poll(Duration::from_millis(20)) {
            None => {}
            Some(Ok(record)) => {
                let value = String::from_utf8(record.payload().unwrap().to_vec()).unwrap();
                self.shown.entry(record.partition()).or_default().push(value);
            }
            Some(Err(KafkaError::PartitionEOF(_))) => self.ends += 1,
            // The broker is gone; the consumer looks for it.
            Some(Err(_)) => {}
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.shown.values().map(Vec::len).sum()
    }

    pub(crate) fn shown(self) -> Shown {
        self.shown
    }
}

/// What a new read_committed reader is shown, once nothing is open any more.
pub(crate) fn read_to_end(servers: &str) -> Shown {
    let mut reader = Follower::start(servers, "reader");
    let start = Instant::now();
    while reader.ends < usize::try_from(PARTITIONS).unwrap() {
        reader.poll();
        assert!(start.elapsed() < PATIENCE, "the reader comes to no end: {:?}", reader.shown);
    }
    reader.shown
}

/// The committed offset of a group.
pub(crate) fn committed(servers: &str, group: &str) -> Option<i64> {
    let consumer: BaseConsumer = client(servers).set("group.id", group).create().unwrap();
    let committed = until_ok("ask for committed offsets", || {
        consumer.committed_offsets(offsets(Offset::Invalid), Duration::from_secs(10))
    });
    match committed.find_partition(TOPIC, 0).unwrap().offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    }
}

fn offsets(offset: Offset) -> TopicPartitionList {
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(TOPIC, 0, offset).unwrap();
    offsets
}
