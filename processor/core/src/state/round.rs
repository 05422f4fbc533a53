//! Snapshot rounds: the exact state at an input offset, written a little at a time while the engine goes on.
//!
//! [`Engine::open_round`] fixes what belongs to a round: the entities that have changed since their last record, and the partition's
//! own numbers. [`Engine::write_round`] gives a few records at each call. An entity that is about to change and is still to be
//! written is written first, as it was when the round opened (copy on write); its record waits for the next call. When all is
//! written, the round is complete: whoever stores the records then says so, in one place and at once, and a restore that finds no such
//! word goes back to the round before.
//!
//! So the records of the round before must outlive this one. Each entity has two *slots* in the topic and its records alternate
//! between them. What a round says of an entity is in the slot that the complete rounds do not need:
//!
//! ```text
//!   round   100          200          300 (unfinished)     restore at 200
//!   a       slot 0 @100  slot 1 @200  slot 0 @300          slot 1 (a record after 200 does not count, the last one until 200 does)
//!   b       slot 0 @100  unchanged    unchanged            slot 0
//!   c       slot 0 @100  gone, slot 1 tombstones           nothing
//! ```
//!
//! An entity that was forgotten is said to be *gone* by a record without a payload, as the round before still has it. Both its slots
//! are free once the round is complete, and are cleared at the beginning of the next one, as are records of a round that never became
//! complete: they would count in the next.
//!
//! Cost: an entity's record when it changes first in a round, nothing after that. Opening takes no time in proportion to the entities
//! that have not been forgotten. Memory: 4 bytes for each changed entity, and the copies, some 16 MiB and those of one batch of
//! events: [`Engine::write_round`] gives them first, and more of them than it is asked for while there are so many.
//! Source: the two versions of each key are those of "ping-pong" checkpoints (Salem, Garcia-Molina, "Checkpointing memory-resident
//! databases", ICDE 1989, with copy on update, COU).

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use tidewatch_schemas::record::State;

use super::{GONE, PartitionState, record, state_record};
use crate::engine::{Engine, Slot};

/// Copies that wait to be written, in bytes, beyond which they are written at any pace.
const COPIES_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What a record takes besides its payload, about: its key and its frames.
const RECORD_BYTES: usize = 100;

/// A place in the state topic: what is written there replaces what was.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateKey {
    /// Whose state; `None`: the partition's own.
    pub entity: Option<Arc<str>>,
    /// Which of its two slots, 0 or 1.
    pub slot: u8,
}

/// A record of the state topic, or (`None`) a tombstone.
pub type StateChange = (StateKey, Option<State>);

/// Rounds opened so far, and 2: what an entity's change is dated by.
type Epoch = u32;

/// Not changed since the last record.
const UNCHANGED: Epoch = 0;

/// What an engine has to write and is writing.
#[derive(Clone, Debug)]
pub(crate) struct Rounds {
    epoch: Epoch,
    /// By place in the engine's table: `epoch` if what is there has changed since the last round opened, the one before if it is
    /// what the open round has still to write.
    changed_in: Vec<Epoch>,
    /// The places of the first kind.
    changed: VecDeque<u32>,
    /// Entities with a record that were forgotten since the last round opened, and the record's slot: no more than ever had one,
    /// however many come and go.
    forgotten: Vec<(Arc<str>, u8)>,
    /// Records that no complete round needs.
    to_clear: VecDeque<StateKey>,
    /// Slot of the partition's own last record.
    own: Option<u8>,
    open: Option<Round>,
}

/// A round that is not complete.
#[derive(Clone, Debug)]
struct Round {
    input_offset: i64,
    own: State,
    /// Of entities that have changed since, as they were.
    copies: VecDeque<StateChange>,
    copies_bytes: usize,
    /// Places in the table, some of which are written already or belong to others now.
    unwritten: VecDeque<u32>,
    gone: Vec<(Arc<str>, u8)>,
    /// How many of them are written.
    gone_written: usize,
}

impl Default for Rounds {
    fn default() -> Self {
        Self {
            epoch: UNCHANGED + 2,
            changed_in: Vec::new(),
            changed: VecDeque::new(),
            forgotten: Vec::new(),
            to_clear: VecDeque::new(),
            own: None,
            open: None,
        }
    }
}

impl Rounds {
    /// After a restore: the slot of the partition's own record, and what is in the topic and does not count.
    pub(crate) fn restored(&mut self, own: Option<u8>, to_clear: VecDeque<StateKey>) {
        (self.own, self.to_clear) = (own, to_clear);
    }

    /// Makes sure that there is a place of the table.
    pub(crate) fn make_place(&mut self, at: u32) {
        if self.changed_in.len() <= at as usize {
            self.changed_in.resize(at as usize + 1, UNCHANGED);
        }
    }
}

/// The places of an entity that is gone, in the order in which they are cleared: that of its last record first, which would count again
/// without the word in the other that it is gone.
pub(super) fn both(entity: &Arc<str>, recorded: u8) -> [StateKey; 2] {
    [recorded, 1 - recorded].map(|slot| StateKey { entity: Some(Arc::clone(entity)), slot })
}

/// The slot to write to, where the last record is in this one.
fn other(slot: Option<u8>) -> u8 {
    1 - slot.unwrap_or(1)
}

impl Engine {
    /// Opens a round as of `input_offset`: all input before it, and none after, has been taken in. It must be greater than that of the
    /// last round, and no round may be open.
    pub fn open_round(&mut self, input_offset: i64) {
        debug_assert!(self.rounds.open.is_none() && !self.has_more());
        let own = PartitionState {
            signature: self.config.state_signature(),
            watermark: self.watermark.clone(),
            counts: self.counts,
            cohorts: mem::take(&mut self.cohorts),
            history: self.history,
        };
        let record = state_record(&self.config, self.partition, None, input_offset, &own);
        self.cohorts = own.cohorts;
        let mut gone = mem::take(&mut self.rounds.forgotten);
        // Who has come back is not gone, but has a record.
        gone.retain(|(key, recorded)| match self.by_key.get(key) {
            Some(&back) => {
                self.slots[back as usize].as_mut().expect("what is known is in the table").recorded = Some(*recorded);
                false
            }
            None => true,
        });
        let rounds = &mut self.rounds;
        rounds.epoch += 1;
        rounds.open = Some(Round {
            input_offset,
            own: record,
            copies: VecDeque::new(),
            copies_bytes: 0,
            unwritten: mem::take(&mut rounds.changed),
            gone,
            gone_written: 0,
        });
    }

    /// The input offset of the open round.
    #[must_use]
    pub fn open_round_offset(&self) -> Option<i64> {
        self.rounds.open.as_ref().map(|round| round.input_offset)
    }

    /// Appends records of the open round, some `bytes` of them; true if it is complete with these.
    pub fn write_round(&mut self, bytes: usize, changes: &mut Vec<StateChange>) -> bool {
        let Some(mut round) = self.rounds.open.take() else { return false };
        let mut written = 0;
        while written < bytes || round.copies_bytes > COPIES_BYTES_MAX {
            let Some(change) = self.next_change(&mut round) else {
                let slot = other(self.rounds.own);
                self.rounds.own = Some(slot);
                changes.push((StateKey { entity: None, slot }, Some(round.own)));
                self.rounds.to_clear.extend(round.gone.into_iter().flat_map(|(key, recorded)| both(&key, recorded)));
                return true;
            };
            written += size(&change);
            changes.push(change);
        }
        self.rounds.open = Some(round);
        false
    }

    /// A whole round at once.
    pub fn snapshot(&mut self, input_offset: i64) -> Vec<StateChange> {
        let mut changes = Vec::new();
        self.open_round(input_offset);
        self.write_round(usize::MAX, &mut changes);
        changes
    }

    fn next_change(&mut self, round: &mut Round) -> Option<StateChange> {
        // First of all: what is cleared may be written to by this round.
        if let Some(place) = self.rounds.to_clear.pop_front() {
            return Some((place, None));
        }
        if let Some(copy) = round.copies.pop_front() {
            round.copies_bytes -= size(&copy);
            return Some(copy);
        }
        if let Some((key, recorded)) = round.gone.get(round.gone_written) {
            round.gone_written += 1;
            let state = record(&self.config, self.partition, Some(key), round.input_offset, GONE.to_vec());
            return Some((StateKey { entity: Some(key.clone()), slot: other(Some(*recorded)) }, Some(state)));
        }
        while let Some(at) = round.unwritten.pop_front() {
            if self.rounds.changed_in[at as usize] == self.rounds.epoch - 1
                && let Some(change) = self.write_entity(at, round.input_offset)
            {
                return Some(change);
            }
        }
        None
    }

    /// The record of what is at a place of the table, for the open round.
    fn write_entity(&mut self, at: u32, input_offset: i64) -> Option<StateChange> {
        self.rounds.changed_in[at as usize] = UNCHANGED;
        let Slot { key, entity, recorded, .. } = self.slots[at as usize].as_mut()?;
        let slot = other(*recorded);
        *recorded = Some(slot);
        let state = state_record(&self.config, self.partition, Some(key), input_offset, entity);
        Some((StateKey { entity: Some(key.clone()), slot }, Some(state)))
    }

    /// To be called before what is at a place of the table changes.
    pub(crate) fn about_to_change(&mut self, at: u32) {
        if self.rounds.changed_in[at as usize] == self.rounds.epoch {
            return;
        }
        self.copy(at);
        self.rounds.changed_in[at as usize] = self.rounds.epoch;
        self.rounds.changed.push_back(at);
    }

    /// To be called when a new entity has come to a place of the table.
    pub(crate) fn has_come(&mut self, at: u32) {
        if self.rounds.changed_in[at as usize] != self.rounds.epoch {
            self.rounds.changed_in[at as usize] = self.rounds.epoch;
            self.rounds.changed.push_back(at);
        }
    }

    /// To be called before what is at a place of the table is forgotten.
    pub(crate) fn about_to_forget(&mut self, at: u32) {
        self.copy(at);
        if let Some(Slot { key, recorded: Some(recorded), .. }) = &self.slots[at as usize] {
            self.rounds.forgotten.push((key.clone(), *recorded));
        }
    }

    /// Writes what is at a place of the table now, if the open round has still to.
    fn copy(&mut self, at: u32) {
        if self.rounds.changed_in[at as usize] != self.rounds.epoch - 1 {
            return;
        }
        let Some(mut round) = self.rounds.open.take() else { return };
        if let Some(copy) = self.write_entity(at, round.input_offset) {
            round.copies_bytes += size(&copy);
            round.copies.push_back(copy);
        }
        self.rounds.open = Some(round);
    }
}

fn size((place, state): &StateChange) -> usize {
    let key = place.entity.as_ref().map_or(0, |entity| 2 * entity.len());
    RECORD_BYTES + key + state.as_ref().map_or(0, |state| state.payload.len())
}
