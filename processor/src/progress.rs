//! What another thread may see of a running processor. Each number is exact by itself; together they are a glance.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::standing::{Standing, explain};

/// How long standings are kept up to date for somebody who asked.
const EXPLAIN_FOR: Duration = Duration::from_secs(60);

/// Live counters of one processor, of what is committed.
#[derive(Debug, Default)]
pub struct Progress {
    counts: Mutex<Counts>,
    transactions: AtomicU64,
    entities: AtomicU64,
    restarts: AtomicU64,
    lag: AtomicI64,
    assigned: AtomicU64,
    /// When somebody last asked what holds event time back.
    asked_at: Mutex<Option<Instant>>,
    standings: Mutex<Option<(Instant, Vec<Standing>)>>,
}

/// Counts of one cycle, or of a whole run. The ledger: `read = scored + late + dead_lettered + duplicate + filtered`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records read.
    pub read: u64,
    /// Events taken into a window.
    pub scored: u64,
    /// Events whose windows had all closed; they are on the late topic.
    pub late: u64,
    /// Records that were no events; they are on the dead-letter topic.
    pub dead_lettered: u64,
    /// Events with an id that was seen before, and records delivered a second time; not taken in again.
    pub duplicate: u64,
    /// Events that the stream does not want (`only`).
    pub filtered: u64,
    /// Windows closed.
    pub windows: u64,
    /// Alert records written, corrections included.
    pub alerts: u64,
    /// Result records that correct earlier ones after late events.
    pub revisions: u64,
    /// Entities forgotten to make room for others (`entities_max`).
    pub evicted: u64,
    /// Windows that were final before an event of theirs came, where others of the same event were not.
    pub missed: u64,
    /// Metric records written, revisions included.
    pub metrics: u64,
    /// Forecast records written, revisions included.
    pub forecasts: u64,
}

/// The lock, whoever panicked with it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Counts {
    /// Records read that no other count explains; anything but 0 is a defect.
    #[must_use]
    pub const fn residue(&self) -> i64 {
        self.read as i64 - (self.scored + self.late + self.dead_lettered + self.duplicate + self.filtered) as i64
    }

    /// Counts these too.
    pub(crate) fn add(&mut self, more: &Self) {
        let Self {
            read,
            scored,
            late,
            dead_lettered,
            duplicate,
            filtered,
            windows,
            alerts,
            revisions,
            evicted,
            missed,
            metrics,
            forecasts,
        } = *more;
        self.read += read;
        self.scored += scored;
        self.late += late;
        self.dead_lettered += dead_lettered;
        self.duplicate += duplicate;
        self.filtered += filtered;
        self.windows += windows;
        self.alerts += alerts;
        self.revisions += revisions;
        self.evicted += evicted;
        self.missed += missed;
        self.metrics += metrics;
        self.forecasts += forecasts;
    }
}

impl Progress {
    /// All zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What is committed so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        *lock(&self.counts)
    }

    /// Transactions committed.
    pub fn transactions(&self) -> u64 {
        self.transactions.load(Relaxed)
    }

    /// Entities remembered.
    pub fn entities(&self) -> u64 {
        self.entities.load(Relaxed)
    }

    /// Times that everything was dropped and restored after a failed cycle.
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Relaxed)
    }

    /// Records between the position and the end of the input, as last seen.
    pub fn lag(&self) -> i64 {
        self.lag.load(Relaxed)
    }

    /// Input partitions that are assigned and restored.
    pub fn assigned(&self) -> u64 {
        self.assigned.load(Relaxed)
    }

    /// Where event time stands and what holds it back, as of the processor's last look; `None` if it has not looked yet.
    ///
    /// For a minute from a call on it looks twice a second, which costs it time in proportion to what is open.
    pub fn explain_watermark(&self) -> Option<String> {
        let was_asked = self.is_explaining();
        *lock(&self.asked_at) = Some(Instant::now());
        let mut standings = lock(&self.standings);
        if !was_asked {
            *standings = None;
        }
        standings.as_ref().map(|(looked_at, standings)| explain(standings, looked_at.elapsed()))
    }

    pub(crate) fn is_explaining(&self) -> bool {
        lock(&self.asked_at).is_some_and(|asked_at| asked_at.elapsed() < EXPLAIN_FOR)
    }

    pub(crate) fn set_standings(&self, standings: Vec<Standing>) {
        *lock(&self.standings) = Some((Instant::now(), standings));
    }

    pub(crate) fn add_committed(&self, counts: &Counts) {
        lock(&self.counts).add(counts);
        self.transactions.fetch_add(1, Relaxed);
    }

    pub(crate) fn add_restart(&self) {
        self.restarts.fetch_add(1, Relaxed);
    }

    pub(crate) fn set_entities(&self, entities: u64) {
        self.entities.store(entities, Relaxed);
    }

    pub(crate) fn set_lag(&self, lag: i64) {
        self.lag.store(lag, Relaxed);
    }

    pub(crate) fn set_assigned(&self, partitions: u64) {
        self.assigned.store(partitions, Relaxed);
    }
}
