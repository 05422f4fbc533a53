//! The engine's state as records, and back: exact to the bit.
//!
//! A [`round`] writes what holds at an input offset R: a record per entity that has changed since the one before, and the partition's
//! own record, which has no entity. Payloads are `postcard`; each record carries the version of that format and a CRC-32C of its
//! payload, and what does not match is refused, never guessed.
//!
//! | format | what is different |
//! |---|---|
//! | 3 | two slots for each entity, the second under a key of its own; an entity that is gone has an empty payload |
//! | 2 | one record for each entity, as of the last snapshot, which was written in one transaction; read as slot 0 |

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidewatch_schemas::record::State;

use crate::config::StreamConfig;
use crate::engine::{Counts, Engine};
use crate::entity::Entity;
use crate::watermark::Watermark;

pub mod round;

pub use round::{StateChange, StateKey};

use round::Rounds;

/// Version of the payloads. A change to any type that is in them is a new version, and needs a migration from the last.
pub const FORMAT_VERSION: i32 = 3;
/// The oldest that is read.
const OLDEST_FORMAT: i32 = 2;

/// State that cannot be used, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Written by a newer program.
    #[error(
        "state of {what} has format {found}, this program reads up to {FORMAT_VERSION}: run the version that wrote it, or a later one"
    )]
    NewerFormat {
        /// Whose state.
        what: String,
        /// Its format.
        found: i32,
    },
    /// Written by a program before the first one whose state is carried over.
    #[error(
        "state of {what} has format {found}, this program reads {OLDEST_FORMAT} to {FORMAT_VERSION}: set `processor.group_id` to a new name to start anew"
    )]
    OlderFormat {
        /// Whose state.
        what: String,
        /// Its format.
        found: i32,
    },
    /// The payload is not what was written.
    #[error(
        "state of {what} is damaged (its checksum or content does not match): set `processor.group_id` to a new name to start anew"
    )]
    Damaged {
        /// Whose state.
        what: String,
    },
    /// The stream is declared differently now.
    #[error(
        "state of stream `{stream}` was written under another declaration (window, entity, event_time, disorder, lateness, revisions, \
         event_id, seed, or a measure's name, field, aggregates, detectors or seasons): restore that declaration, or set `processor.group_id` to a new name to start anew"
    )]
    OtherDeclaration {
        /// The stream.
        stream: String,
    },
    /// The partition's own record is not that of the round which the committed offset names.
    #[error(
        "state of stream `{stream}` partition {partition}: the committed offset names the snapshot at {wanted}, the state topic holds {}; \
         the two do not belong together (was a topic deleted, or are its offsets another's?): set `processor.group_id` to a new name to \
         start anew", found.map_or("none".to_owned(), |found| format!("that at {found}"))
    )]
    NoRound {
        /// The stream.
        stream: String,
        /// The partition.
        partition: i32,
        /// The input offset of the round that is committed.
        wanted: i64,
        /// That of the last one up to it which is there.
        found: Option<i64>,
    },
}

#[derive(Serialize, Deserialize)]
struct PartitionState {
    signature: String,
    watermark: Watermark,
    counts: Counts,
}

impl Engine {
    /// The engine as it was when the complete round of `input_offset` opened; without one (`None`), an engine that has seen nothing.
    ///
    /// `records` are the latest of each place in the topic, of this stream and partition, with the slots that they are in. Those of a
    /// later round, which never became complete, do not count, and are cleared by the next.
    ///
    /// # Errors
    /// If a record that counts is of a format that is not read here, damaged, or of another declaration of the stream, or the
    /// partition's own is not there.
    pub fn restore(
        config: Arc<StreamConfig>,
        partition: i32,
        input_offset: Option<i64>,
        records: impl IntoIterator<Item = (u8, State)>,
    ) -> Result<Self, StateError> {
        let place = |slot: u8, state: &State| StateKey { entity: state.entity.as_deref().map(Arc::from), slot };
        let mut to_clear = VecDeque::new();
        let mut latest: HashMap<Option<String>, (u8, State)> = HashMap::new();
        for (slot, state) in records {
            if input_offset.is_none_or(|until| state.input_offset > until) {
                // The partition's own is written over by each round.
                to_clear.extend(state.entity.is_some().then(|| place(slot, &state)));
                continue;
            }
            match latest.entry(state.entity.clone()) {
                Entry::Vacant(entry) => drop(entry.insert((slot, state))),
                Entry::Occupied(mut entry) if entry.get().1.input_offset < state.input_offset => {
                    entry.insert((slot, state));
                }
                Entry::Occupied(_) => {}
            }
        }
        let Some(input_offset) = input_offset else {
            let mut engine = Self::new(config, partition);
            engine.rounds = Rounds::restored(None, to_clear);
            return Ok(engine);
        };
        let own = latest.remove(&None);
        let found = own.as_ref().map(|(_, own)| own.input_offset);
        let Some((slot, own)) = own.filter(|_| found == Some(input_offset)) else {
            return Err(StateError::NoRound { stream: config.name.clone(), partition, wanted: input_offset, found });
        };
        let PartitionState { signature, watermark, counts } = payload(&own)?;
        if signature != config.state_signature() {
            return Err(StateError::OtherDeclaration { stream: config.name.clone() });
        }
        let mut entities = Vec::with_capacity(latest.len());
        for (key, (slot, state)) in latest {
            let Some(key) = key.map(Arc::<str>::from) else { continue };
            match payload_unless_gone::<Entity>(&state)? {
                Some(entity) => entities.push((key, entity, slot)),
                None => to_clear.extend([0, 1].map(|slot| StateKey { entity: Some(key.clone()), slot })),
            }
        }
        // Each was last seen at an offset of its own.
        entities.sort_unstable_by_key(|(_, entity, _)| entity.last_seen);
        let mut engine = Self::new(config, partition);
        (engine.watermark, engine.counts) = (watermark, counts);
        engine.rounds = Rounds::restored(Some(slot), to_clear);
        for (key, entity, slot) in entities {
            engine.reinstate(key, entity, slot);
        }
        Ok(engine)
    }
}

/// The payload of an entity that is no more.
const GONE: &[u8] = &[];

fn state_record<T: Serialize>(
    config: &StreamConfig,
    partition: i32,
    entity: Option<&str>,
    input_offset: i64,
    state: &T,
) -> State {
    let payload = postcard::to_stdvec(state)
        .expect("a vector takes whatever is written, and the types have no maps of unknown length");
    record(config, partition, entity, input_offset, payload)
}

fn record(config: &StreamConfig, partition: i32, entity: Option<&str>, input_offset: i64, payload: Vec<u8>) -> State {
    State {
        format_version: FORMAT_VERSION,
        stream: config.name.clone(),
        partition,
        entity: entity.map(str::to_owned),
        input_offset,
        checksum: i64::from(crc32c::crc32c(&payload)),
        payload,
    }
}

fn payload<T: for<'de> Deserialize<'de>>(record: &State) -> Result<T, StateError> {
    let what = || match &record.entity {
        Some(entity) => format!("entity `{entity}` of stream `{}`", record.stream),
        None => format!("stream `{}` partition {}", record.stream, record.partition),
    };
    if record.format_version > FORMAT_VERSION {
        return Err(StateError::NewerFormat { what: what(), found: record.format_version });
    }
    if record.format_version < OLDEST_FORMAT {
        return Err(StateError::OlderFormat { what: what(), found: record.format_version });
    }
    if i64::from(crc32c::crc32c(&record.payload)) != record.checksum {
        return Err(StateError::Damaged { what: what() });
    }
    postcard::from_bytes(&record.payload).map_err(|_| StateError::Damaged { what: what() })
}

/// As [`payload`]; `None` of an entity that is no more.
fn payload_unless_gone<T: for<'de> Deserialize<'de>>(record: &State) -> Result<Option<T>, StateError> {
    let is_gone = record.payload.is_empty() && record.checksum == 0 && record.format_version == FORMAT_VERSION;
    if is_gone { Ok(None) } else { payload(record).map(Some) }
}

#[cfg(test)]
mod recorded;
