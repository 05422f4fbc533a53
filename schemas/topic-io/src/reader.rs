//! Reading in batches: as a member of a group ([`GroupReader`]) or given partitions up to their end ([`PartitionReader`]).
//!
//! Invariants: a partition's messages come in order, none twice, none after its revocation was reported; where a partition
//! starts is always decided explicitly; what lies ahead in memory is bounded for the whole process.

mod group;
mod partition;
mod positions;

use std::fmt;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext as _};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};
use rdkafka::message::BorrowedMessage;

use crate::batch::MessageError;
use crate::config::KafkaConfig;
use crate::context::ConsumerEvents;
use crate::error::{KafkaError, retry_passing};
use crate::oauth::Tokens;

pub use group::{GroupOptions, GroupReader, StartWithout};
pub use partition::PartitionReader;

/// A group's committed position in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The next offset to read.
    pub offset: i64,
    /// The text committed with it, empty if there was none.
    pub metadata: String,
}

/// Where to start reading a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// At this offset.
    Offset(i64),
    /// At the oldest record there is.
    Beginning,
    /// Behind the newest record there is.
    End,
    /// At the committed offset, or where the options say if there is none.
    Committed,
}

/// A partition that came to this reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// What the group had committed for it.
    pub committed: Option<Committed>,
    /// Where this reader starts: no record before it will be read.
    pub start_offset: i64,
}

/// What a rebalance changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupEvent {
    /// These partitions are read from now on.
    Assigned(Vec<Assigned>),
    /// These went to another member in order: what was committed is what the other one continues from.
    Revoked(Vec<(String, i32)>),
    /// These were taken away while this member was out of touch; another one may have gone on already.
    Lost(Vec<(String, i32)>),
}

/// The membership under which offsets are committed in a transaction; from [`GroupReader::group_metadata`], taken anew for
/// every commit, since each rebalance changes it.
pub struct GroupMetadata(pub(crate) ConsumerGroupMetadata);

impl GroupMetadata {
    pub(crate) fn native(&self) -> &ConsumerGroupMetadata {
        &self.0
    }
}

impl fmt::Debug for GroupMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GroupMetadata")
    }
}

/// Makes a consumer of these properties, with a token if it needs one.
pub(crate) fn open_consumer(
    config: &KafkaConfig,
    properties: &ClientConfig,
) -> Result<BaseConsumer<ConsumerEvents>, KafkaError> {
    let made = BaseConsumer::from_config_and_context(properties, ConsumerEvents::new(config));
    let consumer = made.map_err(|error| config.refused(&error))?;
    Tokens::start(consumer.context().tokens.as_ref(), consumer.client())?;
    Ok(consumer)
}

/// Serves one event of the client's main queue, without waiting.
fn poll(consumer: &BaseConsumer<ConsumerEvents>) -> Option<Result<BorrowedMessage<'_>, ClientError>> {
    Tokens::keep(consumer.context().tokens.as_ref(), consumer.client());
    consumer.poll(Duration::ZERO)
}

/// What the group of a consumer has committed for these partitions, each checked; a group that is moving house is waited for.
pub(crate) fn committed_offsets(
    consumer: &BaseConsumer<ConsumerEvents>,
    partitions: &TopicPartitionList,
    timeout: Duration,
) -> Result<TopicPartitionList, ClientError> {
    retry_passing(timeout, |remaining| {
        let list = consumer.committed_offsets(partitions.clone(), remaining)?;
        for entry in list.elements() {
            entry.error()?;
        }
        Ok(list)
    })
}

/// An error that came in place of a message, in the words of a user. `position` is the next offset that was wanted.
fn read_error(error: &MessageError, position: Option<i64>) -> KafkaError {
    let MessageError { code, topic, partition, offset } = error;
    match code {
        Code::AutoOffsetReset | Code::OffsetOutOfRange => {
            let offset = position.unwrap_or(*offset);
            KafkaError::OffsetOutOfRange { topic: topic.clone(), partition: *partition, offset }
        }
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => {
            KafkaError::UnknownTopic { topic: topic.clone() }
        }
        Code::TopicAuthorizationFailed => KafkaError::NotAuthorized {
            operation: "read topic",
            resource: format!("{topic:?}"),
            reason: code.to_string(),
        },
        Code::BadCompression => KafkaError::Client {
            operation: "reading",
            code: Some(*code),
            reason: format!(
                "the batch at {topic}[{partition}]@{} is damaged, or decompresses to more than \
                 kafka.properties.\"receive.message.max.bytes\": raise that, or skip the batch by resetting the group's offset",
                position.unwrap_or(*offset)
            ),
        },
        code => KafkaError::Client {
            operation: "reading",
            code: Some(*code),
            reason: format!("{code} at {topic}[{partition}]@{offset}"),
        },
    }
}
