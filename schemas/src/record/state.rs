//! A piece of the processor's state as of an input offset. Schema: `avsc/state/`.

use super::record;
use crate::Record as _;
use crate::datum::{Cursor, DecodeError};
use crate::wire::{self, Header};

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

impl State {
    /// The `input_offset` of a framed record, without the rest of it.
    ///
    /// # Errors
    /// If the message is no state up to there.
    pub fn input_offset_of(message: &[u8]) -> Result<i64, DecodeError> {
        match wire::read_header(message)? {
            (Header::Fingerprint(fingerprint), datum) if fingerprint == Self::schema().fingerprint() => {
                let mut cursor = Cursor::new(datum);
                cursor.int()?;
                cursor.string()?;
                cursor.int()?;
                if cursor.index()? != 0 {
                    cursor.string()?;
                }
                cursor.long()
            }
            _ => wire::decode::<Self>(message).map(|state| state.input_offset),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Framing;

    #[test]
    fn the_offset_is_found_without_the_rest() {
        for entity in [None, Some("a/b".to_owned())] {
            let state = State {
                format_version: 3,
                stream: "calls".into(),
                partition: 7,
                entity,
                input_offset: 1 << 40,
                checksum: 42,
                payload: vec![1, 2, 3],
            };
            for framing in [Framing::SingleObject, Framing::Confluent { schema_id: 9 }] {
                let mut message = Vec::new();
                wire::encode(&state, framing, &mut message);
                assert_eq!(State::input_offset_of(&message), Ok(state.input_offset));
                assert!(State::input_offset_of(&message[..12]).is_err());
            }
        }
    }
}
