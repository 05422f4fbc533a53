//! The engine's state as records, and back: exact to the bit.
//!
//! A [`round`] writes what holds at an input offset R: a record per entity that has changed since the one before, and the partition's
//! own record, which has no entity. Payloads are `postcard`; each record carries the version of that format and a CRC-32C of its
//! payload, and what does not match is refused, never guessed.
//!
//! | format | what is different |
//! |---|---|
//! | 4 | what is usual of a series, thresholds of alerts, cohorts, a history to learn from; detectors are no part of the declaration: those that are new start anew |
//! | 3 | two slots for each entity, the second under a key of its own; an entity that is gone has an empty payload |
//! | 2 | one record for each entity, as of the last snapshot, which was written in one transaction; read as slot 0 |

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidewatch_schemas::record::State;

use crate::cohort::Cohorts;
use crate::config::StreamConfig;
use crate::engine::{Counts, Engine};
use crate::entity::Entity;
use crate::history::History;
use crate::watermark::Watermark;

pub(crate) mod format;
pub mod round;

pub use round::{StateChange, StateKey};

/// Version of the payloads. A change to any type that is in them is a new version, and needs a migration from the last.
pub const FORMAT_VERSION: i32 = 5;
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
         event_id, seed, or a measure's name, field or aggregates): restore that declaration, or set `processor.group_id` to a new name to start anew"
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
    #[serde(deserialize_with = "format::in_4")]
    cohorts: Cohorts,
    #[serde(deserialize_with = "format::in_4")]
    history: Option<History>,
}

/// What the two slots of a place in the topic hold.
pub type Slots = [Option<State>; 2];

impl Engine {
    /// The engine as it was when the complete round of `input_offset` opened; without one (`None`), an engine that has seen nothing.
    ///
    /// `own` and `entities` are what the topic holds of this stream and partition itself and of its entities, each once, in any order.
    /// Records of a later round, which never became complete, do not count, and are cleared by the next.
    ///
    /// # Errors
    /// If a record that counts is of a format that is not read here, damaged, or of another declaration of the stream, or the
    /// partition's own is not there.
    pub fn restore(
        config: Arc<StreamConfig>,
        partition: i32,
        input_offset: Option<i64>,
        own: Slots,
        entities: impl IntoIterator<Item = Slots>,
    ) -> Result<Self, StateError> {
        let mut engine = Self::new(config, partition);
        let mut to_clear = VecDeque::new();
        let Some(until) = input_offset else {
            let records = entities.into_iter().flat_map(|slots| (0..).zip(slots));
            to_clear.extend(records.filter_map(|(slot, state)| place(slot, &state?)));
            engine.rounds.restored(None, to_clear);
            return Ok(engine);
        };
        // The partition's own is written over by each round.
        let own = latest(own, until, |_, _| ());
        let found = own.as_ref().map(|(_, own)| own.input_offset);
        let Some((own_slot, own)) = own.filter(|_| found == Some(until)) else {
            let stream = engine.config.name.clone();
            return Err(StateError::NoRound { stream, partition, wanted: until, found });
        };
        let PartitionState { signature, watermark, counts, cohorts, history } = payload(&own)?;
        let signature = if own.format_version < 4 { without_detectors(signature) } else { signature };
        let signature = if own.format_version < 5 { without_seasons(&signature) } else { signature };
        if signature != engine.config.state_signature() {
            return Err(StateError::OtherDeclaration { stream: engine.config.name.clone() });
        }
        (engine.watermark, engine.counts, engine.cohorts) = (watermark, counts, cohorts);
        engine.history = history;
        let has_other_series = engine.cohorts.fit(&engine.config);
        let entities = entities.into_iter();
        engine.make_room(entities.size_hint().1.unwrap_or(0));
        let mut seen = Vec::new();
        for slots in entities {
            let Some((slot, state)) = latest(slots, until, |slot, later| to_clear.extend(place(slot, &later))) else {
                continue;
            };
            let Some(key) = state.entity.as_deref().map(Arc::<str>::from) else { continue };
            match payload_unless_gone::<Entity>(&state)? {
                Some(mut entity) => {
                    entity.fit(&engine.config, has_other_series);
                    seen.push((entity.last_seen, engine.reinstate(key, entity, slot)));
                }
                None => to_clear.extend(round::both(&key, 1 - slot)),
            }
        }
        engine.rounds.restored(Some(own_slot), to_clear);
        // Each was last seen at an offset of its own.
        seen.sort_unstable();
        engine.put_in_order(seen.into_iter().map(|(_, at)| at));
        engine.admit_to_cohorts();
        Ok(engine)
    }
}

/// The last record of a place that is as of `until` or before, and its slot; what is later is `skipped`.
fn latest(slots: Slots, until: i64, mut skipped: impl FnMut(u8, State)) -> Option<(u8, State)> {
    let mut latest: Option<(u8, State)> = None;
    for (slot, state) in (0..).zip(slots).filter_map(|(slot, state)| Some((slot, state?))) {
        if state.input_offset > until {
            skipped(slot, state);
        } else if latest.as_ref().is_none_or(|(_, latest)| latest.input_offset < state.input_offset) {
            latest = Some((slot, state));
        }
    }
    latest
}

/// Where a record of an entity is.
fn place(slot: u8, state: &State) -> Option<StateKey> {
    state.entity.as_deref().map(|entity| StateKey { entity: Some(entity.into()), slot })
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
    let read = || postcard::from_bytes(&record.payload);
    format::reading(record.format_version, read).map_err(|_| StateError::Damaged { what: what() })
}

/// The signature of a declaration as formats before 4 wrote it, less each measure's detectors.
fn without_detectors(signature: String) -> String {
    let kinds = ["ZScore", "Iqr", "IsolationForest"];
    let lists = (0..1_u8 << kinds.len()).map(|chosen| {
        let of = |(at, kind): (usize, &&'static str)| (chosen >> at & 1 == 1).then_some(*kind);
        format!(" [{}]", kinds.iter().enumerate().filter_map(of).collect::<Vec<_>>().join(", "))
    });
    lists.fold(signature, |signature, list| signature.replace(&list, ""))
}

/// The signature of a declaration as formats before 5 wrote it, less each measure's seasons, which stand behind its aggregates.
fn without_seasons(signature: &str) -> String {
    let mut kept = String::new();
    for (at, part) in signature.split("] ").enumerate() {
        let season = ["None", "Some([])"].into_iter().find_map(|none| part.strip_prefix(none));
        let rest = season.or_else(|| part.strip_prefix("Some([")?.split_once("])").map(|(_, rest)| rest));
        match rest {
            Some(rest) if at > 0 => kept += &format!("]{rest}"),
            _ if at > 0 => kept += &format!("] {part}"),
            _ => kept += part,
        }
    }
    kept
}

/// As [`payload`]; `None` of an entity that is no more.
fn payload_unless_gone<T: for<'de> Deserialize<'de>>(record: &State) -> Result<Option<T>, StateError> {
    let is_gone = record.payload.is_empty() && record.checksum == 0 && record.format_version >= 3;
    if is_gone { Ok(None) } else { payload(record).map(Some) }
}

/// [`Engine::restore`] of records of the topic and the slots that they are in.
#[cfg(test)]
pub(crate) fn restore(
    config: Arc<StreamConfig>,
    partition: i32,
    round: Option<i64>,
    records: impl IntoIterator<Item = (u8, State)>,
) -> Result<Engine, StateError> {
    let mut places = std::collections::BTreeMap::<Option<String>, Slots>::new();
    for (slot, state) in records {
        let slots = places.entry(state.entity.clone()).or_default();
        slots[usize::from(slot)] = Some(state);
    }
    let own = places.remove(&None).unwrap_or_default();
    Engine::restore(config, partition, round, own, places.into_values())
}

#[cfg(test)]
mod recorded;
