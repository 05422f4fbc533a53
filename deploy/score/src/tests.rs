//! Faults and alerts of which it is known what becomes of them.

use std::collections::BTreeMap;

use tidewatch_schemas::record::{AlertKind, AlertState, AnomalyKind, Breach, Correction, DetectorShare, Severity};

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
        kind: kind.into(),
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
            DetectorShare { detector: "residual".into(), score: 2.0, share: 0.5 },
            DetectorShare { detector: "shift".into(), score: 0.5, share: 0.5 },
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
        onset: None,
        confidence: 1.0,
        probability: 0.001,
        attribution: vec![],
        recent: vec![],
        breach: None,
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
    let [opened, _] = alert("1", "a", Spike, 105, 310);
    let mut alerts = vec![opened, step("1", "a", LevelShift, 105, 130, 1), resolved("1", "a", LevelShift, 105, 310)];
    alerts.extend(alert("2", "a", Dip, 500, 510));
    alerts.extend(alert("3", "z", Dip, 500, 510));
    let score = score(&truth, &alerts, delay_max_ms(5 * MINUTE));
    let of = |dimension, value: &str| score.by.get(&(dimension, value.to_owned())).cloned().unwrap_or_default();
    let shift = of(Dimension::Kind, "level_shift");
    assert_eq!((shift.faults, shift.found, shift.named, &shift.delays_ms[..]), (1, 1, 1, &[10 * MINUTE][..]));
    assert_eq!((of(Dimension::Kind, "spike").faults, of(Dimension::Kind, "spike").found), (1, 0));
    assert_eq!(of(Dimension::Kind, "dip").false_alerts, 2);
    assert_eq!((of(Dimension::Detector, "residual").found, of(Dimension::Detector, "residual").false_alerts), (1, 2));
    assert_eq!(of(Dimension::Severity, "high").alerts(), 3);
    // Where the third is nobody knows.
    let emea = of(Dimension::Region, "EMEA");
    assert_eq!((emea.faults, emea.found, emea.false_alerts), (2, 1, 1));
    assert_eq!(of(Dimension::Tenant, "acme"), emea);
    let Tally { ref delays_ms, .. } = score.total;
    assert_eq!(delays_ms, &[10 * MINUTE]);
    let (recall, precision) = (score.total.recall(), score.total.precision());
    assert!(
        (recall - 0.5).abs() < 1e-12 && (precision - 1.0 / 3.0).abs() < 1e-12 && (score.total.f1() - 0.4).abs() < 1e-12
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

fn window(entity: &str, partition: i32, start: i64, end: i64) -> Window<'_> {
    Window { stream: "s", entity, partition, start: start * MINUTE, end: end * MINUTE }
}

fn evidence(truth: &[Truth], alerts: &[Alert], windows: &[Window<'_>]) -> Evidence {
    let mut evidence = Evidence::default();
    truth.iter().for_each(|truth| evidence.add_fault(truth));
    alerts.iter().for_each(|alert| evidence.add_alert(alert));
    windows.iter().for_each(|window| evidence.add_window(*window));
    evidence
}

#[test]
fn a_fault_is_pending_until_its_partition_has_passed_it() {
    let truth = [fault("a", Spike, 100, 110), fault("b", Spike, 100, 200), fault("z", Dip, 100, 110)];
    let d = delay_max_ms(5 * MINUTE);
    // `z` was never seen: what counts for it is the furthest partition.
    for (ends, missed, pending) in [
        (&[][..], 0, 3),
        (&[("a", 0, 129), ("b", 1, 129)], 0, 3),
        (&[("a", 0, 129), ("b", 1, 130)], 1, 2),
        (&[("a", 0, 130), ("b", 1, 199)], 2, 1),
        (&[("a", 0, 105), ("other", 0, 130), ("b", 1, 200)], 3, 0),
    ] {
        let windows: Vec<Window<'_>> =
            ends.iter().map(|&(entity, partition, end)| window(entity, partition, end - 5, end)).collect();
        let score = evidence(&truth, &[], &windows).score(d);
        assert_eq!((score.missed.len(), score.total.faults, score.total.pending), (missed, missed as u64, pending));
        assert_eq!(score.event_time, ends.iter().map(|(.., end)| end * MINUTE).max());
    }
    // What was found is not waited for.
    let found = evidence(&truth[..1], &alert("1", "a", Spike, 100, 120), &[window("a", 0, 100, 105)]).score(d);
    assert_eq!((found.total.faults, found.total.found, found.total.pending), (1, 1, 0));
}

#[test]
fn false_alarms_are_over_the_time_in_which_an_alert_would_be_false() {
    const DAY: i64 = 24 * 60;
    let truth = [
        fault("a", Spike, 100, 110),            // and until 130
        fault("a", LevelShift, 120, 220),       // overlaps that
        fault("a", Dip, 2 * DAY - 10, 3 * DAY), // 10 minutes of it are watched
        fault("b", Dip, -100, -50),             // before anything is watched
    ];
    let windows = [
        window("a", 0, 5, 10),
        window("a", 0, 2 * DAY - 5, 2 * DAY),
        window("a", 0, 0, 5),
        window("b", 0, 0, 3 * DAY),
        window("c", 1, 0, 2 * DAY),
    ];
    let alerts = [alert("1", "b", Spike, 500, 510), alert("2", "c", Spike, 500, 510)].concat();
    let score = evidence(&truth, &alerts, &windows).score(delay_max_ms(5 * MINUTE));
    let watched = |tally: &Tally| (tally.entities, tally.watched_ms);
    let (a, b, c) = (2 * DAY - 120 - 10, 3 * DAY, 2 * DAY);
    let millis = |minutes: i64| (minutes * MINUTE).unsigned_abs();
    assert_eq!(watched(&score.total), (3, millis(a + b + c)));
    // Where `c` is nobody knows.
    assert_eq!(watched(&score.by[&(Dimension::Region, "EMEA".to_owned())]), (2, millis(a + b)));
    let rates: BTreeMap<(Dimension, String), f64> = score
        .figures()
        .filter_map(|figures| Some(((figures.dimension, figures.value), figures.false_alarms_per_entity_week?)))
        .collect();
    let rate = |dimension, value: &str| rates[&(dimension, value.to_owned())];
    let per_week = |alarms: i64, minutes: i64| (alarms * 7 * DAY) as f64 / minutes as f64;
    for (dimension, value, expected) in [
        (Dimension::Total, "all", per_week(2, a + b + c)),
        (Dimension::Kind, "spike", per_week(2, a + b + c)),
        (Dimension::Kind, "level_shift", 0.0),
        (Dimension::Detector, "residual", per_week(2, a + b + c)),
        (Dimension::Severity, "high", per_week(2, a + b + c)),
        (Dimension::Region, "EMEA", per_week(1, a + b)),
        (Dimension::Tenant, "acme", per_week(1, a + b)),
    ] {
        assert!((rate(dimension, value) - expected).abs() < 1e-12, "{dimension} {value}: {}", rate(dimension, value));
    }
}

#[test]
fn what_nobody_knows_has_no_figure() {
    let nothing: Vec<Figures> = Evidence::default().score(0).figures().collect();
    let expected = Figures {
        dimension: Dimension::Total,
        value: "all".into(),
        tally: Tally::default(),
        recall: None,
        precision: None,
        f1: None,
        delay_p50_ms: None,
        delay_p95_ms: None,
        false_alarms_per_entity_week: None,
    };
    assert_eq!(nothing, [expected]);
    // A detector has no faults of its own: what it found is a share of all.
    let truth = [fault("a", LevelShift, 100, 300), fault("b", Spike, 200, 210)];
    let score = score(&truth, &alert("1", "a", Spike, 105, 310), delay_max_ms(5 * MINUTE));
    let residual = score.figures().find(|figures| figures.value == "residual").unwrap();
    assert_eq!((residual.tally.faults, residual.recall, residual.precision), (2, Some(0.5), Some(1.0)));
    assert_eq!((residual.delay_p50_ms, residual.delay_p95_ms), (Some(10 * MINUTE), Some(10 * MINUTE)));
}

#[test]
fn neither_order_nor_repetition_changes_anything() {
    let truth = [fault("a", Spike, 100, 120), fault("b", LevelShift, 125, 400), fault("b", Dip, 300, 320)];
    let [opened, resolved] = alert("1", "a", Spike, 105, 150);
    let retracted = Alert { revision: 1, correction: Correction::Retracted, ..step("1", "a", Spike, 105, 130, 1) };
    let mut alerts = vec![opened, step("1", "a", Spike, 105, 130, 1), retracted, resolved];
    alerts.extend(alert("2", "b", Dip, 310, 320));
    alerts.extend(alert("3", "c", Dip, 310, 320));
    let windows = [window("a", 0, 0, 500), window("b", 0, 0, 500), window("c", 1, 400, 500)];
    let once = evidence(&truth, &alerts, &windows);
    let mut backwards = Evidence::default();
    for _ in 0..2 {
        windows.iter().rev().for_each(|window| backwards.add_window(*window));
        alerts.iter().rev().for_each(|alert| backwards.add_alert(alert));
        truth.iter().rev().for_each(|truth| backwards.add_fault(truth));
    }
    let d = delay_max_ms(5 * MINUTE);
    assert_eq!(once.score(d), backwards.score(d));
    // Three entities, three faults, and a record for each step.
    assert_eq!((once.records(), backwards.records()), (3 + 3 + 7, 3 + 3 + 7));
    assert!(once.knows("s", "c") && !once.knows("s", "d") && !once.knows("t", "c"));
}

/// A breach predicted in the window from `start` to `start + 5`, over at `end`; it came true so many minutes after it was told.
fn prediction(id: &str, entity: &str, start: i64, end: i64, lead: Option<i64>) -> [Alert; 2] {
    alert(id, entity, Spike, start, end).map(|alert| {
        let came_true_at = lead.filter(|_| alert.sequence > 0).map(|lead| (start + lead) * MINUTE);
        let (limit, lead_ms) = (1.0, lead.unwrap_or(60) * MINUTE);
        let breach = Breach { limit, above: true, target_time: 0, chance: 0.6, lead_ms, came_true_at };
        Alert { kind: AlertKind::PredictedBreach, breach: Some(breach), ..alert }
    })
}

#[test]
fn a_predicted_breach_comes_true_or_does_not_and_is_no_anomaly() {
    let truth = [fault("a", AnomalyKind::Drift, 100, 400), fault("b", Spike, 100, 400)];
    let mut alerts = prediction("1", "a", 200, 300, Some(40)).to_vec();
    alerts.extend(prediction("2", "b", 200, 300, Some(20)));
    alerts.extend(prediction("3", "b", 310, 330, None));
    alerts.extend(prediction("4", "a", 600, 630, None));
    alerts.push(prediction("5", "c", 600, 630, None)[0].clone());
    check(&truth, &alerts, (0, 2, 0, 0));
    let found = score(&truth, &alerts, delay_max_ms(5 * MINUTE));
    assert_eq!((found.open, found.false_alerts.len()), (0, 0));
    let of = |value: &str| {
        let of_prediction = (Dimension::Prediction, value.to_owned());
        Figures::new(Dimension::Prediction, value, found.by[&of_prediction].clone())
    };
    let all = of("all");
    assert_eq!((all.tally.found, all.tally.false_alerts, all.tally.pending), (2, 2, 1));
    assert_eq!((all.precision, all.recall, all.f1), (Some(0.5), None, None));
    assert_eq!((all.delay_p50_ms, all.delay_p95_ms), (Some(-20 * MINUTE), Some(-20 * MINUTE)), "before it came true");
    let of_trend = of("trend").tally;
    assert_eq!((of_trend.found, of_trend.false_alerts, of_trend.delays_ms), (1, 0, vec![-40 * MINUTE]));
}
