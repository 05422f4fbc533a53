//! The deterministic middle of Delivery: records in, visible rolls out, no Kafka.
//!
//! Invariant: [`Deliverer::settle`] reports an offset as stored only after every record before it
//! is visible; whoever drives it commits nothing else.

use std::collections::BTreeMap;
use std::time::Instant;

use super::buffer::{Arrival, Cut, PartitionBuffer};
use super::encode::{EncodeError, encode};
use super::kind::TopicKind;
use super::record::{Seen, inspect};
use super::shelf::{Placed, Shelf, StorageError};
use crate::config::RollSettings;

/// Why Delivery cannot go on storing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettleError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// A roll that became visible.
#[derive(Debug)]
pub(crate) struct Stored {
    /// What its records are.
    pub(crate) kind: TopicKind,
    /// Kafka topic.
    pub(crate) topic: String,
    /// Its partition.
    pub(crate) partition: i32,
    /// The offset to commit.
    pub(crate) next_offset: i64,
    /// Rows in Parquet files.
    pub(crate) rows: u64,
    /// Records kept raw.
    pub(crate) rejected: u64,
    /// Files of the roll.
    pub(crate) files: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Intended send times behind its alerts, ms since the epoch.
    pub(crate) intended_ms: Vec<i64>,
}

/// Buffers of the assigned partitions before one shelf.
#[derive(Debug)]
pub(crate) struct Deliverer {
    shelf: Shelf,
    roll: RollSettings,
    buffer_bytes: u64,
    buffers: BTreeMap<(String, i32), PartitionBuffer>,
}

impl Deliverer {
    /// No partitions yet.
    pub(crate) fn new(shelf: Shelf, roll: RollSettings, buffer_bytes: u64) -> Self {
        Self { shelf, roll, buffer_bytes, buffers: BTreeMap::new() }
    }

    /// Takes a partition over and says where to read on; `None` leaves it to the group's start policy.
    pub(crate) async fn assign(
        &mut self,
        kind: TopicKind,
        topic: &str,
        partition: i32,
        committed: Option<i64>,
    ) -> Result<Option<i64>, StorageError> {
        let resume = self.shelf.resume(topic, partition, committed).await?;
        let start = resume.as_ref().map(|resume| resume.next_offset);
        let claimed_last = resume.and_then(|resume| resume.unfinished_last);
        let buffer = PartitionBuffer::new(kind, topic.to_owned(), partition, start.unwrap_or(0), claimed_last);
        self.buffers.insert((topic.to_owned(), partition), buffer);
        Ok(start)
    }

    /// Lets a partition go. Its waiting rows were not committed: the next owner reads them again.
    pub(crate) fn revoke(&mut self, topic: &str, partition: i32) {
        self.buffers.remove(&(topic.to_owned(), partition));
    }

    /// Takes a record. `None`: it is not ours or was taken before. `Err` text: it will be kept raw.
    pub(crate) fn absorb(
        &mut self,
        topic: &str,
        partition: i32,
        arrival: Arrival<'_>,
        now: Instant,
    ) -> Option<Result<Seen, String>> {
        let buffer = self.buffers.get_mut(&(topic.to_owned(), partition))?;
        let unreadable = arrival.unreadable.map(|reason| Err(reason.to_owned()));
        let seen = unreadable.unwrap_or_else(|| inspect(buffer.kind, arrival.value));
        buffer.push(arrival, seen.as_ref().err().cloned(), now).then_some(seen)
    }

    /// Writes what is due, or with `flush` everything that no unfinished claim holds back. Stops at
    /// the first error; what was stored before it is in `stored` all the same.
    pub(crate) async fn settle(
        &mut self,
        now: Instant,
        flush: bool,
        stored: &mut Vec<Stored>,
    ) -> Result<(), SettleError> {
        for buffer in self.buffers.values_mut() {
            settle_one(&self.shelf, &self.roll, buffer, now, flush, stored).await?;
        }
        while self.buffered_bytes() as u64 > self.buffer_bytes {
            let largest =
                self.buffers.values_mut().filter(|b| b.len() > 0 && !b.is_claimed()).max_by_key(|b| b.bytes());
            // What a claim holds back is bounded by the roll that claimed it.
            let Some(buffer) = largest else { break };
            settle_one(&self.shelf, &self.roll, buffer, now, true, stored).await?;
        }
        Ok(())
    }

    /// Bytes waiting in memory.
    pub(crate) fn buffered_bytes(&self) -> usize {
        self.buffers.values().map(PartitionBuffer::bytes).sum()
    }
}

async fn settle_one(
    shelf: &Shelf,
    limits: &RollSettings,
    buffer: &mut PartitionBuffer,
    now: Instant,
    flush: bool,
    stored: &mut Vec<Stored>,
) -> Result<(), SettleError> {
    loop {
        let rows = match buffer.cut(limits, now, flush) {
            Cut::Wait => return Ok(()),
            Cut::Rows(rows) => rows,
            Cut::ClaimContradicted(rows) => return Err(contradicted(shelf, buffer, rows).await?.into()),
        };
        let roll = encode(&buffer.roll(rows))?;
        match shelf.place(&roll).await? {
            Placed::ClaimedUntil(last) => buffer.follow_claim(last),
            Placed::Visible => {
                let gone = buffer.discard(rows, now);
                let rejected = gone.iter().filter(|row| row.rejected.is_some()).count() as u64;
                stored.push(Stored {
                    kind: buffer.kind,
                    topic: buffer.topic.clone(),
                    partition: buffer.partition,
                    next_offset: roll.claim.last_offset + 1,
                    rows: rows as u64 - rejected,
                    rejected,
                    files: roll.claim.files.len() as u64,
                    bytes: roll.claim.files.iter().map(|file| file.bytes).sum(),
                    intended_ms: gone.iter().filter_map(|row| row.intended_ms).collect(),
                });
            }
        }
    }
}

async fn contradicted(shelf: &Shelf, buffer: &PartitionBuffer, rows: usize) -> Result<StorageError, StorageError> {
    let claim = shelf.newest_claim(&buffer.topic, buffer.partition).await?;
    Ok(claim.map_or_else(
        || shelf.claim_vanished(&buffer.topic, buffer.partition),
        |claim| shelf.contradiction(&claim, rows as u64),
    ))
}
