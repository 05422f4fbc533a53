//! The faults: a closed set, each with a name, a line that says what it does, and the brokers that it can be done to.

use tidewatch_benches::BrokerKind;
use tidewatch_broker::{ApiKey, ResponseError};

use crate::clock;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL of a processor, anywhere.
    Kill,
    /// SIGKILL of all processors at once.
    KillAll,
    /// SIGKILL of a processor, and again while it comes back.
    KillInRestore,
    /// SIGKILL of all processors while state is being written.
    KillInSnapshot,
    /// SIGKILL of a processor when it has sent this request; it is carried out or not.
    KillAt(Moment),
    /// SIGSTOP for twice the session time-out.
    Zombie,
    /// SIGSTOP for longer than a transaction may stand open, and shorter than the session.
    TransactionTimeout,
    /// The thread that processes is held for longer than `max.poll.interval.ms`, its clients' threads are not.
    SlowDetector,
    /// The wall clock of a processor's next life is this far off, in seconds.
    Clock(i64),
    /// SIGTERM: exit 0 in time, with the open transaction settled.
    Terminate,
    /// A second process with the instance, and so the transactional id, of another.
    Twin,
    /// A new member comes while commits are slow.
    RebalanceInTransaction,
    /// Members come and go every second or so, with and without a word.
    JoinStorm,
    /// SIGKILL of Delivery.
    KillSink,
    /// SIGSTOP of Delivery for twice the session time-out.
    ZombieSink,
    /// The broker is killed and comes back.
    BrokerKill,
    /// The broker is stopped in order and comes back.
    BrokerRestart,
    /// The broker stands still.
    BrokerFreeze,
    /// Every request's connection is cut.
    Cut,
    /// Answers to this API are lost, and their connections are silent from then on.
    LostReply(ApiKey),
    /// EndTxn arrives when the client has long given it up.
    LateEndTxn,
    /// A burst of this error.
    Errors(Burst),
    /// Requests take long.
    Slow,
    /// Every output is refused as too large: the processors end by an error, until it is over.
    OutputTooLarge,
    /// Answers ask to wait, and the connection waits.
    Throttled,
    /// Delivery's disk is full for a while.
    DiskFull,
    /// Delivery's disk is read-only for a while.
    DiskReadOnly,
    /// A claim of Delivery is damaged: refused; then it is as it was.
    ClaimDamaged,
    /// A claim of Delivery is there and empty, as after a loss of power: repaired.
    ClaimTorn,
    /// A file of Delivery's newest claim is torn or not there, and what was to become it lies beside: repaired.
    FileTorn,
    /// A file that was finished is cut or gone: the ledger names it; then it is as it was.
    FileDamaged,
    /// A bit of a state record is flipped: refused; then it is as it was.
    StateBitFlipped,
    /// A state record is of a newer version: refused; then it is as it was.
    StateNewer,
    /// An input topic gets partitions: refused.
    PartitionsAdded,
    /// An input topic is deleted and made again: refused.
    TopicRecreated,
    /// Input is gone before it was processed: refused.
    InputExpired,
}

/// What a process says that starts while the broker is not to be had.
const WITHOUT_BROKER: &[&str] = &["no broker answers", "init of transaction", "took longer than"];

impl Fault {
    /// With which words in its last line a process may end by itself because of this; its supervisor starts it again.
    pub(crate) const fn last_words(self) -> &'static [&'static str] {
        match self {
            Self::BrokerKill | Self::BrokerRestart | Self::BrokerFreeze | Self::Cut | Self::Slow => WITHOUT_BROKER,
            Self::Errors(Burst::InvalidProducerEpoch) => &["is in use by another process", "init of transaction"],
            Self::Throttled | Self::LostReply(_) | Self::Errors(_) => WITHOUT_BROKER,
            Self::Twin => &["is in use by another process", "was expelled from consumer group"],
            Self::OutputTooLarge => &["is too large for topic"],
            Self::DiskFull | Self::DiskReadOnly => &["`sink.output`"],
            Self::ClaimDamaged | Self::ClaimTorn | Self::FileTorn | Self::FileDamaged => &["`sink.output`"],
            Self::StateBitFlipped => &["is damaged (its checksum or content does not match)"],
            Self::StateNewer => &["this program reads up to"],
            Self::PartitionsAdded => &["entities have moved between partitions"],
            Self::TopicRecreated => &["deleted and made again"],
            Self::InputExpired => &["were removed by retention before they were read"],
            _ => &[],
        }
    }
}

/// A moment in the life of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Results are written, the offsets have not been announced.
    ProduceToOffsets,
    /// The offsets have been announced and are not sent.
    OffsetsAnnounced,
    /// Offsets are sent, the end is not.
    OffsetsToEnd,
    /// The end has been carried out, the processor has not heard of it.
    EndSent,
}

/// An error and what is answered with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Burst {
    ConcurrentTransactions,
    UnstableOffsetCommit,
    NotEnoughReplicas,
    InvalidProducerEpoch,
    OutOfOrderSequence,
}

impl Burst {
    /// The code, and the APIs that answer with it.
    pub(crate) const fn error(self) -> (ResponseError, &'static [ApiKey]) {
        match self {
            Self::ConcurrentTransactions => (
                ResponseError::ConcurrentTransactions,
                &[ApiKey::AddPartitionsToTxn, ApiKey::AddOffsetsToTxn, ApiKey::EndTxn, ApiKey::InitProducerId],
            ),
            Self::UnstableOffsetCommit => (ResponseError::UnstableOffsetCommit, &[ApiKey::OffsetFetch]),
            Self::NotEnoughReplicas => (ResponseError::NotEnoughReplicas, &[ApiKey::Produce]),
            Self::InvalidProducerEpoch => (
                ResponseError::InvalidProducerEpoch,
                &[ApiKey::Produce, ApiKey::AddPartitionsToTxn, ApiKey::AddOffsetsToTxn, ApiKey::EndTxn],
            ),
            Self::OutOfOrderSequence => (ResponseError::OutOfOrderSequenceNumber, &[ApiKey::Produce]),
        }
    }
}

/// How a run goes on after a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// To the same end as the golden run.
    Survived,
    /// The processors refuse to go on, with a clear word: it is the last fault of a run.
    Refused,
}

/// A fault as users know it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FaultKind {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) fault: Fault,
    /// Whether an Apache Kafka behind a relay can have it; the embedded broker can have all.
    pub(crate) is_for_kafka: bool,
    pub(crate) outcome: Outcome,
}

const fn both(name: &'static str, about: &'static str, fault: Fault) -> FaultKind {
    FaultKind { name, about, fault, is_for_kafka: true, outcome: Outcome::Survived }
}

const fn embedded(name: &'static str, about: &'static str, fault: Fault) -> FaultKind {
    FaultKind { is_for_kafka: false, ..both(name, about, fault) }
}

const fn refused(name: &'static str, about: &'static str, fault: Fault) -> FaultKind {
    FaultKind { outcome: Outcome::Refused, ..both(name, about, fault) }
}

const fn lost_reply(name: &'static str, api: ApiKey) -> FaultKind {
    both(name, "answers are lost: carried out, and the connection is silent from then on", Fault::LostReply(api))
}

const fn errors(name: &'static str, burst: Burst) -> FaultKind {
    embedded(name, "a burst of this error from each API that answers with it", Fault::Errors(burst))
}

/// All faults, in the order of the table.
pub(crate) const ALL: &[FaultKind] = &[
    both("kill", "SIGKILL of a processor at a random moment", Fault::Kill),
    both("kill-all", "SIGKILL of all processors at once", Fault::KillAll),
    both("kill-in-restore", "SIGKILL of a processor, and again while it comes back", Fault::KillInRestore),
    both("kill-in-snapshot", "SIGKILL of all processors while state is being written", Fault::KillInSnapshot),
    both("kill-before-offsets", "SIGKILL between producing and send_offsets", Fault::KillAt(Moment::ProduceToOffsets)),
    both("kill-in-offsets", "SIGKILL inside send_offsets", Fault::KillAt(Moment::OffsetsAnnounced)),
    both("kill-before-end", "SIGKILL between send_offsets and EndTxn", Fault::KillAt(Moment::OffsetsToEnd)),
    both("kill-after-end", "SIGKILL right after EndTxn was sent", Fault::KillAt(Moment::EndSent)),
    both("zombie", "SIGSTOP of a processor for twice the session time-out, then SIGCONT", Fault::Zombie),
    both("transaction-timeout", "SIGSTOP until the broker has aborted the open transaction", Fault::TransactionTimeout),
    both("slow-detector", "a processor's thread is busy for longer than max.poll.interval.ms", Fault::SlowDetector),
    both("clock-ahead", "a processor's wall clock is an hour ahead in one of its lives", Fault::Clock(clock::SECONDS)),
    both(
        "clock-behind",
        "a processor's wall clock is an hour behind in one of its lives",
        Fault::Clock(-clock::SECONDS),
    ),
    both("terminate", "SIGTERM: exit 0 within 10 s, no transaction left open", Fault::Terminate),
    both("twin", "two processes with one transactional id", Fault::Twin),
    both("rebalance-in-transaction", "a member comes and goes while commits are slow", Fault::RebalanceInTransaction),
    both("join-storm", "members come and go every second or so", Fault::JoinStorm),
    both("kill-sink", "SIGKILL of Delivery", Fault::KillSink),
    both("zombie-sink", "SIGSTOP of Delivery for twice the session time-out, then SIGCONT", Fault::ZombieSink),
    both("broker-kill", "the broker is killed and comes back", Fault::BrokerKill),
    both("broker-restart", "the broker is stopped in order and comes back", Fault::BrokerRestart),
    both("broker-freeze", "the broker stands still for 10 s", Fault::BrokerFreeze),
    both("cut", "every request's connection is cut, for up to 60 s", Fault::Cut),
    lost_reply("lost-reply-produce", ApiKey::Produce),
    lost_reply("lost-reply-add-partitions", ApiKey::AddPartitionsToTxn),
    lost_reply("lost-reply-add-offsets", ApiKey::AddOffsetsToTxn),
    lost_reply("lost-reply-txn-offset-commit", ApiKey::TxnOffsetCommit),
    lost_reply("lost-reply-end-txn", ApiKey::EndTxn),
    lost_reply("lost-reply-init-producer-id", ApiKey::InitProducerId),
    lost_reply("lost-reply-offset-fetch", ApiKey::OffsetFetch),
    lost_reply("lost-reply-join-group", ApiKey::JoinGroup),
    lost_reply("lost-reply-fetch", ApiKey::Fetch),
    both("late-end-txn", "EndTxn is delivered when its sender has long given it up", Fault::LateEndTxn),
    errors("concurrent-transactions", Burst::ConcurrentTransactions),
    errors("unstable-offset-commit", Burst::UnstableOffsetCommit),
    errors("not-enough-replicas", Burst::NotEnoughReplicas),
    errors("invalid-producer-epoch", Burst::InvalidProducerEpoch),
    errors("out-of-order-sequence", Burst::OutOfOrderSequence),
    embedded(
        "output-too-large",
        "every output is refused as too large: no endless abort, the processors end by an error",
        Fault::OutputTooLarge,
    ),
    embedded("throttled", "answers ask to wait for up to a second, and the connection waits", Fault::Throttled),
    both("slow-broker", "a third of all requests wait for up to a quarter of a second", Fault::Slow),
    both("disk-full", "Delivery's disk is full for a while", Fault::DiskFull),
    both("disk-read-only", "Delivery's disk is read-only for a while", Fault::DiskReadOnly),
    both("claim-damaged", "a claim of Delivery is damaged: refused until it is repaired", Fault::ClaimDamaged),
    both("claim-torn", "a claim of Delivery is empty, as after a loss of power: repaired", Fault::ClaimTorn),
    both("file-torn", "a file that Delivery was writing is torn, cut or gone: repaired", Fault::FileTorn),
    both(
        "file-damaged",
        "a finished file is cut or gone: the ledger names it until it is repaired",
        Fault::FileDamaged,
    ),
    both(
        "state-bit-flipped",
        "a bit of a state record is flipped: refused until it is repaired",
        Fault::StateBitFlipped,
    ),
    both("state-newer", "a state record of a newer version: refused until it is repaired", Fault::StateNewer),
    refused("partitions-added", "an input topic gets partitions: refused", Fault::PartitionsAdded),
    refused("topic-recreated", "an input topic is deleted and made again: refused", Fault::TopicRecreated),
    refused("input-expired", "input is gone before it was processed: refused", Fault::InputExpired),
];

/// Those that a broker can have, perhaps only the one of this name.
///
/// # Errors
/// A name that there is not, or not for this broker.
pub(crate) fn of(broker: BrokerKind, only: &[String]) -> anyhow::Result<Vec<&'static FaultKind>> {
    for name in only {
        let kind = ALL.iter().find(|kind| kind.name == *name);
        let kind =
            kind.ok_or_else(|| anyhow::anyhow!("--only {name}: there is no such fault; --list names them all"))?;
        let fits = broker == BrokerKind::Embedded || kind.is_for_kafka;
        anyhow::ensure!(fits, "--only {name}: it is injected by the embedded broker; leave out --broker kafka");
    }
    let wanted = |kind: &&FaultKind| {
        (broker == BrokerKind::Embedded || kind.is_for_kafka)
            && (only.is_empty() || only.iter().any(|name| name == kind.name))
    };
    Ok(ALL.iter().filter(wanted).collect())
}

/// What a fault needs of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// The right to mount a file system.
    Mount,
    /// The right to hold a thread of a child.
    Trace,
    /// A clock that can be put wrong for one process.
    Clock,
}

impl Need {
    pub(crate) const ALL: [Self; 3] = [Self::Mount, Self::Trace, Self::Clock];

    /// What is missing where it is not met.
    pub(crate) const fn about(self) -> &'static str {
        match self {
            Self::Mount => "the right to mount a file system",
            Self::Trace => "the right to trace a child process",
            Self::Clock => "a C compiler for the library that puts a clock wrong",
        }
    }
}

impl FaultKind {
    pub(crate) const fn need(&self) -> Option<Need> {
        match self.fault {
            Fault::DiskFull | Fault::DiskReadOnly => Some(Need::Mount),
            Fault::SlowDetector => Some(Need::Trace),
            Fault::Clock(_) => Some(Need::Clock),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_and_nobody_shares_one() {
        for (at, kind) in ALL.iter().enumerate() {
            assert!(kind.name.chars().all(|letter| letter.is_ascii_lowercase() || letter == '-'), "{}", kind.name);
            assert!(ALL[..at].iter().all(|other| other.name != kind.name), "{}", kind.name);
        }
    }

    #[test]
    fn a_wrong_name_is_told_what_to_do() {
        let said = |broker, name: &str| of(broker, &[name.to_owned()]).unwrap_err().to_string();
        assert!(said(BrokerKind::Embedded, "kil").contains("--list"));
        assert!(said(BrokerKind::Kafka, "throttled").contains("--broker kafka"));
        assert_eq!(of(BrokerKind::Kafka, &["kill".to_owned()]).unwrap().len(), 1);
        assert!(of(BrokerKind::Kafka, &[]).unwrap().len() < ALL.len());
        assert_eq!(of(BrokerKind::Embedded, &[]).unwrap().len(), ALL.len());
    }
}
