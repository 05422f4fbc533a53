//! The state machine of one transactional id: a state and a request give a new state or an error, and nothing else happens.
//!
//! ```text
//!            initialise        enlist             end                        complete
//! (unknown) ------------> Empty -------> Ongoing -----> PrepareCommit/Abort -----> CompleteCommit/Abort
//!                           ^  ^                 fence: PrepareAbort, epoch + 1      |  |
//!                           |  +-------------------- initialise ---------------------+  |
//!                           +---------- (Ongoing again) <------------- enlist ----------+
//! ```
//!
//! Invariants: an epoch that was given to a producer is never given to another one, and the epoch `i16::MAX` is given to
//! none, so that every producer can be fenced. A prepared end is never taken back.
//!
//! Source: Apache Kafka 4.1, `TransactionMetadata` and `TransactionCoordinator`, with transaction protocol version 1 (a
//! producer keeps its epoch from one transaction to the next), KIP-98, KIP-360; and KIP-588 (who was fenced by a time-out may
//! come back) as a Kafka 4.1 of the default settings has it. Kafka's two transient states have no value here:
//! `PrepareEpochFence` is [`fence`](Transaction::fence), and a `Dead` id is removed.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::ResponseError;
use serde::{Deserialize, Serialize};

/// Who writes: the id and the epoch that every request of a producer carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Producer {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
}

impl Producer {
    /// The next epoch of this id would leave none to fence it with.
    fn is_exhausted(self) -> bool {
        self.epoch >= i16::MAX - 1
    }

    fn next(self) -> Self {
        Self { epoch: self.epoch.saturating_add(1), ..self }
    }
}

/// Where a transactional id is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum State {
    /// The producer is initialised and has begun nothing.
    Empty,
    /// Partitions or groups are enlisted.
    Ongoing,
    /// Decided, markers may be missing.
    PrepareCommit,
    /// Decided, markers may be missing.
    PrepareAbort,
    /// All markers are written.
    CompleteCommit,
    /// All markers are written.
    CompleteAbort,
}

impl State {
    /// Every name that Kafka knows, the two of its transient states too.
    pub(crate) const NAMES: [&str; 8] = [
        "Empty",
        "Ongoing",
        "PrepareCommit",
        "PrepareAbort",
        "CompleteCommit",
        "CompleteAbort",
        "Dead",
        "PrepareEpochFence",
    ];

    /// As Kafka's tools show it.
    pub(crate) fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// Whether there is a transaction that has not ended everywhere.
    pub(crate) fn is_pending(self) -> bool {
        matches!(self, Self::Ongoing | Self::PrepareCommit | Self::PrepareAbort)
    }
}

/// What takes part in a transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Enlisted {
    /// Partitions that are written to, by topic.
    pub(crate) partitions: BTreeMap<String, BTreeSet<i32>>,
    /// Groups whose offsets are committed.
    pub(crate) groups: BTreeSet<String>,
}

impl Enlisted {
    pub(crate) fn has_partition(&self, topic: &str, partition: i32) -> bool {
        self.partitions.get(topic).is_some_and(|partitions| partitions.contains(&partition))
    }

    fn contains(&self, other: &Self) -> bool {
        let has_all = |(topic, partitions): (&String, &BTreeSet<i32>)| {
            self.partitions.get(topic).is_some_and(|own| own.is_superset(partitions))
        };
        other.partitions.iter().all(has_all) && self.groups.is_superset(&other.groups)
    }

    fn extend(&mut self, other: &Self) {
        for (topic, partitions) in &other.partitions {
            self.partitions.entry(topic.clone()).or_default().extend(partitions);
        }
        self.groups.extend(other.groups.iter().cloned());
    }
}

/// All that is kept of a transactional id; the journal has it as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Transaction {
    pub(crate) producer: Producer,
    /// The id before this one, from a change of ids until the first transaction after it.
    previous_id: Option<i64>,
    /// The epoch before the present one, with which its own producer may ask for the present one; none if another instance
    /// was given the present one.
    last_epoch: Option<i16>,
    pub(crate) state: State,
    pub(crate) enlisted: Enlisted,
    pub(crate) timeout_ms: i32,
    /// When the present or the last transaction began, in ms since 1970.
    pub(crate) started_ms: Option<i64>,
    /// The last change, in ms since 1970.
    pub(crate) updated_ms: i64,
}

/// What comes of an initialisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Initialised {
    /// The new state has the producer's id and epoch.
    Ready(Transaction),
    /// A transaction is open and has to be aborted first, as in this state; the client is to ask again.
    Fenced(Transaction),
}

impl Transaction {
    /// A transactional id that was not known, or was forgotten.
    pub(crate) fn new(id: i64, timeout_ms: i32, now_ms: i64) -> Self {
        Self {
            producer: Producer { id, epoch: 0 },
            previous_id: None,
            last_epoch: None,
            state: State::Empty,
            enlisted: Enlisted::default(),
            timeout_ms,
            started_ms: None,
            updated_ms: now_ms,
        }
    }

    /// A producer starts (`claimed` is `None`: whoever was it before is fenced) or goes on after an error with the id and
    /// epoch that it has. `new_id` is asked when the id's epochs are used up.
    ///
    /// # Errors
    /// `ProducerFenced`; `ConcurrentTransactions` while a transaction is being ended; those of `new_id`.
    pub(crate) fn initialise(
        &self,
        claimed: Option<Producer>,
        timeout_ms: i32,
        now_ms: i64,
        new_id: impl FnOnce() -> Result<i64, ResponseError>,
    ) -> Result<Initialised, ResponseError> {
        if claimed.is_some_and(|claimed| !self.is_own_id(claimed)) {
            return Err(ResponseError::ProducerFenced);
        }
        match self.state {
            State::PrepareCommit | State::PrepareAbort => Err(ResponseError::ConcurrentTransactions),
            State::Ongoing => Ok(Initialised::Fenced(self.fence(now_ms))),
            State::Empty | State::CompleteCommit | State::CompleteAbort => {
                let renewed = self.renew(claimed.map(|claimed| claimed.epoch), new_id)?;
                Ok(Initialised::Ready(Self { timeout_ms, updated_ms: now_ms, ..renewed }))
            }
        }
    }

    /// The claimed id is this one's, or was until its epochs were used up (the answer that said so was lost).
    fn is_own_id(&self, claimed: Producer) -> bool {
        claimed.id == self.producer.id || (Some(claimed.id) == self.previous_id && claimed.is_exhausted())
    }

    fn renew(
        &self,
        claimed_epoch: Option<i16>,
        new_id: impl FnOnce() -> Result<i64, ResponseError>,
    ) -> Result<Self, ResponseError> {
        let renewed = Self { state: State::Empty, enlisted: Enlisted::default(), started_ms: None, ..self.clone() };
        let is_last = claimed_epoch.is_some() && claimed_epoch == self.last_epoch;
        match claimed_epoch {
            // A retry: the epoch was raised for this very producer and the answer got lost, or it was fenced by it. The
            // greatest epoch is given to nobody: there is none after it to fence by.
            Some(epoch) if epoch != self.producer.epoch && is_last && self.producer.epoch < i16::MAX => Ok(renewed),
            Some(epoch) if epoch != self.producer.epoch && !is_last => Err(ResponseError::ProducerFenced),
            _ if self.producer.is_exhausted() => {
                let producer = Producer { id: new_id()?, epoch: 0 };
                Ok(Self { producer, previous_id: Some(self.producer.id), last_epoch: claimed_epoch, ..renewed })
            }
            _ => Ok(Self { producer: self.producer.next(), previous_id: None, last_epoch: claimed_epoch, ..renewed }),
        }
    }

    /// Adds partitions or groups, which begins a transaction if none is open. `None`: it has them already.
    ///
    /// # Errors
    /// `InvalidProducerIdMapping`, `ProducerFenced`; `ConcurrentTransactions` while a transaction is being ended.
    pub(crate) fn enlist(
        &self,
        producer: Producer,
        added: &Enlisted,
        now_ms: i64,
    ) -> Result<Option<Self>, ResponseError> {
        self.check_producer(producer)?;
        let started_ms = match self.state {
            State::PrepareCommit | State::PrepareAbort => return Err(ResponseError::ConcurrentTransactions),
            State::Ongoing if self.enlisted.contains(added) => return Ok(None),
            State::Ongoing => self.started_ms,
            State::Empty | State::CompleteCommit | State::CompleteAbort => Some(now_ms),
        };
        let mut enlisted = self.enlisted.clone();
        enlisted.extend(added);
        let state = State::Ongoing;
        Ok(Some(Self { state, enlisted, started_ms, previous_id: None, updated_ms: now_ms, ..self.clone() }))
    }

    /// Whether a producer may write to a partition or stage offsets of a group (`is_enlisted`) in its transaction.
    ///
    /// # Errors
    /// `InvalidProducerIdMapping`, `ProducerFenced`; `ConcurrentTransactions` while a transaction is being ended;
    /// `TransactionAbortable` if it was not enlisted.
    pub(crate) fn verify(
        &self,
        producer: Producer,
        is_enlisted: impl FnOnce(&Enlisted) -> bool,
    ) -> Result<(), ResponseError> {
        self.check_producer(producer)?;
        match self.state {
            State::PrepareCommit | State::PrepareAbort => Err(ResponseError::ConcurrentTransactions),
            _ if is_enlisted(&self.enlisted) => Ok(()),
            _ => Err(ResponseError::TransactionAbortable),
        }
    }

    /// Decides the end of the open transaction. `None`: it has ended like that already.
    ///
    /// # Errors
    /// `InvalidProducerIdMapping`, `ProducerFenced`; `ConcurrentTransactions` while it is being ended like that;
    /// `InvalidTxnState` if there is none, or it ends or ended the other way.
    pub(crate) fn end(&self, producer: Producer, is_commit: bool, now_ms: i64) -> Result<Option<Self>, ResponseError> {
        self.check_producer(producer)?;
        match (self.state, is_commit) {
            (State::Ongoing, _) => Ok(Some(self.prepare(is_commit, now_ms))),
            (State::PrepareCommit, true) | (State::PrepareAbort, false) => Err(ResponseError::ConcurrentTransactions),
            (State::CompleteCommit, true) | (State::CompleteAbort, false) => Ok(None),
            _ => Err(ResponseError::InvalidTxnState),
        }
    }

    /// Aborts the open transaction and shuts its producer out by the next epoch: its time is up, or another instance has
    /// started. The producer itself may come back with the epoch that it had and is given this one (KIP-588).
    pub(crate) fn fence(&self, now_ms: i64) -> Self {
        let last_epoch = Some(self.producer.epoch);
        Self { producer: self.producer.next(), last_epoch, ..self.prepare(false, now_ms) }
    }

    /// All markers of a prepared end are written.
    pub(crate) fn complete(&self, now_ms: i64) -> Self {
        let state = match self.state {
            State::PrepareCommit => State::CompleteCommit,
            State::PrepareAbort => State::CompleteAbort,
            other => other,
        };
        Self { state, enlisted: Enlisted::default(), updated_ms: now_ms, ..self.clone() }
    }

    fn prepare(&self, is_commit: bool, now_ms: i64) -> Self {
        let state = if is_commit { State::PrepareCommit } else { State::PrepareAbort };
        Self { state, updated_ms: now_ms, ..self.clone() }
    }

    fn check_producer(&self, producer: Producer) -> Result<(), ResponseError> {
        if producer.id != self.producer.id {
            return Err(ResponseError::InvalidProducerIdMapping);
        }
        if producer.epoch != self.producer.epoch {
            return Err(ResponseError::ProducerFenced);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
