//! A node in memory, and requests to it that go through the bytes of their version and back.

use std::time::Duration;

use bytes::BytesMut;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

use super::{Context, Room};
use crate::config::BrokerConfig;
use crate::node::{Node, Now};

/// A node with two partitions as its default, and room for ten.
pub(crate) fn node() -> Node {
    let mut config = BrokerConfig::in_memory();
    config.default_partitions = 2;
    config.limits.partitions_max = 10;
    Node::open(config, "AAAAAAAAAAAAAAAAAAAAAQ".to_owned(), "localhost".to_owned(), 9092).unwrap()
}

/// The context of a request to this node.
pub(crate) fn context(node: &Node, version: i16) -> Context {
    Context {
        client_id: "test".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        version,
        now: Now::read(),
        room: Room::new(node.config.limits.answer_bytes_max),
        throttle: Duration::ZERO,
    }
}

/// What is sent in a version arrives, is carried out, and its answer arrives.
pub(crate) fn ask<Q, R>(node: &mut Node, version: i16, request: &Q, handle: fn(&mut Node, Q, &Context) -> R) -> R
where
    Q: Encodable + Decodable,
    R: Encodable + Decodable,
{
    let context = context(node, version);
    let request = through_bytes(request, version);
    through_bytes(&handle(node, request, &context), version)
}

/// A refused request, as it arrives.
pub(crate) fn refused<Q, R>(version: i16, request: &Q, refuse: fn(&Q, ResponseError, i16) -> R) -> R
where
    Q: Encodable + Decodable,
    R: Encodable + Decodable,
{
    let request = through_bytes(request, version);
    through_bytes(&refuse(&request, ResponseError::NotController, version), version)
}

fn through_bytes<M: Encodable + Decodable>(message: &M, version: i16) -> M {
    let mut bytes = BytesMut::new();
    message.encode(&mut bytes, version).unwrap();
    let mut bytes = bytes.freeze();
    let message = M::decode(&mut bytes, version).unwrap();
    assert!(bytes.is_empty(), "nothing is left over");
    message
}

pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub(crate) fn topic(name: &str) -> TopicName {
    TopicName(text(name))
}

/// A topic to be created.
pub(crate) fn creatable(
    name: &str,
    partitions: i32,
    replicas: i16,
    configs: &[(&str, Option<&str>)],
) -> CreatableTopic {
    let config = |(name, value): &(&str, Option<&str>)| {
        CreatableTopicConfig::default().with_name(text(name)).with_value(value.map(text))
    };
    CreatableTopic::default()
        .with_name(topic(name))
        .with_num_partitions(partitions)
        .with_replication_factor(replicas)
        .with_configs(configs.iter().map(config).collect())
}

/// Asks for topics.
pub(crate) fn create(
    node: &mut Node,
    version: i16,
    validate_only: bool,
    topics: Vec<CreatableTopic>,
) -> CreateTopicsResponse {
    let request = CreateTopicsRequest::default().with_topics(topics).with_validate_only(validate_only);
    ask(node, version, &request, super::create_topics::handle)
}
