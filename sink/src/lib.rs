//! Where results go.
//!
//! - [`transactional`]: the topics that a processor's cycle writes, together with its state and input
//!   offsets, in one Kafka transaction.
//! - [`delivery`]: the role that reads the result topics back and keeps them as Parquet files and
//!   JSON lines of alerts, each row exactly once.
//! - [`config`], [`progress`], [`metrics`]: what a person sets, sees while it runs, and scrapes.
//!
//! Invariants: only committed records reach a file; an offset is committed only after its row is
//! visible; memory is bounded by `sink.buffer_bytes`; nothing here asks for the time except to roll
//! a file by age and to measure latency.

pub mod config;
pub mod delivery;
pub mod metrics;
pub mod progress;
pub mod transactional;

pub use config::{ConfigError, DeliveryConfig, SinkSettings};
pub use delivery::kind::TopicKind;
pub use delivery::summary::DeliverySummary;
pub use delivery::{DeliveryError, run as deliver};
pub use progress::{Progress, Stop, StopSignal};
pub use transactional::{CycleWriter, ProcessingGuarantee, ResultTopics};
