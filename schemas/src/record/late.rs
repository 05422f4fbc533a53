//! An event that came after its window was final, with its original bytes. Schema: `avsc/late/`.

use super::record;

/// An event that arrived after its window was final.
#[derive(Debug, Clone, PartialEq)]
pub struct Late {
    /// Stream's name in the settings.
    pub stream: String,
    /// Entity's key.
    pub entity: String,
    /// When the event happened.
    pub event_time: i64,
    /// Start of the window it belonged to, inclusive.
    pub window_start: i64,
    /// End of the window it belonged to, exclusive.
    pub window_end: i64,
    /// Watermark at arrival minus the instant the window became final, milliseconds.
    pub late_by_ms: i64,
    /// Input topic.
    pub topic: String,
    /// Input partition.
    pub partition: i32,
    /// Input offset.
    pub offset: i64,
    /// Original key.
    pub key: Option<Vec<u8>>,
    /// Original value.
    pub value: Option<Vec<u8>>,
    /// Whether with the event the window would have been anomalous and was not, or the other way round; null when too little is known.
    pub would_change_alert: Option<bool>,
}

record!(
    "late",
    "tidewatch.late.v2",
    Late {
        stream,
        entity,
        event_time,
        window_start,
        window_end,
        late_by_ms,
        topic,
        partition,
        offset,
        key,
        value,
        would_change_alert
    }
);
