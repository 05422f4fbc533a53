//! Topics and their partitions. Invariant: what exists is what the topics' journal says; a folder that it does not name is not a topic.

pub(crate) mod settings;

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use uuid::Uuid;

use crate::log::PartitionLog;
use crate::node::Now;
use settings::TopicSettings;

/// One topic.
pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) id: Uuid,
    /// What was set for it, over the defaults.
    pub(crate) settings: Arc<TopicSettings>,
    pub(crate) partitions: Vec<PartitionLog>,
}

/// All topics.
pub(crate) struct Topics {}

#[allow(unused, clippy::unimplemented)]
impl Topics {
    /// By name.
    pub(crate) fn get(&self, name: &str) -> Option<&Topic> {
        unimplemented!()
    }

    /// By id.
    pub(crate) fn by_id(&self, id: Uuid) -> Option<&Topic> {
        unimplemented!()
    }

    /// All, in the order of their names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Topic> {
        std::iter::empty()
    }

    /// A partition and the settings of its topic; `UnknownTopicOrPartition`.
    pub(crate) fn partition_mut(
        &mut self,
        name: &str,
        partition: i32,
    ) -> Result<(&mut PartitionLog, Arc<TopicSettings>), ResponseError> {
        unimplemented!()
    }

    /// Makes a topic. Errors as Kafka's: `InvalidTopicException`, `TopicAlreadyExists`, `InvalidPartitions`, `InvalidReplicationFactor`,
    /// `InvalidConfig`, `PolicyViolation` at the bound of partitions.
    pub(crate) fn create(
        &mut self,
        name: &str,
        partitions: i32,
        settings: BTreeMap<String, String>,
        now: Now,
    ) -> Result<&Topic, ResponseError> {
        unimplemented!()
    }

    /// Deletes a topic, its records at once.
    pub(crate) fn delete(&mut self, name: &str) -> Result<(), ResponseError> {
        unimplemented!()
    }

    /// Moves the start of a partition, journalled.
    pub(crate) fn delete_records(&mut self, name: &str, partition: i32, before: i64) -> Result<i64, ResponseError> {
        unimplemented!()
    }
}
