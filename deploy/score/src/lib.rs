//! Alerts held against the truth about what went wrong. Pure.
//!
//! An alert is all records of one `alert_id`; of a record that was revised the last revision counts, and what was retracted was not said.
//! Times are event times. With `d` half an hour, or three windows where these are longer:
//!
//! - a fault is *found* by an alert of its stream and entity that opens or is updated in a window which overlaps the fault, or begins
//!   within `d` of its onset; on whichever measure. An alert finds one fault, the first that it can; of several the earliest finds it.
//! - an alert that finds none is *repeated* if it overlaps a fault of its entity, or the `d` after an onset, and *false* else.
//! - the *delay* is from onset to the end of the window in which the alert said so.
//!
//! What a fault causes elsewhere is a truth of its own, so an alert on a dependant is not false. The kind that an alert gives is compared
//! with its fault's, and is no condition. Precision is of the alerts that find and the false ones, recall of the faults.

use std::collections::BTreeMap;

use tidewatch_schemas::record::{Alert, AlertState, Correction, Severity, Truth};

/// How long after its onset a fault can be found at least, in ms and in windows.
const DELAY_MS_MIN: i64 = 30 * 60_000;
const DELAY_WINDOWS: i64 = 3;
/// Labels by which faults are told apart.
const REGION: &str = "region";
const TENANT: &str = "tenant";

/// How long after its onset a fault can be found, with windows of this length, in ms.
#[must_use]
pub fn delay_max_ms(window_ms: i64) -> i64 {
    DELAY_MS_MIN.max(DELAY_WINDOWS * window_ms)
}

/// What faults and alerts are told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dimension {
    /// Faults by their kind, alerts by the kind that they say.
    Kind,
    /// The detector with the greatest score as an alert opened.
    Detector,
    /// The highest that an alert had.
    Severity,
    /// Of the entity, as far as the truth tells it.
    Region,
    /// See there.
    Tenant,
}

impl Dimension {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Kind, Self::Detector, Self::Severity, Self::Region, Self::Tenant];

    /// As in records and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kind => "kind",
            Self::Detector => "detector",
            Self::Severity => "severity",
            Self::Region => REGION,
            Self::Tenant => TENANT,
        }
    }
}

/// How it went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Faults.
    pub faults: u64,
    /// Those that an alert found, and alerts that found one.
    pub found: u64,
    /// Those of them that the alert called by their kind.
    pub named: u64,
    /// Further alerts on a fault.
    pub repeated: u64,
    /// Alerts on no fault.
    pub false_alerts: u64,
    /// From onset to the alert, in ms, ascending.
    pub delays_ms: Vec<i64>,
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

    /// The harmonic mean of precision and recall.
    #[must_use]
    pub fn f1(&self) -> f64 {
        2.0 * self.found as f64 / (self.found + self.false_alerts + self.faults) as f64
    }

    /// The delay that this share of the found faults did not exceed, in ms.
    #[must_use]
    pub fn delay_ms(&self, share: f64) -> Option<i64> {
        let last = self.delays_ms.len().checked_sub(1)?;
        Some(self.delays_ms[(last as f64 * share).ceil() as usize])
    }

    /// Takes another one in.
    pub fn add(&mut self, other: &Self) {
        self.faults += other.faults;
        self.found += other.found;
        self.named += other.named;
        self.repeated += other.repeated;
        self.false_alerts += other.false_alerts;
        self.delays_ms.extend(&other.delays_ms);
        self.delays_ms.sort_unstable();
    }
}

/// The whole comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Score {
    /// Of all.
    pub total: Tally,
    /// By each value of each dimension.
    pub by: BTreeMap<(Dimension, String), Tally>,
    /// Alerts that were still open at the end.
    pub open: u64,
    /// The faults that were missed, by their ids.
    pub missed: Vec<String>,
    /// The alerts that were false, by theirs.
    pub false_alerts: Vec<String>,
}

impl Score {
    /// By each value of one dimension.
    pub fn of(&self, dimension: Dimension) -> impl Iterator<Item = (&str, &Tally)> {
        self.by.iter().filter(move |((of, _), _)| *of == dimension).map(|((_, value), tally)| (value.as_str(), tally))
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
    }

    fn count(&mut self, keys: &[(Dimension, String)], count: impl Fn(&mut Tally)) {
        count(&mut self.total);
        for key in keys {
            count(self.by.entry(key.clone()).or_default());
        }
    }
}

/// One alert over its life.
struct Life<'a> {
    /// Its records, the first one first.
    steps: Vec<&'a Alert>,
    severity: Severity,
}

impl<'a> Life<'a> {
    fn last(&self) -> &'a Alert {
        self.steps[self.steps.len() - 1]
    }

    fn is_open(&self) -> bool {
        self.last().state != AlertState::Resolved
    }

    /// When it said something of a fault at first: the end of that window.
    fn says(&self, fault: &Truth, delay_max_ms: i64) -> Option<i64> {
        let last = reach(fault, delay_max_ms);
        let says = self.steps.iter().filter(|step| step.state != AlertState::Resolved);
        says.map(|step| (step.window_start, step.window_end))
            .filter(|(start, end)| *end > fault.onset && *start < last)
            .map(|(_, end)| end)
            .min()
    }

    fn overlaps(&self, fault: &Truth, delay_max_ms: i64) -> bool {
        let end = if self.is_open() { i64::MAX } else { self.last().window_end };
        self.steps[0].opened_at < reach(fault, delay_max_ms) && end > fault.onset
    }

    fn keys(&self, places: &BTreeMap<(&str, &str), &'a Truth>) -> Vec<(Dimension, String)> {
        let leading = self.steps[0].detectors.iter().max_by(|a, b| a.score.total_cmp(&b.score));
        let last = self.last();
        let mut keys = vec![
            (Dimension::Kind, last.kind.as_str().to_owned()),
            (Dimension::Severity, self.severity.as_str().to_owned()),
        ];
        keys.extend(leading.map(|leading| (Dimension::Detector, leading.detector.clone())));
        keys.extend(places.get(&(&*last.stream, &*last.entity)).into_iter().flat_map(|truth| place(truth)));
        keys
    }
}

/// Until when a fault can be found.
fn reach(fault: &Truth, delay_max_ms: i64) -> i64 {
    fault.end.max(fault.onset.saturating_add(delay_max_ms))
}

fn place(truth: &Truth) -> impl Iterator<Item = (Dimension, String)> {
    let of = [(Dimension::Region, REGION), (Dimension::Tenant, TENANT)];
    of.into_iter().filter_map(|(dimension, label)| Some((dimension, truth.labels.get(label)?.clone())))
}

/// Compares the records of the alerts topic, in any order, with the truth.
#[must_use]
pub fn score(truth: &[Truth], alerts: &[Alert], delay_max_ms: i64) -> Score {
    let lives = lives(alerts);
    let places = truth.iter().map(|truth| ((&*truth.stream, &*truth.entity), truth)).collect();
    let mut score = Score { open: lives.values().filter(|life| life.is_open()).count() as u64, ..Score::default() };
    let mut faults: Vec<&Truth> = truth.iter().collect();
    faults.sort_by_key(|fault| (fault.onset, &fault.fault_id));
    let of_entity =
        |fault: &Truth, life: &Life<'_>| (&life.last().stream, &life.last().entity) == (&fault.stream, &fault.entity);
    // The fault that each alert has found.
    let mut finds: BTreeMap<&str, &Truth> = BTreeMap::new();
    for fault in faults {
        let free = lives.iter().filter(|(id, life)| of_entity(fault, life) && !finds.contains_key(*id));
        let first = free.filter_map(|(id, life)| Some((life.says(fault, delay_max_ms)?, *id))).min();
        let mut keys: Vec<(Dimension, String)> = place(fault).collect();
        keys.push((Dimension::Kind, fault.kind.as_str().to_owned()));
        score.count(&keys, |tally| tally.faults += 1);
        let Some((at, id)) = first else {
            score.missed.push(fault.fault_id.clone());
            continue;
        };
        finds.insert(id, fault);
        let is_named = lives[id].steps.iter().any(|step| step.kind == fault.kind);
        score.count(&keys, |tally| {
            tally.found += 1;
            tally.named += u64::from(is_named);
            tally.delays_ms.push(at - fault.onset);
            tally.delays_ms.sort_unstable();
        });
        // By what is only the alert's.
        for (dimension, value) in lives[id].keys(&places) {
            if matches!(dimension, Dimension::Detector | Dimension::Severity) {
                score.by.entry((dimension, value)).or_default().found += 1;
            }
        }
    }
    for (id, life) in lives.iter().filter(|(id, _)| !finds.contains_key(*id)) {
        let keys = life.keys(&places);
        if truth.iter().any(|fault| of_entity(fault, life) && life.overlaps(fault, delay_max_ms)) {
            score.count(&keys, |tally| tally.repeated += 1);
        } else {
            score.count(&keys, |tally| tally.false_alerts += 1);
            score.false_alerts.push((*id).to_owned());
        }
    }
    score
}

fn lives(alerts: &[Alert]) -> BTreeMap<&str, Life<'_>> {
    let mut steps: BTreeMap<(&str, i32), &Alert> = BTreeMap::new();
    for alert in alerts {
        let step = steps.entry((&alert.alert_id, alert.sequence)).or_insert(alert);
        if alert.revision > step.revision {
            *step = alert;
        }
    }
    let mut lives: BTreeMap<&str, Life<'_>> = BTreeMap::new();
    for alert in steps.into_values().filter(|alert| alert.correction != Correction::Retracted) {
        let life = lives.entry(&alert.alert_id).or_insert(Life { steps: Vec::new(), severity: alert.severity });
        life.steps.push(alert);
        life.severity = life.severity.max(alert.severity);
    }
    lives
}

#[cfg(test)]
mod tests {
    use tidewatch_schemas::record::{AnomalyKind, DetectorScore};

    use super::*;
    use AnomalyKind::{Dip, LevelShift, Spike};

    const MINUTE: i64 = 60_000;

    fn fault(entity: &str, kind: AnomalyKind, onset: i64, end: i64) -> Truth {
        Truth {
            fault_id: format!("{entity}-{onset}"),
            kind,
            stream: "s".into(),
            entity: entity.into(),
            measure: "m".into(),
            labels: BTreeMap::from([("region".into(), "EMEA".into()), ("tenant".into(), "acme".into())]),
            onset: onset * MINUTE,
            end: end * MINUTE,
            magnitude: 2.0,
            cause: None,
            seed: 1,
        }
    }

    /// A record of the window of five minutes that ends at `end`.
    fn step(id: &str, entity: &str, kind: AnomalyKind, opened_at: i64, end: i64, sequence: i32) -> Alert {
        Alert {
            alert_id: id.into(),
            state: if sequence == 0 { AlertState::Opened } else { AlertState::Updated },
            severity: if sequence == 0 { Severity::High } else { Severity::Low },
            kind,
            stream: "s".into(),
            entity: entity.into(),
            labels: BTreeMap::new(),
            measure: "m".into(),
            aggregate: "mean".into(),
            opened_at: opened_at * MINUTE,
            window_start: (end - 5) * MINUTE,
            window_end: end * MINUTE,
            observed: 1.0,
            expected: None,
            lower: None,
            upper: None,
            score: 1.0,
            peak_score: 1.0,
            detectors: vec![
                DetectorScore { detector: "residual".into(), score: 2.0 },
                DetectorScore { detector: "shift".into(), score: 0.5 },
            ],
            windows: 1,
            sequence,
            partition: 0,
            first_offset: 0,
            last_offset: 0,
            summary: String::new(),
            revision: 0,
            correction: Correction::None,
            supersedes: None,
        }
    }

    fn resolved(id: &str, entity: &str, kind: AnomalyKind, opened_at: i64, end: i64) -> Alert {
        Alert { state: AlertState::Resolved, ..step(id, entity, kind, opened_at, end, 9) }
    }

    /// An alert that opens in the window from `start` to `start + 5` and is resolved at `end`.
    fn alert(id: &str, entity: &str, kind: AnomalyKind, start: i64, end: i64) -> [Alert; 2] {
        [step(id, entity, kind, start, start + 5, 0), resolved(id, entity, kind, start, end)]
    }

    #[track_caller]
    fn check(truth: &[Truth], alerts: &[Alert], (found, missed, repeated, false_alerts): (u64, u64, u64, u64)) {
        let Tally { faults, found: is_found, repeated: is_repeated, false_alerts: is_false, .. } =
            score(truth, alerts, delay_max_ms(5 * MINUTE)).total;
        assert_eq!((is_found, faults - is_found, is_repeated, is_false), (found, missed, repeated, false_alerts));
    }

    #[test]
    fn a_fault_is_found_while_it_lasts_and_half_an_hour_after_its_onset() {
        let truth = [fault("a", Spike, 100, 110)];
        check(&truth, &[], (0, 1, 0, 0));
        for (start, found) in [(94, false), (96, true), (105, true), (129, true), (130, false)] {
            let outcome = if found { (1, 0, 0, 0) } else { (0, 1, 0, 1) };
            check(&truth, &alert("1", "a", Dip, start, start + 5), outcome);
        }
        check(&truth, &alert("1", "b", Spike, 105, 120), (0, 1, 0, 1));
        let long = [fault("a", LevelShift, 100, 400)];
        check(&long, &alert("1", "a", Spike, 390, 410), (1, 0, 0, 0));
        check(&long, &alert("1", "a", Spike, 400, 410), (0, 1, 0, 1));
    }

    #[test]
    fn an_alert_that_was_open_before_finds_a_fault_only_by_what_it_says_in_it() {
        let truth = [fault("a", Spike, 100, 120)];
        check(&truth, &alert("1", "a", Spike, 50, 110), (0, 1, 1, 0));
        let [opened, resolved] = alert("1", "a", Spike, 50, 110);
        check(&truth, &[opened, step("1", "a", Spike, 50, 106, 1), resolved], (1, 0, 0, 0));
    }

    #[test]
    fn one_alert_counts_once() {
        let truth = [fault("a", Spike, 100, 120), fault("a", Spike, 125, 140)];
        let [opened, resolved] = alert("1", "a", Spike, 105, 150);
        let both = [opened, step("1", "a", Spike, 105, 130, 1), resolved];
        check(&truth, &both, (1, 1, 0, 0));
        let second = alert("2", "a", Spike, 130, 140);
        check(&truth, &[&both[..], &second].concat(), (2, 0, 0, 0));
        let third = alert("3", "a", Dip, 115, 120);
        check(&truth[..1], &[&both[..], &third].concat(), (1, 0, 1, 0));
    }

    #[test]
    fn what_was_retracted_was_not_said() {
        let [first, _] = alert("1", "a", Spike, 105, 110);
        let revised = |revision, correction| Alert { revision, correction, ..first.clone() };
        let retracted = revised(1, Correction::Retracted);
        let brought_back = revised(2, Correction::Changed);
        let truth = [fault("a", Spike, 100, 120)];
        check(&truth, &[first.clone(), retracted.clone()], (0, 1, 0, 0));
        check(&truth, &[first.clone(), brought_back, retracted], (1, 0, 0, 0));
    }

    #[test]
    fn it_is_told_by_kind_detector_severity_region_and_tenant_and_how_long_it_took() {
        let truth = [fault("a", LevelShift, 100, 300), fault("b", Spike, 200, 210)];
        let mut alerts = alert("1", "a", Spike, 105, 310).to_vec();
        alerts.push(step("1", "a", LevelShift, 105, 130, 1));
        alerts.extend(alert("2", "a", Dip, 500, 510));
        alerts.extend(alert("3", "z", Dip, 500, 510));
        let score = score(&truth, &alerts, delay_max_ms(5 * MINUTE));
        let of = |dimension, value: &str| score.by.get(&(dimension, value.to_owned())).cloned().unwrap_or_default();
        let shift = of(Dimension::Kind, "level_shift");
        assert_eq!((shift.faults, shift.found, shift.named, &shift.delays_ms[..]), (1, 1, 1, &[10 * MINUTE][..]));
        assert_eq!((of(Dimension::Kind, "spike").faults, of(Dimension::Kind, "spike").found), (1, 0));
        assert_eq!(of(Dimension::Kind, "dip").false_alerts, 2);
        assert_eq!(
            (of(Dimension::Detector, "residual").found, of(Dimension::Detector, "residual").false_alerts),
            (1, 2)
        );
        assert_eq!(of(Dimension::Severity, "high").alerts(), 3);
        // Where the third is nobody knows.
        let emea = of(Dimension::Region, "EMEA");
        assert_eq!((emea.faults, emea.found, emea.false_alerts), (2, 1, 1));
        assert_eq!(of(Dimension::Tenant, "acme"), emea);
        let Tally { ref delays_ms, .. } = score.total;
        assert_eq!(delays_ms, &[10 * MINUTE]);
        let (recall, precision) = (score.total.recall(), score.total.precision());
        assert!(
            (recall - 0.5).abs() < 1e-12
                && (precision - 1.0 / 3.0).abs() < 1e-12
                && (score.total.f1() - 0.4).abs() < 1e-12
        );
        assert_eq!(score.total.delay_ms(0.95), Some(10 * MINUTE));
        assert_eq!(
            (score.missed.as_slice(), score.false_alerts.as_slice()),
            (&["b-200".to_owned()][..], &["2".to_owned(), "3".to_owned()][..])
        );
        assert_eq!(score.open, 0);
        let mut twice = score.clone();
        twice.add(score);
        assert_eq!((twice.total.faults, twice.total.delays_ms.len()), (4, 2));
    }

    #[test]
    fn the_delay_allowed_is_half_an_hour_or_three_windows() {
        assert_eq!(delay_max_ms(5 * MINUTE), 30 * MINUTE);
        assert_eq!(delay_max_ms(60 * MINUTE), 180 * MINUTE);
    }
}
