//! Limits that will be passed, by the forecast of the series: told before they are.

use tidewatch_schemas::record::{AlertKind, AlertState, Severity};

use super::*;

const MINUTE: i64 = 60 * SECOND;
const STEP: i64 = 5 * MINUTE;
/// 2026-01-05, a Monday.
const START: i64 = 1_767_571_200_000;

/// A watched measure with this limit, and a path of an hour.
fn declared(limit: &serde_json::Value) -> StreamSettings {
    serde_json::from_value(serde_json::json!({
        "name": "disks", "topic": "disks", "format": "json", "entity": ["host"], "event_time": "at",
        "window": { "tumbling": "5m" }, "disorder": "0s", "alert": { "open_after": 2 },
        "measure": [{
            "name": "used", "field": "used", "unit": "GB", "limit": limit, "detectors": [],
            "forecast": { "horizons": ["15m", "30m", "45m", "1h"], "emit_every": "1d" },
        }],
    }))
    .unwrap()
}

/// What is told of these values, one a window; NaN where there is none.
fn told(engine: &mut Engine, from: i64, values: &[f64]) -> Vec<Alert> {
    let mut effects = Effects::default();
    for (at, value) in (from..).zip(values).filter(|(_, value)| !value.is_nan()) {
        let event_time = START + at * STEP;
        engine.ingest(&Event { offset: at, event_time, entity: "a", values: &[*value], id: None }, &mut effects);
    }
    engine.advance(START + (from + values.len() as i64) * STEP, &mut effects);
    effects.alerts
}

fn told_of(limit: &serde_json::Value, values: &[f64]) -> Vec<Alert> {
    told(&mut Engine::new(declared(limit).validate().unwrap(), 0), 0, values)
}

/// A little noise, the same each time.
fn noise(at: usize) -> f64 {
    (at * 7_919 % 101) as f64 / 101.0 - 0.5
}

/// 100 for two days, and from there on half a unit more with each window.
fn leak(windows: usize) -> Vec<f64> {
    let leaked = |at: usize| at.saturating_sub(576) as f64 * 0.5;
    (0..windows).map(|at| 100.0 + leaked(at) + noise(at)).collect()
}

#[test]
fn a_leak_is_told_before_its_limit_is_passed_and_comes_true() {
    // 150 is passed in window 676; from 700 on all is as it was.
    let mut values = leak(700);
    values.extend((700..760).map(|at| 100.0 + noise(at)));
    let alerts = told_of(&serde_json::json!({ "above": 150.0 }), &values);
    assert!(alerts.iter().all(|alert| alert.kind == AlertKind::PredictedBreach && alert.measure == "used"));
    let window = |ms: i64| (ms - START) / STEP;
    let opened = &alerts[0];
    let breach = opened.breach.as_ref().unwrap();
    assert_eq!((opened.state, opened.severity, opened.sequence), (AlertState::Opened, Severity::Low, 0));
    assert_eq!((breach.limit, breach.above, breach.came_true_at), (150.0, true, None));
    assert!(breach.chance >= 0.1 && opened.score >= 1.0 && opened.upper.unwrap() > 150.0, "{breach:?}");
    assert!((652..668).contains(&window(opened.window_start)), "{}", window(opened.window_start));
    assert_eq!(breach.target_time, opened.window_start + breach.lead_ms);
    assert!(opened.summary.contains("% likely to pass the limit of 150.0 GB at "), "{}", opened.summary);

    let passed = alerts.iter().find(|alert| alert.severity == Severity::Critical).unwrap();
    let breach = passed.breach.as_ref().unwrap();
    let first = (576..700).find(|at| values[*at] > 150.0).unwrap() as i64;
    assert_eq!(breach.came_true_at.map(window), Some(first));
    assert_eq!(breach.lead_ms, passed.window_end - opened.window_end, "as long before as it was told");
    assert!(breach.lead_ms >= 30 * MINUTE && passed.observed > 150.0, "{breach:?}");

    let resolved = alerts.last().unwrap();
    assert_eq!(resolved.state, AlertState::Resolved);
    assert_eq!(resolved.breach.as_ref().unwrap().came_true_at, breach.came_true_at);
    assert_eq!(resolved.breach.as_ref().unwrap().lead_ms, breach.lead_ms);
    assert!(resolved.summary.contains("came true"), "{}", resolved.summary);
    let severities: Vec<Severity> = alerts.iter().map(|alert| alert.severity).collect();
    assert!(severities.is_sorted(), "{severities:?}");
    let sequences: Vec<i32> = alerts.iter().map(|alert| alert.sequence).collect();
    assert_eq!(sequences, (0..alerts.len() as i32).collect::<Vec<_>>(), "one alert, each step once");
    assert!(alerts.iter().all(|alert| alert.alert_id == opened.alert_id));
}

#[test]
fn what_turns_before_its_limit_did_not_come_true() {
    let mut values = leak(670);
    values.extend((670..720).map(|at| 100.0 + noise(at)));
    let alerts = told_of(&serde_json::json!({ "above": 150.0 }), &values);
    let states: Vec<_> = alerts.iter().map(|alert| alert.state).collect();
    assert_eq!((states[0], *states.last().unwrap()), (AlertState::Opened, AlertState::Resolved));
    assert!(alerts.iter().all(|alert| alert.breach.as_ref().unwrap().came_true_at.is_none()));
    assert!(alerts.last().unwrap().summary.contains("did not come true"), "{}", alerts.last().unwrap().summary);
}

#[test]
fn a_limit_may_be_below() {
    let values: Vec<f64> = leak(700).iter().map(|value| 200.0 - value).collect();
    let alerts = told_of(&serde_json::json!({ "below": 50.0 }), &values);
    let breach = alerts[0].breach.as_ref().unwrap();
    assert!(!breach.above && alerts[0].lower.unwrap() < 50.0, "{alerts:?}");
    assert!(alerts.iter().any(|alert| alert.breach.as_ref().unwrap().came_true_at.is_some()));
}

#[test]
fn nothing_is_predicted_of_what_is_beyond_or_far_from_its_limit() {
    let flat: Vec<f64> = (0..700).map(|at| 100.0 + noise(at)).collect();
    for limit in [serde_json::json!({ "above": 90.0 }), serde_json::json!({ "above": 110.0 })] {
        assert!(told_of(&limit, &flat).is_empty(), "{limit}");
    }
}

#[test]
fn nothing_is_predicted_of_what_was_hardly_judged() {
    // A steep morning, of which few forecasts an hour ahead have come to be judged.
    let steep: Vec<f64> = (0..36).map(|at| 100.0 + at as f64 + noise(at)).collect();
    assert!(told_of(&serde_json::json!({ "above": 140.0 }), &steep).is_empty());
    let longer: Vec<f64> = (0..96).map(|at| 100.0 + at as f64 + noise(at)).collect();
    assert!(!told_of(&serde_json::json!({ "above": 190.0 }), &longer).is_empty());
}

#[test]
fn a_smaller_chance_is_told_sooner() {
    let first = |chance: f64| {
        let alerts = told_of(&serde_json::json!({ "above": 150.0, "chance": chance }), &leak(700));
        alerts[0].window_start
    };
    assert!(first(0.05) < first(0.5) && first(0.5) < first(0.95));
}

#[test]
fn the_limit_of_an_objective_is_that_of_its_percentile() {
    let mut settings = declared(&serde_json::json!({ "above": 150.0, "objective": 0.95 }));
    settings.measures[0].aggregates = vec![Aggregate::Mean, Aggregate::P95];
    let alerts = told(&mut Engine::new(settings.validate().unwrap(), 0), 0, &leak(700));
    assert!(!alerts.is_empty() && alerts.iter().all(|alert| alert.aggregate == "p95"));
}

#[test]
fn a_prediction_ends_with_its_series() {
    let mut values = leak(670);
    values.extend([f64::NAN; 400]);
    let alerts = told_of(&serde_json::json!({ "above": 150.0 }), &values);
    let last = alerts.last().unwrap();
    assert_eq!(last.state, AlertState::Resolved);
    assert!(last.summary.contains("no value has come since"), "{}", last.summary);
}

#[test]
fn a_prediction_ends_with_its_limit() {
    let settings = declared(&serde_json::json!({ "above": 150.0 }));
    let mut engine = Engine::new(settings.validate().unwrap(), 0);
    assert_eq!(told(&mut engine, 0, &leak(670))[0].state, AlertState::Opened);
    let without =
        StreamSettings { measures: vec![MeasureSettings { limit: None, ..settings.measures[0].clone() }], ..settings };
    engine.config = without.validate().unwrap();
    let alerts = told(&mut engine, 670, &leak(672)[670..]);
    assert_eq!(alerts.iter().map(|alert| alert.state).collect::<Vec<_>>(), [AlertState::Resolved]);
}

#[test]
fn a_prediction_whose_forecaster_began_anew_ends_by_the_values() {
    // Three values far below zero: the forecaster gives its scale up, and knows nothing for a while.
    let mut values: Vec<f64> = leak(670).iter().map(|value| 200.0 - value).collect();
    values.extend([-100.0; 3]);
    values.extend((673..690).map(|at| 100.0 + noise(at)));
    let alerts = told_of(&serde_json::json!({ "below": 50.0 }), &values);
    let states: Vec<_> = alerts.iter().map(|alert| alert.state).collect();
    assert_eq!((states[0], *states.last().unwrap()), (AlertState::Opened, AlertState::Resolved), "{states:?}");
    assert!(alerts.last().unwrap().breach.as_ref().unwrap().came_true_at.is_some());
}

#[test]
fn windows_with_one_missing_between_are_not_in_a_row() {
    let every_other = |values: Vec<f64>| -> Vec<f64> {
        let is_kept = |at: usize| at < 600 || at.is_multiple_of(2);
        values.into_iter().enumerate().map(|(at, value)| if is_kept(at) { value } else { f64::NAN }).collect()
    };
    let limit = serde_json::json!({ "above": 150.0 });
    let predicted = |values: &[f64]| told_of(&limit, values).iter().any(|alert| alert.state == AlertState::Opened);
    assert!(predicted(&leak(676)) && !predicted(&every_other(leak(676))));
}
