//! What settings belong to: topics, whose settings can be described and changed, and the node, whose settings can be
//! described. They are fixed when it is started.
//!
//! Source: `ConfigResource` and `ConfigAdminManager` of Apache Kafka.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;

use crate::node::NODE_ID;
use crate::topics::{Refused, name};

/// A resource's type as the protocol numbers it.
pub(crate) const TOPIC: i8 = 2;
pub(crate) const BROKER: i8 = 4;

pub(crate) fn invalid(message: impl Into<String>) -> Refused {
    Refused::new(ResponseError::InvalidRequest, message)
}

/// Whether this is a topic whose settings may be changed, as far as its name tells. `keys` are the settings in question.
pub(crate) fn check_alterable<'a>(
    resource_type: i8,
    resource_name: &str,
    keys: impl Iterator<Item = &'a str>,
) -> Result<Alterable, Refused> {
    match resource_type {
        TOPIC if resource_name.is_empty() => Err(invalid("Default topic resources are not allowed.")),
        TOPIC => {
            name::check(resource_name)
                .map_err(|message| Refused::new(ResponseError::InvalidTopicException, message))?;
            Ok(Alterable::Topic)
        }
        BROKER => {
            check_node(resource_name)?;
            let keys: Vec<&str> = keys.collect();
            if keys.is_empty() {
                return Ok(Alterable::Nothing);
            }
            Err(invalid(format!("Cannot update these configs dynamically: Set({})", keys.join(", "))))
        }
        other => Err(invalid(format!("Unknown resource type {other}"))),
    }
}

/// What a change is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alterable {
    /// A topic.
    Topic,
    /// The node, and no setting of it.
    Nothing,
}

/// An empty name stands for all nodes.
fn check_node(name: &str) -> Result<(), Refused> {
    if name.is_empty() {
        return Ok(());
    }
    match name.parse::<i32>() {
        Ok(NODE_ID) => Ok(()),
        Ok(other) => Err(invalid(format!("Unexpected broker id, expected {NODE_ID}, but received {other}"))),
        Err(_) => Err(invalid(format!("Node id must be an integer, but it is: {name}"))),
    }
}

/// Which resources a request names more than once: none of them is changed.
pub(crate) fn repeated<'a>(resources: impl Iterator<Item = (i8, &'a str)>) -> impl Fn(i8, &str) -> bool {
    let mut counts: BTreeMap<(i8, &str), usize> = BTreeMap::new();
    for resource in resources {
        *counts.entry(resource).or_default() += 1;
    }
    let repeated = counts.into_iter().filter(|(_, count)| *count > 1);
    let repeated: Vec<(i8, String)> = repeated.map(|((kind, name), _)| (kind, name.to_owned())).collect();
    move |kind, name| repeated.iter().any(|(other_kind, other)| *other_kind == kind && other == name)
}

/// The answer to a resource that is named more than once.
pub(crate) fn named_twice() -> Refused {
    invalid("Each resource must appear at most once.")
}

/// Checks the values of a change: each setting once, and each with a value that needs one.
pub(crate) fn check_values<'a>(settings: impl Iterator<Item = (&'a str, bool)>) -> Result<(), Refused> {
    let (mut names, mut missing, mut has_twice) = (Vec::new(), Vec::new(), false);
    for (name, has_value) in settings {
        has_twice |= names.contains(&name);
        names.push(name);
        if !has_value {
            missing.push(name);
        }
    }
    if has_twice {
        return Err(invalid("Error due to duplicate config keys"));
    }
    if !missing.is_empty() {
        return Err(invalid(format!("Null value not supported for : {}", missing.join(", "))));
    }
    Ok(())
}
