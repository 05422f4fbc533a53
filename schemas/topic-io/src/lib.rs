//! The one way Tidewatch talks to Kafka: connection and security settings, a batched reader, writers, topics and lag.
//!
//! Every call here blocks and belongs on a thread of its own, never in async code. Invariants: an error has one
//! [`Disposition`]; every queue is bounded by a setting; secrets are never shown; unsafe code is in [`batch`] and
//! `topic_id`, and one call in `writer`.
//!
//! | to | use |
//! |---|---|
//! | check the connection, create topics, ask for offsets and lag | [`Admin`] |
//! | write at least once, in order, without doubles | [`Writer`] |
//! | write and commit input offsets in one transaction | [`TransactionalWriter`] |
//! | read as a member of a group, a batch at a time | [`GroupReader`] |
//! | read given partitions up to their end | [`PartitionReader`] |

pub mod admin;
pub mod batch;
pub mod config;
mod context;
pub mod error;
pub mod metrics;
mod oauth;
pub mod partitioner;
pub mod reader;
mod topic_id;
pub mod transaction;
pub mod writer;

pub use admin::{Admin, PartitionLag, PartitionOffsets, TopicInfo, TopicSpec};
pub use batch::{Batch, Message};
pub use config::{KafkaConfig, OauthMethod, Properties, SaslMechanism, SecurityProtocol};
pub use error::{Disposition, KafkaError, RDKafkaErrorCode, TransactionOutcome};
pub use reader::{
    Assigned, Committed, GroupEvent, GroupMetadata, GroupOptions, GroupReader, PartitionReader, StartAt, StartWithout,
};
pub use transaction::{OffsetCommit, TransactionOptions, TransactionalWriter};
pub use writer::{Outgoing, Writer};
