//! How far a publication is: numbers that its threads add to and that anybody may read at any time.
//!
//! Invariant: relaxed atomics, each a running total or a latest value; no lock, no history.

use std::sync::atomic::{AtomicU64, Ordering};

/// Shared between the publishing threads and whoever shows them.
#[derive(Debug, Default)]
pub struct Progress {
    published: AtomicU64,
    target: AtomicU64,
    bytes: AtomicU64,
    behind_ms: AtomicU64,
    event_time_ms: AtomicU64,
    rows_broken: AtomicU64,
}

impl Progress {
    /// Nothing done yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Events handed to the Kafka client.
    pub fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    /// Events to publish in all; 0 while unknown.
    pub fn target(&self) -> u64 {
        self.target.load(Ordering::Relaxed)
    }

    /// Bytes of keys and values handed over.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// By how much the slowest thread's last event was behind its schedule, milliseconds (0 without a schedule).
    pub fn behind_ms(&self) -> u64 {
        self.behind_ms.load(Ordering::Relaxed)
    }

    /// Latest event time handed over, epoch ms; 0 before the first.
    pub fn event_time_ms(&self) -> u64 {
        self.event_time_ms.load(Ordering::Relaxed)
    }

    /// Rows of a replayed file that were skipped.
    pub fn rows_broken(&self) -> u64 {
        self.rows_broken.load(Ordering::Relaxed)
    }

    pub(crate) fn set_target(&self, events: u64) {
        self.target.store(events, Ordering::Relaxed);
    }

    pub(crate) fn add(&self, events: u64, bytes: u64, event_time_ms: i64) {
        self.published.fetch_add(events, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.event_time_ms.fetch_max(event_time_ms.max(0) as u64, Ordering::Relaxed);
    }

    pub(crate) fn set_behind(&self, behind_ms: u64) {
        self.behind_ms.store(behind_ms, Ordering::Relaxed);
    }

    pub(crate) fn set_rows_broken(&self, rows: u64) {
        self.rows_broken.store(rows, Ordering::Relaxed);
    }
}
