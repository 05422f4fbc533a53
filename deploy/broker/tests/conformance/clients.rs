//! rdkafka's clients as the checks use them.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::subject::{PATIENCE, Subject};

/// A client's settings: quick to come back after a restart, and silent on standard error.
pub(crate) fn config(subject: &Subject, settings: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", subject.bootstrap());
    config.set("reconnect.backoff.ms", "20").set("reconnect.backoff.max.ms", "200");
    config.set("retry.backoff.ms", "20");
    for (name, value) in settings {
        config.set(*name, *value);
    }
    config.set_log_level(rdkafka::config::RDKafkaLogLevel::Emerg);
    config
}

/// What became of the records of a producer, in the order of the answers.
#[derive(Clone, Default)]
pub(crate) struct Deliveries(Arc<Mutex<Vec<Delivery>>>);

/// What became of one record.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Delivery {
    pub(crate) partition: i32,
    /// Its offset, or why it has none.
    pub(crate) outcome: Result<i64, RDKafkaErrorCode>,
    pub(crate) value: Vec<u8>,
}

impl ClientContext for Deliveries {
    fn log(&self, _level: rdkafka::config::RDKafkaLogLevel, _fac: &str, _message: &str) {}
    fn error(&self, _error: KafkaError, _reason: &str) {}
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let (message, outcome) = match result {
            Ok(message) => (message, Ok(message.offset())),
            Err((error, message)) => (message, Err(error.rdkafka_error_code().unwrap())),
        };
        let value = message.payload().unwrap_or_default().to_vec();
        self.0.lock().unwrap().push(Delivery { partition: message.partition(), outcome, value });
    }
}

/// A producer that remembers what became of its records.
pub(crate) struct Producer {
    pub(crate) inner: BaseProducer<Deliveries>,
    deliveries: Deliveries,
}

impl Producer {
    pub(crate) fn new(subject: &Subject, settings: &[(&str, &str)]) -> Self {
        let deliveries = Deliveries::default();
        let inner = config(subject, settings).create_with_context(deliveries.clone()).unwrap();
        Self { inner, deliveries }
    }

    /// A transactional producer, initialized.
    pub(crate) fn transactional(subject: &Subject, transactional_id: &str, settings: &[(&str, &str)]) -> Self {
        let own = [("transactional.id", transactional_id), ("linger.ms", "0")];
        let producer = Self::new(subject, &[&own[..], settings].concat());
        producer.inner.init_transactions(PATIENCE).unwrap();
        producer
    }

    /// Queues a record, with patience when the queue is full.
    pub(crate) fn send(&self, mut record: BaseRecord<'_, [u8], [u8]>) {
        loop {
            match self.inner.send(record) {
                Ok(()) => return,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    self.inner.poll(Duration::from_millis(10));
                }
                Err((error, _)) => panic!("{error}"),
            }
        }
    }

    /// Queues a value without a key.
    pub(crate) fn send_value(&self, topic: &str, partition: i32, value: &str) {
        self.send(BaseRecord::to(topic).partition(partition).payload(value.as_bytes()));
    }

    /// Waits for the fate of all that was sent, and gives what has not been given yet.
    pub(crate) fn flush(&self) -> Vec<Delivery> {
        self.inner.flush(PATIENCE).unwrap();
        std::mem::take(&mut *self.deliveries.0.lock().unwrap())
    }

    /// As [`flush`](Self::flush), and all have an offset.
    pub(crate) fn offsets(&self) -> Vec<i64> {
        self.flush().into_iter().map(|delivery| delivery.outcome.unwrap()).collect()
    }
}

/// A record as a reader sees it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) timestamp: rdkafka::Timestamp,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Row {
    pub(crate) fn of(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().map_or_else(Vec::new, |headers| {
            headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
        });
        Self {
            partition: message.partition(),
            offset: message.offset(),
            timestamp: message.timestamp(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers,
        }
    }

    pub(crate) fn value_text(&self) -> String {
        String::from_utf8(self.value.clone().unwrap()).unwrap()
    }
}

/// A consumer without a group's automatisms.
pub(crate) fn consumer(subject: &Subject, settings: &[(&str, &str)]) -> BaseConsumer {
    let own = [
        ("group.id", "none"),
        ("enable.auto.commit", "false"),
        ("enable.partition.eof", "true"),
        ("auto.offset.reset", "earliest"),
        ("fetch.wait.max.ms", "20"),
        ("fetch.error.backoff.ms", "20"),
        ("heartbeat.interval.ms", "100"),
    ];
    config(subject, &[&own[..], settings].concat()).create().unwrap()
}

/// The next record, or `None` at the end of a partition.
pub(crate) fn next(consumer: &BaseConsumer) -> Option<Row> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => return Some(Row::of(&message)),
            Some(Err(KafkaError::PartitionEOF(_))) => return None,
            // A broker that restarts is come back to; everything else ends the test.
            Some(Err(KafkaError::MessageConsumption(
                RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::AllBrokersDown,
            )))
            | None => assert!(Instant::now() < deadline, "neither a record nor the end"),
            Some(Err(error)) => panic!("{error}"),
        }
    }
}

/// What a reader of one partition sees from an offset to the end: the last stable offset for `read_committed`.
pub(crate) fn read_from(subject: &Subject, topic: &str, partition: i32, from: Offset, isolation: &str) -> Vec<Row> {
    let consumer = consumer(subject, &[("isolation.level", isolation), ("fetch.message.max.bytes", "20000000")]);
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, partition, from).unwrap();
    consumer.assign(&assignment).unwrap();
    std::iter::from_fn(|| next(&consumer)).collect()
}

/// All that a reader of one partition sees.
pub(crate) fn read(subject: &Subject, topic: &str, partition: i32, isolation: &str) -> Vec<Row> {
    read_from(subject, topic, partition, Offset::Beginning, isolation)
}

/// The values that a reader of committed records sees in one partition.
pub(crate) fn committed_values(subject: &Subject, topic: &str, partition: i32) -> Vec<String> {
    read(subject, topic, partition, "read_committed").iter().map(Row::value_text).collect()
}

/// Waits for an answer of the admin client.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}
