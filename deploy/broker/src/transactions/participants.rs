//! What takes part in a transaction besides its coordinator: the logs of partitions, and groups with staged offsets.
//!
//! Every step on them can be done again: a partition that has the producer's marker gets no second one, and a group without
//! staged offsets of the producer changes nothing. So an end that was interrupted is just carried out again; it cannot meet
//! the producer's next transaction, which begins only after the coordinator has journalled this one's end.

use kafka_protocol::ResponseError;

use super::transaction::Producer;
use crate::groups::Groups;
use crate::log::ActiveProducer;
use crate::node::Now;
use crate::topics::Topics;

/// A producer that a partition's log remembers.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) producer: ActiveProducer,
}

/// The participants of all transactions. A trait, so that a test can stop after any step.
pub(crate) trait Participants {
    /// Ends the producer's transaction in a partition. What may have been done before (`is_again`) is not done twice.
    ///
    /// # Errors
    /// `UnknownTopicOrPartition`, `InvalidProducerEpoch`, `KafkaStorageError`.
    fn write_marker(
        &mut self,
        topic: &str,
        partition: i32,
        producer: Producer,
        is_commit: bool,
        is_again: bool,
        now: Now,
    ) -> Result<(), ResponseError>;

    /// Commits or drops the offsets that the producer has staged in a group, if there are any.
    ///
    /// # Errors
    /// `KafkaStorageError` or one that stands for it.
    fn end_offsets(&mut self, group: &str, producer_id: i64, is_commit: bool, now: Now) -> Result<(), ResponseError>;

    /// Syncs what was written.
    ///
    /// # Errors
    /// `KafkaStorageError`.
    fn sync(&mut self) -> Result<(), ResponseError>;

    /// All producers that logs remember.
    fn producers(&self) -> Vec<Written>;

    /// `(group, producer id)` of all staged offsets.
    fn staged(&self) -> Vec<(String, i64)>;
}

/// The broker's own.
pub(crate) struct LogsAndGroups<'a> {
    pub(crate) topics: &'a mut Topics,
    pub(crate) groups: &'a mut Groups,
}

impl Participants for LogsAndGroups<'_> {
    fn write_marker(
        &mut self,
        topic: &str,
        partition: i32,
        producer: Producer,
        is_commit: bool,
        is_again: bool,
        now: Now,
    ) -> Result<(), ResponseError> {
        let (log, settings) = self.topics.partition_mut(topic, partition)?;
        if is_again && log.has_ended(producer.id, producer.epoch) {
            return Ok(());
        }
        log.write_marker(producer.id, producer.epoch, is_commit, &settings, now).map(|_| ())
    }

    fn end_offsets(&mut self, group: &str, producer_id: i64, is_commit: bool, now: Now) -> Result<(), ResponseError> {
        self.groups.end_transaction(group, producer_id, is_commit, now)
    }

    fn sync(&mut self) -> Result<(), ResponseError> {
        // What could not be synced before is among it, so that this fails until all of it is.
        let dirty = self.topics.take_dirty().into_iter().chain(self.groups.take_dirty());
        dirty.map(|unsynced| unsynced.sync()).fold(Ok(()), Result::and).map_err(|error| {
            tracing::error!(%error, "cannot sync the markers of a transaction; it is tried again");
            ResponseError::KafkaStorageError
        })
    }

    fn producers(&self) -> Vec<Written> {
        let mut all = Vec::new();
        for topic in self.topics.iter() {
            for (partition, log) in (0..).zip(&topic.partitions) {
                let written = |producer| Written { topic: topic.name.clone(), partition, producer };
                all.extend(log.producers().into_iter().map(written));
            }
        }
        all
    }

    fn staged(&self) -> Vec<(String, i64)> {
        self.groups.staged()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BrokerConfig;
    use crate::durable::testing::{EIO, Operation, fail};
    use crate::log::testing::{TestBatch, at};

    /// A marker that is not on the disk holds the transaction open, however often that is asked for.
    #[test]
    fn markers_are_synced_or_the_sync_fails_again() {
        let data = tempfile::tempdir().unwrap();
        let config = BrokerConfig::at(data.path());
        let (mut topics, mut groups) = (Topics::open(&config).unwrap(), Groups::open(&config, at(0)).unwrap());
        topics.create("a", 1, Default::default()).unwrap();
        let (log, settings) = topics.partition_mut("a", 0).unwrap();
        let batch = TestBatch::of_producer(1, 7, 0, 0).transactional().build();
        log.append(batch, true, &settings, at(1_000)).unwrap();
        let mut participants = LogsAndGroups { topics: &mut topics, groups: &mut groups };
        participants.sync().unwrap();
        participants.write_marker("a", 0, Producer { id: 7, epoch: 0 }, true, false, at(1_000)).unwrap();
        fail(data.path(), Operation::Sync, 0, 3, EIO);
        for _ in 0..3 {
            assert_eq!(participants.sync(), Err(ResponseError::KafkaStorageError));
        }
        participants.sync().unwrap();
        participants.sync().unwrap();
    }
}
