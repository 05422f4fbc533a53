//! `CreateTopics`.
//!
//! Source: `ControllerApis.createTopics` and `ReplicationControlManager.createTopics` of Apache Kafka.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::{Context, assignments, described_settings};
use crate::node::Node;
use crate::topics::settings::Overrides;
use crate::topics::{NewTopic, Refused};

pub(crate) fn handle(node: &mut Node, request: CreateTopicsRequest, context: &Context) -> CreateTopicsResponse {
    let mut counts: BTreeMap<&TopicName, usize> = BTreeMap::new();
    for topic in &request.topics {
        *counts.entry(&topic.name).or_default() += 1;
    }
    let is_once = |topic: &&CreatableTopic| counts.get(&topic.name) == Some(&1);
    let created = request.topics.iter().filter(is_once).map(|topic| {
        create(node, topic, request.validate_only, context)
            .unwrap_or_else(|refused| answer_refused(topic.name.clone(), refused))
    });
    let repeated = counts.iter().filter(|(_, count)| **count > 1).map(|(name, _)| {
        let refused = Refused::new(ResponseError::InvalidRequest, "Duplicate topic name.");
        answer_refused((*name).clone(), refused)
    });
    CreateTopicsResponse::default().with_topics(context.fill(created.chain(repeated)).collect())
}

pub(crate) fn refuse(request: &CreateTopicsRequest, error: ResponseError, _: i16) -> CreateTopicsResponse {
    let refused = |topic: &CreatableTopic| answer_refused(topic.name.clone(), Refused::new(error, ""));
    CreateTopicsResponse::default().with_topics(request.topics.iter().map(refused).collect())
}

fn answer_refused(name: TopicName, refused: Refused) -> CreatableTopicResult {
    let result = CreatableTopicResult::default().with_name(name).with_error_code(refused.error.code());
    result.with_error_message(refused.text())
}

fn create(
    node: &mut Node,
    topic: &CreatableTopic,
    validate_only: bool,
    context: &Context,
) -> Result<CreatableTopicResult, Refused> {
    // The name comes first: whoever makes sure that a topic exists has to be told that it does.
    node.topics.check_name(&topic.name)?;
    let overrides = overrides(topic)?;
    node.topics.settings_of(&overrides)?;
    let new = node.topics.check_new(&topic.name, partitions(topic)?, overrides.clone())?;
    let result = answer(node, topic, &new, &overrides, context);
    if !validate_only {
        node.topics.make(new)?;
    }
    Ok(result)
}

fn overrides(topic: &CreatableTopic) -> Result<Overrides, Refused> {
    let value_of = |config: &kafka_protocol::messages::create_topics_request::CreatableTopicConfig| {
        let value = config.value.as_ref().ok_or_else(|| {
            let message = format!("Null value not supported for topic configs: {}", config.name);
            Refused::new(ResponseError::InvalidConfig, message)
        })?;
        Ok((config.name.to_string(), value.to_string()))
    };
    topic.configs.iter().map(value_of).collect()
}

/// The number of partitions as it was asked for or as it follows from the assignments.
fn partitions(topic: &CreatableTopic) -> Result<i32, Refused> {
    if topic.assignments.is_empty() {
        check_replication(topic)?;
        return Ok(topic.num_partitions);
    }
    let invalid = |message: &str| Err(Refused::new(ResponseError::InvalidRequest, message));
    if topic.replication_factor != -1 {
        return invalid("A manual partition assignment was specified, but replication factor was not set to -1.");
    }
    if topic.num_partitions != -1 {
        return invalid("A manual partition assignment was specified, but numPartitions was not set to -1.");
    }
    let mut assigned = BTreeMap::new();
    for assignment in &topic.assignments {
        if assigned.insert(assignment.partition_index, ()).is_some() {
            let index = assignment.partition_index;
            let message = format!("Found multiple manual partition assignments for partition {index}");
            return Err(Refused::new(ResponseError::InvalidReplicaAssignment, message));
        }
        assignments::check(&assignment.broker_ids)?;
    }
    if !assigned.into_keys().eq(0..topic.assignments.len() as i32) {
        let message = "partitions should be a consecutive 0-based integer sequence";
        return Err(Refused::new(ResponseError::InvalidReplicaAssignment, message));
    }
    Ok(topic.assignments.len() as i32)
}

fn check_replication(topic: &CreatableTopic) -> Result<(), Refused> {
    let message = match topic.replication_factor {
        -1 | 1 => return Ok(()),
        // Kafka places replicas only when it knows of how many partitions.
        2.. if topic.num_partitions < -1 || topic.num_partitions == 0 => return Ok(()),
        ..=0 => "Replication factor must be larger than 0, or -1 to use the default value.".to_owned(),
        factor => format!(
            "Unable to replicate the partition {factor} time(s): The target replication factor of {factor} cannot be \
             reached because only 1 broker(s) are registered."
        ),
    };
    Err(Refused::new(ResponseError::InvalidReplicationFactor, message))
}

fn answer(
    node: &Node,
    topic: &CreatableTopic,
    new: &NewTopic,
    overrides: &Overrides,
    context: &Context,
) -> CreatableTopicResult {
    let described = described_settings::all(&node.config.topic_defaults, overrides);
    let configs = described.into_iter().map(|described| {
        // Here, unlike in DescribeConfigs, a value is shown as it was written.
        let value = overrides.get(described.setting.name).cloned().unwrap_or(described.value);
        CreatableTopicConfigs::default()
            .with_name(StrBytes::from_static_str(described.setting.name))
            .with_value(Some(StrBytes::from_string(value)))
            .with_config_source(described.source.code())
    });
    CreatableTopicResult::default()
        .with_name(topic.name.clone())
        .with_topic_id(new.id)
        .with_error_message(None)
        .with_num_partitions(i32::try_from(new.partitions).unwrap_or(i32::MAX))
        .with_replication_factor(1)
        .with_configs(Some(context.fill(configs).collect()))
}
