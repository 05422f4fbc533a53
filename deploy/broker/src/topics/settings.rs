//! The settings of a topic: Kafka's names, defaults and rules.
//!
//! What was set is kept as it was written; [`TopicSettings`] is what follows from it. Every message is Kafka's own.

pub(crate) mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use table::{Setting, Value};

/// What was set for a topic, as it was written: names to values.
pub(crate) type Overrides = BTreeMap<String, String>;

/// How old records go (`cleanup.policy`); both may be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CleanupPolicy {
    pub(crate) is_delete: bool,
    pub(crate) is_compact: bool,
}

/// Where a record's timestamp comes from (`message.timestamp.type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimestampType {
    CreateTime,
    LogAppendTime,
}

/// The settings of a topic, checked. `None`: no limit (-1).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TopicSettings {
    /// `cleanup.policy`, default delete.
    pub(crate) cleanup_policy: CleanupPolicy,
    /// `retention.ms`, default 7 days.
    pub(crate) retention_ms: Option<i64>,
    /// `retention.bytes`, default none.
    pub(crate) retention_bytes: Option<u64>,
    /// `segment.bytes`, default 1 GiB in Kafka, 64 MiB here.
    pub(crate) segment_bytes: u64,
    /// `segment.ms`, default 7 days.
    pub(crate) segment_ms: i64,
    /// `max.message.bytes`, default 1,048,588.
    pub(crate) max_message_bytes: u32,
    /// `message.timestamp.type`, default CreateTime.
    pub(crate) timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`, default none.
    pub(crate) timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`, default 1 h.
    pub(crate) timestamp_after_max_ms: i64,
    /// `delete.retention.ms`, default 1 day: how long tombstones and markers stay after compaction.
    pub(crate) delete_retention_ms: i64,
    /// `min.compaction.lag.ms`, default 0.
    pub(crate) min_compaction_lag_ms: i64,
    /// `max.compaction.lag.ms`, default none.
    pub(crate) max_compaction_lag_ms: i64,
    /// `min.cleanable.dirty.ratio`, default 0.5.
    pub(crate) min_cleanable_dirty_ratio: f64,
}

/// Why a setting is refused, all of them `INVALID_CONFIG`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidSetting {
    #[error("Unknown topic config name: {0}")]
    Unknown(String),
    #[error("Invalid value {value} for configuration {name}: {problem}")]
    Value { name: &'static str, value: String, problem: String },
    #[error("conflict topic config setting min.compaction.lag.ms ({min_ms}) > max.compaction.lag.ms ({max_ms})")]
    CompactionLags { min_ms: i64, max_ms: i64 },
    #[error(
        "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage."
    )]
    TieredStorage,
}

impl Default for TopicSettings {
    fn default() -> Self {
        const DAY_MS: i64 = 24 * 3_600 * 1_000;
        Self {
            cleanup_policy: CleanupPolicy { is_delete: true, is_compact: false },
            retention_ms: Some(7 * DAY_MS),
            retention_bytes: None,
            segment_bytes: 64 << 20,
            segment_ms: 7 * DAY_MS,
            max_message_bytes: 1_048_588,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            delete_retention_ms: DAY_MS,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            min_cleanable_dirty_ratio: 0.5,
        }
    }
}

impl TopicSettings {
    /// These settings as they are where nothing is set, and over them what was set.
    ///
    /// # Errors
    /// See [`InvalidSetting`].
    pub(crate) fn with(&self, overrides: &Overrides) -> Result<Self, InvalidSetting> {
        if let Some(name) = overrides.keys().find(|name| Setting::find(name).is_none()) {
            return Err(InvalidSetting::Unknown(name.clone()));
        }
        let mut settings = self.clone();
        // From the last name to the first, so that internal.segment.bytes stands above segment.bytes.
        for (name, text) in overrides.iter().rev() {
            if let Some(setting) = Setting::find(name) {
                settings.set(setting.name, setting.parse(text)?)?;
            }
        }
        let (min_ms, max_ms) = (settings.min_compaction_lag_ms, settings.max_compaction_lag_ms);
        if min_ms > max_ms {
            return Err(InvalidSetting::CompactionLags { min_ms, max_ms });
        }
        Ok(settings)
    }

    fn set(&mut self, name: &str, value: Value) -> Result<(), InvalidSetting> {
        match (name, value) {
            ("cleanup.policy", Value::List(words)) => {
                let has = |word: &str| words.iter().any(|other| other == word);
                self.cleanup_policy = CleanupPolicy { is_delete: has("delete"), is_compact: has("compact") };
            }
            ("retention.ms", Value::Number(ms)) => self.retention_ms = (ms >= 0).then_some(ms),
            ("retention.bytes", Value::Number(bytes)) => self.retention_bytes = u64::try_from(bytes).ok(),
            ("segment.bytes" | "internal.segment.bytes", Value::Number(bytes)) => {
                self.segment_bytes = bytes.unsigned_abs();
            }
            ("segment.ms", Value::Number(ms)) => self.segment_ms = ms,
            ("max.message.bytes", Value::Number(bytes)) => {
                self.max_message_bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            }
            ("message.timestamp.type", Value::Text(word)) => {
                self.timestamp_type = match word.as_str() {
                    "LogAppendTime" => TimestampType::LogAppendTime,
                    _ => TimestampType::CreateTime,
                };
            }
            ("message.timestamp.before.max.ms", Value::Number(ms)) => self.timestamp_before_max_ms = ms,
            ("message.timestamp.after.max.ms", Value::Number(ms)) => self.timestamp_after_max_ms = ms,
            ("delete.retention.ms", Value::Number(ms)) => self.delete_retention_ms = ms,
            ("min.compaction.lag.ms", Value::Number(ms)) => self.min_compaction_lag_ms = ms,
            ("max.compaction.lag.ms", Value::Number(ms)) => self.max_compaction_lag_ms = ms,
            ("min.cleanable.dirty.ratio", Value::Ratio(ratio)) => self.min_cleanable_dirty_ratio = ratio,
            ("remote.storage.enable", Value::Boolean(true)) => return Err(InvalidSetting::TieredStorage),
            // Accepted and without effect: see the table.
            _ => {}
        }
        Ok(())
    }
}
