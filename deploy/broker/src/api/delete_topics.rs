//! `DeleteTopics`: topics go with their records and the offsets that groups have committed for them.
//!
//! Source: `ControllerApis.deleteTopics` of Apache Kafka.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::Context;
use crate::node::Node;
use crate::topics::Refused;

pub(crate) fn handle(node: &mut Node, request: DeleteTopicsRequest, context: &Context) -> DeleteTopicsResponse {
    let mut targets = Vec::new();
    let mut counts: BTreeMap<Target, usize> = BTreeMap::new();
    for target in asked(&request, context.version) {
        let count = counts.entry(target.clone()).or_default();
        *count += 1;
        if *count == 1 {
            targets.push(target);
        }
    }
    let mut responses = Vec::new();
    for target in targets {
        let is_once = counts.get(&target) == Some(&1);
        let (name, id, result) = match resolve(node, target, is_once, &counts) {
            Ok((name, id)) => {
                let result = delete(node, &name);
                (Some(name), id, result)
            }
            Err((name, id, refused)) => (name, id, Err(refused)),
        };
        responses.push(answer(name.map(|name| TopicName(StrBytes::from_string(name))), id, result));
    }
    DeleteTopicsResponse::default().with_responses(responses)
}

pub(crate) fn refuse(request: &DeleteTopicsRequest, error: ResponseError, version: i16) -> DeleteTopicsResponse {
    let responses = asked(request, version).into_iter().map(|Target { name, id }| {
        let name = name.map(|name| TopicName(StrBytes::from_string(name)));
        answer(name, id, Err(Refused::new(error, "")))
    });
    DeleteTopicsResponse::default().with_responses(responses.collect())
}

/// What a request names: one of the two, if it is right.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Target {
    name: Option<String>,
    id: Uuid,
}

/// From version 6 on a topic may be named by its id.
fn asked(request: &DeleteTopicsRequest, version: i16) -> Vec<Target> {
    let by_name = |name: &TopicName| Target { name: Some(name.to_string()), id: Uuid::nil() };
    let by_state = |state: &DeleteTopicState| Target {
        name: state.name.as_ref().map(|name| name.to_string()),
        id: state.topic_id,
    };
    match version {
        6.. => request.topics.iter().map(by_state).collect(),
        _ => request.topic_names.iter().map(by_name).collect(),
    }
}

type Unresolved = (Option<String>, Uuid, Refused);

fn resolve(
    node: &Node,
    target: Target,
    is_once: bool,
    all: &BTreeMap<Target, usize>,
) -> Result<(String, Uuid), Unresolved> {
    let invalid = |message| Refused::new(ResponseError::InvalidRequest, message);
    let Target { name, id } = target;
    match (name, id.is_nil()) {
        (None, true) => Err((None, id, invalid("Neither topic name nor id were specified."))),
        (Some(name), false) => Err((Some(name), id, invalid("You may not specify both topic name and topic id."))),
        (Some(name), true) => {
            if !is_once {
                return Err((Some(name), id, invalid("Duplicate topic name.")));
            }
            match node.topics.get(&name).map(|topic| topic.id) {
                None => {
                    let message = "This server does not host this topic-partition.";
                    Err((Some(name), id, Refused::new(ResponseError::UnknownTopicOrPartition, message)))
                }
                Some(id) if all.contains_key(&Target { name: None, id }) => {
                    let message = "The provided topic name maps to an ID that was already supplied.";
                    Err((Some(name), id, invalid(message)))
                }
                Some(id) => Ok((name, id)),
            }
        }
        (None, false) if !is_once => Err((None, id, invalid("Duplicate topic id."))),
        (None, false) => match node.topics.by_id(id) {
            Some(topic) => Ok((topic.name.clone(), id)),
            None => {
                let message = "This server does not host this topic ID.";
                Err((None, id, Refused::new(ResponseError::UnknownTopicId, message)))
            }
        },
    }
}

/// Offsets go first: were the process killed in between, the topic would still be there to be deleted, whereas offsets that
/// outlive their topic would be taken for those of the next one of its name.
fn delete(node: &mut Node, name: &str) -> Result<(), Refused> {
    let deleted = node.groups.forget_topic(name).and_then(|()| node.topics.delete(name));
    deleted.map_err(|error| Refused::new(error, ""))
}

fn answer(name: Option<TopicName>, id: Uuid, result: Result<(), Refused>) -> DeletableTopicResult {
    let result_of = DeletableTopicResult::default().with_name(name).with_topic_id(id);
    match result {
        Ok(()) => result_of.with_error_message(None),
        Err(refused) => result_of.with_error_code(refused.error.code()).with_error_message(refused.text()),
    }
}
