//! The node's settings by Kafka's names, none of which can be changed while it runs.

use std::time::Duration;

use super::Shown;
use crate::api::described_settings::{self, Source};
use crate::node::{NODE_ID, Node};
use crate::topics::settings::Overrides;

/// Types as the protocol numbers them.
const BOOLEAN: i8 = 1;
const STRING: i8 = 2;
const INT: i8 = 3;
const LONG: i8 = 5;

/// One setting of the node.
pub(super) struct NodeSetting {
    pub(super) name: &'static str,
    type_code: i8,
    value: String,
    /// Kafka's default; `None`: it has none.
    default: Option<String>,
    documentation: String,
}

impl NodeSetting {
    pub(super) fn shown(self) -> Shown {
        let is_default = self.default.as_ref() == Some(&self.value);
        let set = (!is_default).then(|| (self.name, self.value.clone(), Source::Broker.code()));
        let default = self.default.map(|default| (self.name, default, Source::Default.code()));
        Shown {
            name: self.name,
            value: Some(self.value),
            is_read_only: true,
            type_code: self.type_code,
            source_code: if is_default { Source::Default.code() } else { Source::Broker.code() },
            synonyms: set.into_iter().chain(default).collect(),
            documentation: self.documentation,
        }
    }
}

fn setting(
    name: &'static str,
    type_code: i8,
    value: impl ToString,
    default: Option<&str>,
    documentation: &'static str,
) -> NodeSetting {
    NodeSetting {
        name,
        type_code,
        value: value.to_string(),
        default: default.map(str::to_owned),
        documentation: documentation.to_owned(),
    }
}

/// All of them, in the order of their names.
pub(super) fn settings(node: &Node) -> Vec<NodeSetting> {
    let config = &node.config;
    let limits = &config.limits;
    let (listen, endpoint) = (config.listen, format!("PLAINTEXT://{}:{}", node.host, node.port));
    let mut settings = vec![
        setting("advertised.listeners", STRING, endpoint, None, "What clients are told to connect to."),
        setting(
            "auto.create.topics.enable",
            BOOLEAN,
            config.auto_create_topics,
            Some("true"),
            "Whether a topic that a client asks for is made.",
        ),
        setting("default.replication.factor", INT, 1, Some("1"), "Replicas of a topic: one, as there is one node."),
        setting("delete.topic.enable", BOOLEAN, true, Some("true"), "Whether topics can be deleted."),
        setting("fetch.max.bytes", INT, limits.fetch_bytes_max, Some("57671680"), "Bytes of records in one answer."),
        setting(
            "group.initial.rebalance.delay.ms",
            INT,
            ms(config.initial_rebalance_delay),
            Some("3000"),
            "The wait after the first member of an empty group, before its first assignment.",
        ),
        setting(
            "group.max.session.timeout.ms",
            INT,
            ms(config.session_timeout.1),
            Some("1800000"),
            "The longest session time-out that a member may ask for.",
        ),
        setting("group.max.size", INT, limits.group_members_max, Some("2147483647"), "Members of one group."),
        setting(
            "group.min.session.timeout.ms",
            INT,
            ms(config.session_timeout.0),
            Some("6000"),
            "The shortest session time-out that a member may ask for.",
        ),
        setting("listeners", STRING, format!("PLAINTEXT://{listen}"), None, "Where the node listens."),
        setting(
            "log.cleaner.backoff.ms",
            LONG,
            ms(config.maintenance_interval),
            Some("15000"),
            "How often retention is applied and compaction looks for work.",
        ),
        setting("log.dirs", STRING, &config.storage, None, "Where records are kept."),
        setting("max.connections", INT, limits.connections_max, Some("2147483647"), "Open connections."),
        setting("node.id", INT, NODE_ID, None, "The id of the one node."),
        setting(
            "num.partitions",
            INT,
            config.default_partitions,
            Some("1"),
            "Partitions of a topic that is made without a number.",
        ),
        setting(
            "offset.metadata.max.bytes",
            INT,
            limits.offset_metadata_bytes_max,
            Some("4096"),
            "Bytes of the metadata of one committed offset.",
        ),
        setting(
            "offsets.retention.minutes",
            INT,
            config.offsets_retention.as_secs() / 60,
            Some("10080"),
            "How long the offsets of an empty group are kept.",
        ),
        setting(
            "producer.id.expiration.ms",
            INT,
            ms(config.producer_id_expiration),
            Some("86400000"),
            "An idle producer's sequences are forgotten after this.",
        ),
        setting(
            "socket.request.max.bytes",
            INT,
            limits.request_bytes_max,
            Some("104857600"),
            "Bytes of one request; a longer one closes its connection.",
        ),
        setting(
            "transaction.max.timeout.ms",
            INT,
            ms(config.transaction_timeout_max),
            Some("900000"),
            "The longest time-out that a transactional producer may ask for.",
        ),
        setting(
            "transactional.id.expiration.ms",
            INT,
            ms(config.transactional_id_expiration),
            Some("604800000"),
            "An idle transactional id is forgotten after this.",
        ),
    ];
    settings.extend(of_topics(&config.topic_defaults));
    settings.sort_by_key(|setting| setting.name);
    settings
}

/// What topics have that set nothing, by the broker's names.
fn of_topics(broker: &Overrides) -> impl Iterator<Item = NodeSetting> {
    described_settings::all(broker, &Overrides::new()).into_iter().filter_map(|described| {
        let setting = described.setting;
        Some(NodeSetting {
            name: setting.broker_name?,
            type_code: setting.kind.code(),
            value: described.value,
            default: Some(setting.default.to_owned()),
            documentation: setting.documentation(),
        })
    })
}

fn ms(duration: Duration) -> u128 {
    duration.as_millis()
}
