//! Which events of an entity were seen, by their id: so that one that comes twice counts once.
//!
//! An id is remembered until the watermark is `memory_ms` past the time of the event that it was remembered of, and at most the latest
//! `capacity` that an entity sent.
//! Kept are 64-bit hashes: a new event is taken for a known one with a probability of `capacity / 2^64`.

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};

/// How long ids are remembered, and how many of an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdMemory {
    /// After the time of the event, in ms.
    pub memory_ms: i64,
    /// Of an entity.
    pub capacity: usize,
}

/// The ids of one entity's events. Memory: about 48 bytes each.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "VecDeque<(i64, u64)>", into = "VecDeque<(i64, u64)>")]
pub struct Ids {
    /// Time and hash, as they came. An id whose time was over when it came again is there twice, with two times.
    order: VecDeque<(i64, u64)>,
    /// The latest time of each hash.
    known: HashMap<u64, i64>,
}

impl From<VecDeque<(i64, u64)>> for Ids {
    fn from(order: VecDeque<(i64, u64)>) -> Self {
        let known = order.iter().map(|&(time, hash)| (hash, time)).collect();
        Self { order, known }
    }
}

impl From<Ids> for VecDeque<(i64, u64)> {
    fn from(ids: Ids) -> Self {
        ids.order
    }
}

impl Ids {
    /// Notes an event; false if its id is known already.
    pub fn note(&mut self, memory: IdMemory, watermark: Option<i64>, event_time: i64, id: u64) -> bool {
        let is_over = |time: i64| watermark.is_some_and(|now| time + memory.memory_ms <= now);
        if self.known.get(&id).is_some_and(|&time| !is_over(time)) {
            return false;
        }
        // What is over already is not remembered: no two entries of an id have the same time.
        if is_over(event_time) {
            return true;
        }
        while let Some(&(time, oldest)) = self.order.front() {
            if !is_over(time) && self.order.len() < memory.capacity {
                break;
            }
            self.order.pop_front();
            // Unless it came again.
            if self.known.get(&oldest) == Some(&time) {
                self.known.remove(&oldest);
            }
        }
        self.order.push_back((event_time, id));
        self.known.insert(id, event_time);
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_is_known_until_its_time_is_over_or_too_many_came_since() {
        let memory = IdMemory { memory_ms: 10, capacity: 3 };
        let mut ids = Ids::default();
        assert!(ids.note(memory, None, 100, 7));
        assert!(!ids.note(memory, Some(109), 100, 7), "within its time");
        assert!(ids.note(memory, Some(110), 111, 7), "its time is over");
        for id in [1, 2] {
            assert!(ids.note(memory, Some(110), 111, id));
        }
        assert!(!ids.note(memory, Some(110), 111, 7), "a known one makes none forgotten");
        assert!(ids.note(memory, Some(110), 111, 3), "a fourth makes the first forgotten");
        assert!(ids.note(memory, Some(110), 111, 7));
    }

    #[test]
    fn an_id_behind_a_younger_one_is_over_in_its_own_time() {
        let memory = IdMemory { memory_ms: 10, capacity: 5 };
        let mut ids = Ids::default();
        assert!(ids.note(memory, None, 120, 1));
        assert!(ids.note(memory, None, 101, 2));
        assert!(!ids.note(memory, Some(110), 101, 2));
        assert!(ids.note(memory, Some(115), 116, 2), "over at 111");
        assert!(!ids.note(memory, Some(115), 116, 2));
        assert!(!ids.note(memory, Some(125), 116, 2), "the first of its entries does not take the second along");
    }

    proptest! {
        #[test]
        fn an_event_counts_once_as_long_as_its_id_is_remembered(
            events in prop::collection::vec((0i64..40, 0u64..4, 0i64..4), 0..80),
        ) {
            let memory = IdMemory { memory_ms: 10, capacity: 80 };
            let mut ids = Ids::default();
            let mut taken = Vec::new();
            let mut watermark = 0;
            for (ahead, id, passes) in events {
                watermark += passes;
                let time = watermark + ahead - 20;
                let is_known = taken.iter().any(|&(time, known)| known == id && time + 10 > watermark);
                prop_assert_eq!(ids.note(memory, Some(watermark), time, id), !is_known);
                if !is_known {
                    taken.push((time, id));
                }
                let bytes = postcard::to_stdvec(&ids).unwrap();
                prop_assert_eq!(&postcard::from_bytes::<Ids>(&bytes).unwrap(), &ids);
            }
        }
    }
}
