//! A piece of the processor's state as of an input offset. Schema: `avsc/state/`.

use super::record;

/// A piece of the processor's state as of an input offset.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// Version of the payload's layout.
    pub format_version: i32,
    /// Stream's name in the settings.
    pub stream: String,
    /// Input partition.
    pub partition: i32,
    /// Entity's key; null for the partition's own record.
    pub entity: Option<String>,
    /// The state is exact after all input below this offset.
    pub input_offset: i64,
    /// CRC-32C of the payload.
    pub checksum: i64,
    /// The state, in the layout that format_version names.
    pub payload: Vec<u8>,
}

record!(
    "state",
    "tidewatch.state.v1",
    State { format_version, stream, partition, entity, input_offset, checksum, payload }
);
