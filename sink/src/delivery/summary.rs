//! What Delivery did, told once at its end.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use tidewatch_schemas::record::Severity;

use super::deliverer::Stored;
use super::kind::TopicKind;

/// What one run of Delivery stored.
#[derive(Clone, Debug, Default)]
pub struct DeliverySummary {
    /// By kind, every configured kind present.
    pub topics: BTreeMap<TopicKind, TopicSummary>,
    /// Alert records that opened, by severity at opening, as read in this run.
    pub alerts_opened: BTreeMap<Severity, u64>,
    /// From the intended send time of the event that closed an alert's window to the alert's arrival here.
    pub alert_arrival: LatencySummary,
    /// From the same moment to the alert's file being visible; bounded below by `sink.roll`.
    pub alert_visible: LatencySummary,
    /// Wall-clock time from start to end.
    pub elapsed: Duration,
}

impl DeliverySummary {
    /// Rows of all kinds.
    pub fn rows(&self) -> u64 {
        self.topics.values().map(|topic| topic.rows).sum()
    }

    /// Files of all kinds.
    pub fn files(&self) -> u64 {
        self.topics.values().map(|topic| topic.files).sum()
    }

    /// Bytes of all kinds.
    pub fn bytes(&self) -> u64 {
        self.topics.values().map(|topic| topic.bytes).sum()
    }
}

/// One kind's share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TopicSummary {
    /// Rows made visible in Parquet files.
    pub rows: u64,
    /// Records that could not be read and were kept as raw JSON lines.
    pub rejected: u64,
    /// Files made visible, JSON lines included.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A latency distribution in a few numbers. All zero when nothing was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LatencySummary {
    /// Measurements.
    pub count: u64,
    /// Median, ms.
    pub p50_ms: u64,
    /// 99th percentile, ms.
    pub p99_ms: u64,
    /// Largest, ms.
    pub max_ms: u64,
}

/// The summary in the making.
#[derive(Debug)]
pub(crate) struct Tally {
    topics: BTreeMap<TopicKind, TopicSummary>,
    alerts_opened: BTreeMap<Severity, u64>,
    arrival: Histogram<u64>,
    visible: Histogram<u64>,
}

impl Tally {
    pub(crate) fn new(kinds: impl Iterator<Item = TopicKind>) -> Self {
        Self {
            topics: kinds.map(|kind| (kind, TopicSummary::default())).collect(),
            alerts_opened: BTreeMap::new(),
            arrival: latencies(),
            visible: latencies(),
        }
    }

    pub(crate) fn alert_opened(&mut self, severity: Severity) {
        *self.alerts_opened.entry(severity).or_default() += 1;
    }

    pub(crate) fn alert_arrived(&mut self, intended_ms: i64, now_ms: i64) {
        crate::metrics::alert_arrived(Duration::from_millis(
            u64::try_from(now_ms.saturating_sub(intended_ms)).unwrap_or(0),
        ));
        record(&mut self.arrival, intended_ms, now_ms);
    }

    pub(crate) fn stored(&mut self, roll: &Stored, now_ms: i64) {
        let topic = self.topics.entry(roll.kind).or_default();
        topic.rows += roll.rows;
        topic.rejected += roll.rejected;
        topic.files += roll.files;
        topic.bytes += roll.bytes;
        for &intended_ms in &roll.intended_ms {
            record(&mut self.visible, intended_ms, now_ms);
        }
    }

    pub(crate) fn finish(self, elapsed: Duration) -> DeliverySummary {
        DeliverySummary {
            topics: self.topics,
            alerts_opened: self.alerts_opened,
            alert_arrival: summarise(&self.arrival),
            alert_visible: summarise(&self.visible),
            elapsed,
        }
    }
}

/// 1 ms to a day, three digits: longer latencies count as a day.
fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 86_400_000, 3).expect("the bounds are valid constants")
}

/// Clocks of two machines may disagree: a negative latency counts as 0.
fn record(histogram: &mut Histogram<u64>, from_ms: i64, to_ms: i64) {
    histogram.saturating_record(to_ms.saturating_sub(from_ms).max(0).unsigned_abs());
}

fn summarise(histogram: &Histogram<u64>) -> LatencySummary {
    LatencySummary {
        count: histogram.len(),
        p50_ms: histogram.value_at_quantile(0.5),
        p99_ms: histogram.value_at_quantile(0.99),
        max_ms: histogram.max(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_bounded_and_never_negative() {
        let mut tally = Tally::new([TopicKind::Alerts].into_iter());
        for intended in [900, 990, 2_000] {
            tally.alert_arrived(intended, 1_000);
        }
        tally.alert_opened(Severity::High);
        let summary = tally.finish(Duration::from_secs(1));
        assert_eq!(summary.alert_arrival, LatencySummary { count: 3, p50_ms: 10, p99_ms: 100, max_ms: 100 });
        assert_eq!(summary.alert_visible, LatencySummary::default());
        assert_eq!(summary.alerts_opened[&Severity::High], 1);
        assert_eq!((summary.rows(), summary.files(), summary.bytes()), (0, 0, 0));
    }
}
