//! The shell around the deliverer: one thread, one loop, Kafka on one side and storage on the other.
//!
//! object_store is async; its runtime lives on this thread and runs only while storage is used, so
//! that no blocking Kafka call ever sits in async code.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tidewatch_topic_io::{
    Admin, Committed, Disposition, GroupEvent, GroupOptions, GroupReader, KafkaError, Message, OffsetCommit, StartAt,
    StartWithout,
};
use tokio::runtime::Runtime;

use super::buffer::Arrival;
use super::deliverer::{Deliverer, SettleError, Stored};
use super::encode::EncodeError;
use super::kind::TopicKind;
use super::record::{Seen, letter};
use super::shelf::{Shelf, StorageError};
use super::summary::{DeliverySummary, Tally};
use crate::config::DeliveryConfig;
use crate::metrics;
use crate::progress::{Progress, Stop, StopSignal};
use crate::transactional::INTENDED_HEADER;

/// Records taken from Kafka at once.
const BATCH_RECORDS: usize = 4096;
/// How long a read waits for a first record: bounds how late a stop request is seen.
const READ_WAIT: Duration = Duration::from_millis(100);
/// How often the group hears of this member while storage takes its time.
const STAY_EVERY: Duration = Duration::from_millis(500);
/// How long storage may take once an end at once is asked for.
const STOP_GRACE: Duration = Duration::from_secs(6);
/// How often the ends of the topics are asked for.
const LAG_INTERVAL: Duration = Duration::from_secs(1);

/// Why Delivery ended before it was asked to. Nothing was committed for what is not visible.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// Storage refused, or holds something else than the topics.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A readable record could not be encoded: a defect of this program.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// Kafka.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The storage runtime could not be made.
    #[error("cannot start the storage runtime: {0}")]
    Runtime(std::io::Error),
}

impl From<SettleError> for DeliveryError {
    fn from(error: SettleError) -> Self {
        match error {
            SettleError::Storage(error) => Self::Storage(error),
            SettleError::Encode(error) => Self::Encode(error),
        }
    }
}

/// Runs Delivery on this thread until it is asked to stop or cannot go on.
///
/// # Errors
/// See [`DeliveryError`]; each is one line that names the setting or the topic.
pub fn run(config: DeliveryConfig, progress: &Progress, stop: &StopSignal) -> Result<DeliverySummary, DeliveryError> {
    let started = Instant::now();
    let mut shell = Shell::start(&config, progress, stop)?;
    let mut ends = Ends::new();
    let mut trouble = Trouble::default();
    loop {
        let served = shell.serve_group();
        trouble.bound(served)?;
        let read = shell.read();
        trouble.bound(read)?;
        shell.settle(false)?;
        shell.watch_lag();
        match stop.requested() {
            None => {}
            Some(Stop::Now) => break,
            Some(Stop::Drain) => {
                let drained = shell.is_drained(&mut ends);
                if trouble.bound(drained)? == Some(true) {
                    break;
                }
            }
        }
    }
    shell.settle(true)?;
    Ok(shell.tally.finish(started.elapsed()))
}

/// How long questions to Kafka may fail in passing ways before the role ends.
const TROUBLE_MAX: Duration = Duration::from_secs(60);

/// Bounds passing trouble with Kafka: a broker that restarts is waited for, not for ever.
#[derive(Default)]
struct Trouble {
    since: Option<Instant>,
}

impl Trouble {
    /// `None` for an error that may pass; it has been logged.
    fn bound<T>(&mut self, result: Result<T, DeliveryError>) -> Result<Option<T>, DeliveryError> {
        match result {
            Ok(value) => {
                self.since = None;
                Ok(Some(value))
            }
            Err(DeliveryError::Kafka(error))
                if passes(&error) && self.since.get_or_insert_with(Instant::now).elapsed() < TROUBLE_MAX =>
            {
                tracing::warn!(%error, "kafka: trying again");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

fn passes(error: &KafkaError) -> bool {
    matches!(error.disposition(), Disposition::Retry | Disposition::AbortCycle)
}

/// Ends that a drain reads up to, by partition.
type Ends = BTreeMap<(String, i32), i64>;

struct Shell<'a> {
    reader: GroupReader,
    admin: Admin,
    runtime: Runtime,
    deliverer: Deliverer,
    kinds: BTreeMap<String, TopicKind>,
    progress: &'a Progress,
    stop: &'a StopSignal,
    tally: Tally,
    /// The group has told at least once what is ours, even if that is nothing.
    joined: bool,
    lag_seen: Option<Instant>,
}

impl<'a> Shell<'a> {
    /// Storage first: a folder that cannot be written to is told before any group is joined.
    fn start(config: &DeliveryConfig, progress: &'a Progress, stop: &'a StopSignal) -> Result<Self, DeliveryError> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(DeliveryError::Runtime)?;
        let shelf = runtime.block_on(Shelf::open(&config.output, config.retry))?;
        let admin = Admin::connect(&config.kafka)?;
        for topic in &config.topics {
            admin.partitions(&topic.name)?;
        }
        let names: Vec<&str> = config.topics.iter().map(|topic| topic.name.as_str()).collect();
        let options = GroupOptions {
            read_committed: true,
            instance_id: config.instance_id.clone(),
            start: StartWithout::Earliest,
            ..GroupOptions::default()
        };
        Ok(Self {
            reader: GroupReader::new(&config.kafka, &config.group_id, &names, options)?,
            admin,
            runtime,
            deliverer: Deliverer::new(shelf, config.roll, config.buffer_bytes),
            kinds: config.topics.iter().map(|topic| (topic.name.clone(), topic.kind)).collect(),
            progress,
            stop,
            tally: Tally::new(config.topics.iter().map(|topic| topic.kind)),
            joined: false,
            lag_seen: None,
        })
    }

    /// Takes and gives up partitions. What waits of a partition that goes was not committed: its next
    /// owner reads it again, and the claims see to it that it comes to the same rolls.
    fn serve_group(&mut self) -> Result<(), DeliveryError> {
        let Self { reader, runtime, deliverer, kinds, .. } = self;
        let mut failure = None;
        let events = reader.serve_group(&mut |topic: &str, partition: i32, committed: Option<&Committed>| {
            let Some(&kind) = kinds.get(topic) else { return StartAt::Committed };
            let assigned = deliverer.assign(kind, topic, partition, committed.map(|c| c.offset));
            match runtime.block_on(assigned) {
                Ok(start) => start.map_or(StartAt::Committed, StartAt::Offset),
                Err(error) => {
                    failure.get_or_insert(error);
                    StartAt::Committed
                }
            }
        })?;
        if let Some(error) = failure {
            return Err(error.into());
        }
        for event in events {
            match event {
                GroupEvent::Assigned(partitions) => {
                    self.joined = true;
                    for p in partitions {
                        tracing::debug!(
                            topic = p.topic,
                            partition = p.partition,
                            start_offset = p.start_offset,
                            "delivery reads a partition"
                        );
                    }
                }
                GroupEvent::Revoked(partitions) | GroupEvent::Lost(partitions) => {
                    for (topic, partition) in partitions {
                        self.deliverer.revoke(&topic, partition);
                    }
                }
            }
        }
        Ok(())
    }

    fn read(&mut self) -> Result<(), DeliveryError> {
        let now = Instant::now();
        let now_ms = epoch_ms();
        let batch = self.reader.read(BATCH_RECORDS, READ_WAIT)?;
        for message in batch.iter() {
            let alert = self.kinds.get(message.topic()) == Some(&TopicKind::Alerts);
            let intended_ms = if alert { intended_ms(&message) } else { None };
            let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
            let is_letter = self.kinds.get(message.topic()) == Some(&TopicKind::DeadLetters);
            let letter = if is_letter { letter(&message) } else { None };
            let (value, unreadable) = match &letter {
                Some(Ok(framed)) => (Some(framed.as_slice()), None),
                Some(Err(problem)) => (message.value(), Some(problem.as_str())),
                None => (message.value(), None),
            };
            let timestamp_ms = message.timestamp_ms();
            let arrival = Arrival { offset, timestamp_ms, value, intended_ms, unreadable };
            let Some(seen) = self.deliverer.absorb(topic, partition, arrival, now) else { continue };
            if let Some(intended_ms) = intended_ms {
                self.tally.alert_arrived(intended_ms, now_ms);
            }
            match seen {
                Ok(Seen::Readable) => {}
                Ok(Seen::Opened(severity)) => {
                    self.progress.add_alert_opened(severity);
                    self.tally.alert_opened(severity);
                }
                Err(error) => tracing::warn!(
                    topic,
                    partition,
                    offset,
                    error,
                    "a record of a result topic cannot be read and is kept raw"
                ),
            }
        }
        Ok(())
    }

    /// Makes visible what is due and commits it, also what came before a failure.
    fn settle(&mut self, flush: bool) -> Result<(), DeliveryError> {
        let started = Instant::now();
        let mut stored = Vec::new();
        let Self { runtime, deliverer, reader, stop, .. } = self;
        let settled = staying(reader, stop, deliverer.settle(started, flush, &mut stored));
        let (result, membership) = runtime.block_on(settled);
        self.account(&stored, started.elapsed());
        self.commit(&stored)?;
        metrics::buffered(self.deliverer.buffered_bytes());
        if result.is_none() {
            tracing::warn!("storage has not answered in time for the end: what waits comes again with the next start");
        }
        result.unwrap_or(Ok(()))?;
        Ok(membership?)
    }

    fn account(&mut self, stored: &[Stored], took: Duration) {
        let now_ms = epoch_ms();
        for roll in stored {
            self.progress.add_visible(roll.kind, roll.rows, roll.rejected, roll.files, roll.bytes);
            self.tally.stored(roll, now_ms);
            let share = took / stored.len() as u32;
            metrics::roll_visible(roll.kind, roll.rows, roll.rejected, roll.files, roll.bytes, share);
            tracing::debug!(
                topic = roll.topic,
                partition = roll.partition,
                rows = roll.rows,
                next_offset = roll.next_offset,
                "a roll is visible"
            );
        }
    }

    /// Only the last roll of a partition matters to the group. A commit that a rebalance refuses is
    /// no harm: the claims tell the next owner more than the commit would have.
    fn commit(&mut self, stored: &[Stored]) -> Result<(), DeliveryError> {
        let newest: BTreeMap<(&str, i32), i64> =
            stored.iter().map(|roll| ((roll.topic.as_str(), roll.partition), roll.next_offset)).collect();
        let offsets: Vec<OffsetCommit<'_>> = newest
            .into_iter()
            .map(|((topic, partition), offset)| OffsetCommit { topic, partition, offset, metadata: "" })
            .collect();
        match self.reader.commit(&offsets) {
            Err(error) if passes(&error) => {
                tracing::warn!(%error, "offsets were not committed; the output knows them");
                Ok(())
            }
            result => Ok(result?),
        }
    }

    fn watch_lag(&mut self) {
        if self.lag_seen.is_some_and(|seen| seen.elapsed() < LAG_INTERVAL) {
            return;
        }
        self.lag_seen = Some(Instant::now());
        let lag = self.reader.lag().iter().map(|partition| partition.lag).sum();
        self.progress.set_lag(lag);
        metrics::lag(lag);
    }

    /// Whether every partition of ours was read up to the end it had when the drain first saw it.
    fn is_drained(&self, ends: &mut Ends) -> Result<bool, DeliveryError> {
        if !self.joined {
            return Ok(false);
        }
        if ends.is_empty() {
            // Asked by a client of its own: the reader's questions queue behind its long fetches, half a second each.
            let mut all = Ends::new();
            for topic in self.kinds.keys() {
                let found = self.admin.offsets(topic)?;
                all.extend(found.into_iter().map(|end| ((topic.clone(), end.partition), end.high)));
            }
            *ends = all;
        }
        // Behind a transaction's end marker there is no record to see; the client's own position tells.
        let lags = self.reader.lag();
        Ok(self.reader.positions().all(|(topic, partition, next_offset)| {
            let client = lags.iter().find(|lag| lag.topic == topic && lag.partition == partition);
            let position = client.and_then(|lag| lag.committed).unwrap_or(next_offset).max(next_offset);
            ends.get(&(topic.to_owned(), partition)).is_none_or(|end| position >= *end)
        }))
    }
}

/// Stays in the group while storage takes its time: nothing is read meanwhile, and a rebalance waits. `None` if it took too long for
/// an end that is asked for: what was not done then is as after a crash. With it what the group had to say.
async fn staying<T>(
    reader: &GroupReader,
    stop: &StopSignal,
    work: impl Future<Output = T>,
) -> (Option<T>, Result<(), KafkaError>) {
    let (mut work, mut membership, mut asked_at) = (pin!(work), Ok(()), None);
    loop {
        tokio::select! {
            done = &mut work => return (Some(done), membership),
            () = tokio::time::sleep(STAY_EVERY) => membership = membership.and_then(|()| reader.stay()),
        }
        if stop.requested() == Some(Stop::Now) && asked_at.get_or_insert_with(Instant::now).elapsed() >= STOP_GRACE {
            return (None, membership);
        }
    }
}

fn intended_ms(message: &Message<'_>) -> Option<i64> {
    let header = message.header(INTENDED_HEADER).and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
    header.or_else(|| message.timestamp_ms())
}

fn epoch_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
