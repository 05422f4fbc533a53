//! The README's tables are what the code says: the APIs, the broker's settings and bounds, the topics' settings.

use std::fmt::Write;

use crate::api::TABLE;
use crate::config::{BrokerConfig, Limits};
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
    let expected = fields!(Limits, limits; request_bytes_max connections_max fetch_bytes_max reads_bytes_max
        partitions_max groups_max group_members_max transactional_ids_max offset_metadata_bytes_max
        decompressed_bytes_max);
    assert_eq!(rows("Bounds, `limits` in it.", 2), expected);
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
