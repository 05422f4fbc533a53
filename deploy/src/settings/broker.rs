//! `[broker]`: the embedded broker's settings as a person writes them, checked into a [`BrokerConfig`].
//!
//! Invariant: the defaults are the broker's own ([`BrokerSettings::default`] is made of them); a test holds the reference against them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidewatch_broker::{BrokerConfig, Limits, Storage};
use tidewatch_processor_core::config::Span;

use super::{SettingsError, invalid};

/// Where `tidewatch broker` listens unless told otherwise: where the commands look for a broker unless told otherwise.
const PORT: u16 = 9092;
/// Where it keeps its data unless told otherwise.
const DATA: &str = "tidewatch-broker";

/// `[broker]`.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct BrokerSettings {
    /// The folder of the records.
    pub data: String,
    /// The address to listen on, or `localhost`.
    pub host: String,
    /// The port; 0 takes a free one.
    pub port: u16,
    /// What clients are told to connect to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertised_host: Option<String>,
    /// Between a write and its fsync, at most.
    pub flush_interval: Span,
    /// Of a topic made without a number.
    pub default_partitions: i32,
    /// Whether a topic is made by its first use.
    pub auto_create_topics: bool,
    /// Of topics that do not set them themselves.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub topic_defaults: BTreeMap<String, String>,
    /// Before the first assignment of an empty group.
    pub initial_rebalance_delay: Span,
    /// The shortest session that a member may ask for.
    pub session_timeout_min: Span,
    /// The longest.
    pub session_timeout_max: Span,
    /// Of an empty group's offsets.
    pub offsets_retention: Span,
    /// The longest time-out that a transactional producer may ask for.
    pub transaction_timeout_max: Span,
    /// Of an idle transactional id.
    pub transactional_id_expiration: Span,
    /// Of an idle producer's sequences.
    pub producer_id_expiration: Span,
    /// Between looks at retention and compaction.
    pub maintenance_interval: Span,
    /// The bounds.
    pub limits: LimitSettings,
}

/// `[broker.limits]`.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct LimitSettings {
    /// Of one request.
    pub request_bytes_max: usize,
    /// Open at once.
    pub connections_max: usize,
    /// Of one answer while it is collected, records apart.
    pub answer_bytes_max: usize,
    /// In which a client takes nothing of its answer.
    pub unread_time_max: Span,
    /// Of one fetch answer.
    pub fetch_bytes_max: usize,
    /// Of fetch answers not yet sent, over all connections.
    pub reads_bytes_max: usize,
    /// Of all topics.
    pub partitions_max: usize,
    /// Groups.
    pub groups_max: usize,
    /// Of one group.
    pub group_members_max: usize,
    /// Transactional ids.
    pub transactional_ids_max: usize,
    /// Of the metadata of a committed offset.
    pub offset_metadata_bytes_max: usize,
    /// Of one batch, decompressed.
    pub decompressed_bytes_max: usize,
}

impl Default for BrokerSettings {
    fn default() -> Self {
        let broker = BrokerConfig::in_memory();
        Self {
            data: DATA.to_owned(),
            host: Ipv4Addr::LOCALHOST.to_string(),
            port: PORT,
            advertised_host: broker.advertised_host,
            flush_interval: span(broker.flush_interval),
            default_partitions: broker.default_partitions,
            auto_create_topics: broker.auto_create_topics,
            topic_defaults: broker.topic_defaults,
            initial_rebalance_delay: span(broker.initial_rebalance_delay),
            session_timeout_min: span(broker.session_timeout.0),
            session_timeout_max: span(broker.session_timeout.1),
            offsets_retention: span(broker.offsets_retention),
            transaction_timeout_max: span(broker.transaction_timeout_max),
            transactional_id_expiration: span(broker.transactional_id_expiration),
            producer_id_expiration: span(broker.producer_id_expiration),
            maintenance_interval: span(broker.maintenance_interval),
            limits: LimitSettings::default(),
        }
    }
}

impl Default for LimitSettings {
    fn default() -> Self {
        let Limits {
            request_bytes_max,
            connections_max,
            answer_bytes_max,
            unread_time_max,
            fetch_bytes_max,
            reads_bytes_max,
            partitions_max,
            groups_max,
            group_members_max,
            transactional_ids_max,
            offset_metadata_bytes_max,
            decompressed_bytes_max,
        } = Limits::default();
        Self {
            request_bytes_max,
            connections_max,
            answer_bytes_max,
            unread_time_max: span(unread_time_max),
            fetch_bytes_max,
            reads_bytes_max,
            partitions_max,
            groups_max,
            group_members_max,
            transactional_ids_max,
            offset_metadata_bytes_max,
            decompressed_bytes_max,
        }
    }
}

impl BrokerSettings {
    /// What a broker runs on, with its records there.
    ///
    /// # Errors
    /// The first setting that cannot be, in one line.
    pub(crate) fn config(&self, storage: Storage) -> Result<BrokerConfig, SettingsError> {
        let ip = match self.host.as_str() {
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            host => host.parse().map_err(|_| {
                invalid(format!(
                    "broker.host = \"{host}\" is no address to listen on; write one like \"127.0.0.1\" or \"0.0.0.0\""
                ))
            })?,
        };
        let broker = BrokerConfig {
            listen: SocketAddr::new(ip, self.port),
            advertised_host: self.advertised_host.clone(),
            storage,
            flush_interval: duration(self.flush_interval),
            default_partitions: self.default_partitions,
            auto_create_topics: self.auto_create_topics,
            topic_defaults: self.topic_defaults.clone(),
            initial_rebalance_delay: duration(self.initial_rebalance_delay),
            session_timeout: (duration(self.session_timeout_min), duration(self.session_timeout_max)),
            offsets_retention: duration(self.offsets_retention),
            transaction_timeout_max: duration(self.transaction_timeout_max),
            transactional_id_expiration: duration(self.transactional_id_expiration),
            producer_id_expiration: duration(self.producer_id_expiration),
            maintenance_interval: duration(self.maintenance_interval),
            repair: false,
            limits: self.limits.bounds(),
        };
        self.check_ranges()?;
        Ok(broker)
    }

    fn check_ranges(&self) -> Result<(), SettingsError> {
        let limits = &self.limits;
        let at_least_one = [
            ("default_partitions", usize::try_from(self.default_partitions).unwrap_or(0)),
            ("limits.request_bytes_max", limits.request_bytes_max),
            ("limits.connections_max", limits.connections_max),
            ("limits.answer_bytes_max", limits.answer_bytes_max),
            ("limits.unread_time_max", usize::from(limits.unread_time_max > Span::default())),
            ("limits.fetch_bytes_max", limits.fetch_bytes_max),
            ("limits.reads_bytes_max", limits.reads_bytes_max),
            ("limits.partitions_max", limits.partitions_max),
            ("limits.groups_max", limits.groups_max),
            ("limits.group_members_max", limits.group_members_max),
            ("limits.transactional_ids_max", limits.transactional_ids_max),
            ("limits.decompressed_bytes_max", limits.decompressed_bytes_max),
            ("maintenance_interval", usize::from(self.maintenance_interval > Span::default())),
        ];
        if let Some((name, _)) = at_least_one.iter().find(|(_, value)| *value == 0) {
            return Err(invalid(format!("broker.{name} has to be above zero")));
        }
        if self.session_timeout_min > self.session_timeout_max {
            let (min, max) = (self.session_timeout_min, self.session_timeout_max);
            return Err(invalid(format!(
                "broker.session_timeout_min = \"{min}\" is longer than broker.session_timeout_max = \"{max}\""
            )));
        }
        Ok(())
    }
}

impl LimitSettings {
    fn bounds(&self) -> Limits {
        Limits {
            request_bytes_max: self.request_bytes_max,
            connections_max: self.connections_max,
            answer_bytes_max: self.answer_bytes_max,
            unread_time_max: duration(self.unread_time_max),
            fetch_bytes_max: self.fetch_bytes_max,
            reads_bytes_max: self.reads_bytes_max,
            partitions_max: self.partitions_max,
            groups_max: self.groups_max,
            group_members_max: self.group_members_max,
            transactional_ids_max: self.transactional_ids_max,
            offset_metadata_bytes_max: self.offset_metadata_bytes_max,
            decompressed_bytes_max: self.decompressed_bytes_max,
        }
    }
}

fn span(duration: Duration) -> Span {
    Span::from_millis(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

fn duration(span: Span) -> Duration {
    Duration::from_millis(span.as_millis().unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_refused(settings: BrokerSettings, expected: &str) {
        assert_eq!(settings.config(Storage::Memory).unwrap_err().to_string(), expected);
    }

    #[test]
    fn the_defaults_are_the_brokers_own() {
        let settings = BrokerSettings { port: 0, ..BrokerSettings::default() };
        let (made, own) = (settings.config(Storage::Memory).unwrap(), BrokerConfig::in_memory());
        assert_eq!(format!("{made:?}"), format!("{own:?}"));
    }

    #[test]
    fn what_cannot_be_is_named() {
        let host = BrokerSettings { host: "kafka.local".into(), ..BrokerSettings::default() };
        check_refused(
            host,
            "broker.host = \"kafka.local\" is no address to listen on; write one like \"127.0.0.1\" or \"0.0.0.0\"",
        );
        let partitions = BrokerSettings { default_partitions: -1, ..BrokerSettings::default() };
        check_refused(partitions, "broker.default_partitions has to be above zero");
        let limits = LimitSettings { connections_max: 0, ..LimitSettings::default() };
        check_refused(
            BrokerSettings { limits, ..BrokerSettings::default() },
            "broker.limits.connections_max has to be above zero",
        );
        let session = BrokerSettings { session_timeout_max: Span::from_millis(1), ..BrokerSettings::default() };
        check_refused(
            session,
            "broker.session_timeout_min = \"10ms\" is longer than broker.session_timeout_max = \"1ms\"",
        );
    }
}
