//! What another thread may see and ask of a running Delivery: counters for the live line, and the
//! stop signal. Relaxed atomics: each number is exact by itself, together they are a glance.

use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering::Relaxed};

use tidewatch_schemas::record::Severity;

use crate::delivery::kind::TopicKind;

/// Live counters of one Delivery.
#[derive(Debug, Default)]
pub struct Progress {
    rows: [AtomicU64; TopicKind::ALL.len()],
    rejected: AtomicU64,
    files: AtomicU64,
    bytes: AtomicU64,
    lag: AtomicI64,
    alerts_opened: [AtomicU64; 4],
}

impl Progress {
    /// All zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Rows visible in files, of one kind.
    pub fn rows(&self, kind: TopicKind) -> u64 {
        self.rows[kind.index()].load(Relaxed)
    }

    /// Rows visible in files, all kinds.
    pub fn rows_total(&self) -> u64 {
        self.rows.iter().map(|rows| rows.load(Relaxed)).sum()
    }

    /// Records that could not be read and were kept raw.
    pub fn rejected(&self) -> u64 {
        self.rejected.load(Relaxed)
    }

    /// Files made visible.
    pub fn files(&self) -> u64 {
        self.files.load(Relaxed)
    }

    /// Bytes of the files made visible.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Offsets between the reader's position and the end, as last seen (about once a second).
    pub fn lag(&self) -> i64 {
        self.lag.load(Relaxed)
    }

    /// Alerts read that opened with this severity (updates and resolutions are not counted).
    pub fn alerts_opened(&self, severity: Severity) -> u64 {
        self.alerts_opened[severity_index(severity)].load(Relaxed)
    }

    pub(crate) fn add_visible(&self, kind: TopicKind, rows: u64, rejected: u64, files: u64, bytes: u64) {
        self.rows[kind.index()].fetch_add(rows, Relaxed);
        self.rejected.fetch_add(rejected, Relaxed);
        self.files.fetch_add(files, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn set_lag(&self, lag: i64) {
        self.lag.store(lag, Relaxed);
    }

    pub(crate) fn add_alert_opened(&self, severity: Severity) {
        self.alerts_opened[severity_index(severity)].fetch_add(1, Relaxed);
    }
}

const fn severity_index(severity: Severity) -> usize {
    match severity {
        Severity::Low => 0,
        Severity::Medium => 1,
        Severity::High => 2,
        Severity::Critical => 3,
    }
}

/// How a role is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Read on until the ends that the topics have when this is seen, then flush and end.
    Drain,
    /// Read no more; flush what is in memory and end.
    Now,
}

/// The one-way switch between the thread that decides to stop and the role that does.
#[derive(Debug, Default)]
pub struct StopSignal(AtomicU8);

impl StopSignal {
    /// Not asked to stop.
    pub const fn new() -> Self {
        Self(AtomicU8::new(0))
    }

    /// Asks for a stop; `Now` overrides `Drain`, never the other way round.
    pub fn request(&self, stop: Stop) {
        let level = match stop {
            Stop::Drain => 1,
            Stop::Now => 2,
        };
        self.0.fetch_max(level, Relaxed);
    }

    /// What was asked for, if anything.
    pub fn requested(&self) -> Option<Stop> {
        match self.0.load(Relaxed) {
            0 => None,
            1 => Some(Stop::Drain),
            _ => Some(Stop::Now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn now_overrides_drain_and_stays() {
        let signal = StopSignal::new();
        assert_eq!(signal.requested(), None);
        signal.request(Stop::Drain);
        assert_eq!(signal.requested(), Some(Stop::Drain));
        signal.request(Stop::Now);
        signal.request(Stop::Drain);
        assert_eq!(signal.requested(), Some(Stop::Now));
    }

    #[test]
    fn counts_are_kept_apart_by_kind_and_severity() {
        let progress = Progress::new();
        progress.add_visible(TopicKind::Alerts, 3, 1, 2, 100);
        progress.add_visible(TopicKind::Metrics, 5, 0, 1, 10);
        progress.add_alert_opened(Severity::High);
        assert_eq!(progress.rows(TopicKind::Alerts), 3);
        assert_eq!(progress.rows_total(), 8);
        assert_eq!((progress.files(), progress.bytes(), progress.rejected()), (3, 110, 1));
        assert_eq!(progress.alerts_opened(Severity::High), 1);
        assert_eq!(progress.alerts_opened(Severity::Low), 0);
    }
}
