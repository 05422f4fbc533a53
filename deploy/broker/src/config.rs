//! Every setting and every bound of the broker. Names and defaults are Apache Kafka's where it has the setting.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// How to run a broker. [`BrokerConfig::in_memory`] and [`BrokerConfig::at`] give the defaults.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// Where to listen; port 0 takes a free one. Default 127.0.0.1:0.
    pub listen: SocketAddr,
    /// The host that clients are told to connect to. `None`: the address listened on (loopback if that is all of them).
    pub advertised_host: Option<String>,
    /// Where records are kept.
    pub storage: Storage,
    /// Time between a write and its fsync, at most. A killed *process* loses nothing acknowledged whatever this is; a power
    /// loss or a crash of the system may lose what was acknowledged in the last interval. Zero: synced before it is
    /// acknowledged. Default 1 s.
    pub flush_interval: Duration,
    /// Partitions of a topic that is made without a number, and of one made by its first use. Default 1.
    pub default_partitions: i32,
    /// A topic that a client asks for is made (`auto.create.topics.enable`). Default true.
    pub auto_create_topics: bool,
    /// Settings of every topic that does not set them itself, by the topic's name for them (Kafka's `log.retention.ms` is
    /// `retention.ms` here). Default none: Kafka's own defaults.
    pub topic_defaults: BTreeMap<String, String>,
    /// Wait after the first member of an empty group before the first assignment (`group.initial.rebalance.delay.ms`).
    /// Default 0.
    pub initial_rebalance_delay: Duration,
    /// Session time-outs that a member may ask for. Default 10 ms to 30 min.
    pub session_timeout: (Duration, Duration),
    /// How long the offsets of an empty group are kept (`offsets.retention.minutes`). Default 7 days.
    pub offsets_retention: Duration,
    /// The longest time-out that a transactional producer may ask for (`transaction.max.timeout.ms`). Default 15 min.
    pub transaction_timeout_max: Duration,
    /// An idle transactional id is forgotten after this (`transactional.id.expiration.ms`). Default 7 days.
    pub transactional_id_expiration: Duration,
    /// An idle producer's sequences are forgotten after this (`producer.id.expiration.ms`). Default 1 day.
    pub producer_id_expiration: Duration,
    /// How often retention is applied and compaction looks for work. Default 15 s, as `log.cleaner.backoff.ms`.
    pub maintenance_interval: Duration,
    /// At start, cut a corrupt log at its first bad byte instead of refusing to start. Default false.
    pub repair: bool,
    /// The bounds.
    pub limits: Limits,
}

/// Where records are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage {
    /// In memory, gone with the broker.
    Memory,
    /// In this folder, which is made if it is not there.
    Folder(PathBuf),
}

/// What the broker takes at most; each is refused with Kafka's own error when it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one request (`socket.request.max.bytes`); a longer frame closes its connection. Default 100 MiB.
    pub request_bytes_max: usize,
    /// Open connections; further ones are closed at once. Default 1,000.
    pub connections_max: usize,
    /// Bytes of an answer while it is collected, records of a fetch apart; one that would take more closes its connection.
    /// Default 64 MiB.
    pub answer_bytes_max: usize,
    /// Time in which a client takes nothing of its answer before its connection is closed. Default 60 s.
    pub unread_time_max: Duration,
    /// Bytes of records in one fetch answer (`fetch.max.bytes`). Default 55 MiB.
    pub fetch_bytes_max: usize,
    /// Bytes of records read for fetch answers that are not yet sent, over all connections; at the bound an answer holds one
    /// batch. Default 128 MiB.
    pub reads_bytes_max: usize,
    /// Partitions of all topics. Default 10,000.
    pub partitions_max: usize,
    /// Groups. Default 10,000.
    pub groups_max: usize,
    /// Members of one group (`group.max.size`). Default 1,000.
    pub group_members_max: usize,
    /// Transactional ids. Default 10,000.
    pub transactional_ids_max: usize,
    /// Bytes of the metadata of one committed offset (`offset.metadata.max.bytes`). Default 4,096.
    pub offset_metadata_bytes_max: usize,
    /// Bytes that one batch may have after decompression, where the broker has to look inside it. Default 256 MiB.
    pub decompressed_bytes_max: usize,
}

impl std::fmt::Display for Storage {
    /// As Kafka's `log.dirs` would have it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::Folder(folder) => write!(f, "{}", folder.display()),
        }
    }
}

impl BrokerConfig {
    /// A broker whose records are in memory, on a free loopback port.
    pub fn in_memory() -> Self {
        Self::new(Storage::Memory)
    }

    /// A broker whose records are in a folder, on a free loopback port.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self::new(Storage::Folder(folder.into()))
    }

    fn new(storage: Storage) -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3_600);
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            advertised_host: None,
            storage,
            flush_interval: Duration::from_secs(1),
            default_partitions: 1,
            auto_create_topics: true,
            topic_defaults: BTreeMap::new(),
            initial_rebalance_delay: Duration::ZERO,
            session_timeout: (Duration::from_millis(10), Duration::from_secs(1_800)),
            offsets_retention: 7 * DAY,
            transaction_timeout_max: Duration::from_secs(900),
            transactional_id_expiration: 7 * DAY,
            producer_id_expiration: DAY,
            maintenance_interval: Duration::from_secs(15),
            repair: false,
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        const MIB: usize = 1 << 20;
        Self {
            request_bytes_max: 100 * MIB,
            connections_max: 1_000,
            answer_bytes_max: 64 * MIB,
            unread_time_max: Duration::from_secs(60),
            fetch_bytes_max: 55 * MIB,
            reads_bytes_max: 128 * MIB,
            partitions_max: 10_000,
            groups_max: 10_000,
            group_members_max: 1_000,
            transactional_ids_max: 10_000,
            offset_metadata_bytes_max: 4_096,
            decompressed_bytes_max: 256 * MIB,
        }
    }
}
