//! `IncrementalAlterConfigs`: single settings of a topic are set, dropped, or as lists made longer or shorter (KIP-339).
//!
//! Source: `ConfigurationControlManager.incrementalAlterConfigs` of Apache Kafka. All of a topic's changes are made or none.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};

use super::Context;
use super::config_resources::{Alterable, check_alterable, check_values, named_twice, repeated};
use crate::node::Node;
use crate::topics::settings::Overrides;
use crate::topics::settings::table::{Kind, Setting};
use crate::topics::{Refused, Topics};

pub(crate) fn handle(
    node: &mut Node,
    request: IncrementalAlterConfigsRequest,
    _: &Context,
) -> IncrementalAlterConfigsResponse {
    let is_repeated = repeated(request.resources.iter().map(|r| (r.resource_type, r.resource_name.as_str())));
    let Node { topics, config, .. } = node;
    answer(&request, |resource| {
        if is_repeated(resource.resource_type, &resource.resource_name) {
            return Err(named_twice());
        }
        alter(topics, &config.topic_defaults, resource, request.validate_only)
    })
}

pub(crate) fn refuse(
    request: &IncrementalAlterConfigsRequest,
    error: ResponseError,
    _: i16,
) -> IncrementalAlterConfigsResponse {
    answer(request, |_| Err(Refused::new(error, "")))
}

fn answer(
    request: &IncrementalAlterConfigsRequest,
    mut result: impl FnMut(&AlterConfigsResource) -> Result<(), Refused>,
) -> IncrementalAlterConfigsResponse {
    let response = |resource: &AlterConfigsResource| {
        let answer = AlterConfigsResourceResponse::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        match result(resource) {
            Ok(()) => answer.with_error_message(None),
            Err(refused) => answer.with_error_code(refused.error.code()).with_error_message(refused.text()),
        }
    };
    IncrementalAlterConfigsResponse::default().with_responses(request.resources.iter().map(response).collect())
}

/// What is done with a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Set,
    Delete,
    Append,
    Subtract,
}

impl Operation {
    fn from_code(code: i8) -> Option<Self> {
        [Self::Set, Self::Delete, Self::Append, Self::Subtract].get(usize::try_from(code).ok()?).copied()
    }
}

fn alter(
    topics: &mut Topics,
    broker: &Overrides,
    resource: &AlterConfigsResource,
    validate_only: bool,
) -> Result<(), Refused> {
    let mut values = Vec::new();
    for config in &resource.configs {
        values.push((config.name.as_str(), config.value.is_some() || operation(config)? == Operation::Delete));
    }
    check_values(values.into_iter())?;
    let keys = resource.configs.iter().map(|config| config.name.as_str());
    if check_alterable(resource.resource_type, &resource.resource_name, keys)? == Alterable::Nothing {
        return Ok(());
    }
    let mut overrides = topics.get(&resource.resource_name).map(|topic| topic.overrides.clone()).unwrap_or_default();
    for config in &resource.configs {
        apply(&mut overrides, broker, &config.name, operation(config)?, config.value.as_deref().unwrap_or(""))?;
    }
    match validate_only {
        true => topics.check_settings(&resource.resource_name, &overrides).map(|_| ()),
        false => topics.alter(&resource.resource_name, overrides),
    }
}

fn operation(config: &AlterableConfig) -> Result<Operation, Refused> {
    // Kafka fails on a number that it does not know.
    Operation::from_code(config.config_operation).ok_or(Refused::new(ResponseError::UnknownServerError, ""))
}

fn apply(
    overrides: &mut Overrides,
    broker: &Overrides,
    name: &str,
    operation: Operation,
    value: &str,
) -> Result<(), Refused> {
    match operation {
        Operation::Set => {
            overrides.insert(name.to_owned(), value.to_owned());
        }
        Operation::Delete => {
            overrides.remove(name);
        }
        Operation::Append | Operation::Subtract => {
            let list = Setting::find(name).filter(|setting| matches!(setting.kind, Kind::List(_) | Kind::Replicas));
            let Some(setting) = list else {
                let verb = if operation == Operation::Append { "APPEND" } else { "SUBTRACT" };
                let message = format!("Can't {verb} to key {name} because its type is not LIST.");
                return Err(Refused::new(ResponseError::InvalidConfig, message));
            };
            // A list that is not set is the one that is in force.
            let present =
                overrides.get(name).or_else(|| broker.get(name)).map_or(setting.default_here(), String::as_str);
            let changed = changed_list(present, value, operation == Operation::Append);
            overrides.insert(name.to_owned(), changed);
        }
    }
    Ok(())
}

/// Parts are compared as they are written, white space and all, as Kafka does.
fn changed_list(present: &str, value: &str, is_append: bool) -> String {
    let mut parts: Vec<&str> = present.split(',').filter(|part| !part.is_empty()).collect();
    for part in value.split(',') {
        let found = parts.iter().position(|other| *other == part);
        match (found, is_append) {
            (None, true) => parts.push(part),
            (Some(index), false) => {
                parts.remove(index);
            }
            _ => {}
        }
    }
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::changed_list;

    #[test]
    fn lists_are_changed_as_kafka_does() {
        for (present, value, appended, subtracted) in [
            ("delete", "compact", "delete,compact", "delete"),
            ("delete,compact", "compact", "delete,compact", "delete"),
            (" delete , compact ", "compact", " delete , compact ,compact", " delete , compact "),
            ("", "compact", "compact", ""),
            ("delete", "delete,compact", "delete,compact", ""),
            ("compact,compact", "compact", "compact,compact", "compact"),
        ] {
            assert_eq!(changed_list(present, value, true), appended, "{present:?} + {value:?}");
            assert_eq!(changed_list(present, value, false), subtracted, "{present:?} - {value:?}");
        }
    }
}
