//! The offsets of one group: those committed, and those that open transactions have staged.
//!
//! Invariant: of two commits of one partition the one that was written later wins, even if it was staged and its transaction
//! ends only after the other. `position` is the order of writing.
//! Source: Apache Kafka's `OffsetMetadataManager`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A committed or staged offset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Committed {
    pub(super) offset: i64,
    /// -1: not known.
    pub(super) leader_epoch: i32,
    pub(super) metadata: String,
    /// When it was committed.
    pub(super) commit_ms: i64,
    /// When it expires, if its client chose that.
    pub(super) expire_ms: Option<i64>,
    /// The place of its commit in the order of all.
    pub(super) position: u64,
}

/// Offsets by topic and partition.
type ByPartition = BTreeMap<String, BTreeMap<i32, Committed>>;

/// The offsets of one group.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Offsets {
    committed: ByPartition,
    /// By producer id; never an empty entry.
    staged: BTreeMap<i64, ByPartition>,
}

impl Offsets {
    pub(super) fn get(&self, topic: &str, partition: i32) -> Option<&Committed> {
        self.committed.get(topic)?.get(&partition)
    }

    /// All committed ones, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, i32, &Committed)> {
        flat(&self.committed)
    }

    /// All staged ones, with their producers.
    pub(super) fn iter_staged(&self) -> impl Iterator<Item = (i64, &str, i32, &Committed)> {
        self.staged.iter().flat_map(|(producer_id, staged)| {
            flat(staged).map(|(topic, partition, committed)| (*producer_id, topic, partition, committed))
        })
    }

    /// The producers with staged offsets.
    pub(super) fn producers(&self) -> impl Iterator<Item = i64> {
        self.staged.keys().copied()
    }

    pub(super) fn has_staged_by(&self, producer_id: i64) -> bool {
        self.staged.contains_key(&producer_id)
    }

    /// Whether an open transaction has staged an offset of this partition.
    pub(super) fn is_unstable(&self, topic: &str, partition: i32) -> bool {
        self.staged.values().any(|staged| staged.get(topic).is_some_and(|topic| topic.contains_key(&partition)))
    }

    pub(super) fn len(&self) -> usize {
        self.iter().count() + self.iter_staged().count()
    }

    pub(super) fn commit(&mut self, topic: &str, partition: i32, committed: Committed) {
        put(&mut self.committed, topic, partition, committed);
    }

    pub(super) fn stage(&mut self, producer_id: i64, topic: &str, partition: i32, committed: Committed) {
        put(self.staged.entry(producer_id).or_default(), topic, partition, committed);
    }

    /// A producer's staged offsets become committed, but for those that something newer was committed over, or are dropped.
    pub(super) fn end(&mut self, producer_id: i64, is_commit: bool) {
        let Some(staged) = self.staged.remove(&producer_id) else { return };
        if !is_commit {
            return;
        }
        for (topic, partitions) in staged {
            for (partition, committed) in partitions {
                if self.get(&topic, partition).is_none_or(|current| current.position < committed.position) {
                    put(&mut self.committed, &topic, partition, committed);
                }
            }
        }
    }

    /// Removes a committed offset and what is staged for it.
    pub(super) fn remove(&mut self, topic: &str, partition: i32) {
        self.retain(|t, p| t != topic || p != partition);
    }

    /// Removes all of a topic.
    pub(super) fn remove_topic(&mut self, topic: &str) {
        self.retain(|t, _| t != topic);
    }

    pub(super) fn has_topic(&self, topic: &str) -> bool {
        self.committed.contains_key(topic) || self.staged.values().any(|staged| staged.contains_key(topic))
    }

    fn retain(&mut self, keep: impl Fn(&str, i32) -> bool) {
        let retain = |offsets: &mut ByPartition| {
            offsets.retain(|topic, partitions| {
                partitions.retain(|partition, _| keep(topic, *partition));
                !partitions.is_empty()
            });
            !offsets.is_empty()
        };
        retain(&mut self.committed);
        self.staged.retain(|_, staged| retain(staged));
    }
}

fn put(offsets: &mut ByPartition, topic: &str, partition: i32, committed: Committed) {
    match offsets.get_mut(topic) {
        Some(partitions) => {
            partitions.insert(partition, committed);
        }
        None => {
            offsets.insert(topic.to_owned(), BTreeMap::from([(partition, committed)]));
        }
    }
}

fn flat(offsets: &ByPartition) -> impl Iterator<Item = (&str, i32, &Committed)> {
    offsets.iter().flat_map(|(topic, partitions)| {
        partitions.iter().map(|(partition, committed)| (topic.as_str(), *partition, committed))
    })
}
