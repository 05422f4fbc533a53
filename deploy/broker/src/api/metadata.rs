//! `Metadata`: the node, and topics with their partitions; a topic that is asked for by its name may be made by it.
//!
//! Source: `KafkaApis.handleTopicMetadataRequest` of Apache Kafka. Kafka answers the request that makes a topic with
//! `UnknownTopicOrPartition` and makes it meanwhile; here it is made, then answered.

use std::collections::BTreeSet;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::{Context, authorized_operations};
use crate::node::{LEADER_EPOCH, NODE_ID, Node};
use crate::topics::settings::Overrides;
use crate::topics::{Topic, name};

pub(crate) fn handle(node: &mut Node, request: MetadataRequest, context: &Context) -> MetadataResponse {
    if request.topics.as_ref().is_some_and(|topics| is_invalid(topics, context.version)) {
        return refuse(&request, ResponseError::InvalidRequest, context.version);
    }
    let mut topics = topics(node, &request, context);
    if request.include_topic_authorized_operations {
        for topic in topics.iter_mut().filter(|topic| topic.name.is_some()) {
            topic.topic_authorized_operations = authorized_operations::TOPIC;
        }
    }
    let broker = MetadataResponseBroker::default()
        .with_node_id(BrokerId(NODE_ID))
        .with_host(StrBytes::from_string(node.host.clone()))
        .with_port(i32::from(node.port));
    let mut response = MetadataResponse::default()
        .with_brokers(vec![broker])
        .with_cluster_id(Some(StrBytes::from_string(node.cluster_id.clone())))
        .with_controller_id(BrokerId(NODE_ID))
        .with_topics(topics);
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = authorized_operations::CLUSTER;
    }
    response
}

pub(crate) fn refuse(request: &MetadataRequest, error: ResponseError, version: i16) -> MetadataResponse {
    let refused = |topic: &MetadataRequestTopic| {
        // A name can be null from version 12 on.
        let name = topic.name.clone().or_else(|| (version < 12).then(TopicName::default));
        answer(name, topic.topic_id, error)
    };
    MetadataResponse::default()
        .with_topics(request.topics.iter().flatten().map(refused).collect())
        .with_error_code(error.code())
}

/// Ids are understood from version 12 on (KAFKA-14163 found them broken before); a topic has to have an id or a name.
fn is_invalid(topics: &[MetadataRequestTopic], version: i16) -> bool {
    let has_id = |topic: &MetadataRequestTopic| !topic.topic_id.is_nil();
    match version {
        12.. => topics.iter().any(|topic| !has_id(topic) && topic.name.is_none()),
        _ => topics.iter().any(|topic| has_id(topic) || topic.name.is_none()),
    }
}

/// `None` asks for all; in version 0, which cannot say that, an empty list does.
fn topics(node: &mut Node, request: &MetadataRequest, context: &Context) -> Vec<MetadataResponseTopic> {
    let asked = match &request.topics {
        None => return node.topics.iter().map(describe).collect(),
        Some(topics) if topics.is_empty() && context.version == 0 => return node.topics.iter().map(describe).collect(),
        Some(topics) => topics,
    };
    // As in Kafka, one id makes it a request by ids: names are not looked at.
    if asked.iter().any(|topic| !topic.topic_id.is_nil()) {
        let mut seen = BTreeSet::new();
        let ids = asked.iter().map(|topic| topic.topic_id).filter(|id| !id.is_nil() && seen.insert(*id));
        return context.fill(ids.map(|id| by_id(node, id))).collect();
    }
    let mut seen = BTreeSet::new();
    let names = asked.iter().filter_map(|topic| topic.name.as_ref()).filter(|name| seen.insert(name.as_str()));
    context.fill(names.map(|name| by_name(node, name, request.allow_auto_topic_creation))).collect()
}

fn by_id(node: &Node, id: Uuid) -> MetadataResponseTopic {
    node.topics.by_id(id).map_or_else(|| answer(None, id, ResponseError::UnknownTopicId), describe)
}

fn by_name(node: &mut Node, name: &TopicName, may_create: bool) -> MetadataResponseTopic {
    if let Some(topic) = node.topics.get(name) {
        return describe(topic);
    }
    let unknown = |error| answer(Some(name.clone()), Uuid::nil(), error);
    if name::check(name).is_err() {
        return unknown(ResponseError::InvalidTopicException);
    }
    if !may_create || !node.config.auto_create_topics || name::is_internal(name) {
        return unknown(ResponseError::UnknownTopicOrPartition);
    }
    match node.topics.create(name, -1, Overrides::new()) {
        Ok(topic) => describe(topic),
        Err(refused) => {
            // As in Kafka the client is told that it is not there, and asks again.
            tracing::warn!(topic = name.as_str(), reason = refused.message, "a topic was not made by its first use");
            unknown(ResponseError::UnknownTopicOrPartition)
        }
    }
}

fn answer(name: Option<TopicName>, id: Uuid, error: ResponseError) -> MetadataResponseTopic {
    let is_internal = name.as_ref().is_some_and(|name| name::is_internal(name));
    MetadataResponseTopic::default()
        .with_error_code(error.code())
        .with_name(name)
        .with_topic_id(id)
        .with_is_internal(is_internal)
}

fn describe(topic: &Topic) -> MetadataResponseTopic {
    let partition = |index: i32| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(BrokerId(NODE_ID))
            .with_leader_epoch(LEADER_EPOCH)
            .with_replica_nodes(vec![BrokerId(NODE_ID)])
            .with_isr_nodes(vec![BrokerId(NODE_ID)])
    };
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(StrBytes::from_string(topic.name.clone()))))
        .with_topic_id(topic.id)
        .with_partitions((0..).take(topic.partitions.len()).map(partition).collect())
}
