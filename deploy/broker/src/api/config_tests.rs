//! Settings by their requests. What is expected was answered by Apache Kafka 4.1.0 to the same requests, but for what the
//! README says is different.

use std::fmt::Write;

use kafka_protocol::messages::alter_configs_request as alter;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request as incremental;
use kafka_protocol::messages::{AlterConfigsRequest, DescribeConfigsRequest, IncrementalAlterConfigsRequest};
use kafka_protocol::protocol::StrBytes;

use super::testing::{ask, creatable, create, node, text};
use super::*;

fn described(node: &mut Node, resource_type: i8, name: &str, keys: Option<&[&str]>) -> String {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(resource_type)
        .with_resource_name(text(name))
        .with_configuration_keys(keys.map(|keys| keys.iter().map(|key| text(key)).collect()));
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]).with_include_synonyms(true);
    let answer = ask(node, 4, &request, describe_configs::handle).results.remove(0);
    if answer.error_code != 0 {
        return format!("{} {}", answer.error_code, answer.error_message.unwrap_or_default());
    }
    let mut said = String::new();
    for config in answer.configs {
        let writable = if config.read_only { "" } else { " rw" };
        let (name, value) = (config.name, config.value.unwrap_or_default());
        write!(said, "{name}={value} {}{writable} type {}", config.config_source, config.config_type).unwrap();
        for synonym in config.synonyms {
            write!(said, " | {}={} {}", synonym.name, synonym.value.unwrap_or_default(), synonym.source).unwrap();
        }
        said.push('\n');
        assert_eq!(config.documentation, None);
    }
    said
}

#[test]
fn settings_are_described_as_kafka_does() {
    let mut node = node();
    create(&mut node, 7, false, vec![creatable("t", 1, 1, &[("cleanup.policy", Some(" delete , compact "))])]);
    let keys: &[&str] = &["cleanup.policy", "retention.bytes", "nope"];
    let expected = "cleanup.policy=delete,compact 1 rw type 7 | cleanup.policy=delete,compact 1 | log.cleanup.policy=delete 5\n\
                    retention.bytes=-1 5 rw type 5 | log.retention.bytes=-1 5\n";
    assert_eq!(described(&mut node, 2, "t", Some(keys)), expected);
    let all = described(&mut node, 2, "t", None);
    assert_eq!(all.lines().count(), 33);
    assert_eq!(described(&mut node, 2, "t", Some(&[])), all);
    assert_eq!(described(&mut node, 2, "nono", None), "3 ");
    assert_eq!(
        described(&mut node, 2, "a b", None),
        "17 Topic name is invalid: 'a b' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
    );
    let keys: &[&str] = &["num.partitions", "node.id", "log.segment.bytes", "auto.create.topics.enable"];
    assert_eq!(
        described(&mut node, 4, "1", Some(keys)),
        "auto.create.topics.enable=true 5 type 1 | auto.create.topics.enable=true 5\n\
         log.segment.bytes=67108864 4 type 3 | log.segment.bytes=67108864 4 | log.segment.bytes=1073741824 5\n\
         node.id=1 4 type 3 | node.id=1 4\n\
         num.partitions=2 4 type 3 | num.partitions=2 4 | num.partitions=1 5\n"
    );
    assert_eq!(described(&mut node, 4, "", None), "");
    assert_eq!(
        described(&mut node, 4, "2", None),
        "42 Unexpected broker id, expected 1 or empty string, but received 2"
    );
    assert_eq!(described(&mut node, 4, "x", None), "42 Broker id must be an integer, but it is: x");
    assert_eq!(described(&mut node, 77, "x", None), "42 Unknown resource type 77");

    let resource = DescribeConfigsResource::default().with_resource_type(2).with_resource_name(text("t"));
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]).with_include_documentation(true);
    for version in 3..=4 {
        let answer = ask(&mut node, version, &request, describe_configs::handle).results.remove(0);
        let is_documented =
            |documentation: &Option<StrBytes>| documentation.as_ref().is_some_and(|text| text.len() > 10);
        assert!(answer.configs.iter().all(|config| is_documented(&config.documentation) && config.synonyms.is_empty()));
    }
}

/// Settings of one resource are changed, by `(name, operation, value)`; an operation of -1 asks the older API.
fn altered(node: &mut Node, resource_type: i8, name: &str, changes: &[(&str, i8, Option<&str>)], dry: bool) -> String {
    let change = |(name, operation, value): &(&str, i8, Option<&str>)| {
        incremental::AlterableConfig::default()
            .with_name(text(name))
            .with_config_operation(*operation)
            .with_value(value.map(text))
    };
    let resource = incremental::AlterConfigsResource::default()
        .with_resource_type(resource_type)
        .with_resource_name(text(name))
        .with_configs(changes.iter().map(change).collect());
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]).with_validate_only(dry);
    let answer = ask(node, 1, &request, incremental_alter_configs::handle).responses.remove(0);
    assert_eq!((answer.resource_type, answer.resource_name.as_str()), (resource_type, name));
    format!("{} {}", answer.error_code, answer.error_message.unwrap_or_default())
}

fn set_of(node: &Node, topic: &str) -> String {
    let overrides = &node.topics.get(topic).unwrap().overrides;
    overrides.iter().map(|(name, value)| format!("{name}={value} ")).collect()
}

#[test]
fn settings_are_changed_one_by_one_as_kafka_does() {
    const SET: i8 = 0;
    const DELETE: i8 = 1;
    const APPEND: i8 = 2;
    const SUBTRACT: i8 = 3;
    let mut node = node();
    create(&mut node, 7, false, vec![creatable("t", 1, 1, &[])]);
    let mut check = |changes: &[(&str, i8, Option<&str>)], answer: &str, set: &str| {
        assert_eq!(altered(&mut node, 2, "t", changes, true), answer);
        assert_eq!(altered(&mut node, 2, "t", changes, false), answer);
        assert_eq!(set_of(&node, "t"), set);
    };
    check(&[("retention.ms", SET, Some("77"))], "0 ", "retention.ms=77 ");
    check(&[], "0 ", "retention.ms=77 ");
    check(&[("cleanup.policy", APPEND, Some("compact"))], "0 ", "cleanup.policy=delete,compact retention.ms=77 ");
    check(&[("cleanup.policy", SUBTRACT, Some("delete"))], "0 ", "cleanup.policy=compact retention.ms=77 ");
    let set = "cleanup.policy=compact ";
    check(&[("retention.ms", DELETE, None), ("flush.ms", DELETE, None), ("nope", DELETE, None)], "0 ", set);
    check(
        &[("retention.ms", APPEND, Some("5"))],
        "40 Can't APPEND to key retention.ms because its type is not LIST.",
        set,
    );
    check(
        &[("cleanup.policy", APPEND, Some("foo"))],
        "40 Invalid value foo for configuration cleanup.policy: String must be one of: compact, delete",
        set,
    );
    check(&[("retention.ms", 9, Some("5"))], "-1 ", set);
    check(&[("retention.ms", SET, None)], "42 Null value not supported for : retention.ms", set);
    check(&[("nope", SET, Some("5"))], "40 Unknown topic config name: nope", set);
    check(
        &[("retention.ms", SET, Some("abc"))],
        "40 Invalid value abc for configuration retention.ms: Not a number of type LONG",
        set,
    );
    check(
        &[("retention.ms", SET, Some("1")), ("retention.ms", DELETE, None)],
        "42 Error due to duplicate config keys",
        set,
    );
    // All of a resource's changes or none.
    check(&[("retention.ms", SET, Some("1")), ("nope", SET, Some("1"))], "40 Unknown topic config name: nope", set);
}

#[test]
fn what_has_no_settings_to_change_is_refused_as_kafka_does() {
    let mut node = node();
    let mut check = |resource_type, name: &str, key: &str, expected: &str| {
        assert_eq!(altered(&mut node, resource_type, name, &[(key, 0, Some("5"))], false), expected, "{name}");
    };
    check(2, "nono", "retention.ms", "3 The topic 'nono' does not exist.");
    check(2, "nono", "nope", "40 Unknown topic config name: nope");
    check(2, "", "retention.ms", "42 Default topic resources are not allowed.");
    check(0, "t", "retention.ms", "42 Unknown resource type 0");
    check(4, "1", "num.partitions", "42 Cannot update these configs dynamically: Set(num.partitions)");
    check(4, "", "num.partitions", "42 Cannot update these configs dynamically: Set(num.partitions)");
    check(4, "2", "num.partitions", "42 Unexpected broker id, expected 1, but received 2");
    check(4, "x", "num.partitions", "42 Node id must be an integer, but it is: x");
    assert_eq!(altered(&mut node, 4, "1", &[], false), "0 ");
}

/// A resource's type, its name and what is set for it.
type Resource<'a> = (i8, &'a str, &'a [(&'a str, Option<&'a str>)]);

fn altered_as_a_whole(node: &mut Node, resources: &[Resource<'_>], dry: bool) -> String {
    let resource = |(resource_type, name, configs): &Resource<'_>| {
        let config = |(name, value): &(&str, Option<&str>)| {
            alter::AlterableConfig::default().with_name(text(name)).with_value(value.map(text))
        };
        alter::AlterConfigsResource::default()
            .with_resource_type(*resource_type)
            .with_resource_name(text(name))
            .with_configs(configs.iter().map(config).collect())
    };
    let request =
        AlterConfigsRequest::default().with_resources(resources.iter().map(resource).collect()).with_validate_only(dry);
    let mut said = String::new();
    for answer in ask(node, 2, &request, alter_configs::handle).responses {
        writeln!(said, "{} {}", answer.error_code, answer.error_message.unwrap_or_default()).unwrap();
    }
    said
}

#[test]
fn settings_are_changed_as_a_whole_as_kafka_does() {
    let mut node = node();
    create(&mut node, 7, false, vec![creatable("t", 1, 1, &[("retention.ms", Some("1")), ("segment.ms", Some("2"))])]);
    let set: &[(&str, Option<&str>)] = &[("retention.ms", Some("9"))];
    assert_eq!(altered_as_a_whole(&mut node, &[(2, "t", set)], true), "0 \n");
    assert_eq!(set_of(&node, "t"), "retention.ms=1 segment.ms=2 ");
    assert_eq!(altered_as_a_whole(&mut node, &[(2, "t", set)], false), "0 \n");
    assert_eq!(set_of(&node, "t"), "retention.ms=9 ");
    let mut check = |resources: &[Resource<'_>], expected: &str| {
        assert_eq!(altered_as_a_whole(&mut node, resources, false), expected);
        assert_eq!(set_of(&node, "t"), "retention.ms=9 ");
    };
    check(&[(2, "t", &[("retention.ms", None)])], "42 Null value not supported for : retention.ms\n");
    check(&[(2, "nono", &[("nope", Some("1"))])], "40 Unknown topic config name: nope\n");
    check(&[(2, "nono", &[])], "3 The topic 'nono' does not exist.\n");
    let twice = "42 Each resource must appear at most once.\n".repeat(2);
    check(&[(2, "t", &[("retention.ms", Some("5"))]), (2, "t", &[])], &twice);
    check(
        &[(4, "1", &[("num.partitions", Some("5"))])],
        "42 Cannot update these configs dynamically: Set(num.partitions)\n",
    );
    assert_eq!(altered_as_a_whole(&mut node, &[(2, "t", &[])], false), "0 \n");
    assert_eq!(set_of(&node, "t"), "");
}
