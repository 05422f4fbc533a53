//! Settings of topics: told, changed one by one or as a whole, and every refusal of it.

use std::collections::BTreeMap;

use kafka_protocol::messages::alter_configs_request as whole;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult};
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{AlterConfigsRequest, DescribeConfigsRequest, IncrementalAlterConfigsRequest};
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, OwnedResourceSpecifier, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;

use crate::ask::topic;
use crate::clients::{block_on, config};
use crate::raw::{Connection, text};
use crate::subject::{Subject, eventually, unique};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// `DescribeConfigs`' sources.
const OF_THE_TOPIC: i8 = 1;
const DEFAULT: i8 = 5;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

fn describe(connection: &mut Connection, kind: i8, name: &str, keys: Option<&[&str]>) -> DescribeConfigsResult {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configuration_keys(keys.map(|keys| keys.iter().map(|key| text(key)).collect()));
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]).with_include_synonyms(true);
    connection.ask(4, request).results.remove(0)
}

fn setting(connection: &mut Connection, topic: &str, key: &str) -> DescribeConfigsResourceResult {
    let mut result = describe(connection, TOPIC, topic, Some(&[key]));
    assert_eq!((result.error_code, result.configs.len()), (0, 1), "{key}");
    result.configs.remove(0)
}

/// A setting's value and source.
fn value(connection: &mut Connection, topic: &str, key: &str) -> (String, i8) {
    let setting = setting(connection, topic, key);
    (setting.value.unwrap().to_string(), setting.config_source)
}

fn incremental(
    connection: &mut Connection,
    kind: i8,
    name: &str,
    changes: &[(&str, i8, Option<&str>)],
    validate_only: bool,
) -> i16 {
    let changes = changes.iter().map(|(key, operation, value)| {
        AlterableConfig::default().with_name(text(key)).with_config_operation(*operation).with_value(value.map(text))
    });
    let resource = AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configs(changes.collect());
    let request =
        IncrementalAlterConfigsRequest::default().with_resources(vec![resource]).with_validate_only(validate_only);
    connection.ask(1, request).responses[0].error_code
}

/// Waits for a change to be told: Kafka answers a change before its broker knows of it.
fn until(connection: &mut Connection, topic: &str, key: &str, expected: (&str, i8)) {
    eventually(&format!("{key} is {expected:?}"), || {
        (value(connection, topic, key) == (expected.0.to_owned(), expected.1)).then_some(())
    });
}

fn a_topics_settings_are_told_with_their_sources(subject: &Subject) {
    let mut connection = Connection::open(subject);
    let set = [("retention.ms", "5000"), ("max.message.bytes", "2000000")];
    let topic = topic(subject, "told", 1, &set);
    for (key, value) in set {
        let setting = setting(&mut connection, &topic, key);
        assert_eq!((setting.value.unwrap().as_str(), setting.config_source), (value, OF_THE_TOPIC));
        assert!(!setting.read_only && !setting.is_sensitive);
        let first = &setting.synonyms[0];
        assert_eq!((first.name.as_str(), first.value.as_ref().unwrap().as_str(), first.source), (key, value, 1));
    }
    let defaults = [
        ("cleanup.policy", "delete"),
        ("compression.type", "producer"),
        ("delete.retention.ms", "86400000"),
        ("max.compaction.lag.ms", "9223372036854775807"),
        ("message.timestamp.type", "CreateTime"),
        ("min.cleanable.dirty.ratio", "0.5"),
        ("min.compaction.lag.ms", "0"),
        ("retention.bytes", "-1"),
        ("segment.ms", "604800000"),
    ];
    for (key, expected) in defaults {
        assert_eq!(value(&mut connection, &topic, key), (expected.to_owned(), DEFAULT), "{key}");
    }
    let all = describe(&mut connection, TOPIC, &topic, None);
    let names: Vec<&str> = all.configs.iter().map(|config| config.name.as_str()).collect();
    for (key, _) in defaults {
        assert!(names.contains(&key), "{key}");
    }
    assert!(describe(&mut connection, TOPIC, &topic, Some(&["no.such.setting"])).configs.is_empty());
}

fn what_cannot_be_described_is_refused_by_its_own_error(subject: &Subject) {
    let mut connection = Connection::open(subject);
    for (what, kind, name, error) in [
        ("an unknown topic", TOPIC, "no-such-topic", 3),
        ("a name that is none", TOPIC, "not a topic", 17),
        ("an unknown broker", BROKER, "17", 42),
        ("a broker that is no number", BROKER, "one", 42),
        ("an unknown kind", 99, "x", 42),
    ] {
        let result = describe(&mut connection, kind, name, None);
        assert_eq!(result.error_code, error, "{what}: {:?}", result.error_message);
        assert!(result.configs.is_empty());
        assert_eq!((result.resource_type, result.resource_name.as_str()), (kind, name));
    }
    let broker = describe(&mut connection, BROKER, "1", None);
    assert_eq!(broker.error_code, 0);
    let names: Vec<&str> = broker.configs.iter().map(|config| config.name.as_str()).collect();
    for key in ["message.max.bytes", "log.retention.ms", "num.partitions", "auto.create.topics.enable"] {
        assert!(names.contains(&key), "{key}");
    }
}

fn settings_are_changed_one_by_one(subject: &Subject) {
    let mut connection = Connection::open(subject);
    let topic = topic(subject, "changed", 1, &[("retention.ms", "5000"), ("segment.ms", "70000")]);
    let alter = |changes: &[(&str, i8, Option<&str>)]| {
        incremental(&mut Connection::open(subject), TOPIC, &topic, changes, false)
    };
    assert_eq!(alter(&[("retention.ms", SET, Some("6000")), ("retention.bytes", SET, Some("1000"))]), 0);
    until(&mut connection, &topic, "retention.ms", ("6000", OF_THE_TOPIC));
    until(&mut connection, &topic, "retention.bytes", ("1000", OF_THE_TOPIC));
    assert_eq!(
        value(&mut connection, &topic, "segment.ms"),
        ("70000".to_owned(), OF_THE_TOPIC),
        "not named, not changed"
    );
    assert_eq!(alter(&[("retention.bytes", DELETE, None)]), 0);
    until(&mut connection, &topic, "retention.bytes", ("-1", DEFAULT));
    assert_eq!(alter(&[("retention.bytes", DELETE, None)]), 0, "what is not set can be unset");

    assert_eq!(alter(&[("cleanup.policy", APPEND, Some("compact"))]), 0);
    until(&mut connection, &topic, "cleanup.policy", ("delete,compact", OF_THE_TOPIC));
    assert_eq!(alter(&[("cleanup.policy", SUBTRACT, Some("delete"))]), 0);
    until(&mut connection, &topic, "cleanup.policy", ("compact", OF_THE_TOPIC));
}

fn what_cannot_be_changed_is_refused_by_its_own_error_and_nothing_changes(subject: &Subject) {
    let mut connection = Connection::open(subject);
    let topic = topic(subject, "unchanged", 1, &[("retention.ms", "5000")]);
    type Change = (&'static str, i8, Option<&'static str>);
    let cases: [(&str, &[Change], i16); 9] = [
        ("an unknown setting", &[("retention.hours", SET, Some("1"))], 40),
        ("a word for a number", &[("retention.ms", SET, Some("long"))], 40),
        ("no value", &[("retention.ms", SET, None)], 42),
        ("out of range", &[("retention.ms", SET, Some("-2"))], 40),
        ("one of two is bad", &[("retention.ms", SET, Some("7000")), ("segment.ms", SET, Some("x"))], 40),
        ("the same twice", &[("retention.ms", SET, Some("1")), ("retention.ms", SET, Some("2"))], 42),
        ("appended to what is no list", &[("retention.ms", APPEND, Some("1"))], 40),
        ("an unknown operation", &[("retention.ms", 9, Some("1"))], -1),
        ("an unknown policy", &[("cleanup.policy", APPEND, Some("burn"))], 40),
    ];
    for (what, changes, error) in cases {
        assert_eq!(incremental(&mut connection, TOPIC, &topic, changes, false), error, "{what}");
    }
    let good: &[Change] = &[("retention.ms", SET, Some("7000"))];
    assert_eq!(incremental(&mut connection, TOPIC, &unique("unknown"), good, false), 3);
    assert_eq!(incremental(&mut connection, TOPIC, "not a topic", good, false), 17);
    assert_eq!(incremental(&mut connection, TOPIC, &topic, good, true), 0, "a rehearsal");
    assert_eq!(value(&mut connection, &topic, "retention.ms"), ("5000".to_owned(), OF_THE_TOPIC));
}

fn settings_are_replaced_as_a_whole(subject: &Subject) {
    let mut connection = Connection::open(subject);
    let topic = topic(subject, "replaced", 1, &[("retention.ms", "5000"), ("segment.ms", "70000")]);
    let alter = |settings: &[(&str, &str)], validate_only| {
        let configs = settings
            .iter()
            .map(|(key, value)| whole::AlterableConfig::default().with_name(text(key)).with_value(Some(text(value))));
        let resource = whole::AlterConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text(&topic))
            .with_configs(configs.collect());
        let request = AlterConfigsRequest::default().with_resources(vec![resource]).with_validate_only(validate_only);
        Connection::open(subject).ask(2, request).responses[0].error_code
    };
    assert_eq!(alter(&[("retention.ms", "9000")], true), 0);
    assert_eq!(alter(&[("retention.ms", "x")], false), 40);
    assert_eq!(value(&mut connection, &topic, "retention.ms"), ("5000".to_owned(), OF_THE_TOPIC));
    assert_eq!(alter(&[("retention.ms", "8000")], false), 0);
    until(&mut connection, &topic, "retention.ms", ("8000", OF_THE_TOPIC));
    until(&mut connection, &topic, "segment.ms", ("604800000", DEFAULT));
}

fn rdkafkas_admin_client_tells_and_changes_settings(subject: &Subject) {
    let admin: AdminClient<DefaultClientContext> = config(subject, &[]).create().unwrap();
    let options = AdminOptions::new();
    let topic = topic(subject, "by-rdkafka", 1, &[]);
    let specifier = ResourceSpecifier::Topic(&topic);
    let change = AlterConfig::new(specifier).set("retention.ms", "4321");
    let changed = block_on(admin.alter_configs([&change], &options)).unwrap();
    assert_eq!(changed, [Ok(OwnedResourceSpecifier::Topic(topic.clone()))]);
    let described = eventually("the change is told", || {
        let mut told = block_on(admin.describe_configs([&specifier], &options)).unwrap();
        let told = told.remove(0).unwrap();
        let values: BTreeMap<String, Option<String>> =
            told.entries.into_iter().map(|entry| (entry.name, entry.value)).collect();
        (values["retention.ms"].as_deref() == Some("4321")).then_some(values)
    });
    assert_eq!(described["cleanup.policy"].as_deref(), Some("delete"));
}

on_both!(
    a_topics_settings_are_told_with_their_sources,
    what_cannot_be_described_is_refused_by_its_own_error,
    settings_are_changed_one_by_one,
    what_cannot_be_changed_is_refused_by_its_own_error_and_nothing_changes,
    settings_are_replaced_as_a_whole,
    rdkafkas_admin_client_tells_and_changes_settings,
);
