//! Publishes a scenario: truth first, then events, on an open-loop schedule, by as many threads as wanted.
//!
//! Invariant: a thread owns whole partitions, so the order inside a partition is the generator's whatever the threads.
//! The clock decides when an event is sent and what its `tidewatch-intended-ms` header says, never its key, value,
//! partition or Kafka timestamp (the event time).

#[cfg(test)]
mod tests;
mod worker;

use crate::generator::{Generator, StreamPartition};
use crate::metrics;
use crate::outlet::{Digits, Outlet, check_topics};
use crate::progress::Progress;
use crate::scenario::Scenario;
use crate::schedule::{Clock, Lateness, Pace, now_ms};
use crate::stream::StreamKind;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use tidewatch_schemas::Record;
use tidewatch_schemas::catalogue::Topics;
use tidewatch_schemas::record::{Disorder, Truth};
use tidewatch_schemas::wire::{self, Framing};
use tidewatch_topic_io::{KafkaConfig, KafkaError, Outgoing, Writer};

/// Threads at most; each has a Kafka client of its own.
pub const THREADS_MAX: usize = 64;
pub(crate) const SOURCE: &[u8] = b"tidewatch/producer";
/// The name of headers that say nothing.
pub(crate) const FILLER: &str = "filler";
pub(crate) const INTENDED: &str = "tidewatch-intended-ms";

/// What to publish, and how.
#[derive(Clone, Debug)]
pub struct PublishJob<'a> {
    /// What happens.
    pub scenario: &'a Scenario,
    /// Which of its variants.
    pub seed: u64,
    /// Only the first so many events; `None`: all.
    pub events: Option<u64>,
    /// When they are sent.
    pub pace: Pace,
    /// Publishing threads, 1 to [`THREADS_MAX`].
    pub threads: usize,
    /// Partitions of each input topic.
    pub partitions: i32,
    /// How values are framed.
    pub framing: Framing,
    /// Names of the topics.
    pub topics: &'a Topics,
    /// How to reach Kafka.
    pub kafka: &'a KafkaConfig,
    /// Publish the truth about these events first. A resumed job has it published already, if its limit is the same.
    pub truth: bool,
    /// Records that each partition has already; with `[disorder]`, published with the same limit.
    pub resume_from: BTreeMap<StreamPartition, u64>,
}

/// What was published.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PublishSummary {
    /// Records by stream: events, and what disorder made of them.
    pub published: BTreeMap<StreamKind, u64>,
    /// Records by partition, those that were there already included: the `resume_from` of the next job.
    pub positions: BTreeMap<StreamPartition, u64>,
    /// Truth records: faults, and the disorder of each partition.
    pub truth: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
    /// Events that Kafka did not take.
    pub failed: u64,
    /// Whether it was stopped before its end.
    pub stopped: bool,
    /// By how much events were behind their schedule; empty without one.
    pub behind: Lateness,
    /// How long it took.
    pub duration: Duration,
}

impl PublishSummary {
    /// Records over all streams.
    pub fn events(&self) -> u64 {
        self.published.values().sum()
    }
}

/// Why a scenario was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// A setting is out of its range.
    #[error("{setting}: {problem}")]
    Setting {
        /// Its name in the job.
        setting: &'static str,
        /// What is wrong and what to do.
        problem: String,
    },
    /// Kafka did not take something.
    #[error("publishing to {topic} failed")]
    Kafka {
        /// Where to.
        topic: String,
        /// Why.
        source: KafkaError,
    },
    /// No connection, or not the topics that are needed.
    #[error(transparent)]
    Connect(KafkaError),
    /// A publishing thread ended by a panic: a bug.
    #[error("a publishing thread panicked")]
    Panicked,
}

/// Publishes to Kafka; returns when all is acknowledged, or soon after `stop` is set.
///
/// The topics must be there, the inputs with `job.partitions` each. Kafka's timestamps are event times: topics need a
/// retention that does not drop old ones (`retention.ms` -1 for a scenario of the past).
pub fn publish(job: &PublishJob<'_>, progress: &Progress, stop: &AtomicBool) -> Result<PublishSummary, PublishError> {
    check(job)?;
    let streams = job.scenario.streams();
    let mut topics: Vec<_> = streams.iter().map(|stream| (stream.topic(job.topics), Some(job.partitions))).collect();
    topics.push((&job.topics.truth, None));
    check_topics(job.kafka, &topics).map_err(PublishError::Connect)?;
    publish_to(job, progress, stop, &|| Writer::new(job.kafka).map_err(PublishError::Connect))
}

/// The same to any outlet; `open` is called once per thread and once for the truth.
pub(crate) fn publish_to<O: Outlet>(
    job: &PublishJob<'_>,
    progress: &Progress,
    stop: &AtomicBool,
    open: &(dyn Fn() -> Result<O, PublishError> + Sync),
) -> Result<PublishSummary, PublishError> {
    check(job)?;
    let started = Instant::now();
    let mut generator = job.scenario.generator(job.seed, job.partitions);
    if let Some(events) = job.events {
        generator = generator.limited(events);
    }
    let mut summary = PublishSummary { positions: job.resume_from.clone(), ..PublishSummary::default() };
    if job.truth {
        summary.truth = publish_truth(job, &generator, &mut open()?)?;
    }
    let left = left(&generator.records_total(), &job.resume_from);
    progress.set_target(left.values().sum());
    let first_time = first_time(&generator, &job.resume_from);
    let clock = Clock::start();
    let abandon = AtomicBool::new(false);
    let tallies: Vec<Result<worker::Tally, PublishError>> = std::thread::scope(|scope| {
        let shares = shares(&left, job.threads).into_iter().filter(|share| !share.is_empty());
        let threads: Vec<_> = shares
            .map(|places| {
                let worker =
                    worker::Worker { job, generator: &generator, clock, first_time, progress, stop, abandon: &abandon };
                scope.spawn(move || worker.run(&places, &mut open()?))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(Err(PublishError::Panicked))).collect()
    });
    for tally in tallies {
        tally?.add_to(&mut summary);
    }
    summary.duration = started.elapsed();
    tracing::info!(
        events = summary.events(),
        truth = summary.truth,
        failed = summary.failed,
        stopped = summary.stopped,
        "published"
    );
    Ok(summary)
}

fn check(job: &PublishJob<'_>) -> Result<(), PublishError> {
    let setting = |setting, problem| Err(PublishError::Setting { setting, problem });
    if !(1..=THREADS_MAX).contains(&job.threads) {
        return setting("threads", format!("{} is not between 1 and {THREADS_MAX}", job.threads));
    }
    if job.partitions < 1 {
        return setting("partitions", format!("{} is not above 0", job.partitions));
    }
    if let Some(rules) = &job.scenario.disorder {
        if let Some(partition) = rules.partition_beyond(job.partitions) {
            let problem = format!("{} are too few: the scenario has partition {partition} go idle", job.partitions);
            return setting("partitions", problem);
        }
        if rules.needs_schemas() && job.framing != Framing::SingleObject {
            let problem = "a registry's id stands for one schema, and the scenario writes several; use single-object";
            return setting("framing", problem.to_owned());
        }
    }
    match job.pace.problem() {
        Some(problem) => setting("pace", problem),
        None => Ok(()),
    }
}

/// Records that each partition still lacks.
fn left(
    total: &BTreeMap<StreamPartition, u64>,
    resume_from: &BTreeMap<StreamPartition, u64>,
) -> BTreeMap<StreamPartition, u64> {
    let rest =
        |place: &StreamPartition, events: u64| events.saturating_sub(resume_from.get(place).copied().unwrap_or(0));
    total.iter().map(|(place, records)| (*place, rest(place, *records))).collect()
}

/// Event time of the schedule's first event: a resumed schedule begins where the other ended.
fn first_time(generator: &Generator, resume_from: &BTreeMap<StreamPartition, u64>) -> i64 {
    if resume_from.is_empty() {
        return generator.start_ms();
    }
    let next = |place| generator.records(place, resume_from.get(&place).copied().unwrap_or(0)).next_moment();
    generator.partitions().into_keys().filter_map(next).min().unwrap_or(generator.start_ms())
}

/// Partitions to threads, the largest first to the thread that has least: even, and the same every time.
fn shares(left: &BTreeMap<StreamPartition, u64>, threads: usize) -> Vec<Vec<StreamPartition>> {
    let mut order: Vec<(StreamPartition, u64)> = left.iter().map(|(place, events)| (*place, *events)).collect();
    order.sort_by_key(|(place, events)| (std::cmp::Reverse(*events), *place));
    let mut shares = vec![(0_u64, Vec::new()); threads];
    for (place, events) in order {
        if let Some(least) = shares.iter_mut().min_by_key(|(total, _)| *total) {
            least.0 += events;
            least.1.push(place);
        }
    }
    shares.into_iter().map(|(_, places)| places).collect()
}

fn publish_truth<O: Outlet>(job: &PublishJob<'_>, generator: &Generator, outlet: &mut O) -> Result<u64, PublishError> {
    let topic = &job.topics.truth;
    let failed = |source| PublishError::Kafka { topic: topic.clone(), source };
    let mut value = Vec::new();
    let now = Digits::of(now_ms());
    let mut count = 0;
    for truth in generator.truth() {
        value.clear();
        wire::encode(truth, job.framing, &mut value);
        let headers = [
            ("ce_specversion", &b"1.0"[..]),
            ("ce_type", Truth::TYPE.as_bytes()),
            ("ce_source", SOURCE),
            ("ce_id", truth.fault_id.as_bytes()),
            (INTENDED, now.as_bytes()),
        ];
        let message = Outgoing {
            topic,
            partition: None,
            key: Some(truth.entity.as_bytes()),
            value: Some(&value),
            headers: &headers,
            timestamp_ms: Some(truth.onset),
        };
        outlet.send(message).map_err(failed)?;
        count += 1;
    }
    for disorder in generator.disorder() {
        value.clear();
        wire::encode(&disorder, job.framing, &mut value);
        let key = format!("{}/{}", disorder.stream, disorder.partition);
        let id = format!("disorder/{key}");
        let headers = [
            ("ce_specversion", &b"1.0"[..]),
            ("ce_type", Disorder::TYPE.as_bytes()),
            ("ce_source", SOURCE),
            ("ce_id", id.as_bytes()),
            (INTENDED, now.as_bytes()),
        ];
        let message = Outgoing {
            topic,
            partition: None,
            key: Some(key.as_bytes()),
            value: Some(&value),
            headers: &headers,
            timestamp_ms: Some(generator.start_ms()),
        };
        outlet.send(message).map_err(failed)?;
        count += 1;
    }
    outlet.finish().map_err(failed)?;
    metrics::delivery_failures(outlet.failed());
    Ok(count)
}
