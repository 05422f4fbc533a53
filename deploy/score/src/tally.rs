//! What a comparison comes to: counts of each value of each dimension, and the figures that follow from them.

use std::collections::BTreeMap;

use tidewatch_schemas::record::Dimension;

const WEEK_MS: f64 = 7.0 * 86_400_000.0;

/// How it went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Faults that were found or missed.
    pub faults: u64,
    /// Those that were found, and alerts that found one.
    pub found: u64,
    /// Those of them that the alert called by their kind in the end.
    pub named: u64,
    /// Faults that may still be found.
    pub pending: u64,
    /// Further alerts on a fault.
    pub repeated: u64,
    /// Alerts on no fault.
    pub false_alerts: u64,
    /// From onset to the alert, in ms, ascending.
    pub delays_ms: Vec<i64>,
    /// Entities of which windows were seen.
    pub entities: u64,
    /// How long these were watched while nothing was wrong with them, in ms, summed up.
    pub watched_ms: u64,
}

impl Tally {
    /// Alerts.
    #[must_use]
    pub fn alerts(&self) -> u64 {
        self.found + self.repeated + self.false_alerts
    }

    /// Share of the faults that were found; not a number without faults.
    #[must_use]
    pub fn recall(&self) -> f64 {
        self.found as f64 / self.faults as f64
    }

    /// Share of what was said, repetitions apart, that was right; not a number if nothing was said.
    #[must_use]
    pub fn precision(&self) -> f64 {
        self.found as f64 / (self.found + self.false_alerts) as f64
    }

    /// The harmonic mean of precision and recall; not a number without faults of which some are found.
    #[must_use]
    pub fn f1(&self) -> f64 {
        if self.faults < self.found {
            return f64::NAN;
        }
        2.0 * self.found as f64 / (self.found + self.false_alerts + self.faults) as f64
    }

    /// The delay that this share of the found faults did not exceed, in ms.
    #[must_use]
    pub fn delay_ms(&self, share: f64) -> Option<i64> {
        let last = self.delays_ms.len().checked_sub(1)?;
        Some(self.delays_ms[(last as f64 * share).ceil() as usize])
    }

    /// False alerts in a week of one entity with which nothing is wrong; not a number if none was watched.
    #[must_use]
    pub fn false_alarms_per_entity_week(&self) -> f64 {
        self.false_alerts as f64 * WEEK_MS / self.watched_ms as f64
    }

    /// Takes another one in.
    pub fn add(&mut self, other: &Self) {
        self.faults += other.faults;
        self.found += other.found;
        self.named += other.named;
        self.pending += other.pending;
        self.repeated += other.repeated;
        self.false_alerts += other.false_alerts;
        self.delays_ms.extend(&other.delays_ms);
        self.delays_ms.sort_unstable();
        self.entities += other.entities;
        self.watched_ms += other.watched_ms;
    }
}

/// A tally's counts and shares, as they are published: what is not a number is missing.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    /// Of what.
    pub dimension: Dimension,
    /// Which value of it; `all` of the total.
    pub value: String,
    /// The counts; of a dimension that a fault does not have with all faults, of one that an entity does not have with all entities.
    pub tally: Tally,
    /// Share of the faults that were found.
    pub recall: Option<f64>,
    /// Share of what was said that was right.
    pub precision: Option<f64>,
    /// The harmonic mean of both.
    pub f1: Option<f64>,
    /// Delay from onset that half of the found faults did not exceed, in ms.
    pub delay_p50_ms: Option<i64>,
    /// Delay from onset that 95 % of the found faults did not exceed, in ms.
    pub delay_p95_ms: Option<i64>,
    /// False alerts in a week of one entity with which nothing is wrong.
    pub false_alarms_per_entity_week: Option<f64>,
}

impl Figures {
    /// Of a tally.
    #[must_use]
    pub fn new(dimension: Dimension, value: &str, tally: Tally) -> Self {
        let number = |share: f64| share.is_finite().then_some(share);
        let is_of_faults = dimension != Dimension::Prediction;
        Self {
            dimension,
            value: value.to_owned(),
            recall: number(tally.recall()).filter(|_| is_of_faults),
            precision: number(tally.precision()),
            f1: number(tally.f1()).filter(|_| is_of_faults),
            delay_p50_ms: tally.delay_ms(0.5),
            delay_p95_ms: tally.delay_ms(0.95),
            false_alarms_per_entity_week: number(tally.false_alarms_per_entity_week()),
            tally,
        }
    }
}

/// The whole comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Score {
    /// Of all.
    pub total: Tally,
    /// By each value of each dimension but the total.
    pub by: BTreeMap<(Dimension, String), Tally>,
    /// Alerts that were still open at the end.
    pub open: u64,
    /// The faults that were missed, by their ids.
    pub missed: Vec<String>,
    /// The alerts that were false, by theirs.
    pub false_alerts: Vec<String>,
    /// The end of the last window that was seen.
    pub event_time: Option<i64>,
}

impl Score {
    /// By each value of one dimension.
    pub fn of(&self, dimension: Dimension) -> impl Iterator<Item = (&str, &Tally)> {
        self.by.iter().filter(move |((of, _), _)| *of == dimension).map(|((_, value), tally)| (value.as_str(), tally))
    }

    /// The figures of the total and of each value of each dimension.
    pub fn figures(&self) -> impl Iterator<Item = Figures> {
        let of_value = |((dimension, value), tally): (&(Dimension, String), &Tally)| {
            let mut tally = tally.clone();
            if !dimension.is_of_faults() {
                tally.faults = self.total.faults;
                tally.pending = self.total.pending;
            }
            if !dimension.is_of_entities() {
                tally.entities = self.total.entities;
                tally.watched_ms = self.total.watched_ms;
            }
            Figures::new(*dimension, value, tally)
        };
        let total = Figures::new(Dimension::Total, "all", self.total.clone());
        std::iter::once(total).chain(self.by.iter().map(of_value))
    }

    /// Takes another run's in.
    pub fn add(&mut self, other: Self) {
        self.total.add(&other.total);
        for (key, tally) in other.by {
            self.by.entry(key).or_default().add(&tally);
        }
        self.open += other.open;
        self.missed.extend(other.missed);
        self.false_alerts.extend(other.false_alerts);
        self.event_time = self.event_time.max(other.event_time);
    }

    pub(crate) fn count(&mut self, keys: &[(Dimension, String)], count: impl Fn(&mut Tally)) {
        count(&mut self.total);
        self.count_apart(keys, count);
    }

    /// As [`count`](Self::count), but not in the total.
    pub(crate) fn count_apart(&mut self, keys: &[(Dimension, String)], count: impl Fn(&mut Tally)) {
        for key in keys {
            count(self.by.entry(key.clone()).or_default());
        }
    }

    pub(crate) fn sort_delays(&mut self) {
        self.total.delays_ms.sort_unstable();
        self.by.values_mut().for_each(|tally| tally.delays_ms.sort_unstable());
    }
}
