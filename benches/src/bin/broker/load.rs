//! The clients: librdkafka, in this process.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};
use tidewatch_topic_io::{
    Admin, KafkaConfig, OffsetCommit, Outgoing, TopicSpec, TransactionOptions, TransactionalWriter,
};

use crate::subject::Subject;

/// Of the topic.
const PARTITIONS: i32 = 4;
/// Of a transaction.
const TRANSACTION_RECORDS: usize = 10;
/// Ends a measurement that does not come to its end.
const PATIENCE: Duration = Duration::from_secs(300);

/// A topic of a broker.
pub(crate) struct Load {
    kafka: KafkaConfig,
    topic: String,
}

impl Load {
    pub(crate) fn new(subject: &Subject, topic: &str) -> anyhow::Result<Self> {
        let kafka = KafkaConfig::at(subject.bootstrap_servers());
        let topic = topic.to_owned();
        Admin::connect(&kafka)?.ensure_topics(&[TopicSpec::new(&topic, PARTITIONS)])?;
        Ok(Self { kafka, topic })
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.kafka.bootstrap_servers);
        config
    }

    /// Writes so many records; the time until the last is acknowledged.
    pub(crate) fn produce(&self, records: u64, bytes: usize, compression: &str) -> anyhow::Result<Duration> {
        let mut config = self.client();
        config.set("enable.idempotence", "true").set("acks", "all").set("compression.type", compression);
        config.set("queue.buffering.max.messages", "500000").set("queue.buffering.max.kbytes", "262144");
        let producer: BaseProducer = config.create()?;
        let mut payload = Payload::new(bytes);
        // Connecting is not what is measured, nor that the client may ask for its producer id half a second after that.
        self.write_one(&producer, payload.next())?;
        let began = Instant::now();
        for number in 1..records {
            let partition = (number % PARTITIONS as u64) as i32;
            let value = payload.next();
            while let Err((error, _)) =
                producer.send(BaseRecord::<(), [u8]>::to(&self.topic).partition(partition).payload(value))
            {
                anyhow::ensure!(matches!(error, KafkaError::MessageProduction(Code::QueueFull)), "writing: {error}");
                anyhow::ensure!(began.elapsed() < PATIENCE, "{number} of {records} written");
                producer.poll(Duration::from_millis(1));
            }
            if number % 1_000 == 0 {
                producer.poll(Duration::ZERO);
            }
        }
        while producer.in_flight_count() > 0 {
            anyhow::ensure!(began.elapsed() < PATIENCE, "{} not acknowledged", producer.in_flight_count());
            producer.poll(Duration::from_millis(1));
        }
        Ok(began.elapsed())
    }

    /// Writes one record and waits until it is acknowledged.
    fn write_one(&self, producer: &BaseProducer, value: &[u8]) -> anyhow::Result<()> {
        let record = BaseRecord::<(), [u8]>::to(&self.topic).partition(0).payload(value);
        producer.send(record).map_err(|(error, _)| error)?;
        let began = Instant::now();
        while producer.in_flight_count() > 0 {
            anyhow::ensure!(began.elapsed() < PATIENCE, "the first record is not acknowledged");
            producer.poll(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Reads so many records from the beginning; the time from the first question to the last record.
    pub(crate) fn consume(&self, records: u64) -> anyhow::Result<Duration> {
        let mut config = self.client();
        config.set("group.id", "bench").set("enable.auto.commit", "false");
        // All partitions wait for one thread; the client's usual bounds would have it pause.
        config.set("queued.max.messages.kbytes", "262144").set("fetch.queue.backoff.ms", "5");
        let consumer: BaseConsumer = config.create()?;
        consumer.fetch_metadata(Some(&self.topic), PATIENCE)?;
        let mut all = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            all.add_partition_offset(&self.topic, partition, Offset::Beginning)?;
        }
        let began = Instant::now();
        consumer.assign(&all)?;
        let mut read = 0;
        while read < records {
            anyhow::ensure!(began.elapsed() < PATIENCE, "{read} of {records} read");
            if let Some(message) = consumer.poll(Duration::from_millis(100)) {
                message.context("reading")?;
                read += 1;
            }
        }
        Ok(began.elapsed())
    }

    /// So many transactions by Tidewatch's own writer, of ten records and an offset; the time of each.
    pub(crate) fn transactions(&self, count: usize) -> anyhow::Result<Vec<Duration>> {
        let mut writer = TransactionalWriter::new(&self.kafka, &self.topic, TransactionOptions::default())?;
        let group = Admin::connect(&self.kafka)?.group_metadata("transactions")?;
        let mut payload = Payload::new(100);
        let mut times = Vec::with_capacity(count);
        for number in 0..count {
            let began = Instant::now();
            writer.begin()?;
            for record in 0..TRANSACTION_RECORDS {
                let partition = Some(record as i32 % PARTITIONS);
                writer.send(Outgoing { partition, ..Outgoing::new(&self.topic, b"key", payload.next()) })?;
            }
            let offset = OffsetCommit { topic: &self.topic, partition: 0, offset: number as i64, metadata: "" };
            writer.commit(&[offset], &group)?;
            times.push(began.elapsed());
        }
        Ok(times)
    }
}

/// Values of which no two are alike: half of each is digits, as in telemetry, half is the same text.
struct Payload {
    bytes: Vec<u8>,
    state: u64,
}

impl Payload {
    fn new(bytes: usize) -> Self {
        let text = b"service=checkout region=EMEA status=200 release=1.4.2 ".iter().copied().cycle();
        Self { bytes: text.take(bytes).collect(), state: 1 }
    }

    fn next(&mut self) -> &[u8] {
        let half = self.bytes.len() / 2;
        for digits in self.bytes[..half].chunks_mut(16) {
            // Xorshift, Marsaglia 2003.
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            let mut rest = self.state;
            for digit in digits {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
        }
        &self.bytes
    }
}
