//! Who has written to a partition: sequences, epochs, and transactions that are open or were aborted here.
//!
//! Invariant: [`Producers::check`] decides and changes nothing; [`Producers::learn`] changes and decides nothing. It sees every
//! batch of the log once, when it has been appended or is read back at start, so that both ways lead to the same state.
//!
//! Source: Kafka's `ProducerStateManager`, `ProducerAppendInfo`, `ProducerStateEntry` and `TransactionIndex`.

use std::collections::{BTreeMap, VecDeque};

use kafka_protocol::ResponseError;

use super::ActiveProducer;
use super::batch::{BatchHeader, Marker};

/// Producers whose first batch was refused that are remembered: such a batch costs its sender nothing.
const REFUSED_MAX: usize = 1_000;
/// Batches that are remembered of each producer: clients have at most so many requests in flight.
const BATCHES_MAX: usize = 5;

/// The producers of one partition.
#[derive(Debug, Default)]
pub(crate) struct Producers {
    by_id: BTreeMap<i64, Producer>,
    /// The producer of each open transaction, by its first offset.
    open: BTreeMap<i64, i64>,
    /// Aborted transactions, in the order of their markers.
    aborted: VecDeque<Aborted>,
    /// What was refused of producers that are to begin a transaction here, until they have; not in the log, and so forgotten
    /// at a restart, as by Kafka (`VerificationStateEntry`).
    refused: BTreeMap<i64, Refused>,
}

/// The lowest sequence that was refused, of the highest epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Refused {
    epoch: i16,
    sequence: i32,
}

/// What is known of one producer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Producer {
    epoch: i16,
    coordinator_epoch: i32,
    last_timestamp_ms: i64,
    transaction_start: Option<i64>,
    /// Its last batches of this epoch, the oldest first.
    batches: VecDeque<Batch>,
    /// When it last wrote, by the wall clock; `None` when that was before the start of the broker.
    written_ms: Option<i64>,
}

/// What is remembered of a batch, to know it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    first_sequence: i32,
    last_sequence: i32,
    pub(crate) base_offset: i64,
    pub(crate) max_timestamp_ms: i64,
}

/// An aborted transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Aborted {
    producer_id: i64,
    first_offset: i64,
    /// That of its marker.
    last_offset: i64,
    /// The last stable offset once it had ended: all that end later begin there or after.
    stable_offset: i64,
}

impl Producers {
    /// Checks a client's batch against what its producer wrote before. `Some`: it is the same as this one of before.
    /// `is_in_transaction` is asked when the batch is transactional and its producer has none open here.
    pub(crate) fn check(&self, batch: &BatchHeader, is_in_transaction: bool) -> Result<Option<Batch>, ResponseError> {
        if !batch.has_producer() {
            return Ok(None);
        }
        let known = self.by_id.get(&batch.producer_id);
        let has_open = known.is_some_and(|producer| producer.transaction_start.is_some());
        // Kafka asks the coordinator before it looks at the log: also a batch that is there already is refused once its
        // transaction has ended.
        if batch.is_transactional() && !self.continues(batch) && !is_in_transaction {
            return Err(ResponseError::InvalidTxnState);
        }
        if let Some(duplicate) = known.and_then(|producer| producer.duplicate_of(batch)) {
            return Ok(Some(duplicate));
        }
        if known.is_some_and(|producer| batch.producer_epoch < producer.epoch) {
            return Err(ResponseError::InvalidProducerEpoch);
        }
        // A producer that is not known may begin anywhere, as its earlier batches may have been deleted; but not after one
        // that was refused, which is sent again: it would come after this one.
        let follows_refused = self.refused.get(&batch.producer_id).is_some_and(|refused| refused.is_before(batch));
        if follows_refused || known.is_some_and(|producer| !producer.is_next(batch)) {
            return Err(ResponseError::OutOfOrderSequenceNumber);
        }
        if has_open && !batch.is_transactional() {
            return Err(ResponseError::InvalidTxnState);
        }
        Ok(None)
    }

    /// Whether a marker of this epoch may be written.
    pub(crate) fn check_marker(&self, producer_id: i64, producer_epoch: i16) -> Result<(), ResponseError> {
        match self.by_id.get(&producer_id) {
            Some(producer) if producer_epoch < producer.epoch => Err(ResponseError::InvalidProducerEpoch),
            Some(_) | None => Ok(()),
        }
    }

    /// Whether a producer of this epoch is known and has no open transaction: after its marker.
    pub(crate) fn has_ended(&self, producer_id: i64, producer_epoch: i16) -> bool {
        let producer = self.by_id.get(&producer_id);
        producer.is_some_and(|producer| producer.epoch == producer_epoch && producer.transaction_start.is_none())
    }

    /// Whether a batch belongs to a transaction that is open here.
    fn continues(&self, batch: &BatchHeader) -> bool {
        let producer = self.by_id.get(&batch.producer_id);
        producer.is_some_and(|known| known.epoch == batch.producer_epoch && known.transaction_start.is_some())
    }

    /// Learns of a transactional batch that was refused and would have opened a transaction here.
    pub(crate) fn learn_refused(&mut self, batch: &BatchHeader) {
        if !batch.has_producer() || !batch.is_transactional() || self.continues(batch) {
            return;
        }
        let (id, new) = (batch.producer_id, Refused { epoch: batch.producer_epoch, sequence: batch.base_sequence });
        if self.refused.len() >= REFUSED_MAX && !self.refused.contains_key(&id) {
            self.refused.pop_first();
        }
        let refused = self.refused.entry(id).or_insert(new);
        if new.epoch > refused.epoch || (new.epoch == refused.epoch && new.sequence < refused.sequence) {
            *refused = new;
        }
    }

    /// Learns of a batch that is in the log; `marker` is what it says if it is a control batch, `now_ms` when it was written
    /// if that was in this run of the broker.
    pub(crate) fn learn(&mut self, batch: &BatchHeader, marker: Option<Marker>, now_ms: Option<i64>) {
        if !batch.has_producer() || (batch.is_control() && marker.is_none()) {
            return;
        }
        if batch.is_transactional() {
            self.refused.remove(&batch.producer_id);
        }
        let producer = self.by_id.entry(batch.producer_id).or_insert_with(|| Producer::new(batch.producer_epoch));
        producer.last_timestamp_ms = batch.max_timestamp;
        producer.written_ms = now_ms;
        // A sequence that goes back was begun anew when the producer had been forgotten; what it wrote before is then no
        // duplicate of what it writes now, after a restart as little as before it.
        let goes_back = producer.batches.back().is_some_and(|last| batch.base_sequence <= last.last_sequence);
        let is_anew = !batch.is_control() && goes_back && !producer.is_next(batch);
        if producer.epoch != batch.producer_epoch || is_anew {
            producer.epoch = batch.producer_epoch;
            producer.batches.clear();
        }
        if let Some(marker) = marker {
            // The batches stay: the sequence goes on after a transaction, unless the marker brings a new epoch.
            producer.coordinator_epoch = marker.coordinator_epoch;
            if let Some(first_offset) = producer.transaction_start.take() {
                self.end_transaction(batch, first_offset, marker);
            }
            return;
        }
        if producer.batches.len() == BATCHES_MAX {
            producer.batches.pop_front();
        }
        producer.batches.push_back(Batch {
            first_sequence: batch.base_sequence,
            last_sequence: batch.last_sequence(),
            base_offset: batch.base_offset,
            max_timestamp_ms: batch.max_timestamp,
        });
        if batch.is_transactional() && producer.transaction_start.is_none() {
            producer.transaction_start = Some(batch.base_offset);
            self.open.insert(batch.base_offset, batch.producer_id);
        }
    }

    fn end_transaction(&mut self, batch: &BatchHeader, first_offset: i64, marker: Marker) {
        self.open.remove(&first_offset);
        if !marker.is_commit {
            self.aborted.push_back(Aborted {
                producer_id: batch.producer_id,
                first_offset,
                last_offset: batch.last_offset(),
                stable_offset: self.first_open_offset().unwrap_or(batch.next_offset()),
            });
        }
    }

    /// The first offset of the oldest open transaction.
    pub(crate) fn first_open_offset(&self) -> Option<i64> {
        self.open.first_key_value().map(|(first_offset, _)| *first_offset)
    }

    /// `(producer id, first offset)` of the aborted transactions that overlap these offsets.
    pub(crate) fn aborted_between(&self, from: i64, until: i64) -> Vec<(i64, i64)> {
        let mut overlapping = Vec::new();
        let ends_before = self.aborted.partition_point(|aborted| aborted.last_offset < from);
        for aborted in self.aborted.range(ends_before..) {
            if aborted.first_offset < until {
                overlapping.push((aborted.producer_id, aborted.first_offset));
            }
            if aborted.stable_offset >= until {
                break;
            }
        }
        overlapping
    }

    /// `(producer id, first offset, offset of the marker)` of each aborted transaction, in the order of the markers.
    pub(crate) fn aborted(&self) -> impl Iterator<Item = (i64, i64, i64)> {
        self.aborted.iter().map(|aborted| (aborted.producer_id, aborted.first_offset, aborted.last_offset))
    }

    /// Forgets the aborted transactions whose markers are gone from these offsets: without its end, an aborted transaction
    /// would go on for a reader, and take later ones of its producer with it.
    pub(crate) fn forget_aborted(&mut self, offsets: std::ops::Range<i64>, is_marker_kept: impl Fn(i64) -> bool) {
        self.aborted.retain(|aborted| !offsets.contains(&aborted.last_offset) || is_marker_kept(aborted.last_offset));
    }

    /// Forgets the aborted transactions that ended before the log's start.
    pub(crate) fn forget_before(&mut self, start_offset: i64) {
        let gone = self.aborted.partition_point(|aborted| aborted.last_offset < start_offset);
        self.aborted.drain(..gone);
    }

    /// Forgets producers without an open transaction that have not written for so long. The wall clock counts, not the
    /// records' timestamps as in Kafka, which would forget at once whoever replays old events; those known from the log
    /// alone count from the first call.
    pub(crate) fn forget_idle(&mut self, now_ms: i64, idle_ms_max: i64) {
        self.by_id.retain(|_, producer| {
            let written_ms = *producer.written_ms.get_or_insert(now_ms);
            producer.transaction_start.is_some() || now_ms.saturating_sub(written_ms) < idle_ms_max
        });
    }

    /// All that are remembered, in the order of their ids.
    pub(crate) fn active(&self) -> Vec<ActiveProducer> {
        let active = |(producer_id, producer): (&i64, &Producer)| ActiveProducer {
            producer_id: *producer_id,
            producer_epoch: producer.epoch,
            last_sequence: producer.batches.back().map_or(-1, |batch| batch.last_sequence),
            last_timestamp_ms: producer.last_timestamp_ms,
            coordinator_epoch: producer.coordinator_epoch,
            transaction_start: producer.transaction_start,
        };
        self.by_id.iter().map(active).collect()
    }

    /// The base offset of the last batch of each producer: what compaction keeps, emptied of its records if need be, so that
    /// the sequence is known after a restart too.
    pub(crate) fn last_batches(&self) -> BTreeMap<i64, i64> {
        let last = |(id, producer): (&i64, &Producer)| Some((*id, producer.batches.back()?.base_offset));
        self.by_id.iter().filter_map(last).collect()
    }
}

impl Refused {
    fn is_before(&self, batch: &BatchHeader) -> bool {
        batch.producer_epoch <= self.epoch && batch.base_sequence > self.sequence
    }
}

impl Producer {
    fn new(epoch: i16) -> Self {
        Self {
            epoch,
            coordinator_epoch: -1,
            last_timestamp_ms: -1,
            transaction_start: None,
            batches: VecDeque::with_capacity(BATCHES_MAX),
            written_ms: None,
        }
    }

    fn duplicate_of(&self, batch: &BatchHeader) -> Option<Batch> {
        let sequences = (batch.base_sequence, batch.last_sequence());
        let is_same = |known: &&Batch| (known.first_sequence, known.last_sequence) == sequences;
        self.batches.iter().find(is_same).filter(|_| self.epoch == batch.producer_epoch).copied()
    }

    /// Whether the batch's sequence follows the last one, or is the first of a new epoch.
    fn is_next(&self, batch: &BatchHeader) -> bool {
        if batch.producer_epoch != self.epoch {
            return batch.base_sequence == 0;
        }
        // Where only a marker has shown this epoch, it begins with this batch.
        match self.batches.back() {
            Some(last) if last.last_sequence < i32::MAX => batch.base_sequence == last.last_sequence + 1,
            Some(_) | None => batch.base_sequence == 0,
        }
    }
}

#[cfg(test)]
#[path = "producers/tests.rs"]
mod tests;
