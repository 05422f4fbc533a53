//! The shell around the engine: consume, process, produce, in one Kafka transaction.
//!
//! One worker thread holds a group consumer, a transactional producer and an engine for each of its input partitions. It repeats one
//! `cycle`: read what has arrived, [`decode`] it, let the engines take it in, and commit outputs, state and input offsets
//! together. A transaction is never open while the group is served, so a rebalance finds nothing half done; and whatever goes wrong
//! in a cycle has one answer: abort, drop everything, and come back by the same `restore` that a restart uses. What became of each
//! input record is in the `ledger`, which commits with it.

pub mod config;
mod cycle;
pub mod decode;
mod error;
mod ledger;
pub mod metrics;
pub mod progress;
mod restore;
mod rounds;
pub mod standing;
mod worker;

pub use config::{ProcessorConfig, ProcessorSettings, check_streams};
pub use error::ProcessorError;
pub use progress::{Counts, Progress};
pub use standing::Standing;
pub use worker::{Summary, run};
