//! The end of a transaction after its decision, and what is done without a request: time-outs, retries, recovery, expiry.

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_protocol::ResponseError;

use super::participants::Participants;
use super::record::Record;
use super::transaction::{Producer, State, Transaction};
use super::{Decisions, Transactions};
use crate::node::Now;

/// How long after an error of the disk an end is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// How often idle ids are looked for and the journal is looked at.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(10);

impl<J: Decisions> Transactions<J> {
    /// See [`Transactions::recover`].
    pub(super) fn recover_with(&mut self, participants: &mut impl Participants, now: Now) {
        let prepared: Vec<String> = self.pending.iter().filter(|id| self.is_prepared(id)).cloned().collect();
        for id in prepared {
            tracing::info!(id, "a transaction was being ended when the broker ended; it is ended now");
            self.settle(&id, participants, true, now);
        }
        for written in participants.producers() {
            self.producer_ids.skip(written.producer.producer_id);
        }
        self.abort_strays(participants, now);
    }

    /// See [`Transactions::tick`].
    pub(super) fn tick_with(&mut self, participants: &mut impl Participants, now: Now) {
        let is_due = |id: &&String| self.entries.get(*id).is_some_and(|entry| entry.due <= now.instant);
        let due: Vec<String> = self.pending.iter().filter(is_due).cloned().collect();
        for id in due {
            let is_again = self.is_prepared(&id);
            if is_again || self.time_out(&id, now) {
                self.settle(&id, participants, is_again, now);
            }
        }
        if self.housekeeping_due.is_none_or(|due| due <= now.instant) {
            self.housekeeping_due = Some(now.instant + HOUSEKEEPING_INTERVAL);
            if self.has_strays {
                self.abort_strays(participants, now);
            }
            self.forget_idle(now);
            self.rewrite_journal();
        }
    }

    /// Carries a prepared end out and journals that it is done. What fails is tried again (`is_again`) by the timer.
    pub(super) fn settle(&mut self, id: &str, participants: &mut impl Participants, is_again: bool, now: Now) {
        let Some(transaction) = self.get(id).cloned() else { return };
        let ended = self.sync_decision(id).and_then(|()| end_everywhere(&transaction, participants, is_again, now));
        let synced = ended.and_then(|()| if self.bounds.is_each_step_synced { participants.sync() } else { Ok(()) });
        if synced.and_then(|()| self.change(id, transaction.complete(now.unix_ms), now)).is_err() {
            self.retry_later(id, now);
        }
    }

    fn sync_decision(&mut self, id: &str) -> Result<(), ResponseError> {
        if !self.bounds.is_each_step_synced {
            return Ok(());
        }
        self.journal.sync().map_err(|error| {
            tracing::error!(%error, id, "cannot sync the decision to end a transaction; it is tried again");
            ResponseError::KafkaStorageError
        })
    }

    fn is_prepared(&self, id: &str) -> bool {
        self.get(id).is_some_and(|transaction| transaction.state.is_pending() && transaction.state != State::Ongoing)
    }

    /// Decides to abort a transaction whose time is up; whether that is journalled.
    fn time_out(&mut self, id: &str, now: Now) -> bool {
        let Some(transaction) = self.get(id).map(|transaction| transaction.fence(now.unix_ms)) else { return false };
        let Transaction { timeout_ms, producer, .. } = transaction;
        let is_decided = self.change(id, transaction, now).is_ok();
        if is_decided {
            tracing::info!(id, timeout_ms, producer_id = producer.id, "aborted a transaction: its time is up");
        } else {
            self.retry_later(id, now);
        }
        is_decided
    }

    fn retry_later(&mut self, id: &str, now: Now) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.due = now.instant + RETRY_AFTER;
        }
    }

    /// Aborts what is open in a log or staged in a group and belongs to no open transaction: nobody else would ever end it.
    fn abort_strays(&mut self, participants: &mut impl Participants, now: Now) {
        let open: BTreeMap<i64, Transaction> = self
            .pending
            .iter()
            .filter_map(|id| self.get(id))
            .map(|transaction| (transaction.producer.id, transaction.clone()))
            .collect();
        self.has_strays = false;
        for written in participants.producers() {
            let producer = Producer { id: written.producer.producer_id, epoch: written.producer.producer_epoch };
            let (topic, partition) = (written.topic.as_str(), written.partition);
            let is_known = open.get(&producer.id).is_some_and(|open| open.enlisted.has_partition(topic, partition));
            let Some(first_offset) = written.producer.transaction_start.filter(|_| !is_known) else { continue };
            tracing::warn!(
                topic,
                partition,
                first_offset,
                producer_id = producer.id,
                "aborted a transaction that no transactional id accounts for"
            );
            self.has_strays |= participants.write_marker(topic, partition, producer, false, true, now).is_err();
        }
        for (group, producer_id) in participants.staged() {
            if !open.get(&producer_id).is_some_and(|open| open.enlisted.groups.contains(&group)) {
                tracing::warn!(group, producer_id, "dropped staged offsets that no transactional id accounts for");
                self.has_strays |= participants.end_offsets(&group, producer_id, false, now).is_err();
            }
        }
    }

    /// Forgets ids without a transaction that nobody has used for the expiration's time.
    fn forget_idle(&mut self, now: Now) {
        let expiration_ms = i64::try_from(self.bounds.expiration.as_millis()).unwrap_or(i64::MAX);
        let idle: Vec<Record> = self
            .iter()
            .filter(|(_, transaction)| !transaction.state.is_pending())
            .filter(|(_, transaction)| transaction.updated_ms <= now.unix_ms.saturating_sub(expiration_ms))
            .map(|(id, _)| Record::Forgotten { id: id.to_owned() })
            .collect();
        match self.journal.append(&idle) {
            Ok(()) => {
                for record in idle {
                    if let Record::Forgotten { id } = record {
                        tracing::info!(id, "forgot an idle transactional id");
                        self.entries.remove(&id);
                    }
                }
            }
            Err(error) => {
                tracing::error!(%error, count = idle.len(), "cannot journal that idle transactional ids are forgotten")
            }
        }
    }

    fn rewrite_journal(&mut self) {
        if !self.journal.is_worth_rewriting(self.entries.len() + 1) {
            return;
        }
        let entries = self.entries.iter();
        let transactions =
            entries.map(|(id, entry)| Record::Transaction { id: id.clone(), transaction: entry.transaction.clone() });
        let ids = Record::ProducerIds { reserved_end: self.producer_ids.reserved_end() };
        if let Err(error) = self.journal.rewrite(std::iter::once(ids).chain(transactions)) {
            tracing::error!(%error, "cannot rewrite the journal of transactions");
        }
    }
}

/// Writes the markers of a prepared end and ends its staged offsets, in an order of its own; the first failure of a disk
/// stops it.
fn end_everywhere(
    transaction: &Transaction,
    participants: &mut impl Participants,
    is_again: bool,
    now: Now,
) -> Result<(), ResponseError> {
    let is_commit = transaction.state == State::PrepareCommit;
    let producer = transaction.producer;
    for (topic, partitions) in &transaction.enlisted.partitions {
        for &partition in partitions {
            match participants.write_marker(topic, partition, producer, is_commit, is_again, now) {
                // The topic was deleted: nothing is left to be ended.
                Ok(()) | Err(ResponseError::UnknownTopicOrPartition) => {}
                // As Kafka: a log that knows a later epoch has ended this one long ago.
                Err(error @ ResponseError::InvalidProducerEpoch) => {
                    tracing::error!(%error, topic, partition, producer_id = producer.id, "a marker was not written");
                }
                Err(error) => return Err(error),
            }
        }
    }
    for group in &transaction.enlisted.groups {
        participants.end_offsets(group, producer.id, is_commit, now)?;
    }
    Ok(())
}
