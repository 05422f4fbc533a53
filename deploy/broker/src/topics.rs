//! Topics and their partitions. Invariant: what exists is what the topics' journal says; a folder that it does not name is
//! not a topic.
//!
//! A topic is made folder first, journal second, and deleted the other way round: a process that is killed in between has
//! either made it or not, and what is left of the folder goes at the next start ([`folder`]).

mod check;
pub(crate) mod folder;
pub(crate) mod id;
pub(crate) mod name;
mod open;
mod record;
pub(crate) mod settings;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::damage::OnDamage;
use crate::durable::{Durable, Unsynced};
use crate::journal::Journal;
use crate::log::{PartitionLog, Place};
use crate::node::Now;
pub(crate) use check::NewTopic;
use record::{Described, TopicRecord};
use settings::{Overrides, TopicSettings};

/// One topic.
pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) id: Uuid,
    /// What was set for it, as it was written.
    pub(crate) overrides: Overrides,
    /// What follows from it, over the defaults.
    pub(crate) settings: Arc<TopicSettings>,
    pub(crate) partitions: Vec<PartitionLog>,
}

/// All topics.
pub(crate) struct Topics {
    topics: BTreeMap<String, Topic>,
    /// The names by the ids.
    ids: HashMap<Uuid, String>,
    /// Partitions of all topics.
    partitions: usize,
    journal: Journal<TopicRecord>,
    /// The folder of all topics; `None` in memory.
    folder: Option<PathBuf>,
    /// The settings of a topic that sets none.
    defaults: TopicSettings,
    default_partitions: i32,
    partitions_max: usize,
    decompressed_bytes_max: usize,
    /// An idle producer is forgotten after this.
    producer_idle_ms_max: i64,
}

/// A request that is not carried out: the protocol's error and Kafka's message with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) error: ResponseError,
    pub(crate) message: String,
}

impl Refused {
    pub(crate) fn new(error: ResponseError, message: impl Into<String>) -> Self {
        Self { error, message: message.into() }
    }

    /// The message as answers have it; empty: none.
    pub(crate) fn text(self) -> Option<StrBytes> {
        (!self.message.is_empty()).then(|| StrBytes::from_string(self.message))
    }
}

impl From<Refused> for ResponseError {
    fn from(refused: Refused) -> Self {
        refused.error
    }
}

impl Topics {
    /// By name.
    pub(crate) fn get(&self, name: &str) -> Option<&Topic> {
        self.topics.get(name)
    }

    /// By id.
    pub(crate) fn by_id(&self, id: Uuid) -> Option<&Topic> {
        self.get(self.ids.get(&id)?)
    }

    /// All, in the order of their names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Topic> {
        self.topics.values()
    }

    /// Partitions of all topics.
    pub(crate) fn partitions(&self) -> usize {
        self.partitions
    }

    /// A partition; `UnknownTopicOrPartition`.
    pub(crate) fn partition(&self, name: &str, partition: i32) -> Result<&PartitionLog, ResponseError> {
        let topic = self.get(name).ok_or(ResponseError::UnknownTopicOrPartition)?;
        let log = usize::try_from(partition).ok().and_then(|index| topic.partitions.get(index));
        log.ok_or(ResponseError::UnknownTopicOrPartition)
    }

    /// A partition and the settings of its topic; `UnknownTopicOrPartition`.
    pub(crate) fn partition_mut(
        &mut self,
        name: &str,
        partition: i32,
    ) -> Result<(&mut PartitionLog, Arc<TopicSettings>), ResponseError> {
        let topic = self.topics.get_mut(name).ok_or(ResponseError::UnknownTopicOrPartition)?;
        let log = usize::try_from(partition).ok().and_then(|index| topic.partitions.get_mut(index));
        let log = log.ok_or(ResponseError::UnknownTopicOrPartition)?;
        Ok((log, topic.settings.clone()))
    }

    /// Makes a topic.
    ///
    /// # Errors
    /// `KafkaStorageError`: a folder or the journal cannot be written; then nothing was made.
    pub(crate) fn make(&mut self, new: NewTopic) -> Result<&Topic, Refused> {
        let NewTopic { name, id, partitions, overrides, settings } = new;
        let folder = self.topic_folder(&name, id);
        let logs = self.open_new(folder.as_ref(), 0..partitions)?;
        let record =
            TopicRecord::Created { id: id.as_u128(), name: name.clone(), partitions, overrides: overrides.clone() };
        if let Err(refused) = self.record(record) {
            remove_or_tell(folder.as_deref());
            return Err(refused);
        }
        self.partitions += logs.len();
        self.ids.insert(id, name.clone());
        let topic = Topic { name: name.clone(), id, overrides, settings: Arc::new(settings), partitions: logs };
        Ok(self.topics.entry(name).or_insert(topic))
    }

    /// [`check_new`](Self::check_new) and [`make`](Self::make).
    pub(crate) fn create(&mut self, name: &str, partitions: i32, overrides: Overrides) -> Result<&Topic, Refused> {
        let new = self.check_new(name, partitions, overrides)?;
        self.make(new)
    }

    /// Deletes a topic, its records at once.
    ///
    /// # Errors
    /// `UnknownTopicOrPartition`; `KafkaStorageError`: the journal cannot be written, the topic stays.
    pub(crate) fn delete(&mut self, name: &str) -> Result<(), ResponseError> {
        let id = self.get(name).ok_or(ResponseError::UnknownTopicOrPartition)?.id;
        self.record(TopicRecord::Deleted { id: id.as_u128() })?;
        self.ids.remove(&id);
        if let Some(mut topic) = self.topics.remove(name) {
            self.partitions -= topic.partitions.len();
            // Whoever waits for records is told that there are none to come.
            topic.partitions.iter_mut().for_each(PartitionLog::wake);
        }
        // If this fails the next start does it.
        remove_or_tell(self.topic_folder(name, id).as_deref());
        Ok(())
    }

    /// Gives a topic so many partitions in all.
    ///
    /// # Errors
    /// Those of [`check_partitions`](Self::check_partitions); `KafkaStorageError`.
    pub(crate) fn add_partitions(&mut self, name: &str, count: i32) -> Result<(), Refused> {
        let more = self.check_partitions(name, count)?;
        let Some(topic) = self.topics.get(name) else { return Ok(()) };
        let (id, present) = (topic.id, count as u32 - more);
        let folder = self.topic_folder(name, id);
        let logs = self.open_new(folder.as_ref(), present..present + more)?;
        if let Err(refused) = self.record(TopicRecord::Partitions { id: id.as_u128(), partitions: present + more }) {
            for partition in present..present + more {
                remove_or_tell(folder.as_ref().map(|folder| folder.join(partition.to_string())).as_deref());
            }
            return Err(refused);
        }
        self.partitions += logs.len();
        if let Some(topic) = self.topics.get_mut(name) {
            topic.partitions.extend(logs);
        }
        Ok(())
    }

    /// Sets a topic's settings, in place of all before. They hold for what is written from here on.
    ///
    /// # Errors
    /// Those of [`check_settings`](Self::check_settings); `KafkaStorageError`.
    pub(crate) fn alter(&mut self, name: &str, overrides: Overrides) -> Result<(), Refused> {
        let settings = self.check_settings(name, &overrides)?;
        let id = self.get(name).map_or(0, |topic| topic.id.as_u128());
        self.record(TopicRecord::Overrides { id, overrides: overrides.clone() })?;
        if let Some(topic) = self.topics.get_mut(name) {
            topic.overrides = overrides;
            topic.settings = Arc::new(settings);
        }
        Ok(())
    }

    /// Moves the start of a partition to `before` (-1: to its end), journalled, and gives the start.
    ///
    /// # Errors
    /// `UnknownTopicOrPartition`; `PolicyViolation`: a topic that is only compacted; `OffsetOutOfRange`: beyond the end;
    /// `KafkaStorageError`.
    pub(crate) fn delete_records(&mut self, name: &str, partition: i32, before: i64) -> Result<i64, ResponseError> {
        let id = self.get(name).ok_or(ResponseError::UnknownTopicOrPartition)?.id.as_u128();
        let (log, settings) = self.partition_mut(name, partition)?;
        if !settings.cleanup_policy.is_delete {
            return Err(ResponseError::PolicyViolation);
        }
        let (start, end) = (log.start_offset(), log.end_offset());
        let offset = if before == -1 { end } else { before };
        if !(0..=end).contains(&offset) {
            return Err(ResponseError::OffsetOutOfRange);
        }
        if offset <= start {
            return Ok(start);
        }
        self.record(TopicRecord::Start { id, partition: partition.unsigned_abs(), offset })?;
        let (log, _) = self.partition_mut(name, partition)?;
        log.delete_before(offset)
    }

    /// The files and folders that were written since the last call; whoever takes them syncs them, in this order.
    pub(crate) fn take_dirty(&mut self) -> Vec<Unsynced> {
        let mut dirty = self.journal.take_dirty();
        dirty.extend(
            self.topics.values_mut().flat_map(|topic| &mut topic.partitions).flat_map(PartitionLog::take_dirty),
        );
        dirty
    }

    /// Whether no file has a piece of a failed write at its end.
    pub(crate) fn is_whole(&self) -> bool {
        self.journal.is_whole() && self.topics.values().flat_map(|topic| &topic.partitions).all(PartitionLog::is_whole)
    }

    fn topic_folder(&self, name: &str, id: Uuid) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder::of_topic(folder, name, id))
    }

    /// Makes the folders of new partitions and opens their logs; if one fails, none is left.
    fn open_new(
        &mut self,
        topic_folder: Option<&PathBuf>,
        partitions: std::ops::Range<u32>,
    ) -> Result<Vec<PartitionLog>, Refused> {
        let places: Vec<Place> = partitions.map(|partition| open::place(topic_folder, partition)).collect();
        let opened = places.iter().map(|place| {
            if let Place::Folder(folder) = place {
                // What a failed creation could not remove is no part of this partition.
                folder::remove(folder).map_err(|error| storage(folder, &error))?;
            }
            let log = PartitionLog::open(place.clone(), 0, OnDamage::CutTorn).map_err(|error| {
                tracing::error!(%error, "cannot open a new log");
                Refused::new(ResponseError::KafkaStorageError, error.to_string())
            })?;
            Ok(log.with_decompressed_bytes_max(self.decompressed_bytes_max))
        });
        let mut opened: Result<Vec<_>, Refused> = opened.collect();
        let folders = places.iter().filter_map(Place::folder);
        match &mut opened {
            // Without their folders the files could not be found again.
            Ok(logs) => {
                let folders =
                    self.folder.as_deref().into_iter().chain(topic_folder.map(PathBuf::as_path)).chain(folders);
                let folders: Vec<_> = folders.map(|folder| Arc::new(Durable::folder(folder))).collect();
                logs.iter_mut().for_each(|log| log.wait_for_sync_of(&folders));
            }
            Err(_) => folders.for_each(|folder| remove_or_tell(Some(folder))),
        }
        opened
    }

    /// Appends to the journal, and rewrites it if that is due.
    fn record(&mut self, record: TopicRecord) -> Result<(), Refused> {
        let failed = |error: io::Error| {
            tracing::error!(%error, "cannot write the topics' journal");
            Refused::new(ResponseError::KafkaStorageError, format!("cannot write the topics' journal: {error}"))
        };
        self.journal.append(&[record]).map_err(failed)
    }

    /// Applies the retention of every topic, forgets idle producers, and rewrites the journal if most of it is dead. What
    /// fails is logged where it does, and tried again the next time.
    pub(crate) fn maintain(&mut self, now: Now) {
        for topic in self.topics.values_mut() {
            for log in &mut topic.partitions {
                if let Err(error) = log.apply_retention(&topic.settings, now) {
                    tracing::warn!(topic = topic.name, ?error, "old records are not deleted");
                }
                log.forget_idle_producers(self.producer_idle_ms_max, now);
                log.close_if_idle(now);
            }
        }
        self.rewrite_journal();
    }

    fn rewrite_journal(&mut self) {
        if !self.journal.is_worth_rewriting(self.topics.len() + self.partitions) {
            return;
        }
        let described: Vec<Described> = self.iter().map(Topic::describe).collect();
        if let Err(error) = self.journal.rewrite(described.into_iter().flat_map(Described::records)) {
            tracing::error!(%error, "cannot rewrite the topics' journal");
        }
    }
}

impl Topic {
    fn describe(&self) -> Described {
        let starts = self.partitions.iter().zip(0..).map(|(log, partition)| (partition, log.start_offset()));
        Described {
            id: self.id,
            name: self.name.clone(),
            partitions: u32::try_from(self.partitions.len()).unwrap_or(u32::MAX),
            overrides: self.overrides.clone(),
            starts: starts.filter(|(_, start)| *start > 0).collect(),
        }
    }
}

fn storage(path: &Path, error: &io::Error) -> Refused {
    let path = path.display();
    tracing::error!(%path, %error, "cannot clear a partition's folder");
    Refused::new(ResponseError::KafkaStorageError, format!("cannot clear {path}: {error}"))
}

fn remove_or_tell(folder: Option<&Path>) {
    let Some(folder) = folder else { return };
    if let Err(error) = folder::remove(folder) {
        let folder = folder.display();
        tracing::warn!(%folder, %error, "cannot remove a folder; the next start tries again");
    }
}
