//! Producer ids and the transaction coordinator.
//!
//! A request asks the pure state machine ([`transaction`]) for the new state of one transactional id; the journal has that
//! state before it is the state, so what was answered survives the process. A transaction ends in three steps, each of
//! which can be done again:
//!
//! 1. the decision is journalled (`PrepareCommit`, `PrepareAbort`): from here on it is final;
//! 2. every partition gets its marker, every group commits or drops the staged offsets ([`participants`]);
//! 3. the end is journalled (`CompleteCommit`, `CompleteAbort`): only now may the producer begin its next one.
//!
//! All three are one call; what an error or a kill interrupts is finished by [`tick`](Transactions::tick) or
//! [`recover`](Transactions::recover) ([`ending`]). Where every answer is synced (`flush_interval` zero), so is each of the
//! steps before the next one, and a power loss leaves a transaction whole too; else one of the last interval may be torn by it.
//!
//! Source: Apache Kafka 4.1, `TransactionCoordinator` and `TransactionStateManager`, transaction protocol version 1 (the
//! feature `transaction.version` is not finalized here, so clients enlist partitions before they write to them).

mod ending;
mod participants;
mod producer_ids;
mod record;
pub(crate) mod transaction;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;

use crate::config::{BrokerConfig, Storage};
use crate::damage::OnDamage;
use crate::durable::Unsynced;
use crate::error::StartError;
use crate::groups::Groups;
use crate::journal::Journal;
use crate::node::Now;
use crate::topics::Topics;
use participants::{LogsAndGroups, Participants};
use producer_ids::ProducerIds;
use record::Record;
use transaction::{Enlisted, Initialised, Producer, Transaction};

/// The journal's file in the data folder.
const JOURNAL: &str = "transactions.journal";

/// All transactional ids.
pub(crate) struct Transactions<J = Journal<Record>> {
    entries: BTreeMap<String, Entry>,
    /// Those whose transaction has not ended everywhere: all that the timer looks at.
    pending: BTreeSet<String>,
    producer_ids: ProducerIds,
    journal: J,
    bounds: Bounds,
    /// When idle ids are looked for and the journal is looked at.
    housekeeping_due: Option<Instant>,
    /// Logs or groups may hold transactions that no transactional id accounts for.
    has_strays: bool,
}

/// The settings that matter here.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    timeout_max: Duration,
    expiration: Duration,
    ids_max: usize,
    is_each_step_synced: bool,
}

struct Entry {
    transaction: Transaction,
    /// While it is pending: when it is aborted, or when a prepared end is tried again.
    due: Instant,
}

/// Where decisions are kept. A trait, so that a test can stop after any of them.
pub(crate) trait Decisions {
    /// See [`Journal::append`].
    fn append(&mut self, records: &[Record]) -> io::Result<()>;
    /// See [`Journal::is_worth_rewriting`].
    fn is_worth_rewriting(&self, alive: usize) -> bool;
    /// See [`Journal::rewrite`].
    fn rewrite(&mut self, records: impl Iterator<Item = Record>) -> io::Result<()>;
    /// Syncs what was appended.
    fn sync(&mut self) -> io::Result<()>;
}

impl Decisions for Journal<Record> {
    fn append(&mut self, records: &[Record]) -> io::Result<()> {
        self.append(records)
    }

    fn is_worth_rewriting(&self, alive: usize) -> bool {
        self.is_worth_rewriting(alive)
    }

    fn rewrite(&mut self, records: impl Iterator<Item = Record>) -> io::Result<()> {
        self.rewrite(records)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.take_dirty().iter().map(Unsynced::sync).fold(Ok(()), io::Result::and)
    }
}

/// What the broker needs of it.
impl Transactions {
    /// Opens the journal in the data folder; [`recover`](Self::recover) comes before the first request.
    ///
    /// # Errors
    /// Those of [`Journal::open`].
    pub(crate) fn open(config: &BrokerConfig, now: Now) -> Result<Self, StartError> {
        let path = match &config.storage {
            Storage::Memory => None,
            Storage::Folder(folder) => Some(folder.join(JOURNAL)),
        };
        let (journal, records) = Journal::open(path.as_deref(), OnDamage::of(config))?;
        Ok(Self::new(journal, records, config, now))
    }

    /// Called once at start, when logs and groups are open: ends what was being ended, and aborts what no coordinator knows.
    pub(crate) fn recover(&mut self, topics: &mut Topics, groups: &mut Groups, now: Now) {
        self.recover_with(&mut LogsAndGroups { topics, groups }, now);
    }

    /// Aborts transactions whose time is up and forgets idle ids; called every few tens of milliseconds.
    pub(crate) fn tick(&mut self, topics: &mut Topics, groups: &mut Groups, now: Now) {
        self.tick_with(&mut LogsAndGroups { topics, groups }, now);
    }

    /// `InitProducerId` of a transactional producer: its id and epoch from here on. See [`Transaction::initialise`].
    ///
    /// # Errors
    /// `InvalidRequest`, `InvalidTransactionTimeout`, `PolicyViolation` at the bound of transactional ids; while an older
    /// transaction is being ended `ConcurrentTransactions`; those of [`Transaction::initialise`] and of the journal.
    pub(crate) fn initialise(
        &mut self,
        topics: &mut Topics,
        groups: &mut Groups,
        id: &str,
        claimed: Option<Producer>,
        timeout_ms: i32,
        now: Now,
    ) -> Result<Producer, ResponseError> {
        self.initialise_with(&mut LogsAndGroups { topics, groups }, id, claimed, timeout_ms, now)
    }

    /// `EndTxn`. Once decided it is `Ok`, also if a full disk keeps a marker back: the timer goes on with it, and the
    /// producer's next request is answered with `ConcurrentTransactions` until it is done.
    ///
    /// # Errors
    /// `InvalidRequest`, those of [`Transaction::end`] and of the journal.
    pub(crate) fn end(
        &mut self,
        topics: &mut Topics,
        groups: &mut Groups,
        id: &str,
        producer: Producer,
        is_commit: bool,
        now: Now,
    ) -> Result<(), ResponseError> {
        self.end_with(&mut LogsAndGroups { topics, groups }, id, producer, is_commit, now)
    }

    /// See [`Journal::take_dirty`].
    pub(crate) fn take_dirty(&mut self) -> Vec<Unsynced> {
        self.journal.take_dirty()
    }

    /// See [`Journal::is_whole`].
    pub(crate) fn is_whole(&self) -> bool {
        self.journal.is_whole()
    }
}

impl<J: Decisions> Transactions<J> {
    fn new(journal: J, records: Vec<Record>, config: &BrokerConfig, now: Now) -> Self {
        let replayed = record::replay(records);
        let mut transactions = Self {
            entries: BTreeMap::new(),
            pending: BTreeSet::new(),
            producer_ids: ProducerIds::after(replayed.reserved_end),
            journal,
            bounds: Bounds {
                timeout_max: config.transaction_timeout_max,
                expiration: config.transactional_id_expiration,
                ids_max: config.limits.transactional_ids_max,
                is_each_step_synced: config.flush_interval.is_zero(),
            },
            housekeeping_due: None,
            has_strays: true,
        };
        for (id, transaction) in replayed.transactions {
            transactions.set(id, transaction, now);
        }
        transactions
    }

    /// The id of a producer without a transactional id; its epoch is 0.
    ///
    /// # Errors
    /// `CoordinatorLoadInProgress`, which clients try again, if no block of ids can be journalled.
    pub(crate) fn new_producer_id(&mut self) -> Result<i64, ResponseError> {
        if let Some(id) = self.producer_ids.take() {
            return Ok(id);
        }
        let reserved_end = self.producer_ids.next_block().ok_or(ResponseError::UnknownServerError)?;
        self.journal.append(&[Record::ProducerIds { reserved_end }]).map_err(|error| {
            tracing::error!(%error, "cannot journal a block of producer ids");
            ResponseError::CoordinatorLoadInProgress
        })?;
        self.producer_ids.reserve(reserved_end);
        self.producer_ids.take().ok_or(ResponseError::UnknownServerError)
    }

    fn initialise_with(
        &mut self,
        participants: &mut impl Participants,
        id: &str,
        claimed: Option<Producer>,
        timeout_ms: i32,
        now: Now,
    ) -> Result<Producer, ResponseError> {
        check_id(id)?;
        let is_timeout_valid =
            u64::try_from(timeout_ms).is_ok_and(|ms| ms > 0 && Duration::from_millis(ms) <= self.bounds.timeout_max);
        if !is_timeout_valid {
            return Err(ResponseError::InvalidTransactionTimeout);
        }
        let initialised = match self.entries.get(id).map(|entry| entry.transaction.clone()) {
            Some(known) => known.initialise(claimed, timeout_ms, now.unix_ms, || self.new_producer_id())?,
            None if self.entries.len() >= self.bounds.ids_max => {
                tracing::warn!(
                    id,
                    max = self.bounds.ids_max,
                    "refused: as many transactional ids as transactional_ids_max"
                );
                return Err(ResponseError::PolicyViolation);
            }
            None => Initialised::Ready(Transaction::new(self.new_producer_id()?, timeout_ms, now.unix_ms)),
        };
        match initialised {
            Initialised::Ready(transaction) => {
                let producer = transaction.producer;
                self.change(id, transaction, now)?;
                Ok(producer)
            }
            Initialised::Fenced(prepared) => {
                self.change(id, prepared, now)?;
                self.settle(id, participants, false, now);
                Err(ResponseError::ConcurrentTransactions)
            }
        }
    }

    /// `AddPartitionsToTxn` and `AddOffsetsToTxn`.
    ///
    /// # Errors
    /// `InvalidRequest`, those of [`Transaction::enlist`] and of the journal.
    pub(crate) fn enlist(
        &mut self,
        id: &str,
        producer: Producer,
        added: &Enlisted,
        now: Now,
    ) -> Result<(), ResponseError> {
        match self.known(id)?.enlist(producer, added, now.unix_ms)? {
            Some(transaction) => self.change(id, transaction, now),
            None => Ok(()),
        }
    }

    fn end_with(
        &mut self,
        participants: &mut impl Participants,
        id: &str,
        producer: Producer,
        is_commit: bool,
        now: Now,
    ) -> Result<(), ResponseError> {
        if let Some(prepared) = self.known(id)?.end(producer, is_commit, now.unix_ms)? {
            self.change(id, prepared, now)?;
            self.settle(id, participants, false, now);
        }
        Ok(())
    }

    /// Whether a producer may write to a partition in its transaction; asked for the first batch of each (KIP-890, part 1).
    ///
    /// # Errors
    /// As Kafka answers a produce request of this version: `InvalidProducerIdMapping`, `InvalidProducerEpoch`;
    /// `NotEnoughReplicas`, which clients try again, while a transaction is being ended; `InvalidTxnState`, or from version
    /// 11 on `TransactionAbortable`, if the partition was not enlisted.
    pub(crate) fn verify_partition(
        &self,
        id: &str,
        producer: Producer,
        topic: &str,
        partition: i32,
        produce_version: i16,
    ) -> Result<(), ResponseError> {
        let verified = self
            .known(id)
            .and_then(|known| known.verify(producer, |enlisted| enlisted.has_partition(topic, partition)));
        verified.map_err(|error| match error {
            ResponseError::ProducerFenced => ResponseError::InvalidProducerEpoch,
            ResponseError::ConcurrentTransactions => ResponseError::NotEnoughReplicas,
            ResponseError::TransactionAbortable if produce_version < 11 => ResponseError::InvalidTxnState,
            other => other,
        })
    }

    /// Whether a producer may stage offsets of a group in its transaction.
    ///
    /// # Errors
    /// As Kafka answers a `TxnOffsetCommit` of this version: `InvalidRequest`, `InvalidProducerIdMapping`,
    /// `InvalidProducerEpoch`, `ConcurrentTransactions`; `InvalidTxnState`, or from version 4 on `TransactionAbortable`, if
    /// the group was not enlisted.
    pub(crate) fn verify_group(
        &self,
        id: &str,
        producer: Producer,
        group: &str,
        commit_version: i16,
    ) -> Result<(), ResponseError> {
        let verified =
            self.known(id).and_then(|known| known.verify(producer, |enlisted| enlisted.groups.contains(group)));
        verified.map_err(|error| match error {
            ResponseError::ProducerFenced => ResponseError::InvalidProducerEpoch,
            ResponseError::TransactionAbortable if commit_version < 4 => ResponseError::InvalidTxnState,
            other => other,
        })
    }

    /// One transactional id.
    pub(crate) fn get(&self, id: &str) -> Option<&Transaction> {
        self.entries.get(id).map(|entry| &entry.transaction)
    }

    /// All transactional ids, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Transaction)> {
        self.entries.iter().map(|(id, entry)| (id.as_str(), &entry.transaction))
    }

    fn known(&self, id: &str) -> Result<&Transaction, ResponseError> {
        check_id(id)?;
        self.get(id).ok_or(ResponseError::InvalidProducerIdMapping)
    }

    /// Journals a new state, then makes it the state.
    fn change(&mut self, id: &str, transaction: Transaction, now: Now) -> Result<(), ResponseError> {
        let record = Record::Transaction { id: id.to_owned(), transaction: transaction.clone() };
        self.journal.append(&[record]).map_err(|error| {
            tracing::error!(%error, id, state = transaction.state.name(), "cannot journal the state of a transactional id");
            // What Kafka makes of a storage error in its transaction log: clients look the coordinator up and ask again.
            ResponseError::NotCoordinator
        })?;
        let Transaction { producer, state, .. } = transaction;
        tracing::debug!(
            id,
            state = state.name(),
            producer_id = producer.id,
            epoch = producer.epoch,
            "a transactional id"
        );
        self.set(id.to_owned(), transaction, now);
        Ok(())
    }

    fn set(&mut self, id: String, transaction: Transaction, now: Now) {
        if transaction.state.is_pending() {
            self.pending.insert(id.clone());
        } else {
            self.pending.remove(&id);
        }
        // A transaction's time runs from its first partition on, whatever is enlisted later and however often the broker
        // starts; a clock that was set back makes it no longer.
        let due = match self.entries.get(&id) {
            Some(entry) if entry.transaction.state == transaction.state => entry.due,
            _ => {
                let passed_ms = now.unix_ms.saturating_sub(transaction.started_ms.unwrap_or(now.unix_ms)).max(0);
                let left_ms = i64::from(transaction.timeout_ms).saturating_sub(passed_ms);
                now.instant + Duration::from_millis(u64::try_from(left_ms).unwrap_or(0))
            }
        };
        self.entries.insert(id, Entry { transaction, due });
    }
}

fn check_id(id: &str) -> Result<(), ResponseError> {
    if id.is_empty() { Err(ResponseError::InvalidRequest) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
