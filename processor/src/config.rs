//! How the processor runs; what it watches is in the streams' declarations.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidewatch_processor_core::StreamConfig;
use tidewatch_processor_core::config::{Bootstrap, Span};
use tidewatch_schemas::catalogue::Topics;
use tidewatch_schemas::entity;
use tidewatch_sink::ProcessingGuarantee;
use tidewatch_topic_io::KafkaConfig;

use crate::ProcessorError;

/// Settings of the processor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProcessorSettings {
    /// The consumer group, and the first part of the transactional ids.
    pub group_id: String,
    /// Tells this process from others of the group; a second process with the same one fences the first.
    pub instance: String,
    /// Threads that share the input partitions, each with a consumer, a producer and the engines of its partitions. Default 1.
    pub workers: usize,
    /// What holds for results when a process dies. Default exactly once.
    pub processing_guarantee: ProcessingGuarantee,
    /// Keeps the partitions of an instance over a restart that is shorter than the session time-out (static membership).
    pub static_membership: bool,
    /// How long a transaction collects before it is committed.
    pub commit_interval: Span,
    /// Records that one transaction takes at most.
    pub batch_max: usize,
    /// How often a snapshot round begins; a restart reads the input since the last complete one again.
    pub snapshot_every: Span,
    /// Bytes of state that a second writes at most, in KiB, so that commits do not wait for it; a round takes as long as that takes.
    pub snapshot_kib_per_second: u32,
    /// How long the broker lets a transaction stand open; less than the session time-out. A commit that is not answered within half
    /// of it (2 s at least) is given up, and its outcome learned from the committed offsets.
    pub transaction_timeout: Span,
    /// Records prefetched for all partitions together, in KiB; workers share it evenly.
    pub prefetch_kib: u32,
    /// Where an input without committed offsets is read from; one that is learnt from without alerts (`bootstrap`), from its beginning.
    pub start: Start,
    /// What is done when retention has removed input before it was read. Default fail.
    pub on_lost_input: OnLostInput,
    /// After so long without progress, though there is input, a worker's clients are made anew; the third time in a row the processor
    /// ends. Default 30 s.
    pub stall_timeout: Span,
    /// How long a processor that is told to end at once may take to settle its open transaction. Default 6 s; to leave the group it has
    /// two more.
    pub shutdown_grace: Span,
}

impl Default for ProcessorSettings {
    fn default() -> Self {
        Self {
            group_id: "tidewatch".into(),
            instance: "0".into(),
            workers: 1,
            processing_guarantee: ProcessingGuarantee::ExactlyOnce,
            static_membership: false,
            commit_interval: Span::from_millis(100),
            batch_max: 20_000,
            snapshot_every: Span::from_millis(10_000),
            snapshot_kib_per_second: 16_384,
            transaction_timeout: Span::from_millis(30_000),
            prefetch_kib: 65_536,
            start: Start::Earliest,
            on_lost_input: OnLostInput::Fail,
            stall_timeout: Span::from_millis(30_000),
            shutdown_grace: Span::from_millis(6_000),
        }
    }
}

impl ProcessorSettings {
    /// Checks that the settings make sense, alone, together, and with those of the client.
    ///
    /// # Errors
    /// Names the first that does not, and what to do.
    pub fn validate(&self, kafka: &KafkaConfig) -> Result<(), ProcessorError> {
        let wrong =
            |setting: &str, problem: &str| Err(ProcessorError::Settings(format!("processor.{setting} {problem}")));
        let zero = Span::default();
        if self.group_id.is_empty() || self.instance.is_empty() {
            return wrong("group_id and processor.instance", "must not be empty");
        }
        if self.batch_max == 0 {
            return wrong("batch_max", "is 0: no record could be taken; write at least 1");
        }
        if !(1..=WORKERS_MAX).contains(&self.workers) {
            let problem = format!("is {}: write 1 to {WORKERS_MAX}, at most one for each partition", self.workers);
            return wrong("workers", &problem);
        }
        if self.prefetch_kib < self.workers as u32 {
            let problem =
                format!("is {}: nothing could be fetched; write at least 1 for each worker", self.prefetch_kib);
            return wrong("prefetch_kib", &problem);
        }
        if self.stall_timeout == zero || self.shutdown_grace == zero {
            return wrong("stall_timeout and processor.shutdown_grace", "must be longer than 0");
        }
        if self.snapshot_kib_per_second == 0 {
            return wrong("snapshot_kib_per_second", "is 0: no state would ever be written; write at least 1");
        }
        if self.commit_interval == zero || self.snapshot_every == zero {
            return wrong("commit_interval and processor.snapshot_every", "must be longer than 0");
        }
        if self.commit_interval >= self.transaction_timeout {
            return wrong("transaction_timeout", "must be longer than processor.commit_interval");
        }
        let transaction = millis(self.transaction_timeout);
        // A transaction must not outlive its member: the next one would wait for it before it may read the committed offsets.
        if transaction >= kafka.session_timeout() {
            let problem = format!(
                "= {:?} is not shorter than the group's session time-out of {:?}; shorten it, or raise \
                 kafka.properties.\"session.timeout.ms\"",
                transaction,
                kafka.session_timeout()
            );
            return wrong("transaction_timeout", &problem);
        }
        // A cycle that waits for slow outputs is over before the group takes its member for hung: its records, offsets and end are waited
        // for half a transaction's time each. What comes after a failure, an abort or the settling of what is not known, takes as long as it
        // takes: a member that was taken for hung over that restores what it is given again, and no more comes of it.
        if transaction.saturating_mul(3) > kafka.max_poll_interval() {
            let problem = format!(
                "= {:?} is more than a third of kafka.properties.\"max.poll.interval.ms\" = {:?}: a member that waits for its \
                 outputs would be taken for hung",
                transaction,
                kafka.max_poll_interval()
            );
            return wrong("transaction_timeout", &problem);
        }
        Ok(())
    }
}

/// More threads than that in one process gain nothing: another process does.
const WORKERS_MAX: usize = 64;

/// What is done when retention has removed input before it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnLostInput {
    /// The processor ends with an error.
    Fail,
    /// It goes on with what there is, and counts what is not.
    Skip,
}

/// Where an input without committed offsets is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// From the oldest record there is.
    Earliest,
    /// From what is written from now on.
    Latest,
}

/// All that the processor needs to run.
#[derive(Clone, Debug)]
pub struct ProcessorConfig {
    /// The connection.
    pub kafka: KafkaConfig,
    /// The streams to watch.
    pub streams: Vec<Arc<StreamConfig>>,
    /// Names of the output topics.
    pub topics: Topics,
    /// How it runs.
    pub settings: ProcessorSettings,
}

impl ProcessorConfig {
    /// Of a worker, and like no other group's, instance's or worker's, whatever their names.
    pub(crate) fn transactional_id(&self, worker: usize) -> String {
        entity::join(&[&self.settings.group_id, &self.settings.instance, &worker.to_string()]).into_owned()
    }

    /// A worker's name in its group where membership is static.
    pub(crate) fn group_instance_id(&self, worker: usize) -> String {
        format!("{}-{worker}", self.settings.instance)
    }

    /// Threads of one worker's restore: all cores, where workers come back together.
    pub(crate) fn restore_threads(&self) -> usize {
        thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(self.settings.workers))
    }

    /// Where a topic without committed offsets is read from: one that is learnt from, from its beginning.
    pub(crate) fn start_of(&self, topic: &str) -> Start {
        let is_learnt = |stream: &Arc<StreamConfig>| stream.topic == topic && stream.bootstrap == Bootstrap::Earliest;
        if self.streams.iter().any(is_learnt) { Start::Earliest } else { self.settings.start }
    }

    pub(crate) fn commit_interval(&self) -> Duration {
        millis(self.settings.commit_interval)
    }

    pub(crate) fn snapshot_bytes_per_second(&self) -> u64 {
        u64::from(self.settings.snapshot_kib_per_second) * 1_024
    }

    pub(crate) fn snapshot_every(&self) -> Duration {
        millis(self.settings.snapshot_every)
    }
}

/// Checks that streams go together, and with the topics that the processor writes.
///
/// # Errors
/// Two streams of one name, whose states would replace each other, or of one topic; a stream that reads what the processor writes.
pub fn check_streams(streams: &[Arc<StreamConfig>], topics: &Topics) -> Result<(), ProcessorError> {
    let wrong = |text: String| Err(ProcessorError::Settings(text));
    for (at, stream) in streams.iter().enumerate() {
        let (name, topic) = (&stream.name, &stream.topic);
        for other in &streams[..at] {
            if other.topic == *topic {
                return wrong(format!(
                    "streams `{}` and `{name}` both read topic `{topic}`; declare it once",
                    other.name
                ));
            }
            if other.name == *name {
                let both = format!("`{}` and `{topic}`", other.topic);
                return wrong(format!(
                    "two streams are named `{name}`, those of topics {both}; give each its own name"
                ));
            }
        }
        if let Some((setting, _)) = topics.own().find(|(_, own)| own == topic) {
            return wrong(format!(
                "stream `{name}`: `topic` is `{topic}`, which is topics.{setting}; name an input topic"
            ));
        }
    }
    Ok(())
}

pub(crate) fn millis(span: Span) -> Duration {
    Duration::from_millis(span.as_millis().unsigned_abs())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn check_refused(settings: &ProcessorSettings, properties: &[(&str, &str)], expected: &str) {
        let mut kafka = KafkaConfig::default();
        for (name, value) in properties {
            kafka.properties.set(*name, *value);
        }
        let found = settings.validate(&kafka).unwrap_err().to_string();
        assert!(found.contains(expected), "{found}");
    }

    #[test]
    fn time_outs_are_held_against_those_in_force() {
        let settings = ProcessorSettings::default();
        settings.validate(&KafkaConfig::default()).unwrap();
        let long = ProcessorSettings { transaction_timeout: Span::from_millis(45_000), ..settings.clone() };
        check_refused(
            &long,
            &[],
            "processor.transaction_timeout = 45s is not shorter than the group's session time-out of 45s",
        );
        check_refused(&settings, &[("session.timeout.ms", "30000")], "\"session.timeout.ms\"");
        check_refused(&settings, &[("max.poll.interval.ms", "60000")], "\"max.poll.interval.ms\" = 60s");
    }

    #[test]
    fn every_worker_has_ids_of_its_own() {
        let config = |group: &str, instance: &str| {
            let settings = ProcessorSettings {
                group_id: group.into(),
                instance: instance.into(),
                workers: 3,
                ..ProcessorSettings::default()
            };
            ProcessorConfig { kafka: KafkaConfig::default(), streams: Vec::new(), topics: Topics::default(), settings }
        };
        assert_eq!(config("tidewatch", "0").transactional_id(2), "tidewatch/0/2");
        let configs = [("a", "b-1"), ("a-b", "1"), ("a/b", "1"), ("a", "b/1"), ("a", "b"), ("a", "b-1-0")];
        let configs = configs.map(|(group, instance)| config(group, instance));
        let workers = || configs.iter().flat_map(|config| (0..3).map(move |worker| (config, worker)));
        let ids: BTreeSet<_> = workers().map(|(config, worker)| config.transactional_id(worker)).collect();
        assert_eq!(ids.len(), 18, "{ids:?}");
        let members = workers().map(|(config, worker)| (&config.settings.group_id, config.group_instance_id(worker)));
        assert_eq!(members.collect::<BTreeSet<_>>().len(), 18);
    }

    #[test]
    fn no_worker_is_without_work() {
        let settings = ProcessorSettings { workers: 3, ..ProcessorSettings::default() };
        check_refused(&ProcessorSettings { workers: 0, ..settings.clone() }, &[], "processor.workers is 0");
        check_refused(&ProcessorSettings { prefetch_kib: 2, ..settings }, &[], "processor.prefetch_kib is 2");
    }
}
