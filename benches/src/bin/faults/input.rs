//! The input of a campaign: the records of the scenario `disorder`, made once for each variant and kept in memory, and the thread that
//! writes them, a share at a time, so that there is work to do when a fault comes.
//!
//! Invariant: every run of a variant writes the same bytes at the same offsets, so that its outputs can be compared byte for byte.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tidewatch_broker::{Broker, BrokerConfig};
use tidewatch_producer::progress::Progress;
use tidewatch_producer::publisher::{self, PublishJob};
use tidewatch_producer::scenario::Scenario;
use tidewatch_producer::schedule::Pace;
use tidewatch_producer::stream::StreamKind;
use tidewatch_schemas::catalogue::Topics;
use tidewatch_schemas::wire::Framing;
use tidewatch_topic_io::{Admin, KafkaConfig, Outgoing, PartitionReader, StartAt, TopicSpec, Writer};

use crate::dice::Dice;

/// Partitions of every topic; the scenario has the first of some streams go idle.
pub(crate) const PARTITIONS: i32 = 3;
/// When the producer meant to send: of the clock, and so no part of an input that is to be the same in every run.
const INTENDED: &str = "tidewatch-intended-ms";
/// Records that are no events, and larger than the topic of dead letters takes: each is left out of its letter, in every run.
const OVERSIZED_BYTES: [usize; 4] = [150_000, 210_000, 260_000, 400_000];
const READ_MAX: usize = 10_000;
const PATIENCE: Duration = Duration::from_millis(200);
/// Longer than any fault lasts.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(180);
/// Between two looks at whether the run is given up.
const FLUSH_STEP: Duration = Duration::from_millis(500);
/// Between two looks at what may be written.
const STEP: Duration = Duration::from_millis(10);

/// A record as it is written.
struct Record {
    topic: Arc<str>,
    partition: i32,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Vec<u8>)>,
    timestamp_ms: Option<i64>,
}

/// A variant of the scenario.
pub(crate) struct Input {
    records: Vec<Record>,
}

/// The input topics.
pub(crate) fn topics() -> [String; 4] {
    let topics = Topics::default();
    StreamKind::ALL.map(|stream| stream.topic(&topics).to_owned())
}

impl Input {
    /// Makes a variant of so many events, by the producer itself on a broker in memory.
    pub(crate) fn make(variant: u64, events: u64) -> anyhow::Result<Self> {
        let broker = Broker::start(tidewatch_test_brokers::embedded_config(BrokerConfig::in_memory()))?;
        let (kafka, names) = (KafkaConfig::at(&broker.bootstrap_servers()), Topics::default());
        let inputs = topics();
        let mut specs: Vec<TopicSpec> = inputs.iter().map(|topic| TopicSpec::new(topic, PARTITIONS)).collect();
        specs.push(TopicSpec::new(&names.truth, 1));
        Admin::connect(&kafka)?.ensure_topics(&specs)?;
        let scenario = Scenario::shipped("disorder").context("the scenario `disorder` is shipped")?.with_events(events);
        let job = PublishJob {
            scenario: &scenario,
            seed: variant,
            events: None,
            truth: true,
            pace: Pace::Unlimited,
            threads: 1,
            partitions: PARTITIONS,
            framing: Framing::SingleObject,
            topics: &names,
            kafka: &kafka,
            resume_from: std::collections::BTreeMap::new(),
        };
        publisher::publish(&job, &Progress::new(), &AtomicBool::new(false))?;
        let mut input = Self::read(&kafka)?;
        input.add_oversized(Dice::new(variant, "oversized"));
        Ok(input)
    }

    /// Puts the oversized records between the others, in partitions that are drawn.
    fn add_oversized(&mut self, mut dice: Dice) {
        let topics = topics();
        for (number, bytes) in OVERSIZED_BYTES.into_iter().enumerate() {
            let at = dice.below(self.records.len() as u64) as usize;
            let timestamp_ms = self.records.get(at).and_then(|record| record.timestamp_ms);
            let topic = topics[dice.below(topics.len() as u64) as usize].as_str().into();
            let partition = dice.below(PARTITIONS.unsigned_abs().into()) as i32;
            let value = (0..bytes).map(|_| dice.below(256) as u8).collect();
            let key = Some(format!("oversized-{number}").into_bytes());
            let record = Record { topic, partition, key, value: Some(value), headers: Vec::new(), timestamp_ms };
            self.records.insert(at, record);
        }
    }

    /// Takes the records of all partitions side by side: each partition is at the same share of its records.
    fn read(kafka: &KafkaConfig) -> anyhow::Result<Self> {
        let mut shares = Vec::new();
        for stream in StreamKind::ALL {
            let topic: Arc<str> = stream.topic(&Topics::default()).into();
            for partition in 0..PARTITIONS {
                let records = read_partition(kafka, &topic, partition)?;
                let total = records.len() as f64;
                shares.extend(records.into_iter().enumerate().map(|(at, record)| ((at as f64 + 0.5) / total, record)));
            }
        }
        shares.sort_by(|(left, _), (right, _)| left.total_cmp(right));
        Ok(Self { records: shares.into_iter().map(|(_, record)| record).collect() })
    }

    /// How many records there are.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }
}

fn read_partition(kafka: &KafkaConfig, topic: &Arc<str>, partition: i32) -> anyhow::Result<Vec<Record>> {
    let mut reader = PartitionReader::new(kafka, true)?;
    reader.assign(&[(&**topic, partition, StartAt::Beginning)])?;
    let mut records = Vec::new();
    while !reader.is_at_end() {
        for message in reader.read(READ_MAX, PATIENCE)?.iter() {
            let headers = message.headers().filter(|(name, _)| *name != INTENDED);
            records.push(Record {
                topic: Arc::clone(topic),
                partition,
                key: message.key().map(<[u8]>::to_vec),
                value: message.value().map(<[u8]>::to_vec),
                headers: headers.map(|(name, value)| (name.to_owned(), value.unwrap_or_default().to_vec())).collect(),
                timestamp_ms: message.timestamp_ms(),
            });
        }
    }
    Ok(records)
}

/// Writes an input, as much of it as is released.
pub(crate) struct Source {
    thread: Option<JoinHandle<anyhow::Result<()>>>,
    shared: Arc<Shared>,
    total: usize,
    flow: Option<Flow>,
}

/// What is released little by little.
struct Flow {
    from: usize,
    until: usize,
    began: Instant,
    time: Duration,
}

#[derive(Default)]
struct Shared {
    released: AtomicUsize,
    /// Acknowledged by the broker.
    written: AtomicUsize,
    is_given_up: AtomicBool,
}

impl Source {
    /// Begins; nothing is written before it is released.
    pub(crate) fn start(input: &Arc<Input>, kafka: &KafkaConfig, records_per_second: usize) -> anyhow::Result<Self> {
        let (shared, total) = (Arc::<Shared>::default(), input.len());
        let (input, seen) = (Arc::clone(input), Arc::clone(&shared));
        let writer = Writer::new(kafka)?;
        let thread = std::thread::Builder::new()
            .name("source".to_owned())
            .spawn(move || write(&input, writer, &seen, records_per_second))?;
        Ok(Self { thread: Some(thread), shared, total, flow: None })
    }

    /// Lets it write up to this share of the input.
    pub(crate) fn release(&self, share: f64) {
        self.shared.released.fetch_max(self.records(share), Ordering::Relaxed);
    }

    /// Lets it write up to this share of the input in the course of a time, as [`flow`](Self::flow) is called.
    pub(crate) fn release_over(&mut self, share: f64, time: Duration) {
        let from = self.shared.released.load(Ordering::Relaxed);
        self.flow = Some(Flow { from, until: self.records(share), began: Instant::now(), time });
    }

    /// Releases what is due by now.
    pub(crate) fn flow(&self) {
        if let Some(Flow { from, until, began, time }) = self.flow {
            let part = (began.elapsed().as_secs_f64() / time.as_secs_f64()).min(1.0);
            let due = from + (until.saturating_sub(from) as f64 * part) as usize;
            self.shared.released.fetch_max(due, Ordering::Relaxed);
        }
    }

    /// No more is released by itself.
    pub(crate) fn hold(&mut self) {
        self.flow = None;
    }

    fn records(&self, share: f64) -> usize {
        (self.total as f64 * share.clamp(0.0, 1.0)).round() as usize
    }

    /// Records in all.
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// Whether all that was released is on the topics.
    pub(crate) fn is_idle(&self) -> bool {
        self.has_ended() || self.shared.written.load(Ordering::Relaxed) >= self.shared.released.load(Ordering::Relaxed)
    }

    /// Whether it has ended, well or not.
    pub(crate) fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for its end.
    pub(crate) fn finish(mut self) -> anyhow::Result<()> {
        self.release(1.0);
        self.join()
    }

    fn join(&mut self) -> anyhow::Result<()> {
        match self.thread.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(written)) => written.context("writing the input"),
            Some(Err(_)) => anyhow::bail!("the thread that writes the input panicked"),
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.shared.is_given_up.store(true, Ordering::Relaxed);
        // A run that is given up has its own error.
        let _ = self.join();
    }
}

fn write(input: &Input, mut writer: Writer, shared: &Shared, records_per_second: usize) -> anyhow::Result<()> {
    let step = (records_per_second / 100).max(1);
    let mut sent = 0;
    while sent < input.len() {
        if shared.is_given_up.load(Ordering::Relaxed) {
            return Ok(());
        }
        let began = Instant::now();
        let until = shared.released.load(Ordering::Relaxed).min(sent + step);
        for record in &input.records[sent..until.max(sent)] {
            let headers: Vec<(&str, &[u8])> =
                record.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
            writer.send(Outgoing {
                topic: &record.topic,
                partition: Some(record.partition),
                key: record.key.as_deref(),
                value: record.value.as_deref(),
                headers: &headers,
                timestamp_ms: record.timestamp_ms,
            })?;
        }
        if until > sent {
            sent = until;
            writer.poll()?;
        } else if shared.written.load(Ordering::Relaxed) < sent {
            settle(&mut writer, shared)?;
            shared.written.store(sent, Ordering::Relaxed);
        }
        std::thread::sleep(STEP.saturating_sub(began.elapsed()));
    }
    settle(&mut writer, shared)
}

/// Waits until all is acknowledged, or the run is given up.
fn settle(writer: &mut Writer, shared: &Shared) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let flushed = writer.flush(FLUSH_STEP);
        let is_over = shared.is_given_up.load(Ordering::Relaxed) || began.elapsed() >= FLUSH_TIMEOUT;
        if flushed.is_ok() || is_over || writer.failed() > 0 {
            return Ok(flushed?);
        }
    }
}
