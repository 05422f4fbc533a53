//! Settings of Delivery: what a person writes under `[sink]`, and the checked form the role runs on.
//!
//! Invariant: a [`DeliveryConfig`] exists only after validation, so nothing behind it checks a range
//! again. Unknown keys are refused by serde; every error names the setting and what it accepts.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidewatch_schemas::catalogue::Topics;
use tidewatch_topic_io::KafkaConfig;

use crate::delivery::kind::TopicKind;

/// The `[sink]` table as written by a person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SinkSettings {
    /// Folder (or `file://` URL) that receives the files; made when missing. Default `tidewatch-output`.
    pub output: String,
    /// Consumer group whose committed offsets mark what is stored. Default `tidewatch-sink`.
    /// To write everything again into a new folder, choose a new group.
    pub group_id: String,
    /// Static membership (`group.instance.id`): a restart within the session time-out causes no
    /// rebalance. Must differ between instances. Default none.
    pub instance_id: Option<String>,
    /// Which result topics are stored. Default all five.
    pub topics: Vec<TopicKind>,
    /// When a file is closed.
    pub roll: RollSettings,
    /// Bytes of Kafka values held for all partitions together before the largest partition is
    /// written early. Default 268435456 (256 MiB).
    pub buffer_bytes: u64,
    /// What to do when storage refuses a write.
    pub retry: RetrySettings,
}

impl Default for SinkSettings {
    fn default() -> Self {
        Self {
            output: "tidewatch-output".to_owned(),
            group_id: "tidewatch-sink".to_owned(),
            instance_id: None,
            topics: TopicKind::ALL.to_vec(),
            roll: RollSettings::default(),
            buffer_bytes: 256 << 20,
            retry: RetrySettings::default(),
        }
    }
}

/// `[sink.roll]`: a partition's rows become files when the first of these bounds is reached.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RollSettings {
    /// Rows of one partition. Default 100000.
    pub rows: u64,
    /// Bytes of Kafka values of one partition. Default 33554432 (32 MiB).
    pub bytes: u64,
    /// Age of the oldest waiting row, by the wall clock; how late a file may be. Default `60s`.
    #[serde(with = "duration_text")]
    pub interval: Duration,
}

impl Default for RollSettings {
    fn default() -> Self {
        Self { rows: 100_000, bytes: 32 << 20, interval: Duration::from_secs(60) }
    }
}

/// `[sink.retry]`: how long a refused write is tried again before the role stops with an error.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetrySettings {
    /// Tries of one storage operation, the first included. Default 6.
    pub attempts: u32,
    /// Wait before the second try; it doubles each time. Default `200ms`.
    #[serde(with = "duration_text")]
    pub backoff: Duration,
    /// Longest wait between two tries. Default `5s`.
    #[serde(with = "duration_text")]
    pub backoff_max: Duration,
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self { attempts: 6, backoff: Duration::from_millis(200), backoff_max: Duration::from_secs(5) }
    }
}

impl RetrySettings {
    /// The wait after the `failed`-th failure (1 = the first).
    pub(crate) fn wait_after(&self, failed: u32) -> Duration {
        let doublings = failed.saturating_sub(1).min(20);
        self.backoff.saturating_mul(1 << doublings).min(self.backoff_max)
    }
}

/// What Delivery runs on: validated.
#[derive(Clone, Debug)]
pub struct DeliveryConfig {
    /// Connection to Kafka.
    pub kafka: KafkaConfig,
    /// Consumer group.
    pub group_id: String,
    /// Static member name.
    pub instance_id: Option<String>,
    /// Topics to read, each once.
    pub topics: Vec<DeliveredTopic>,
    /// Where files go.
    pub output: OutputLocation,
    /// When a partition's rows become files.
    pub roll: RollSettings,
    /// Bytes held for all partitions together.
    pub buffer_bytes: u64,
    /// Bound on retries of storage.
    pub retry: RetrySettings,
}

/// One topic that is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveredTopic {
    /// What its records are.
    pub kind: TopicKind,
    /// Its name in Kafka.
    pub name: String,
}

/// A parsed `sink.output`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OutputLocation {
    /// A folder of the local file system.
    Folder(PathBuf),
}

/// Why settings were refused. One line, naming the setting.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum ConfigError {
    /// `sink.output` is a URL of a store this build cannot write to.
    #[error(
        "`sink.output` = \"{output}\": storage `{scheme}://` is not supported, use a folder or file:///absolute/path"
    )]
    UnsupportedScheme {
        /// The setting's value.
        output: String,
        /// The part before `://`.
        scheme: String,
    },
    /// A `file://` URL that is not an absolute, unescaped local path.
    #[error(
        "`sink.output` = \"{output}\": a file URL needs an absolute path on this machine without % escapes, like file:///var/tidewatch"
    )]
    FileUrl {
        /// The setting's value.
        output: String,
    },
    /// A setting is empty.
    #[error("`{setting}` is empty, {needs}")]
    Empty {
        /// The setting's full name.
        setting: &'static str,
        /// What it needs.
        needs: &'static str,
    },
    /// A number or a duration is out of its range.
    #[error("`{setting}` = {found} is out of range, use {range}")]
    OutOfRange {
        /// The setting's full name.
        setting: &'static str,
        /// The value found.
        found: String,
        /// The range in words.
        range: &'static str,
    },
    /// Two entries would write the same names.
    #[error("`sink.topics` lists `{kind}` twice")]
    Twice {
        /// The kind listed twice.
        kind: TopicKind,
    },
    /// Two kinds share a topic, so their records could not be told apart.
    #[error("the topic name `{topic}` is set for both `{first}` and `{second}`, give each its own")]
    SharedTopic {
        /// The topic's name.
        topic: String,
        /// One kind.
        first: TopicKind,
        /// The other kind.
        second: TopicKind,
    },
}

impl SinkSettings {
    /// Checks everything that can be checked without touching Kafka or the disk.
    ///
    /// # Errors
    /// The first setting that is out of range, by name.
    pub fn validate(&self, kafka: KafkaConfig, topics: &Topics) -> Result<DeliveryConfig, ConfigError> {
        if self.group_id.is_empty() {
            let needs = "it names the consumer group";
            return Err(ConfigError::Empty { setting: "sink.group_id", needs });
        }
        in_range("sink.roll.rows", self.roll.rows, 1, 10_000_000, "1 to 10000000 rows")?;
        in_range("sink.roll.bytes", self.roll.bytes, 1024, 1 << 30, "1024 to 1073741824 bytes")?;
        in_range("sink.buffer_bytes", self.buffer_bytes, 1 << 20, 1 << 36, "1048576 to 68719476736 bytes")?;
        in_range("sink.retry.attempts", u64::from(self.retry.attempts), 1, 100, "1 to 100")?;
        let roll_interval = (Duration::from_millis(100), Duration::from_secs(86_400));
        if self.roll.interval < roll_interval.0 || self.roll.interval > roll_interval.1 {
            return Err(duration_range("sink.roll.interval", self.roll.interval, "100ms to 1day"));
        }
        Ok(DeliveryConfig {
            kafka,
            group_id: self.group_id.clone(),
            instance_id: self.instance_id.clone(),
            topics: self.delivered_topics(topics)?,
            output: OutputLocation::parse(&self.output)?,
            roll: self.roll,
            buffer_bytes: self.buffer_bytes,
            retry: self.retry,
        })
    }

    fn delivered_topics(&self, names: &Topics) -> Result<Vec<DeliveredTopic>, ConfigError> {
        if self.topics.is_empty() {
            let needs = "list at least one of metrics, forecasts, alerts, late, dead-letters";
            return Err(ConfigError::Empty { setting: "sink.topics", needs });
        }
        let mut delivered: Vec<DeliveredTopic> = Vec::new();
        for &kind in &self.topics {
            let name = kind.topic_name(names).to_owned();
            if let Some(other) = delivered.iter().find(|t| t.kind == kind || t.name == name) {
                return Err(if other.kind == kind {
                    ConfigError::Twice { kind }
                } else {
                    ConfigError::SharedTopic { topic: name, first: other.kind, second: kind }
                });
            }
            delivered.push(DeliveredTopic { kind, name });
        }
        Ok(delivered)
    }
}

impl OutputLocation {
    /// Reads a folder or a URL; a URL's scheme must be one that this build can write to.
    ///
    /// # Errors
    /// An empty value, an unknown scheme, a `file://` URL that is not an absolute local path.
    pub fn parse(output: &str) -> Result<Self, ConfigError> {
        if output.is_empty() {
            let needs = "it names the folder that receives the files";
            return Err(ConfigError::Empty { setting: "sink.output", needs });
        }
        match output.split_once("://") {
            None => Ok(Self::Folder(PathBuf::from(output))),
            Some(("file", path)) if path.starts_with('/') && !path.contains('%') => {
                Ok(Self::Folder(PathBuf::from(path)))
            }
            Some(("file", _)) => Err(ConfigError::FileUrl { output: output.to_owned() }),
            Some((scheme, _)) => {
                Err(ConfigError::UnsupportedScheme { output: output.to_owned(), scheme: scheme.to_owned() })
            }
        }
    }
}

impl std::fmt::Display for OutputLocation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(f),
        }
    }
}

fn in_range(setting: &'static str, found: u64, low: u64, high: u64, range: &'static str) -> Result<(), ConfigError> {
    if (low..=high).contains(&found) {
        return Ok(());
    }
    Err(ConfigError::OutOfRange { setting, found: found.to_string(), range })
}

fn duration_range(setting: &'static str, found: Duration, range: &'static str) -> ConfigError {
    let found = humantime::format_duration(found).to_string();
    ConfigError::OutOfRange { setting, found, range }
}

/// Durations as people write them: `250ms`, `60s`, `1h 30m`.
mod duration_text {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_duration(*value))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        humantime::parse_duration(&text)
            .map_err(|e| D::Error::custom(format!("\"{text}\" is not a duration like \"60s\": {e}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_output(text: &str, expected: Result<&str, &str>) {
        let found = OutputLocation::parse(text).map(|location| location.to_string()).map_err(|e| e.to_string());
        assert_eq!(found, expected.map(str::to_owned).map_err(str::to_owned), "{text}");
    }

    #[test]
    fn output_is_a_folder_or_a_known_scheme() {
        check_output("out/here", Ok("out/here"));
        check_output("file:///var/tidewatch", Ok("/var/tidewatch"));
        check_output(
            "s3://bucket/x",
            Err(
                "`sink.output` = \"s3://bucket/x\": storage `s3://` is not supported, use a folder or file:///absolute/path",
            ),
        );
        check_output(
            "file://host/x",
            Err(
                "`sink.output` = \"file://host/x\": a file URL needs an absolute path on this machine without % escapes, like file:///var/tidewatch",
            ),
        );
        check_output("", Err("`sink.output` is empty, it names the folder that receives the files"));
    }

    fn check_refused(change: impl FnOnce(&mut SinkSettings), expected: &str) {
        let mut settings = SinkSettings::default();
        change(&mut settings);
        let error = settings.validate(KafkaConfig::default(), &Topics::default()).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn defaults_are_valid_and_errors_name_the_setting() {
        let config = SinkSettings::default().validate(KafkaConfig::default(), &Topics::default()).unwrap();
        assert_eq!(config.topics.len(), 5);
        check_refused(|s| s.roll.rows = 0, "`sink.roll.rows` = 0 is out of range, use 1 to 10000000 rows");
        check_refused(
            |s| s.roll.interval = Duration::ZERO,
            "`sink.roll.interval` = 0s is out of range, use 100ms to 1day",
        );
        check_refused(|s| s.topics.push(TopicKind::Alerts), "`sink.topics` lists `alerts` twice");
        check_refused(|s| s.group_id.clear(), "`sink.group_id` is empty, it names the consumer group");
        check_refused(|s| s.retry.attempts = 101, "`sink.retry.attempts` = 101 is out of range, use 1 to 100");
    }

    #[test]
    fn two_kinds_cannot_share_a_topic() {
        let mut topics = Topics::default();
        topics.late = topics.alerts.clone();
        let error = SinkSettings::default().validate(KafkaConfig::default(), &topics).unwrap_err();
        assert!(matches!(error, ConfigError::SharedTopic { first: TopicKind::Alerts, second: TopicKind::Late, .. }));
    }

    #[test]
    fn unknown_keys_and_bad_durations_are_refused() {
        let parse = |json: &str| serde_json::from_str::<SinkSettings>(json).map_err(|e| e.to_string());
        assert!(parse(r#"{"outptu": "x"}"#).unwrap_err().contains("unknown field `outptu`"));
        assert!(parse(r#"{"roll": {"interval": "soon"}}"#).unwrap_err().contains("\"soon\" is not a duration"));
        let settings = parse(r#"{"roll": {"interval": "5s"}, "topics": ["dead-letters"]}"#).unwrap();
        assert_eq!(settings.roll.interval, Duration::from_secs(5));
        assert_eq!(settings.topics, [TopicKind::DeadLetters]);
        let text = serde_json::to_string(&settings).unwrap();
        assert_eq!(parse(&text).unwrap(), settings);
    }

    #[test]
    fn waits_double_up_to_their_bound() {
        let retry = RetrySettings::default();
        let waits: Vec<u128> = (1..=7).map(|n| retry.wait_after(n).as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1600, 3200, 5000, 5000]);
    }
}
