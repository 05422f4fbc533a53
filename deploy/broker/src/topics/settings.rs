//! The settings of a topic: Kafka's names, defaults and rules.

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
#[derive(Clone, Debug)]
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
