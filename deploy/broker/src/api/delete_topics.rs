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
use super::config_resources::invalid;
use crate::node::Node;
use crate::topics::{Refused, Topics};

pub(crate) fn handle(node: &mut Node, request: DeleteTopicsRequest, context: &Context) -> DeleteTopicsResponse {
    let mut counts: BTreeMap<Target, usize> = BTreeMap::new();
    for target in asked(&request, context.version) {
        *counts.entry(target).or_default() += 1;
    }
    // All are looked up before the first is deleted.
    let resolved: Vec<Resolved> =
        counts.iter().map(|(target, &count)| resolve(&node.topics, target, count == 1)).collect();
    let is_named = |id| resolved.iter().any(|resolved| resolved.is_by_name && resolved.id == id);
    let mut responses = Vec::new();
    for resolved in &resolved {
        let has_id = || counts.contains_key(&Target { name: None, id: resolved.id });
        let result = match &resolved.refused {
            Some(refused) => Err(refused.clone()),
            // By its id and by its name: it is told once, and stays.
            None if !resolved.is_by_name && is_named(resolved.id) => continue,
            None if resolved.is_by_name && has_id() => {
                Err(invalid("The provided topic name maps to an ID that was already supplied."))
            }
            None => delete(node, resolved.name.as_deref().unwrap_or_default()),
        };
        responses.push(answer(resolved.name.clone(), resolved.id, result));
    }
    DeleteTopicsResponse::default().with_responses(responses)
}

pub(crate) fn refuse(request: &DeleteTopicsRequest, error: ResponseError, version: i16) -> DeleteTopicsResponse {
    let targets = asked(request, version).into_iter();
    let responses = targets.map(|Target { name, id }| answer(name, id, Err(Refused::new(error, ""))));
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

/// A target and the topic that it is.
struct Resolved {
    name: Option<String>,
    id: Uuid,
    is_by_name: bool,
    refused: Option<Refused>,
}

fn resolve(topics: &Topics, target: &Target, is_once: bool) -> Resolved {
    let Target { name, id } = target.clone();
    let is_by_name = name.is_some();
    let found = name.as_deref().map_or_else(|| topics.by_id(id), |name| topics.get(name));
    let refused = match (&name, id.is_nil(), found) {
        (None, true, _) => Some(invalid("Neither topic name nor id were specified.")),
        (Some(_), false, _) => Some(invalid("You may not specify both topic name and topic id.")),
        (Some(_), true, _) if !is_once => Some(invalid("Duplicate topic name.")),
        (None, false, _) if !is_once => Some(invalid("Duplicate topic id.")),
        (Some(_), true, None) => {
            let message = "This server does not host this topic-partition.";
            Some(Refused::new(ResponseError::UnknownTopicOrPartition, message))
        }
        (None, false, None) => {
            Some(Refused::new(ResponseError::UnknownTopicId, "This server does not host this topic ID."))
        }
        (_, _, Some(topic)) => {
            return Resolved { name: Some(topic.name.clone()), id: topic.id, is_by_name, refused: None };
        }
    };
    Resolved { name, id, is_by_name, refused }
}

/// Offsets go first: were the process killed in between, the topic would still be there to be deleted, whereas offsets that
/// outlive their topic would be taken for those of the next one of its name.
fn delete(node: &mut Node, name: &str) -> Result<(), Refused> {
    let deleted = node.groups.forget_topic(name).and_then(|()| node.topics.delete(name));
    deleted.map_err(|error| Refused::new(error, ""))
}

fn answer(name: Option<String>, id: Uuid, result: Result<(), Refused>) -> DeletableTopicResult {
    let name = name.map(|name| TopicName(StrBytes::from_string(name)));
    let result_of = DeletableTopicResult::default().with_name(name).with_topic_id(id);
    match result {
        Ok(()) => result_of.with_error_message(None),
        Err(refused) => result_of.with_error_code(refused.error.code()).with_error_message(refused.text()),
    }
}
