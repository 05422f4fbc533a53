//! The engine's state as records, and back: exact to the bit.
//!
//! A snapshot taken at input offset R holds what follows from all input before R: a record per entity that has changed since the
//! last one, a tombstone per entity that was forgotten, and the partition's own record, which names R. Written in one transaction,
//! they turn the state topic from one complete state into the next. Payloads are `postcard`; each record carries the version of that
//! format and a CRC-32C of its payload, and what does not match is refused, never guessed.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidewatch_schemas::record::State;

use crate::config::StreamConfig;
use crate::engine::{Counts, Engine};
use crate::entity::Entity;
use crate::watermark::Watermark;

/// Version of the payloads. A change to any type that is in them is a new version, and needs a migration from the last.
pub const FORMAT_VERSION: i32 = 2;

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
        "state of {what} has format {found}, this program reads {FORMAT_VERSION}: set `processor.group_id` to a new name to start anew"
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
    /// There are entities, but not the record that says which offset they belong to.
    #[error(
        "state of stream `{stream}` partition {partition} lacks the partition's own record: set `processor.group_id` to a new name to start anew"
    )]
    NoPartitionRecord {
        /// The stream.
        stream: String,
        /// The partition.
        partition: i32,
    },
}

/// One change to the state topic: the entity (`None`: the partition's own record) and its state (`None`: a tombstone).
pub type StateChange = (Option<String>, Option<State>);

#[derive(Serialize, Deserialize)]
struct PartitionState {
    signature: String,
    watermark: Watermark,
    counts: Counts,
}

impl Engine {
    /// What has changed since the last snapshot, as of `input_offset`: all input before it, and none after, has been taken in.
    pub fn snapshot(&mut self, input_offset: i64) -> Vec<StateChange> {
        let mut changes: BTreeMap<String, Option<State>> =
            std::mem::take(&mut self.forgotten).into_iter().map(|key| (key.to_string(), None)).collect();
        let (config, partition) = (self.config.clone(), self.partition);
        for slot in self.slots.iter_mut().flatten().filter(|slot| slot.dirty) {
            (slot.dirty, slot.stored) = (false, true);
            let state = state_record(&config, partition, Some(slot.key.to_string()), input_offset, &slot.entity);
            changes.insert(slot.key.to_string(), Some(state));
        }
        let own = PartitionState {
            signature: config.state_signature(),
            watermark: self.watermark.clone(),
            counts: self.counts,
        };
        let own = state_record(&config, partition, None, input_offset, &own);
        changes.into_iter().map(|(key, state)| (Some(key), state)).chain([(None, Some(own))]).collect()
    }

    /// The engine as it was at the last snapshot, and that snapshot's input offset; `None` when there are no records.
    ///
    /// `records` are the latest of each key, of this stream and partition.
    ///
    /// # Errors
    /// If a record is of a newer format, damaged, or of another declaration of the stream.
    pub fn restore(
        config: Arc<StreamConfig>,
        partition: i32,
        records: impl IntoIterator<Item = State>,
    ) -> Result<Option<(Self, i64)>, StateError> {
        let mut own: Option<(PartitionState, i64)> = None;
        let mut entities: Vec<(String, Entity)> = Vec::new();
        for record in records {
            match record.entity.clone() {
                None => own = Some((payload(&record)?, record.input_offset)),
                Some(key) => {
                    let entity = payload(&record);
                    entities.push((key, entity?));
                }
            }
        }
        let Some((own, input_offset)) = own else {
            return if entities.is_empty() {
                Ok(None)
            } else {
                Err(StateError::NoPartitionRecord { stream: config.name.clone(), partition })
            };
        };
        if own.signature != config.state_signature() {
            return Err(StateError::OtherDeclaration { stream: config.name.clone() });
        }
        let mut engine = Self::new(config, partition);
        engine.watermark = own.watermark;
        engine.counts = own.counts;
        entities.sort_by_key(|(_, entity)| entity.last_seen);
        for (key, entity) in entities {
            engine.reinstate(key.into(), entity);
        }
        Ok(Some((engine, input_offset)))
    }
}

fn state_record<T: Serialize>(
    config: &StreamConfig,
    partition: i32,
    entity: Option<String>,
    input_offset: i64,
    state: &T,
) -> State {
    let payload = postcard::to_stdvec(state)
        .expect("a vector takes whatever is written, and the types have no maps of unknown length");
    State {
        format_version: FORMAT_VERSION,
        stream: config.name.clone(),
        partition,
        entity,
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
    if record.format_version < FORMAT_VERSION {
        return Err(StateError::OlderFormat { what: what(), found: record.format_version });
    }
    if i64::from(crc32c::crc32c(&record.payload)) != record.checksum {
        return Err(StateError::Damaged { what: what() });
    }
    postcard::from_bytes(&record.payload).map_err(|_| StateError::Damaged { what: what() })
}
