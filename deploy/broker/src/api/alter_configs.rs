//! `AlterConfigs`: a topic's settings, in place of all that were set before. Clients of today use `IncrementalAlterConfigs`.
//!
//! Source: `ConfigurationControlManager.legacyAlterConfigs` of Apache Kafka.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_configs_request::AlterConfigsResource;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};

use super::Context;
use super::config_resources::{Alterable, check_alterable, check_values, named_twice, repeated};
use crate::node::Node;
use crate::topics::settings::Overrides;
use crate::topics::{Refused, Topics};

pub(crate) fn handle(node: &mut Node, request: AlterConfigsRequest, _: &Context) -> AlterConfigsResponse {
    let is_repeated = repeated(request.resources.iter().map(|r| (r.resource_type, r.resource_name.as_str())));
    answer(&request, |resource| {
        if is_repeated(resource.resource_type, &resource.resource_name) {
            return Err(named_twice());
        }
        alter(&mut node.topics, resource, request.validate_only)
    })
}

pub(crate) fn refuse(request: &AlterConfigsRequest, error: ResponseError, _: i16) -> AlterConfigsResponse {
    answer(request, |_| Err(Refused::new(error, "")))
}

fn answer(
    request: &AlterConfigsRequest,
    mut result: impl FnMut(&AlterConfigsResource) -> Result<(), Refused>,
) -> AlterConfigsResponse {
    let response = |resource: &AlterConfigsResource| {
        let answer = AlterConfigsResourceResponse::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        match result(resource) {
            Ok(()) => answer.with_error_message(None),
            Err(refused) => answer.with_error_code(refused.error.code()).with_error_message(refused.text()),
        }
    };
    AlterConfigsResponse::default().with_responses(request.resources.iter().map(response).collect())
}

fn alter(topics: &mut Topics, resource: &AlterConfigsResource, validate_only: bool) -> Result<(), Refused> {
    check_values(resource.configs.iter().map(|config| (config.name.as_str(), config.value.is_some())))?;
    let keys = resource.configs.iter().map(|config| config.name.as_str());
    if check_alterable(resource.resource_type, &resource.resource_name, keys)? == Alterable::Nothing {
        return Ok(());
    }
    let set = resource
        .configs
        .iter()
        .filter_map(|config| Some((config.name.to_string(), config.value.as_ref()?.to_string())));
    let overrides: Overrides = set.collect();
    match validate_only {
        true => topics.check_settings(&resource.resource_name, &overrides).map(|_| ()),
        false => topics.alter(&resource.resource_name, overrides),
    }
}
