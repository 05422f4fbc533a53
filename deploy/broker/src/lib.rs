//! A small single-node broker that speaks the Kafka protocol: correct where it answers at all, and for development only.
//!
//! One node, no replication, no authentication: production is Apache Kafka. What it answers, it answers as Apache Kafka 4
//! does; the conformance suite (`tests/conformance`) holds every expectation against both.
//!
//! # How it is built
//! The broker is **one thread**. Its whole state is a `node::Node`, every request is carried out by one synchronous call
//! on it, and so there is no lock, no race and one order of events. Only three requests wait (`Fetch`, `JoinGroup`,
//! `SyncGroup`); they give the node back while they do. Other threads only sync files and rewrite sealed segments.
//!
//! The **log is the truth**. A partition's record batches are kept as the producers sent them; its indexes, its producers'
//! sequences, its open and aborted transactions are derived from the batches' headers when the broker starts, so they cannot
//! disagree with it. What no batch tells (topics, committed offsets, the coordinators' decisions) is in three journals.
//!
//! # Map
//! | module | what it is |
//! |---|---|
//! | `broker` | the handle: start, stop, address |
//! | `config` | every setting and bound, with its default |
//! | `server` | connections: frames in, answers out, in order |
//! | `frame` | one frame: bounded reading, and a check of every count in it before anything is allocated |
//! | `api` | the APIs and their versions; one file each |
//! | `damage` | what becomes of damaged files at start, and the note of a stop in order |
//! | `node` | the state: topics, groups, transactions |
//! | `topics` | topics, partitions, their settings |
//! | `log` | a partition's log: batches, segments, recovery, retention, compaction, producers' sequences |
//! | `groups` | the classic group protocol and committed offsets |
//! | `transactions` | producer ids and the transaction coordinator |
//! | `durable` | files that are written here and synced elsewhere, and what follows when a sync fails |
//! | `journal` | an append-only file of checksummed records, for what no batch tells |
//! | `faults` | faults that tests inject |

mod api;
mod broker;
mod config;
mod damage;
mod durable;
mod error;
mod faults;
mod frame;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod groups;
mod journal;
mod log;
mod node;
#[cfg(test)]
mod readme;
mod server;
mod topics;
mod transactions;

pub use broker::Broker;
pub use config::{BrokerConfig, Limits, Storage};
pub use error::StartError;
pub use faults::{Fault, FaultRule, Faults, RuleId};
/// The error codes of the protocol.
pub use kafka_protocol::ResponseError;
/// The APIs of the protocol, to say which of them a [`FaultRule`] is about.
pub use kafka_protocol::messages::ApiKey;
