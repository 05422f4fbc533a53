//! Every way in which talking to Kafka fails, and what to do about each.
//!
//! Invariant: one line, lower case, the values in it, the setting to change named; an error has exactly one
//! [`Disposition`], decided here and matched once per shell. Source: librdkafka's error codes and `INTRODUCTION.md`.

use std::thread;
use std::time::{Duration, Instant};

pub use rdkafka::error::RDKafkaErrorCode;

/// Between two tries of what may be tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// What a shell does with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Passing trouble: do the same again a little later.
    Retry,
    /// The open transaction is void: abort it, go back to the last committed state, and go on. If the error also says
    /// [`needs_new_writer`](KafkaError::needs_new_writer), the transactional writer is reopened first.
    AbortCycle,
    /// This one record cannot be handled: write it off with its reason and go on.
    DeadLetter,
    /// Nothing helps but a change from outside: end with the error's line.
    Fatal,
}

/// What became of a transaction whose operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionOutcome {
    /// It was not committed and must be aborted.
    Abortable,
    /// Nobody knows: the reply was lost or late. A new writer with the same id settles it (the epoch is bumped).
    Indefinite,
    /// Another writer took over this transactional id.
    Fenced,
    /// The client cannot go on at all.
    Fatal,
}

/// An error of this crate.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KafkaError {
    /// A setting is missing, unknown, or has a value that cannot be.
    #[error("{setting}: {reason}")]
    Setting {
        /// The setting with its value unless that is a secret: `kafka.sasl_username`, `kafka.properties."linger.ms" = "soon"`.
        setting: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// No broker answered in time.
    #[error("no broker answers at kafka.bootstrap_servers = {bootstrap_servers:?} within {} s: {reason}", waited.as_secs_f32())]
    Unreachable {
        /// The setting's value.
        bootstrap_servers: String,
        /// How long we tried: `kafka.connect_timeout`.
        waited: Duration,
        /// The last thing that the client said.
        reason: String,
    },
    /// A broker answered and did not let us in.
    #[error(
        "the broker at kafka.bootstrap_servers = {bootstrap_servers:?} refused the connection, check {settings}: {reason}"
    )]
    Refused {
        /// The setting's value.
        bootstrap_servers: String,
        /// The settings that decide this.
        settings: &'static str,
        /// What the client said.
        reason: String,
    },
    /// A topic that is needed is not there.
    #[error(
        "topic {topic:?} does not exist: create it (`tidewatch topics create`) or change the setting that names it"
    )]
    UnknownTopic {
        /// Its name.
        topic: String,
    },
    /// The principal has no right to do this.
    #[error(
        "no right to {operation} {resource}: grant it to the principal of kafka.sasl_username, or use another one ({reason})"
    )]
    NotAuthorized {
        /// What was tried.
        operation: &'static str,
        /// On what.
        resource: String,
        /// What the broker said.
        reason: String,
    },
    /// A topic has another number of partitions than configured.
    #[error(
        "topic {topic:?} has {found} partitions, {wanted} are configured: keys would move to other partitions and split an entity's history, \
         so set {found} in the settings or use a new topic"
    )]
    PartitionCount {
        /// The topic.
        topic: String,
        /// How many it has.
        found: usize,
        /// How many were asked for.
        wanted: usize,
    },
    /// A topic could not be created.
    #[error("topic {topic:?} cannot be created with {partitions} partitions and replication {replication}: {reason}")]
    NotCreated {
        /// The topic.
        topic: String,
        /// As asked for.
        partitions: i32,
        /// As asked for.
        replication: i32,
        /// What the broker said.
        reason: String,
    },
    /// The record at the position is gone, or was never there.
    #[error(
        "{topic}[{partition}] holds no offset {offset}: retention removed it before it was read, or the topic was created anew; \
         raise the topic's retention, or reset the group's offsets to go on with the loss"
    )]
    OffsetOutOfRange {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset that was asked for, -1 if not known.
        offset: i64,
    },
    /// One record is larger than the topic takes.
    #[error(
        "a record of {size} bytes is too large for topic {topic:?}: raise the topic's max.message.bytes and kafka.properties.\"message.max.bytes\""
    )]
    RecordTooLarge {
        /// The topic.
        topic: String,
        /// Key and value together.
        size: usize,
    },
    /// A topic does not take one record, and will not the next time.
    #[error(
        "topic {topic:?} refuses a record ({reason}): records are of their events' time, so set the topic's \
         message.timestamp.before.max.ms and message.timestamp.after.max.ms to {}",
        i64::MAX
    )]
    RecordRefused {
        /// The topic.
        topic: String,
        /// What the broker said: not more than that it cannot be validated, whatever of it (librdkafka 2.12).
        reason: String,
    },
    /// A record was handed over and did not arrive.
    #[error("a record for {topic}[{partition}] was not delivered: {reason}")]
    Delivery {
        /// The topic.
        topic: String,
        /// The partition, -1 if none was chosen yet.
        partition: i32,
        /// The client's code.
        code: RDKafkaErrorCode,
        /// The code in words.
        reason: String,
    },
    /// A transactional operation failed.
    #[error("{operation} of transaction {transactional_id:?} failed ({outcome:?}): {reason}")]
    Transaction {
        /// Init, begin, send offsets, commit, abort.
        operation: &'static str,
        /// Whose transaction.
        transactional_id: String,
        /// What became of it.
        outcome: TransactionOutcome,
        /// What the client said.
        reason: String,
    },
    /// The group refused this member for good, for example because another one uses its `group.instance.id`.
    #[error("this member was expelled from consumer group {group:?}: {reason}")]
    Expelled {
        /// The group.
        group: String,
        /// What the client said.
        reason: String,
    },
    /// Something took longer than it may.
    #[error("{operation} took longer than {} s", waited.as_secs_f32())]
    TimedOut {
        /// What.
        operation: &'static str,
        /// How long it was waited for.
        waited: Duration,
    },
    /// Any other failure of an operation.
    #[error("{operation} failed: {reason}")]
    Client {
        /// What was tried.
        operation: &'static str,
        /// The client's code, if it gave one.
        code: Option<RDKafkaErrorCode>,
        /// The code in words.
        reason: String,
    },
}

impl KafkaError {
    /// What a shell does about it.
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Setting { .. } | Self::Unreachable { .. } | Self::Refused { .. } | Self::UnknownTopic { .. } => {
                Disposition::Fatal
            }
            Self::NotAuthorized { .. } | Self::PartitionCount { .. } | Self::NotCreated { .. } => Disposition::Fatal,
            Self::OffsetOutOfRange { .. } | Self::Expelled { .. } => Disposition::Fatal,
            Self::RecordTooLarge { .. } | Self::RecordRefused { .. } => Disposition::DeadLetter,
            Self::TimedOut { .. } => Disposition::Retry,
            Self::Delivery { code, .. } => of_code(*code),
            Self::Client { code, .. } => code.map_or(Disposition::Fatal, of_code),
            Self::Transaction { outcome, .. } => match outcome {
                TransactionOutcome::Abortable | TransactionOutcome::Indefinite => Disposition::AbortCycle,
                TransactionOutcome::Fenced | TransactionOutcome::Fatal => Disposition::Fatal,
            },
        }
    }

    /// The transactional writer that returned this must be [reopened](crate::TransactionalWriter::reopen) before it is used again.
    pub fn needs_new_writer(&self) -> bool {
        matches!(self, Self::Transaction { outcome, .. } if *outcome != TransactionOutcome::Abortable)
    }

    /// An error of the client under a name of ours for what was tried.
    pub(crate) fn client(operation: &'static str, error: &rdkafka::error::KafkaError) -> Self {
        let code = error.rdkafka_error_code().or(match error {
            rdkafka::error::KafkaError::AdminOp(code) => Some(*code),
            _ => None,
        });
        match code {
            Some(code) => Self::of_code(operation, code),
            None => Self::Client { operation, code: None, reason: error.to_string() },
        }
    }

    pub(crate) fn of_code(operation: &'static str, code: RDKafkaErrorCode) -> Self {
        Self::Client { operation, code: Some(code), reason: code.to_string() }
    }
}

/// The disposition of a bare code. Codes that the client itself retries are passing; the rest is listed.
fn of_code(code: RDKafkaErrorCode) -> Disposition {
    use RDKafkaErrorCode as Code;
    match code {
        Code::MessageSizeTooLarge | Code::InvalidRecord | Code::InvalidTimestamp | Code::MessageBatchTooLarge => {
            Disposition::DeadLetter
        }
        Code::IllegalGeneration | Code::UnknownMemberId | Code::RebalanceInProgress | Code::AssignmentLost => {
            Disposition::AbortCycle
        }
        // A partition is not where a question wants it to be, or is not any more when it is answered: it comes or goes just now. Or a broker
        // that has just started does not know all of its own yet.
        Code::State | Code::Outdated | Code::UnknownPartition => Disposition::AbortCycle,
        code if is_passing(code) => Disposition::Retry,
        _ => Disposition::Fatal,
    }
}

/// Trouble with the network or a broker that is moving house: the client goes on trying by itself.
pub(crate) fn is_passing(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::Resolve
            | Code::OperationTimedOut
            | Code::RequestTimedOut
            | Code::MessageTimedOut
            | Code::TimedOutQueue
            | Code::WaitingForCoordinator
            | Code::WaitCache
            | Code::InProgress
            | Code::Retry
            | Code::NodeUpdate
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::BrokerNotAvailable
            | Code::ReplicaNotAvailable
            | Code::NetworkException
            | Code::CoordinatorLoadInProgress
            | Code::CoordinatorNotAvailable
            | Code::NotCoordinator
            | Code::NotController
            | Code::NotEnoughReplicas
            | Code::NotEnoughReplicasAfterAppend
            | Code::KafkaStorageError
            | Code::FencedLeaderEpoch
            | Code::UnknownLeaderEpoch
            | Code::OffsetNotAvailable
            | Code::UnstableOffsetCommit
            | Code::ThrottlingQuotaExceeded
            | Code::ConcurrentTransactions
            | Code::PollExceeded
            | Code::DestroyBroker
    )
}

/// Asks again while the trouble is passing and there is time; a pause lies between two tries.
pub(crate) fn retry_passing<T>(
    timeout: Duration,
    mut ask: impl FnMut(Duration) -> Result<T, rdkafka::error::KafkaError>,
) -> Result<T, rdkafka::error::KafkaError> {
    let start = Instant::now();
    loop {
        let remaining = timeout.saturating_sub(start.elapsed());
        match ask(remaining.max(RETRY_PAUSE)) {
            Err(error) if error.rdkafka_error_code().is_some_and(is_passing) && !remaining.is_zero() => {
                thread::sleep(RETRY_PAUSE.min(remaining)); // another machine is to get ready: there is nothing to be woken by
            }
            answer => return answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_that_matters_has_its_disposition() {
        use RDKafkaErrorCode as Code;
        for (code, disposition) in [
            (Code::BrokerTransportFailure, Disposition::Retry),
            (Code::NotEnoughReplicas, Disposition::Retry),
            (Code::MessageSizeTooLarge, Disposition::DeadLetter),
            (Code::RebalanceInProgress, Disposition::AbortCycle),
            (Code::State, Disposition::AbortCycle),
            (Code::Outdated, Disposition::AbortCycle),
            (Code::UnknownPartition, Disposition::AbortCycle),
            (Code::UnknownTopicOrPartition, Disposition::Fatal),
            (Code::TopicAuthorizationFailed, Disposition::Fatal),
            (Code::FencedInstanceId, Disposition::Fatal),
        ] {
            assert_eq!(KafkaError::of_code("read", code).disposition(), disposition, "{code:?}");
        }
    }

    #[test]
    fn an_indefinite_commit_needs_a_new_writer_and_a_fenced_one_ends() {
        for (outcome, disposition, new_writer) in [
            (TransactionOutcome::Abortable, Disposition::AbortCycle, false),
            (TransactionOutcome::Indefinite, Disposition::AbortCycle, true),
            (TransactionOutcome::Fenced, Disposition::Fatal, true),
        ] {
            let error = KafkaError::Transaction {
                operation: "commit",
                transactional_id: "t".into(),
                outcome,
                reason: "r".into(),
            };
            assert_eq!((error.disposition(), error.needs_new_writer()), (disposition, new_writer));
        }
    }

    #[test]
    fn an_error_is_one_line_that_names_the_setting() {
        let error = KafkaError::Unreachable {
            bootstrap_servers: "x:1".into(),
            waited: Duration::from_secs(5),
            reason: "connection refused".into(),
        };
        assert_eq!(
            error.to_string(),
            "no broker answers at kafka.bootstrap_servers = \"x:1\" within 5 s: connection refused"
        );
    }
}
