//! Writing outside of transactions: idempotent, acknowledged by all replicas, in order within a partition.
//!
//! Invariant: a record that was accepted is delivered, or its failure is returned by a later call; never neither.

use std::time::{Duration, Instant};
use std::{fmt, iter};

use rdkafka::bindings::rd_kafka_flush;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext as _};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::types::RDKafkaRespErr;

use crate::config::KafkaConfig;
use crate::context::{ProducerEvents, delivery_error};
use crate::error::KafkaError;
use crate::oauth::Tokens;

/// One record to be written; everything is borrowed and copied by the client.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// Where to.
    pub topic: &'a str,
    /// The partition; `None` lets the key decide, as [`partition_for`](crate::partitioner::partition_for) does.
    pub partition: Option<i32>,
    /// The key; `None` is a record without one, spread over the partitions.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Names and values, in this order.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// Milliseconds since the epoch; `None` is now.
    pub timestamp_ms: Option<i64>,
}

impl<'a> Outgoing<'a> {
    /// A keyed record without headers, dated now, in the partition of its key.
    pub fn new(topic: &'a str, key: &'a [u8], value: &'a [u8]) -> Self {
        Self { topic, partition: None, key: Some(key), value: Some(value), headers: &[], timestamp_ms: None }
    }
}

pub(crate) type Producer = BaseProducer<ProducerEvents>;

/// After so many records the client's events are looked at, so that an error does not wait for the flush.
const SENDS_PER_POLL: u64 = 1024;
/// How long to sleep on the client's events while its queue is full or draining.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// Between two looks for failures among what is on its way; what has arrived is noticed at once.
const SETTLE_INTERVAL: Duration = Duration::from_millis(10);
/// How long the report is waited for of what made the client refuse a record.
const REPORT_WAIT: Duration = Duration::from_millis(50);

/// A writer of records that stand for themselves: produced telemetry, truth, replayed data; and of results without transactions.
pub struct Writer {
    producer: Producer,
    sent: u64,
    /// When everything must be over.
    deadline: Option<Instant>,
}

impl Writer {
    /// Makes the client; it connects by itself in the background. Use [`Admin::connect`](crate::Admin::connect) first to
    /// learn within seconds whether there is a broker.
    ///
    /// # Errors
    /// A setting that the client does not accept.
    pub fn new(config: &KafkaConfig) -> Result<Self, KafkaError> {
        Self::with_batch_bytes_max(config, None)
    }

    /// As [`new`](Self::new); a batch of several records holds so many bytes at most, where a topic takes less than the client's own
    /// megabyte.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_batch_bytes_max(config: &KafkaConfig, bytes: Option<usize>) -> Result<Self, KafkaError> {
        let more: Vec<_> = bytes.map(|bytes| ("batch.size", bytes.to_string())).into_iter().collect();
        Ok(Self { producer: producer(config, None, &more)?, sent: 0, deadline: None })
    }

    /// From now on a full queue is not waited for beyond this moment.
    pub fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }

    /// Hands a record to the client; waits while its queue is full (`queue.buffering.max.kbytes`).
    ///
    /// # Errors
    /// The first failed delivery so far, or a record that the client refuses, for example one that is too large.
    pub fn send(&mut self, record: Outgoing<'_>) -> Result<(), KafkaError> {
        self.send_with(record, iter::empty())
    }

    /// As [`send`](Self::send), with more headers behind the record's own.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_with<'a>(
        &mut self,
        record: Outgoing<'_>,
        more: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>,
    ) -> Result<(), KafkaError> {
        enqueue(&self.producer, &record, more, self.deadline)?;
        self.sent += 1;
        if self.sent.is_multiple_of(SENDS_PER_POLL) {
            self.poll()?;
        }
        Ok(())
    }

    /// Looks at the client's events without waiting. [`send`](Self::send) does it now and then.
    ///
    /// # Errors
    /// The first failed delivery so far.
    pub fn poll(&mut self) -> Result<(), KafkaError> {
        poll(&self.producer, Duration::ZERO);
        self.producer.context().first_failure().map_or(Ok(()), Err)
    }

    /// Waits until everything that was sent has arrived.
    ///
    /// # Errors
    /// The first failed delivery, or not all within `timeout`; the rest is still on its way then.
    pub fn flush(&mut self, timeout: Duration) -> Result<(), KafkaError> {
        settle(&self.producer, timeout, "delivering what was written")
    }

    /// How many partitions a topic has.
    ///
    /// # Errors
    /// No such topic, or no answer within `timeout`.
    pub fn partitions(&self, topic: &str, timeout: Duration) -> Result<i32, KafkaError> {
        partitions(&self.producer, topic, timeout)
    }

    /// How many records arrived.
    pub fn delivered(&self) -> u64 {
        let open = u64::try_from(self.producer.in_flight_count()).unwrap_or(0);
        self.sent.saturating_sub(open + self.failed())
    }

    /// How many records are known not to have arrived.
    pub fn failed(&self) -> u64 {
        self.producer.context().failed()
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("sent", &self.sent).field("failed", &self.failed()).finish_non_exhaustive()
    }
}

pub(crate) fn producer(
    config: &KafkaConfig,
    transactional_id: Option<&str>,
    more: &[(&str, String)],
) -> Result<Producer, KafkaError> {
    let mut properties = config.writer_properties(transactional_id)?;
    for (name, value) in more {
        properties.set(*name, value);
    }
    open(config, &properties)
}

/// Makes a producer of these properties, with a token if it needs one.
pub(crate) fn open(config: &KafkaConfig, properties: &ClientConfig) -> Result<Producer, KafkaError> {
    let made = BaseProducer::from_config_and_context(properties, ProducerEvents::new(config));
    let producer: Producer = made.map_err(|error| config.refused(&error))?;
    Tokens::start(producer.context().tokens.as_ref(), producer.client())?;
    Ok(producer)
}

/// Serves the client's events.
pub(crate) fn poll(producer: &Producer, timeout: Duration) {
    Tokens::keep(producer.context().tokens.as_ref(), producer.client());
    producer.poll(timeout);
}

/// How many partitions a topic has.
pub(crate) fn partitions(producer: &Producer, topic: &str, timeout: Duration) -> Result<i32, KafkaError> {
    let answer = producer.client().fetch_metadata(Some(topic), timeout);
    let answer = answer.map_err(|error| KafkaError::client("asking for a topic's partitions", &error))?;
    match answer.topics().first() {
        Some(found) if found.error().is_none() => Ok(found.partitions().len() as i32),
        _ => Err(KafkaError::UnknownTopic { topic: topic.to_owned() }),
    }
}

/// Hands a record over, waiting for room in the queue until `deadline`; `more` are headers behind its own.
pub(crate) fn enqueue<'a>(
    producer: &Producer,
    record: &Outgoing<'_>,
    more: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>,
    deadline: Option<Instant>,
) -> Result<(), KafkaError> {
    let mut pending = native(record, more);
    let mut full_since = None;
    loop {
        match producer.send(pending) {
            Ok(()) => return Ok(()),
            Err((ClientError::MessageProduction(Code::QueueFull), refused)) => {
                poll(producer, POLL_INTERVAL);
                if let Some(failure) = producer.context().first_failure() {
                    return Err(failure);
                }
                let since = *full_since.get_or_insert_with(Instant::now);
                if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                    let operation = "waiting for room in the client's queue";
                    return Err(KafkaError::TimedOut { operation, waited: since.elapsed() });
                }
                pending = refused;
            }
            Err((error, refused)) => {
                let size = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
                // An error of the client or its transaction hides why: the reason came as a report, or is about to.
                if error.rdkafka_error_code() != Some(Code::MessageSizeTooLarge) {
                    poll(producer, REPORT_WAIT);
                }
                let failure = producer.context().first_failure();
                return Err(failure
                    .unwrap_or_else(|| delivery_error(&error, refused.topic, record.partition.unwrap_or(-1), size)));
            }
        }
    }
}

/// The headers' number is that which `more` states as its most.
fn native<'a, 'b>(
    record: &Outgoing<'a>,
    more: impl Iterator<Item = (&'b str, Option<&'b [u8]>)>,
) -> BaseRecord<'a, [u8], [u8]> {
    let (least, most) = more.size_hint();
    let count = record.headers.len() + most.unwrap_or(least);
    let headers = (count > 0).then(|| {
        let own = record.headers.iter().map(|&(key, value)| Header { key, value: Some(value) });
        let list = own.fold(OwnedHeaders::new_with_capacity(count), OwnedHeaders::insert);
        more.fold(list, |list, (key, value)| list.insert(Header { key, value }))
    });
    BaseRecord {
        topic: record.topic,
        partition: record.partition,
        payload: record.value,
        key: record.key,
        timestamp: record.timestamp_ms,
        headers,
        delivery_opaque: (),
    }
}

/// Waits until nothing is on its way.
pub(crate) fn settle(producer: &Producer, timeout: Duration, operation: &'static str) -> Result<(), KafkaError> {
    let start = Instant::now();
    loop {
        let all_arrived = flush(producer, SETTLE_INTERVAL);
        poll(producer, Duration::ZERO);
        if let Some(failure) = producer.context().first_failure() {
            return Err(failure);
        }
        if all_arrived {
            return Ok(());
        }
        if start.elapsed() >= timeout {
            return Err(KafkaError::TimedOut { operation, waited: timeout });
        }
    }
}

/// Has everything sent at once, and waits until it has arrived or failed; false if time ran out before.
///
/// The wrapper's own flush gives the client no time to do so: it asks for nothing but a look, and sleeps between two. Batches then
/// wait for `linger.ms`, 2 of the 3 ms that a commit took.
#[allow(unsafe_code)]
fn flush(producer: &Producer, timeout: Duration) -> bool {
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the handle is alive as long as the producer that it was borrowed from; flushing is allowed from any thread.
    let answer = unsafe { rd_kafka_flush(producer.client().native_ptr(), timeout_ms) };
    answer == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR
}
