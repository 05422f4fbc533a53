//! What the groups' journal holds. Kinds are only ever added, at the end: their places are their numbers in the file.

use serde::{Deserialize, Serialize};

use super::group::Group;
use super::offsets::Committed;
use crate::journal::Entry;

/// One record of the groups' journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Record {
    /// A group is settled: its generation is complete, or it is empty.
    Settled(Settled),
    /// A group is deleted, its offsets too.
    Deleted { group: String },
    /// An offset is committed.
    Committed { group: String, topic: String, partition: i32, committed: Committed },
    /// A committed offset is removed, and what transactions have staged for it.
    Removed { group: String, topic: String, partition: i32 },
    /// An offset is staged by a producer's open transaction.
    Staged { group: String, producer_id: i64, topic: String, partition: i32, committed: Committed },
    /// A producer's transaction has ended in this group.
    Ended { group: String, producer_id: i64, is_commit: bool },
    /// A topic is deleted: its offsets go in every group.
    TopicDeleted { topic: String },
}

impl Entry for Record {
    fn subject(&self) -> Option<String> {
        match self {
            Self::TopicDeleted { topic } => Some(format!("topic {topic}")),
            Self::Settled(Settled { group, .. })
            | Self::Deleted { group }
            | Self::Committed { group, .. }
            | Self::Removed { group, .. }
            | Self::Staged { group, .. }
            | Self::Ended { group, .. } => Some(format!("group {group}")),
        }
    }
}

impl Record {
    /// The position of the commit that it tells of.
    pub(super) fn position(&self) -> Option<u64> {
        match self {
            Self::Committed { committed, .. } | Self::Staged { committed, .. } => Some(committed.position),
            _ => None,
        }
    }
}

/// The records that make a group as it is settled, and its offsets.
pub(super) fn of(group: &Group) -> impl Iterator<Item = Record> {
    let settled = group.settled().cloned().map(Record::Settled);
    let committed = group.offsets.iter().map(|(topic, partition, committed)| Record::Committed {
        group: group.id.clone(),
        topic: topic.to_owned(),
        partition,
        committed: committed.clone(),
    });
    let staged = group.offsets.iter_staged().map(|(producer_id, topic, partition, committed)| Record::Staged {
        group: group.id.clone(),
        producer_id,
        topic: topic.to_owned(),
        partition,
        committed: committed.clone(),
    });
    settled.into_iter().chain(committed).chain(staged)
}

/// A group as it was settled: what a restart takes up again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Settled {
    pub(super) group: String,
    pub(super) generation: i32,
    pub(super) protocol_type: Option<String>,
    pub(super) protocol: Option<String>,
    pub(super) leader: Option<String>,
    /// When it came into its state.
    pub(super) since_ms: i64,
    pub(super) members: Vec<SettledMember>,
}

/// A member of a settled group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SettledMember {
    pub(super) id: String,
    pub(super) instance_id: Option<String>,
    pub(super) client_id: String,
    pub(super) client_host: String,
    pub(super) rebalance_timeout_ms: u32,
    pub(super) session_timeout_ms: u32,
    /// Names and metadata, the one it likes best first.
    pub(super) protocols: Vec<(String, Vec<u8>)>,
    pub(super) assignment: Vec<u8>,
}
