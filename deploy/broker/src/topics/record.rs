//! The records of the topics' journal, and the topics that follow from them.
//!
//! The order of variants and fields is the file's format: new ones go to the end.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::id;
use super::settings::Overrides;
use crate::journal::Entry;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum TopicRecord {
    /// A topic was made.
    Created { id: u128, name: String, partitions: u32, overrides: Overrides },
    /// A topic was deleted; what is left of its folder goes.
    Deleted { id: u128 },
    /// It has so many partitions from here on.
    Partitions { id: u128, partitions: u32 },
    /// These were set, in place of all before.
    Overrides { id: u128, overrides: Overrides },
    /// Records before this offset were deleted by a client.
    Start { id: u128, partition: u32, offset: i64 },
}

impl Entry for TopicRecord {
    const CONSEQUENCE: &str = "; the folders of topics that are then not known are set aside in lost+found";

    fn subject(&self) -> Option<String> {
        match self {
            Self::Created { name, .. } => Some(format!("topic {name}")),
            // Those that have only an id here have a name in front of it in the folder's.
            Self::Deleted { id }
            | Self::Partitions { id, .. }
            | Self::Overrides { id, .. }
            | Self::Start { id, .. } => Some(format!("topic id {}", id::text(Uuid::from_u128(*id)))),
        }
    }
}

/// A topic as the journal describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Described {
    pub(crate) id: Uuid,
    pub(crate) name: String,
    pub(crate) partitions: u32,
    pub(crate) overrides: Overrides,
    /// Partitions whose start was moved.
    pub(crate) starts: BTreeMap<u32, i64>,
}

/// What a journal tells.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Replayed {
    /// The topics that exist, in the order of their ids.
    pub(crate) topics: BTreeMap<Uuid, Described>,
    /// Those that were deleted since the journal was last rewritten.
    pub(crate) deleted: BTreeSet<Uuid>,
}

impl Replayed {
    /// Applies records in order. One about a topic that does not exist says nothing.
    pub(crate) fn new(records: impl IntoIterator<Item = TopicRecord>) -> Self {
        let mut replayed = Self::default();
        for record in records {
            replayed.apply(record);
        }
        replayed
    }

    fn apply(&mut self, record: TopicRecord) {
        match record {
            TopicRecord::Created { id, name, partitions, overrides } => {
                let id = Uuid::from_u128(id);
                self.topics.insert(id, Described { id, name, partitions, overrides, starts: BTreeMap::new() });
            }
            TopicRecord::Deleted { id } => {
                let id = Uuid::from_u128(id);
                self.topics.remove(&id);
                self.deleted.insert(id);
            }
            TopicRecord::Partitions { id, partitions } => {
                self.change(id, |topic| topic.partitions = partitions);
            }
            TopicRecord::Overrides { id, overrides } => self.change(id, |topic| topic.overrides = overrides),
            TopicRecord::Start { id, partition, offset } => self.change(id, |topic| {
                topic.starts.insert(partition, offset);
            }),
        }
    }

    fn change(&mut self, id: u128, change: impl FnOnce(&mut Described)) {
        if let Some(topic) = self.topics.get_mut(&Uuid::from_u128(id)) {
            change(topic);
        }
    }
}

impl Described {
    /// The shortest records that describe it.
    pub(crate) fn records(self) -> impl Iterator<Item = TopicRecord> {
        let id = self.id.as_u128();
        let starts = self.starts.into_iter();
        let starts = starts.map(move |(partition, offset)| TopicRecord::Start { id, partition, offset });
        let created =
            TopicRecord::Created { id, name: self.name, partitions: self.partitions, overrides: self.overrides };
        std::iter::once(created).chain(starts)
    }
}
