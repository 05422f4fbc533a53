//! The shell around the engine: consume, process, produce, in one Kafka transaction.
//!
//! A `worker` thread holds a group consumer, a transactional producer and an engine for each of its input partitions. It repeats one
//! `cycle`: read what has arrived, [`decode`] it, let the engines take it in, and commit outputs, state and input offsets
//! together. A transaction is never open while the group is served, so a rebalance finds nothing half done; and what goes wrong in a
//! cycle is got over by going back to what is committed, by the same `restore` that a restart uses (the table in `worker`). What
//! became of each input record is in the `ledger`, which commits with it. Workers share nothing; the `supervisor` starts them,
//! watches them and ends them.

mod accuracy;
mod aside;
pub mod config;
mod cycle;
pub mod decode;
mod drain;
mod error;
mod failures;
mod input;
mod input_topics;
mod ledger;
pub mod metrics;
mod orphans;
pub mod progress;
mod restore;
mod rounds;
mod saved;
pub mod standing;
mod supervisor;
mod worker;

pub use accuracy::{HorizonAccuracy, Mean};
pub use config::{OnLostInput, ProcessorConfig, ProcessorSettings, check_streams};
pub use error::ProcessorError;
pub use progress::{Counts, Progress, Recoveries};
pub use standing::Standing;
pub use supervisor::{Summary, run};
