//! The README's tables are what the code says: the APIs, the broker's settings and bounds, the topics' settings.

use std::cell::RefCell;
use std::fmt::Write;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::{InitProducerIdRequest, JoinGroupRequest, OffsetCommitRequest};

use crate::api::testing::{ask, context, creatable, create, node, text, topic};
use crate::api::{Outcome, TABLE, init_producer_id, join_group, offset_commit};
use crate::config::{BrokerConfig, Limits};
use crate::node::Node;
use crate::topics::settings::table::{Effect, SETTINGS};

const README: &str = include_str!("../README.md");

/// The rows of the table under a line that begins so: their first `columns` cells, `code` marks left out.
fn rows(heading: &str, columns: usize) -> String {
    let mut lines = README.lines().skip_while(|line| !line.starts_with(heading));
    assert!(lines.next().is_some(), "the README has {heading:?}");
    let table = lines.skip_while(|line| !line.starts_with("|---")).skip(1).take_while(|line| line.starts_with('|'));
    let mut rows = String::new();
    for line in table {
        let cells = line.split('|').skip(1).take(columns).map(|cell| cell.trim().trim_matches('`'));
        writeln!(rows, "{}", cells.collect::<Vec<_>>().join(" | ")).unwrap();
    }
    rows
}

/// The fields of a structure with their values. One that is left out does not compile.
macro_rules! fields {
    ($structure:ident, $value:expr; $($field:ident)+) => {{
        let $structure { $($field),+ } = $value;
        let mut rows = String::new();
        $(writeln!(rows, "{} | {:?}", stringify!($field), $field).unwrap();)+
        rows
    }};
}

#[test]
fn the_apis_are_those_that_are_answered() {
    let mut expected = String::new();
    for api in TABLE {
        let versions = if api.min == api.max { api.min.to_string() } else { format!("{} to {}", api.min, api.max) };
        writeln!(expected, "{:?} | {versions}", api.key).unwrap();
    }
    assert_eq!(rows("## APIs", 2), expected);
}

#[test]
fn the_brokers_settings_and_their_defaults_are_the_codes() {
    let mut config = BrokerConfig::in_memory();
    let limits = std::mem::take(&mut config.limits);
    let expected = fields!(BrokerConfig, config; listen advertised_host storage flush_interval default_partitions
        auto_create_topics topic_defaults initial_rebalance_delay session_timeout offsets_retention
        transaction_timeout_max transactional_id_expiration producer_id_expiration maintenance_interval repair limits);
    // The bounds have a table of their own.
    let (expected, _) = expected.split_once("limits | ").unwrap();
    assert_eq!(rows("## Settings of the broker", 2), expected);
    let expected = fields!(Limits, limits; request_bytes_max connections_max answer_bytes_max unread_time_max fetch_bytes_max reads_bytes_max
        partitions_max groups_max group_members_max transactional_ids_max offset_metadata_bytes_max
        decompressed_bytes_max);
    assert_eq!(rows("Bounds, `limits` in it.", 2), expected);
}

/// The codes in the last column of the bounds are those that are answered.
#[test]
fn the_bounds_are_refused_as_told() {
    let bounds = rows("Bounds, `limits` in it.", 3);
    let told = |bound: &str, error: i16| {
        let error = format!("{:?}", ResponseError::try_from_code(error).unwrap());
        let words = error.char_indices().map(|(at, c)| {
            let separator = if at > 0 && c.is_uppercase() { "_" } else { "" };
            format!("{separator}{}", c.to_ascii_uppercase())
        });
        let (row, code) = (bounds.lines().find(|row| row.starts_with(bound)).unwrap(), words.collect::<String>());
        assert!(row.contains(&code), "{row:?} is {code}");
    };
    let mut node = node();
    node.config.limits.partitions_max = 10;
    let created = create(&mut node, 7, false, vec![creatable("t", 11, 1, &[])]);
    told("partitions_max", created.topics[0].error_code);

    let mut config = BrokerConfig::in_memory();
    (config.limits.groups_max, config.limits.transactional_ids_max) = (0, 0);
    let mut full = Node::open(config, String::new(), String::new(), 0).unwrap();
    let mut config = BrokerConfig::in_memory();
    (config.limits.offset_metadata_bytes_max, config.limits.group_members_max) = (0, 0);
    let mut strict = Node::open(config, String::new(), String::new(), 0).unwrap();
    let partition = OffsetCommitRequestPartition::default().with_committed_metadata(Some(text("m")));
    let commit = OffsetCommitRequest::default()
        .with_group_id(text("g").into())
        .with_topics(vec![OffsetCommitRequestTopic::default().with_name(topic("t")).with_partitions(vec![partition])]);
    for (bound, node) in [("groups_max", &mut full), ("offset_metadata_bytes_max", &mut strict)] {
        create(node, 7, false, vec![creatable("t", 1, 1, &[])]);
        let committed = ask(node, 8, &commit, offset_commit::handle);
        told(bound, committed.topics[0].partitions[0].error_code);
    }
    let init = InitProducerIdRequest::default()
        .with_transactional_id(Some(text("t").into()))
        .with_transaction_timeout_ms(1_000);
    told("transactional_ids_max", ask(&mut full, 4, &init, init_producer_id::handle).error_code);
    let join = JoinGroupRequest::default()
        .with_group_id(text("g").into())
        .with_protocol_type(text("consumer"))
        .with_session_timeout_ms(10_000)
        .with_protocols(vec![JoinGroupRequestProtocol::default().with_name(text("p"))]);
    let context = context(&strict, 3);
    let strict = Rc::new(RefCell::new(strict));
    let joined = pin!(join_group::handle(&strict, join, &context));
    match joined.poll(&mut std::task::Context::from_waker(Waker::noop())) {
        Poll::Ready(Outcome::Answer(joined)) => told("group_members_max", joined.error_code),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_topics_settings_are_the_codes() {
    let (mut honoured, mut without_effect) = (String::new(), String::new());
    for setting in SETTINGS {
        match setting.effect {
            Effect::Honoured => {
                let kafkas = if setting.own_default.is_some() { setting.default } else { "" };
                writeln!(honoured, "{} | {} | {kafkas}", setting.name, setting.default_here()).unwrap();
            }
            Effect::None(reason) => writeln!(without_effect, "{} | {reason}", setting.name).unwrap(),
        }
    }
    assert_eq!(rows("All of Kafka 4.1's are known", 3), honoured);
    assert_eq!(rows("These are accepted, and nothing hangs", 2), without_effect);
}
