//! `CreatePartitions`: a topic gets more of them.
//!
//! Source: `ControllerApis.createPartitions` and `ReplicationControlManager.createPartitions` of Apache Kafka.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse, TopicName};

use super::{Context, assignments};
use crate::node::Node;
use crate::topics::{Refused, Topics};

pub(crate) fn handle(node: &mut Node, request: CreatePartitionsRequest, _: &Context) -> CreatePartitionsResponse {
    let mut counts: BTreeMap<&TopicName, usize> = BTreeMap::new();
    for topic in &request.topics {
        *counts.entry(&topic.name).or_default() += 1;
    }
    let mut results = Vec::new();
    for (name, _) in counts.iter().filter(|(_, count)| **count > 1) {
        let refused = Refused::new(ResponseError::InvalidRequest, "Duplicate topic name.");
        results.push(answer((*name).clone(), Err(refused)));
    }
    for topic in request.topics.iter().filter(|topic| counts.get(&topic.name) == Some(&1)) {
        results.push(answer(topic.name.clone(), add(&mut node.topics, topic, request.validate_only)));
    }
    CreatePartitionsResponse::default().with_results(results)
}

pub(crate) fn refuse(request: &CreatePartitionsRequest, error: ResponseError, _: i16) -> CreatePartitionsResponse {
    let refused = |topic: &CreatePartitionsTopic| answer(topic.name.clone(), Err(Refused::new(error, "")));
    CreatePartitionsResponse::default().with_results(request.topics.iter().map(refused).collect())
}

fn answer(name: TopicName, result: Result<(), Refused>) -> CreatePartitionsTopicResult {
    let answer = CreatePartitionsTopicResult::default().with_name(name);
    match result {
        Ok(()) => answer.with_error_message(None),
        Err(refused) => answer.with_error_code(refused.error.code()).with_error_message(refused.text()),
    }
}

fn add(topics: &mut Topics, topic: &CreatePartitionsTopic, validate_only: bool) -> Result<(), Refused> {
    let more = topics.check_partitions(&topic.name, topic.count)?;
    if let Some(assigned) = &topic.assignments {
        if assigned.len() != more as usize {
            let message = format!(
                "Attempted to add {more} additional partition(s), but only {} assignment(s) were specified.",
                assigned.len()
            );
            return Err(Refused::new(ResponseError::InvalidReplicaAssignment, message));
        }
        for assignment in assigned {
            assignments::check(&assignment.broker_ids)?;
        }
    }
    if validate_only { Ok(()) } else { topics.add_partitions(&topic.name, topic.count) }
}
