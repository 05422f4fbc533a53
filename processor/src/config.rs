//! How the processor runs; what it watches is in the streams' declarations.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidewatch_processor_core::StreamConfig;
use tidewatch_processor_core::config::Span;
use tidewatch_schemas::catalogue::Topics;
use tidewatch_topic_io::KafkaConfig;

use crate::ProcessorError;

/// Settings of the processor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProcessorSettings {
    /// The consumer group, and the first part of the transactional id.
    pub group_id: String,
    /// Tells this process from others of the group; a second process with the same one fences the first.
    pub instance: String,
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
    /// How long the broker lets a transaction stand open; less than the session time-out.
    pub transaction_timeout: Span,
    /// Records prefetched for all partitions together, in KiB.
    pub prefetch_kib: u32,
    /// Where an input without committed offsets is read from.
    pub start: Start,
}

impl Default for ProcessorSettings {
    fn default() -> Self {
        Self {
            group_id: "tidewatch".into(),
            instance: "0".into(),
            static_membership: false,
            commit_interval: Span::from_millis(100),
            batch_max: 20_000,
            snapshot_every: Span::from_millis(10_000),
            snapshot_kib_per_second: 16_384,
            transaction_timeout: Span::from_millis(30_000),
            prefetch_kib: 65_536,
            start: Start::Earliest,
        }
    }
}

impl ProcessorSettings {
    /// Checks that the settings make sense, alone and together.
    ///
    /// # Errors
    /// Names the first that does not, and what to do.
    pub fn validate(&self) -> Result<(), ProcessorError> {
        let wrong =
            |setting: &str, problem: &str| Err(ProcessorError::Settings(format!("processor.{setting} {problem}")));
        let zero = Span::default();
        if self.group_id.is_empty() || self.instance.is_empty() {
            return wrong("group_id and processor.instance", "must not be empty");
        }
        if self.batch_max == 0 {
            return wrong("batch_max", "is 0: no record could be taken; write at least 1");
        }
        if self.prefetch_kib == 0 {
            return wrong("prefetch_kib", "is 0: nothing could be fetched; write at least 1");
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
        if self.transaction_timeout.as_millis() > SESSION_TIMEOUT_MS {
            return wrong("transaction_timeout", "must not be longer than the group's session time-out of 45s");
        }
        Ok(())
    }
}

/// The client's `session.timeout.ms`: a transaction must not outlive its member.
const SESSION_TIMEOUT_MS: i64 = 45_000;

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
    pub(crate) fn transactional_id(&self) -> String {
        format!("{}-{}", self.settings.group_id, self.settings.instance)
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
