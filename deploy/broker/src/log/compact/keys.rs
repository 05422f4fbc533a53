//! The last offset of each key.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

/// The last offset of each key, by a hash of 128 bits: memory does not depend on how long keys are. Two of a million keys
/// have the same hash once in 10^27 runs, and nobody can choose keys so that they do, as the hash (SipHash, twice) has a key
/// of its own that is drawn anew for each run. What a collision costs is the older key's record.
#[derive(Debug, Default)]
pub(super) struct LastOffsets {
    hashers: (RandomState, RandomState),
    offsets: HashMap<[u64; 2], i64>,
}

impl LastOffsets {
    /// Records come in the order of their offsets.
    pub(super) fn put(&mut self, key: &[u8], offset: i64) {
        self.offsets.insert(self.hash(key), offset);
    }

    /// Whether a key has a later record than this one.
    pub(super) fn is_superseded(&self, key: &[u8], offset: i64) -> bool {
        self.offsets.get(&self.hash(key)).is_some_and(|last| *last > offset)
    }

    pub(super) fn len(&self) -> usize {
        self.offsets.len()
    }

    fn hash(&self, key: &[u8]) -> [u64; 2] {
        [self.hashers.0.hash_one(key), self.hashers.1.hash_one(key)]
    }
}
