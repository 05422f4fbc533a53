//! What a cycle writes with, and all that the two guarantees differ in.
//!
//! | | exactly once | at least once |
//! |---|---|---|
//! | producer | transactional | idempotent |
//! | commit | records and input offsets in one transaction | records first, once they have arrived the input offsets |
//! | who reads what is not committed yet | those who ask for it (`read_uncommitted`) | everybody, at once |
//! | a cycle that is given up | its records are never seen | its records stay, and come again |

use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tidewatch_topic_io::{
    GroupReader, KafkaConfig, KafkaError, OffsetCommit, Outgoing, RDKafkaErrorCode, TransactionOptions,
    TransactionalWriter, Writer,
};

/// Between two tries to commit.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// What holds for results when a process, a broker or the network dies. Kafka Streams has the same names
/// (`processing.guarantee`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProcessingGuarantee {
    /// A consumer of committed records sees each result once.
    #[default]
    ExactlyOnce,
    /// A result may be seen twice, but sooner and for less.
    AtLeastOnce,
}

/// Of one guarantee.
#[derive(Debug)]
pub enum CycleWriter {
    /// Exactly once.
    Transactional(TransactionalWriter),
    /// At least once.
    Idempotent(IdempotentWriter),
}

/// A writer without transactions that keeps to their order of calls.
#[derive(Debug)]
pub struct IdempotentWriter {
    kafka: KafkaConfig,
    options: TransactionOptions,
    writer: Writer,
    is_open: bool,
    deadline: Option<Instant>,
}

impl IdempotentWriter {
    fn writer(kafka: &KafkaConfig, options: &TransactionOptions) -> Result<Writer, KafkaError> {
        Writer::with_batch_bytes_max(kafka, options.batch_bytes_max)
    }

    fn timeout(&self) -> Duration {
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        left.map_or(self.options.operation_timeout, |left| left.min(self.options.operation_timeout))
    }

    /// Commits the offsets. During a rebalance the broker takes none, or those of the next generation only; the client gets over that
    /// by itself, and partitions move only when they were given up: the same offsets are right afterwards, unless all was lost.
    fn commit(&self, offsets: &[OffsetCommit<'_>], group: &GroupReader) -> Result<(), KafkaError> {
        let until = Instant::now() + self.timeout();
        let is_passing = |code: RDKafkaErrorCode| {
            matches!(code, RDKafkaErrorCode::RebalanceInProgress | RDKafkaErrorCode::IllegalGeneration)
        };
        loop {
            match group.commit(offsets) {
                Err(KafkaError::Client { code: Some(code), .. })
                    if is_passing(code) && group.owns_still() && Instant::now() < until =>
                {
                    thread::sleep(RETRY_PAUSE);
                }
                committed => return committed,
            }
        }
    }

    /// Drops what is still on its way; what has arrived stays.
    fn replace(&mut self) -> Result<(), KafkaError> {
        self.is_open = false;
        self.writer = Self::writer(&self.kafka, &self.options)?;
        self.writer.set_deadline(self.deadline);
        Ok(())
    }
}

impl CycleWriter {
    /// Makes the client. A transactional one waits for the end of any open transaction of this id, in the background until the first
    /// cycle begins.
    ///
    /// # Errors
    /// As [`TransactionalWriter::in_background`].
    pub fn new(
        kafka: &KafkaConfig,
        guarantee: ProcessingGuarantee,
        transactional_id: &str,
        options: TransactionOptions,
    ) -> Result<Self, KafkaError> {
        match guarantee {
            ProcessingGuarantee::ExactlyOnce => {
                Ok(Self::Transactional(TransactionalWriter::in_background(kafka, transactional_id, options)?))
            }
            ProcessingGuarantee::AtLeastOnce => {
                let writer = IdempotentWriter::writer(kafka, &options)?;
                let kafka = kafka.clone();
                Ok(Self::Idempotent(IdempotentWriter { kafka, options, writer, is_open: false, deadline: None }))
            }
        }
    }

    pub(super) fn set_deadline(&mut self, deadline: Option<Instant>) {
        match self {
            Self::Transactional(writer) => writer.set_deadline(deadline),
            Self::Idempotent(at) => {
                at.deadline = deadline;
                at.writer.set_deadline(deadline);
            }
        }
    }

    pub(super) fn begin(&mut self) -> Result<(), KafkaError> {
        match self {
            Self::Transactional(writer) => writer.begin(),
            Self::Idempotent(at) => {
                at.is_open = true;
                Ok(())
            }
        }
    }

    pub(super) fn has_opened(&self) -> bool {
        match self {
            Self::Transactional(writer) => writer.has_opened(),
            Self::Idempotent(_) => true,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        match self {
            Self::Transactional(writer) => writer.is_open(),
            Self::Idempotent(at) => at.is_open,
        }
    }

    pub(super) fn send(&mut self, record: Outgoing<'_>) -> Result<(), KafkaError> {
        match self {
            Self::Transactional(writer) => writer.send(record),
            Self::Idempotent(at) => at.writer.send(record),
        }
    }

    pub(super) fn send_with<'a>(
        &mut self,
        record: Outgoing<'_>,
        more: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>,
    ) -> Result<(), KafkaError> {
        match self {
            Self::Transactional(writer) => writer.send_with(record, more),
            Self::Idempotent(at) => at.writer.send_with(record, more),
        }
    }

    pub(super) fn partitions(&self, topic: &str) -> Result<i32, KafkaError> {
        match self {
            Self::Transactional(writer) => writer.partitions(topic),
            Self::Idempotent(at) => at.writer.partitions(topic, at.timeout()),
        }
    }

    pub(super) fn commit(&mut self, offsets: &[OffsetCommit<'_>], group: &GroupReader) -> Result<(), KafkaError> {
        // A membership that is not one any more is seen before anything is sent under it.
        let membership = group.group_metadata()?;
        match self {
            Self::Transactional(writer) => writer.commit(offsets, &membership),
            Self::Idempotent(at) => {
                at.writer.flush(at.timeout())?;
                at.commit(offsets, group)?;
                at.is_open = false;
                Ok(())
            }
        }
    }

    pub(super) fn commit_records(&mut self) -> Result<(), KafkaError> {
        match self {
            Self::Transactional(writer) => writer.commit_records(),
            Self::Idempotent(at) => {
                at.writer.flush(at.timeout())?;
                at.is_open = false;
                Ok(())
            }
        }
    }

    pub(super) fn abort(&mut self) -> Result<(), KafkaError> {
        match self {
            Self::Transactional(writer) => writer.abort(),
            Self::Idempotent(at) if at.is_open => at.replace(),
            Self::Idempotent(_) => Ok(()),
        }
    }

    pub(super) fn reopen(&mut self) -> Result<(), KafkaError> {
        match self {
            Self::Transactional(writer) => writer.reopen(),
            Self::Idempotent(at) => at.replace(),
        }
    }
}
