//! Which events of an entity were seen, by their id: so that one that comes twice counts once.
//!
//! An id is remembered until the watermark is `memory_ms` past the time of its event, and at most the latest `capacity` of an entity.
//! Kept are 64-bit hashes: a new event is taken for a known one with a probability of `capacity / 2^64`.

use std::collections::{HashSet, VecDeque};

use serde::{Deserialize, Serialize};

/// How long ids are remembered, and how many of an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdMemory {
    /// After the time of the event, in ms.
    pub memory_ms: i64,
    /// Of an entity.
    pub capacity: usize,
}

/// The ids of one entity's events. Memory: about 32 bytes each.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "VecDeque<(i64, u64)>", into = "VecDeque<(i64, u64)>")]
pub struct Ids {
    /// Time and hash, as they came.
    order: VecDeque<(i64, u64)>,
    known: HashSet<u64>,
}

impl From<VecDeque<(i64, u64)>> for Ids {
    fn from(order: VecDeque<(i64, u64)>) -> Self {
        let known = order.iter().map(|&(_, hash)| hash).collect();
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
        while let Some(&(time, oldest)) = self.order.front() {
            if !is_over(time) && self.order.len() < memory.capacity {
                break;
            }
            self.order.pop_front();
            self.known.remove(&oldest);
        }
        let is_new = self.known.insert(id);
        if is_new {
            self.order.push_back((event_time, id));
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_known_until_its_time_is_over_or_too_many_came_since() {
        let memory = IdMemory { memory_ms: 10, capacity: 3 };
        let mut ids = Ids::default();
        assert!(ids.note(memory, None, 100, 7));
        assert!(!ids.note(memory, Some(109), 100, 7), "within its time");
        assert!(ids.note(memory, Some(110), 100, 7), "its time is over");
        for id in [1, 2] {
            assert!(ids.note(memory, Some(100), 100, id));
        }
        let bytes = postcard::to_stdvec(&ids).unwrap();
        assert_eq!(postcard::from_bytes::<Ids>(&bytes).unwrap(), ids);
        assert!(ids.note(memory, Some(100), 100, 3), "a fourth makes the first forgotten");
        assert!(ids.note(memory, Some(100), 100, 7));
    }
}
