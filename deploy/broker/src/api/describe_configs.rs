//! `DescribeConfigs`: the settings of topics and of the node, with where each comes from.
//!
//! Source: `ConfigHelper.handleDescribeConfigsRequest` of Apache Kafka.

mod of_node;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use kafka_protocol::protocol::StrBytes;

use super::Context;
use super::config_resources::{BROKER, TOPIC, invalid};
use super::described_settings::{self, Described};
use crate::node::{NODE_ID, Node};
use crate::topics::{Refused, name};

pub(crate) fn handle(node: &mut Node, request: DescribeConfigsRequest, context: &Context) -> DescribeConfigsResponse {
    let described = request.resources.iter().map(|resource| {
        let answer = answer(resource);
        match describe(node, resource, &request, context) {
            Ok(configs) => answer.with_configs(configs),
            Err(refused) => answer
                .with_error_code(refused.error.code())
                .with_error_message(Some(StrBytes::from_string(refused.message))),
        }
    });
    DescribeConfigsResponse::default().with_results(context.fill(described).collect())
}

pub(crate) fn refuse(request: &DescribeConfigsRequest, error: ResponseError, _: i16) -> DescribeConfigsResponse {
    let refused = request.resources.iter().map(|resource| answer(resource).with_error_code(error.code()));
    DescribeConfigsResponse::default().with_results(refused.collect())
}

fn answer(resource: &DescribeConfigsResource) -> DescribeConfigsResult {
    DescribeConfigsResult::default()
        .with_error_message(Some(StrBytes::new()))
        .with_resource_type(resource.resource_type)
        .with_resource_name(resource.resource_name.clone())
}

/// `None` and an empty list of keys both ask for all settings; a key that is none is passed over.
fn is_asked_for(resource: &DescribeConfigsResource, name: &str) -> bool {
    let keys = resource.configuration_keys.as_deref().unwrap_or_default();
    keys.is_empty() || keys.iter().any(|key| key.as_str() == name)
}

fn describe(
    node: &Node,
    resource: &DescribeConfigsResource,
    request: &DescribeConfigsRequest,
    context: &Context,
) -> Result<Vec<DescribeConfigsResourceResult>, Refused> {
    let described = match resource.resource_type {
        TOPIC => of_topic(node, &resource.resource_name)?,
        BROKER => of_node(node, &resource.resource_name)?,
        _ => return Err(invalid(format!("Unknown resource type {}", resource.resource_type))),
    };
    let asked = described.into_iter().filter(|shown| is_asked_for(resource, shown.name));
    Ok(context.fill(asked.map(|shown| result(shown, request))).collect())
}

/// A setting of either kind.
struct Shown {
    name: &'static str,
    value: Option<String>,
    is_read_only: bool,
    type_code: i8,
    source_code: i8,
    synonyms: Vec<(&'static str, String, i8)>,
    documentation: String,
}

fn result(shown: Shown, request: &DescribeConfigsRequest) -> DescribeConfigsResourceResult {
    let synonyms = shown.synonyms.into_iter().filter(|_| request.include_synonyms).map(|(name, value, source_code)| {
        DescribeConfigsSynonym::default()
            .with_name(StrBytes::from_static_str(name))
            .with_value(Some(StrBytes::from_string(value)))
            .with_source(source_code)
    });
    let documentation = request.include_documentation.then(|| StrBytes::from_string(shown.documentation));
    DescribeConfigsResourceResult::default()
        .with_name(StrBytes::from_static_str(shown.name))
        .with_value(shown.value.map(StrBytes::from_string))
        .with_read_only(shown.is_read_only)
        .with_config_source(shown.source_code)
        .with_config_type(shown.type_code)
        .with_synonyms(synonyms.collect())
        .with_documentation(documentation)
}

fn of_topic(node: &Node, topic: &str) -> Result<Vec<Shown>, Refused> {
    name::check(topic).map_err(|message| Refused::new(ResponseError::InvalidTopicException, message))?;
    let topic = node.topics.get(topic);
    let topic = topic.ok_or(Refused::new(ResponseError::UnknownTopicOrPartition, ""))?;
    let described = described_settings::all(&node.config.topic_defaults, &topic.overrides);
    Ok(described.into_iter().map(of_setting).collect())
}

fn of_setting(described: Described) -> Shown {
    let Described { setting, value, source, synonyms } = described;
    Shown {
        name: setting.name,
        value: Some(value),
        is_read_only: false,
        type_code: setting.kind.code(),
        source_code: source.code(),
        synonyms: synonyms.into_iter().map(|(name, value, source)| (name, value, source.code())).collect(),
        documentation: setting.documentation(),
    }
}

/// An empty name asks for what was set for all nodes at once: nothing.
fn of_node(node: &Node, name: &str) -> Result<Vec<Shown>, Refused> {
    match name.parse::<i32>() {
        _ if name.is_empty() => Ok(Vec::new()),
        Ok(NODE_ID) => Ok(of_node::settings(node).into_iter().map(|setting| setting.shown()).collect()),
        Ok(other) => {
            let message = format!("Unexpected broker id, expected {NODE_ID} or empty string, but received {other}");
            Err(invalid(message))
        }
        Err(_) => Err(invalid(format!("Broker id must be an integer, but it is: {name}"))),
    }
}
