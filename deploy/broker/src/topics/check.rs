//! What can be done to topics and what cannot, in Kafka's order and words. Nothing is changed here.
//!
//! Source: `ReplicationControlManager` and `ConfigurationControlManager` of Apache Kafka.

use kafka_protocol::ResponseError;
use uuid::Uuid;

use super::settings::{Overrides, TopicSettings};
use super::{Refused, Topic, Topics, id, name};

/// A topic that can be made: everything about it was checked.
#[derive(Debug)]
pub(crate) struct NewTopic {
    pub(crate) name: String,
    pub(crate) id: Uuid,
    pub(crate) partitions: u32,
    pub(super) overrides: Overrides,
    pub(super) settings: TopicSettings,
}

impl Topics {
    /// Whether a topic can have this name.
    ///
    /// # Errors
    /// `InvalidTopicException`, `InvalidRequest` (Kafka's own topics), `TopicAlreadyExists`.
    pub(crate) fn check_name(&self, name: &str) -> Result<(), Refused> {
        name::check(name).map_err(|message| Refused::new(ResponseError::InvalidTopicException, message))?;
        if name::is_internal(name) {
            let message = format!("Creation of internal topic {name} is prohibited.");
            return Err(Refused::new(ResponseError::InvalidRequest, message));
        }
        if self.topics.contains_key(name) {
            let message = format!("Topic '{name}' already exists.");
            return Err(Refused::new(ResponseError::TopicAlreadyExists, message));
        }
        if let Some(other) = self.colliding(name) {
            let message = format!("Topic '{name}' collides with existing topic: {}", other.name);
            return Err(Refused::new(ResponseError::InvalidTopicException, message));
        }
        Ok(())
    }

    /// Whether a topic can be made, and what it will be. `partitions` -1: the broker's default.
    ///
    /// # Errors
    /// Those of [`check_name`](Self::check_name), `InvalidConfig`, `InvalidPartitions`, `PolicyViolation` at the bound of
    /// partitions.
    pub(crate) fn check_new(&self, name: &str, partitions: i32, overrides: Overrides) -> Result<NewTopic, Refused> {
        self.check_name(name)?;
        let settings = self.settings_of(&overrides)?;
        let partitions = match partitions {
            -1 => self.default_partitions,
            partitions => partitions,
        };
        let partitions = u32::try_from(partitions).ok().filter(|partitions| *partitions > 0).ok_or_else(|| {
            let message = "Number of partitions was set to an invalid non-positive value.";
            Refused::new(ResponseError::InvalidPartitions, message)
        })?;
        self.check_room(partitions)?;
        Ok(NewTopic { name: name.to_owned(), id: id::random(), partitions, overrides, settings })
    }

    /// What follows from what a topic sets.
    ///
    /// # Errors
    /// `InvalidConfig`.
    pub(crate) fn settings_of(&self, overrides: &Overrides) -> Result<TopicSettings, Refused> {
        let settings = self.defaults.with(overrides);
        settings.map_err(|error| Refused::new(ResponseError::InvalidConfig, error.to_string()))
    }

    /// The topic whose name is the same but for `.` and `_`.
    fn colliding(&self, name: &str) -> Option<&Topic> {
        if !name.contains(['.', '_']) {
            return None;
        }
        let metric_name = name::metric_name(name);
        self.iter().find(|topic| topic.name.len() == name.len() && name::metric_name(&topic.name) == metric_name)
    }

    fn check_room(&self, new_partitions: u32) -> Result<(), Refused> {
        let (open, max) = (self.partitions, self.partitions_max);
        if open.saturating_add(new_partitions as usize) <= max {
            return Ok(());
        }
        let message = format!("{new_partitions} more partitions than the {open} here are over partitions_max, {max}.");
        Err(Refused::new(ResponseError::PolicyViolation, message))
    }

    /// Whether a topic can have so many partitions in all, and how many more that are.
    ///
    /// # Errors
    /// `UnknownTopicOrPartition`, `InvalidPartitions`, `PolicyViolation` at the bound of partitions.
    pub(crate) fn check_partitions(&self, name: &str, count: i32) -> Result<u32, Refused> {
        let unknown = || Refused::new(ResponseError::UnknownTopicOrPartition, "");
        let present = self.get(name).ok_or_else(unknown)?.partitions.len();
        let more = i64::from(count) - i64::try_from(present).unwrap_or(i64::MAX);
        let refused = |message| Refused::new(ResponseError::InvalidPartitions, message);
        if more == 0 {
            return Err(refused(format!("Topic already has {present} partition(s).")));
        }
        let more = u32::try_from(more).map_err(|_| {
            refused(format!("The topic {name} currently has {present} partition(s); {count} would not be an increase."))
        })?;
        self.check_room(more)?;
        Ok(more)
    }

    /// Whether a topic can have these settings, in place of all before.
    ///
    /// # Errors
    /// `InvalidConfig`, then `UnknownTopicOrPartition`: Kafka looks in this order.
    pub(crate) fn check_settings(&self, name: &str, overrides: &Overrides) -> Result<TopicSettings, Refused> {
        let settings = self.settings_of(overrides)?;
        if self.get(name).is_none() {
            let message = format!("The topic '{name}' does not exist.");
            return Err(Refused::new(ResponseError::UnknownTopicOrPartition, message));
        }
        Ok(settings)
    }
}
