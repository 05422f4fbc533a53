//! What the state and ledger topics hold of an input partition: under which keys, and what of it counts when it is read back.

use indexmap::IndexMap;
use tidewatch_processor_core::Engine;
use tidewatch_processor_core::state::{Slots, StateKey};
use tidewatch_schemas::record::{Ledger, State};
use tidewatch_schemas::{Record, entity, wire};

use crate::ProcessorError;
use crate::restore::Wanted;

/// The records of one of the wanted that count, as bytes: what is replaced is never decoded, and one that cannot be read counts for as long
/// as it is the last of its key, so that the answer does not hang on what compaction has come to.
pub(crate) struct Saved {
    /// The keys of the partition's own state and of its ledger.
    own_key: String,
    ledger_key: String,
    /// The round to bring back. Without one the input is read again from the first record that was ever taken in.
    round: Option<i64>,
    bytes: Bytes,
    own: Place,
    /// By entity as it is written in the key; in the order in which they came, which is that of the bytes.
    entities: IndexMap<Box<[u8]>, Place, ahash::RandomState>,
    ledger: Option<Span>,
}

/// The two slots of a place in the topic. Of two records that are as of the round or before, only the later is kept.
#[derive(Clone, Copy, Default)]
struct Place {
    slots: [Option<Span>; 2],
    /// Whether a record was left out for another that counts.
    has_left_out: bool,
}

impl Saved {
    pub(crate) fn new(group: &str, Wanted { config, partition, begin }: &Wanted) -> Self {
        let stream = config.name.as_str();
        Self {
            own_key: entity::join(&[group, stream]).into_owned(),
            ledger_key: entity::join(&[group, stream, &partition.to_string()]).into_owned(),
            round: begin.is_snapshot.then_some(begin.read_from),
            bytes: Bytes::default(),
            own: Place::default(),
            entities: IndexMap::default(),
            ledger: None,
        }
    }

    /// Takes a record of the partition in; false: it is of another group or stream.
    pub(crate) fn take(&mut self, is_state: bool, key: &[u8], offset: i64, value: Option<&[u8]>) -> bool {
        if !is_state {
            if key == self.ledger_key.as_bytes() {
                self.ledger = value.map(|value| self.bytes.put(self.ledger, offset, None, value));
            }
            return key == self.ledger_key.as_bytes();
        }
        let Some(rest) = key.strip_prefix(self.own_key.as_bytes()) else { return false };
        let (rest, slot) = rest.strip_suffix(SLOT_1.as_bytes()).map_or((rest, 0), |rest| (rest, 1));
        let place = match rest.split_first() {
            None => &mut self.own,
            Some((b'/', entity)) => match self.entities.get_mut(entity) {
                Some(place) => place,
                None if value.is_some() => self.entities.entry(entity.into()).or_default(),
                None => return true,
            },
            Some(_) => return false,
        };
        let as_of =
            |value| State::input_offset_of(value).ok().filter(|&at| self.round.is_some_and(|round| at <= round));
        match value {
            Some(value) => place.put(&mut self.bytes, slot, offset, as_of(value), value),
            None => place.clear(slot),
        }
        true
    }

    pub(crate) fn engine(
        self,
        topic: &str,
        Wanted { config, partition, .. }: &Wanted,
    ) -> Result<Engine, ProcessorError> {
        let broken = |(offset, problem)| {
            let (topic, partition) = (topic.to_owned(), *partition);
            ProcessorError::StateRecord { topic, partition, offset, problem }
        };
        let own = self.slots(&self.own).map_err(broken)?;
        let mut is_broken = false;
        let entities = self.entities.values().map_while(|place| {
            let slots = self.slots(place);
            is_broken |= slots.is_err();
            slots.ok()
        });
        let engine = Engine::restore(config.clone(), *partition, self.round, own, entities);
        if is_broken {
            // The first of them, whatever the map's order.
            let unread = self.entities.values().filter_map(|place| self.slots(place).err()).min();
            return Err(broken(unread.unwrap_or_default()));
        }
        Ok(engine?)
    }

    pub(crate) fn ledger(&self, topic: &str, partition: i32) -> Result<Option<Ledger>, ProcessorError> {
        let broken =
            |(offset, problem)| ProcessorError::LedgerRecord { topic: topic.into(), partition, offset, problem };
        self.ledger.map(|span| self.read(span)).transpose().map_err(broken)
    }

    fn slots(&self, place: &Place) -> Result<Slots, Unread> {
        // A round never writes over what the last complete one needs: this is somebody else's work.
        if !place.is_whole() {
            let offset = place.slots.iter().flatten().map(|span| span.offset).max().unwrap_or_default();
            return Err((offset, "it has replaced what the complete snapshot needs".to_owned()));
        }
        let [first, second] = place.slots.map(|span| span.map(|span| self.read(span)).transpose());
        Ok([first?, second?])
    }

    fn read<R: Record>(&self, span: Span) -> Result<R, Unread> {
        wire::decode(self.bytes.get(span)).map_err(|error| (span.offset, error.to_string()))
    }
}

impl Place {
    /// A record that is `as_of` the round or before comes in place of both others that are; one that is not, of that in its slot.
    fn put(&mut self, bytes: &mut Bytes, slot: usize, offset: i64, as_of: Option<i64>, value: &[u8]) {
        let other = self.slots[1 - slot].filter(|other| as_of.is_some() && other.as_of.is_some());
        let Some(other) = other else {
            self.slots[slot] = Some(bytes.put(self.slots[slot], offset, as_of, value));
            return;
        };
        self.has_left_out = true;
        if other.as_of >= as_of {
            self.slots[slot] = None;
        } else {
            self.slots[1 - slot] = None;
            self.slots[slot] = Some(bytes.put(Some(other), offset, as_of, value));
        }
    }

    /// A tombstone comes in place of what is in the slot.
    const fn clear(&mut self, slot: usize) {
        (self.slots[slot], self.has_left_out) = (None, false);
    }

    /// Whether what counts is there, if anything ever did.
    fn is_whole(&self) -> bool {
        !self.has_left_out || self.slots.iter().flatten().any(|span| span.as_of.is_some())
    }
}

/// A record that cannot be read: its offset, and what is wrong with it.
type Unread = (i64, String);

/// Records one after the other, in large pieces that stay where they are.
#[derive(Default)]
struct Bytes {
    pieces: Vec<Vec<u8>>,
}

/// Where a record is in [`Bytes`].
#[derive(Clone, Copy)]
struct Span {
    /// The record's offset in its topic.
    offset: i64,
    /// The input offset that it is as of, if it counts.
    as_of: Option<i64>,
    piece: u32,
    start: u32,
    len: u32,
    /// Bytes from `start` on that are this place's: those of the longest record that was there.
    room: u32,
}

impl Bytes {
    const PIECE: usize = 1024 * 1024;

    /// Puts a record where the one before it was, if it has room there: however often a place is written, its last record is kept.
    fn put(&mut self, before: Option<Span>, offset: i64, as_of: Option<i64>, value: &[u8]) -> Span {
        let len = value.len();
        if let Some(Span { piece, start, room, .. }) = before.filter(|before| before.room as usize >= len) {
            let at = start as usize;
            self.pieces[piece as usize][at..at + len].copy_from_slice(value);
            return Span { offset, as_of, piece, start, len: len as u32, room };
        }
        if self.pieces.last().is_none_or(|piece| piece.capacity() - piece.len() < len) {
            self.pieces.push(Vec::with_capacity(len.max(Self::PIECE)));
        }
        let piece = self.pieces.len() - 1;
        let start = self.pieces[piece].len();
        self.pieces[piece].extend_from_slice(value);
        // A record's length is an `i32` on the wire, and a piece is no longer than that.
        let [piece, start, len] = [piece, start, len].map(|number| number as u32);
        Span { offset, as_of, piece, start, len, room: len }
    }

    fn get(&self, Span { piece, start, len, .. }: Span) -> &[u8] {
        &self.pieces[piece as usize][start as usize..][..len as usize]
    }
}

/// What replaces what in the state topic: two slots for each entity, and for the partition's own state, which has no entity. The group
/// comes first: each has a state of its own.
pub(crate) fn state_key(group_id: &str, stream: &str, place: &StateKey) -> String {
    let mut key = entity::join(&[group_id, stream]).into_owned();
    if let Some(entity) = &place.entity {
        key.push('/');
        key.push_str(entity);
    }
    if place.slot == 1 {
        key.push_str(SLOT_1);
    }
    key
}

/// The end of the key of what is in the second slot. In the names before it a `%` is written `%25`, so that it ends no other key.
const SLOT_1: &str = "%1";

/// The key of a partition's last ledger record.
pub(crate) fn ledger_key(ledger: &Ledger) -> String {
    entity::join(&[&ledger.group, &ledger.stream, &ledger.partition.to_string()]).into_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_place_has_a_key_of_its_own() {
        let entities = [None, Some("a/b"), Some("a/b%251"), Some("a%2F%251"), Some("")];
        let places = entities
            .into_iter()
            .flat_map(|entity| [0, 1].map(|slot| StateKey { entity: entity.map(Into::into), slot }));
        let keys: BTreeSet<String> = places.map(|place| state_key("g/h", "s%1", &place)).collect();
        assert_eq!(keys.len(), 2 * entities.len());
        assert!(keys.contains("g%2Fh/s%251/a/b%1") && keys.contains("g%2Fh/s%251%1"), "{keys:?}");
    }

    /// What is left of a place after these records of it came, with a round of 20 to bring back: slot, input offset and length of each; no
    /// length is a tombstone.
    fn place_after(records: &[(usize, i64, Option<usize>)]) -> (Place, Bytes) {
        let (mut place, mut bytes) = (Place::default(), Bytes::default());
        for (offset, &(slot, at, len)) in (0..).zip(records) {
            match len {
                Some(len) => {
                    place.put(&mut bytes, slot, offset, (at <= 20).then_some(at), &vec![offset as u8; len]);
                }
                None => place.clear(slot),
            }
        }
        (place, bytes)
    }

    fn check(records: &[(usize, i64, Option<usize>)], expected: [Option<u8>; 2], is_whole: bool) {
        let (place, bytes) = place_after(records);
        let found = place.slots.map(|span| span.map(|span| bytes.get(span)[0]));
        assert_eq!((found, place.is_whole()), (expected, is_whole), "{records:?}");
    }

    #[test]
    fn of_two_records_that_count_the_later_is_kept_beside_one_of_a_round_that_was_not_completed() {
        let some = Some(8);
        check(&[(0, 10, some)], [Some(0), None], true);
        check(&[(0, 10, some), (1, 20, some)], [None, Some(1)], true);
        check(&[(1, 20, some), (0, 10, some)], [None, Some(0)], true);
        check(&[(0, 10, some), (1, 15, some), (0, 20, some)], [Some(2), None], true);
        check(&[(0, 10, some), (1, 20, some), (0, 30, some)], [Some(2), Some(1)], true);
        check(&[(0, 10, some), (1, 20, some), (0, 30, some), (0, 30, None)], [None, Some(1)], true);
        check(&[(0, 30, some)], [Some(0), None], true);
        check(&[(0, 10, some), (1, 20, some), (1, 20, None), (0, 10, None)], [None, None], true);
    }

    #[test]
    fn a_record_that_counts_and_was_replaced_by_a_later_round_is_missed() {
        let some = Some(8);
        check(&[(0, 10, some), (1, 20, some), (1, 30, some)], [None, Some(2)], false);
    }

    #[test]
    fn a_record_takes_the_room_of_the_one_that_it_replaces() {
        let (place, bytes) = place_after(&[(0, 10, Some(300)), (1, 15, Some(200)), (0, 20, Some(300))]);
        assert_eq!((bytes.pieces.len(), bytes.pieces[0].len()), (1, 300));
        assert_eq!(bytes.get(place.slots[0].unwrap()), [2; 300]);
        // A longer one takes its own, and one of a piece's length a piece.
        let (place, bytes) = place_after(&[(0, 10, Some(300)), (1, 15, Some(400)), (0, 20, Some(Bytes::PIECE))]);
        assert_eq!(bytes.pieces.iter().map(Vec::len).collect::<Vec<_>>(), [700, Bytes::PIECE]);
        assert_eq!(bytes.get(place.slots[0].unwrap()).len(), Bytes::PIECE);
    }
}
