//! Alerts held against the truth about what went wrong. Pure.
//!
//! A fault is *found* if an alert of its stream and entity overlaps `[onset, end + grace]`, on whichever measure. An alert (all
//! records of one `alert_id`) is *false* if it overlaps no fault of its entity so. What a fault causes elsewhere is a truth of its
//! own, so an alert on a dependant is not false. The kind that an alert gives is compared with its fault's, and is no condition.
//! Of a record that was revised the last revision counts, and what was retracted was not said.

use std::collections::{BTreeMap, BTreeSet};

use tidewatch_schemas::record::{Alert, AnomalyKind, Correction, Severity, Truth};

/// How long after a fault's end an alert still belongs to it, at least: the window in which it ends closes later, and so do the
/// windows that resolve the alert.
pub const GRACE_MS_MIN: i64 = 30 * 60_000;
/// The same in windows.
pub const GRACE_WINDOWS: i64 = 3;

/// The grace for windows of this length.
#[must_use]
pub fn grace_ms(window_ms: i64) -> i64 {
    GRACE_MS_MIN.max(GRACE_WINDOWS * window_ms)
}

/// How the faults of one kind went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KindScore {
    /// Faults that an alert overlaps.
    pub found: u64,
    /// Those of them that at least one alert calls by their kind.
    pub named: u64,
    /// Faults that no alert overlaps.
    pub missed: u64,
    /// Alerts of this kind.
    pub alerts: u64,
    /// Alerts of this kind that overlap no fault.
    pub false_alerts: u64,
}

/// The whole comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Score {
    /// By kind: faults by theirs, alerts by theirs.
    pub kinds: BTreeMap<&'static str, KindScore>,
    /// Alerts by the highest severity that they had.
    pub severities: BTreeMap<Severity, u64>,
    /// Alerts that were still open at the end.
    pub open: u64,
}

impl Score {
    /// Over all kinds.
    #[must_use]
    pub fn total(&self) -> KindScore {
        self.kinds.values().fold(KindScore::default(), |sum, kind| KindScore {
            found: sum.found + kind.found,
            named: sum.named + kind.named,
            missed: sum.missed + kind.missed,
            alerts: sum.alerts + kind.alerts,
            false_alerts: sum.false_alerts + kind.false_alerts,
        })
    }
}

/// One alert over its life.
struct Life<'a> {
    last: &'a Alert,
    start: i64,
    end: i64,
    severity: Severity,
}

/// Compares the records of the alerts topic, in any order, with the truth.
#[must_use]
pub fn score(truth: &[Truth], alerts: &[Alert], grace_ms: i64) -> Score {
    let lives = lives(alerts);
    let mut result = Score::default();
    let mut explained = BTreeSet::new();
    for fault in truth {
        let hits = lives.iter().filter(|(_, life)| {
            life.last.stream == fault.stream
                && life.last.entity == fault.entity
                && life.start <= fault.end.saturating_add(grace_ms)
                && life.end > fault.onset
        });
        let mut kinds: Vec<AnomalyKind> = Vec::new();
        for (id, life) in hits {
            explained.insert(*id);
            kinds.push(life.last.kind);
        }
        let kind = result.kinds.entry(fault.kind.as_str()).or_default();
        if kinds.is_empty() {
            kind.missed += 1;
        } else {
            kind.found += 1;
            kind.named += u64::from(kinds.contains(&fault.kind));
        }
    }
    for (id, life) in &lives {
        let kind = result.kinds.entry(life.last.kind.as_str()).or_default();
        kind.alerts += 1;
        kind.false_alerts += u64::from(!explained.contains(id));
        *result.severities.entry(life.severity).or_default() += 1;
        result.open += u64::from(life.last.state != tidewatch_schemas::record::AlertState::Resolved);
    }
    result
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
        let new = Life { last: alert, start: alert.opened_at, end: alert.window_end, severity: alert.severity };
        let life = lives.entry(&alert.alert_id).or_insert(new);
        life.start = life.start.min(alert.opened_at);
        life.end = life.end.max(alert.window_end);
        life.severity = life.severity.max(alert.severity);
        if alert.sequence >= life.last.sequence {
            life.last = alert;
        }
    }
    lives
}

#[cfg(test)]
mod tests {
    use tidewatch_schemas::record::AlertState;

    use super::*;

    const MINUTE: i64 = 60_000;

    fn fault(entity: &str, kind: AnomalyKind, onset: i64, end: i64) -> Truth {
        Truth {
            fault_id: format!("{entity}-{onset}"),
            kind,
            stream: "s".into(),
            entity: entity.into(),
            measure: "m".into(),
            labels: BTreeMap::new(),
            onset: onset * MINUTE,
            end: end * MINUTE,
            magnitude: 2.0,
            cause: None,
            seed: 1,
        }
    }

    fn alert(id: &str, entity: &str, kind: AnomalyKind, start: i64, end: i64, sequence: i32) -> Alert {
        Alert {
            alert_id: id.into(),
            state: if sequence == 0 { AlertState::Opened } else { AlertState::Resolved },
            severity: if sequence == 0 { Severity::High } else { Severity::Low },
            kind,
            stream: "s".into(),
            entity: entity.into(),
            labels: BTreeMap::new(),
            measure: "m".into(),
            aggregate: "mean".into(),
            opened_at: start * MINUTE,
            window_start: (end - 5) * MINUTE,
            window_end: end * MINUTE,
            observed: 1.0,
            expected: None,
            lower: None,
            upper: None,
            score: 1.0,
            peak_score: 1.0,
            detectors: vec![],
            windows: 1,
            sequence,
            partition: 0,
            first_offset: 0,
            last_offset: 0,
            summary: String::new(),
            revision: 0,
            correction: tidewatch_schemas::record::Correction::None,
            supersedes: None,
        }
    }

    fn check(
        truth: &[Truth],
        alerts: &[Alert],
        (found, named, missed, alerts_in_all, false_alerts): (u64, u64, u64, u64, u64),
    ) {
        let total = score(truth, alerts, grace_ms(5 * MINUTE)).total();
        assert_eq!(total, KindScore { found, named, missed, alerts: alerts_in_all, false_alerts });
    }

    #[test]
    fn a_fault_is_found_by_overlap_with_its_grace() {
        use AnomalyKind::{Dip, Spike};
        let truth = [fault("a", Spike, 100, 120)];
        check(&truth, &[], (0, 0, 1, 0, 0));
        check(&truth, &[alert("1", "a", Spike, 105, 110, 0)], (1, 1, 0, 1, 0));
        check(&truth, &[alert("1", "a", Dip, 105, 110, 0)], (1, 0, 0, 1, 0));
        check(&truth, &[alert("1", "b", Spike, 105, 110, 0)], (0, 0, 1, 1, 1));
        // Ends when the fault begins: before it. Begins at the end of the grace: in it. A minute later: not.
        check(&truth, &[alert("1", "a", Spike, 90, 100, 0)], (0, 0, 1, 1, 1));
        check(&truth, &[alert("1", "a", Spike, 150, 155, 0)], (1, 1, 0, 1, 0));
        check(&truth, &[alert("1", "a", Spike, 151, 156, 0)], (0, 0, 1, 1, 1));
    }

    #[test]
    fn what_was_retracted_was_not_said() {
        use AnomalyKind::Spike;
        let first = alert("1", "a", Spike, 105, 110, 0);
        let revised = |revision, correction| Alert { revision, correction, ..first.clone() };
        let retracted = revised(1, Correction::Retracted);
        let brought_back = revised(2, Correction::Changed);
        let truth = [fault("a", Spike, 100, 120)];
        check(&truth, &[first.clone(), retracted.clone()], (0, 0, 1, 0, 0));
        check(&truth, &[first.clone(), brought_back, retracted], (1, 1, 0, 1, 0));
    }

    #[test]
    fn an_alert_counts_once_over_all_its_records() {
        use AnomalyKind::{LevelShift, Spike};
        let truth = [fault("a", LevelShift, 100, 120), fault("a", Spike, 400, 410)];
        let records = [alert("1", "a", Spike, 50, 60, 0), alert("1", "a", LevelShift, 50, 130, 1)];
        check(&truth, &records, (1, 1, 1, 1, 0));
        let result = score(&truth, &records, 0);
        assert_eq!(result.severities, BTreeMap::from([(Severity::High, 1)]));
        assert_eq!(result.open, 0);
        assert_eq!(result.kinds["level_shift"].alerts, 1);
        assert_eq!(score(&truth, &records[..1], 0).open, 1);
    }

    #[test]
    fn two_alerts_may_find_one_fault_and_one_alert_two() {
        use AnomalyKind::Spike;
        let truth = [fault("a", Spike, 100, 120), fault("a", Spike, 130, 140)];
        check(
            &truth[..1],
            &[alert("1", "a", Spike, 105, 110, 0), alert("2", "a", Spike, 115, 120, 0)],
            (1, 1, 0, 2, 0),
        );
        check(&truth, &[alert("1", "a", Spike, 105, 140, 0)], (2, 2, 0, 1, 0));
    }

    #[test]
    fn the_grace_is_three_windows_or_half_an_hour() {
        assert_eq!(grace_ms(5 * MINUTE), 30 * MINUTE);
        assert_eq!(grace_ms(60 * MINUTE), 180 * MINUTE);
    }
}
