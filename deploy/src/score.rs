//! `score`: alerts held against the truth as both are written, by [`tidewatch_score`], and at the end of a demo.
//!
//! Reads the topics of truth, alerts and metrics from their beginnings, what is committed of them, and follows them. It joins no group
//! and commits nothing: a start reads all again, so that what it says is a function of the topics. Of metrics only entity, partition
//! and window count: how far event time has come, and how long each entity was watched. What it finds goes to the score topic and to
//! `/metrics`, from the moment on at which all has been read that was there at the start. `records_max` bounds what is kept: entities,
//! faults and alert records, of up to 400 bytes each.

mod intake;
mod metrics;
mod publish;
pub(crate) mod table;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tidewatch_schemas::catalogue::Topics;
use tidewatch_schemas::{Record, schema, wire};
use tidewatch_score::Score;
use tidewatch_sink::{Stop, StopSignal};
use tidewatch_topic_io::{Admin, KafkaConfig, PartitionReader, StartAt};

pub(crate) use intake::Unreadable;
use intake::{Intake, Source};
pub(crate) use metrics::describe;
use publish::Publisher;

/// Records of one read, and how long it waits for the first, so that the wish to end is seen.
const READ_MAX: usize = 10_000;
const WAIT: Duration = Duration::from_millis(200);
/// How long the last records may take to arrive, and how long after a signal.
const ARRIVE_MAX: Duration = Duration::from_secs(30);
const ARRIVE_INTERRUPTED_MAX: Duration = Duration::from_secs(3);

/// What the role runs on; checked.
#[derive(Clone, Debug)]
pub(crate) struct ScoreConfig {
    /// The connection.
    pub kafka: KafkaConfig,
    /// Where truth, alerts and metrics are, and the score goes.
    pub topics: Topics,
    /// How long after its onset a fault can be found at least, in ms.
    pub delay_max_ms: i64,
    /// How often the score is published.
    pub publish_every: Duration,
    /// Entities, faults and alert records that are kept at most.
    pub records_max: usize,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Judgement {
    /// The comparison.
    pub score: Score,
    /// How long after its onset a fault could be found at least.
    pub delay_max: Duration,
    /// Records read.
    pub read: u64,
    /// Those of them that nobody could read.
    pub unreadable: Option<Unreadable>,
    /// Those of them that were left out, as there was no room.
    pub left_out: u64,
    /// Whether all that was there has been read.
    pub is_whole: bool,
}

/// Live numbers, for another thread.
#[derive(Debug, Default)]
pub(crate) struct Progress(Mutex<Glance>);

/// What a live line shows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Glance {
    /// Records read.
    pub read: u64,
    /// Offsets to go to where the topics ended at the start, once that is known.
    pub to_go: Option<u64>,
    /// As last published, if there was anything to publish.
    pub found: Option<Found>,
}

/// The headline of a score.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Found {
    pub faults: u64,
    pub found: u64,
    pub pending: u64,
    pub false_alerts: u64,
}

impl Progress {
    /// The numbers now.
    pub(crate) fn glance(&self) -> Glance {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, change: impl FnOnce(&mut Glance)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Reads, scores and publishes until it is asked to end.
///
/// # Errors
/// A topic that is not there, or what Kafka refuses.
pub(crate) fn run(config: &ScoreConfig, progress: &Progress, stop: &StopSignal) -> anyhow::Result<Judgement> {
    let admin = Admin::connect(&config.kafka)?;
    let mut reader = open(config, &admin)?;
    let mut publisher = Publisher::new(config, &admin)?;
    let mut intake = Intake::new(config)?;
    let mut ends = Ends::of(&reader)?;
    let (mut drains, mut published_at) = (false, None::<Instant>);
    loop {
        match stop.requested() {
            Some(Stop::Now) => break,
            Some(Stop::Drain) if !drains => {
                drains = true;
                let is_given_up = || stop.requested() == Some(Stop::Now);
                // A commit is answered before each partition knows of it.
                let topics = [config.topics.alerts.as_str(), &config.topics.metrics];
                let settled = reader.wait_until_settled(&admin, &topics, |_| true, is_given_up);
                if is_given_up() {
                    break;
                }
                settled?;
                ends = Ends::of(&reader)?;
            }
            _ => {}
        }
        intake.take(&reader.read(READ_MAX, WAIT)?);
        ends.pass(&reader);
        progress.update(|glance| (glance.read, glance.to_go) = (intake.read(), Some(ends.to_go(&reader))));
        if !ends.are_reached() {
            continue;
        }
        if drains {
            break;
        }
        if published_at.is_none_or(|at| at.elapsed() >= config.publish_every) {
            published_at = Some(Instant::now());
            publish(&mut publisher, &intake.score(config.delay_max_ms), progress)?;
        }
    }
    let judgement = intake.judge(config.delay_max_ms, ends.are_reached());
    let published = if judgement.is_whole { publish(&mut publisher, &judgement.score, progress) } else { Ok(()) };
    let is_interrupted = stop.requested() == Some(Stop::Now);
    let arrived =
        published.and_then(|()| publisher.finish(if is_interrupted { ARRIVE_INTERRUPTED_MAX } else { ARRIVE_MAX }));
    match arrived {
        // The next start writes it.
        Err(error) if is_interrupted => tracing::warn!("{}", crate::failure::line(&error)),
        arrived => arrived?,
    }
    Ok(judgement)
}

fn publish(publisher: &mut Publisher<'_>, score: &Score, progress: &Progress) -> anyhow::Result<()> {
    publisher.publish(score)?;
    let total = &score.total;
    let found =
        Found { faults: total.faults, found: total.found, pending: total.pending, false_alerts: total.false_alerts };
    progress.update(|glance| glance.found = Some(found));
    Ok(())
}

/// A reader of all partitions of what is compared, from their beginnings.
fn open(config: &ScoreConfig, admin: &Admin) -> anyhow::Result<PartitionReader> {
    let mut all = Vec::new();
    for source in Source::ALL {
        let topic = source.topic(&config.topics);
        let partitions = admin.partitions(topic).with_context(|| format!("topics.{}", source.as_str()))?;
        all.extend((0..partitions).map(|partition| (topic, partition, StartAt::Beginning)));
    }
    let mut reader = PartitionReader::new(&config.kafka, true)?;
    reader.assign(&all)?;
    Ok(reader)
}

/// The partitions that have not been read to where they ended at a moment, with that end.
struct Ends(BTreeMap<(String, i32), i64>);

impl Ends {
    fn of(reader: &PartitionReader) -> anyhow::Result<Self> {
        let ends = reader.end_offsets()?.into_iter();
        let mut ends = Self(ends.map(|(topic, partition, end)| ((topic, partition), end)).collect());
        ends.pass(reader);
        Ok(ends)
    }

    /// Takes those out that were reached: also where behind the last record only a transaction's marker takes an offset.
    fn pass(&mut self, reader: &PartitionReader) {
        if self.are_reached() {
            return;
        }
        for (topic, partition, at) in reader.positions().chain(reader.ends()) {
            let place = (topic.to_owned(), partition);
            if self.0.get(&place).is_some_and(|end| at >= *end) {
                self.0.remove(&place);
            }
        }
    }

    fn are_reached(&self) -> bool {
        self.0.is_empty()
    }

    fn to_go(&self, reader: &PartitionReader) -> u64 {
        let next: BTreeMap<(&str, i32), i64> =
            reader.positions().map(|(topic, partition, next)| ((topic, partition), next)).collect();
        let left = |((topic, partition), end): (&(String, i32), &i64)| {
            let next = next.get(&(topic.as_str(), *partition)).copied().unwrap_or(*end);
            end.saturating_sub(next).max(0).unsigned_abs()
        };
        self.0.iter().map(left).sum()
    }
}

/// A record of a topic of several kinds; `None` if it is one of another kind.
pub(crate) fn decode<R: Record>(value: &[u8]) -> Option<Result<R, tidewatch_schemas::DecodeError>> {
    if let Ok((wire::Header::Fingerprint(fingerprint), _)) = wire::read_header(value)
        && schema::by_fingerprint(fingerprint).is_some_and(|schema| schema.name() != R::NAME)
    {
        return None;
    }
    Some(wire::decode(value))
}
