//! What a measure's guards make of windows that are unusual, and of those that are not.

use tidewatch_schemas::record::{AlertKind, AlertState};

use super::*;

const MINUTE: i64 = 60 * SECOND;
/// 2026-01-05, a Monday.
const START: i64 = 1_767_571_200_000;

/// What opens under these guards: the window's number, its kind and the leading detector. One window of five minutes a value.
fn opened(guards: serde_json::Value, values: &[f64]) -> Vec<(i64, AlertKind, String)> {
    let settings: StreamSettings = serde_json::from_value(serde_json::json!({
        "name": "calls", "topic": "calls", "format": "json", "entity": ["service"], "event_time": "at",
        "window": { "tumbling": "5m" }, "disorder": "0s",
        "measure": [{ "name": "latency", "field": "ms", "guards": guards }],
    }))
    .unwrap();
    let mut engine = Engine::new(settings.validate().unwrap(), 0);
    let mut effects = Effects::default();
    for (offset, value) in (0..).zip(values) {
        let event_time = START + offset * 5 * MINUTE;
        engine.ingest(&Event { offset, event_time, entity: "a", values: &[*value], id: None }, &mut effects);
    }
    engine.advance(START + (values.len() as i64 + 1) * 5 * MINUTE, &mut effects);
    let opened = effects.alerts.iter().filter(|alert| alert.state == AlertState::Opened);
    opened
        .map(|alert| {
            let leading = alert.detectors.iter().max_by(|a, b| a.score.total_cmp(&b.score)).unwrap();
            ((alert.opened_at - START) / (5 * MINUTE), alert.kind, leading.detector.clone())
        })
        .collect()
}

/// Values around 100, with these at window 600 and, when that is long told, at 800.
fn with_faults(at_600: f64, at_800: f64) -> Vec<f64> {
    let value = |window: usize| match window {
        600 => at_600,
        800 => at_800,
        _ => 100.0 + (window * 7_919 % 101) as f64 / 50.0,
    };
    (0..900).map(value).collect()
}

/// The windows in which something opened.
fn numbers_of(opened: &[(i64, AlertKind, String)]) -> Vec<i64> {
    opened.iter().map(|(window, _, _)| *window).collect()
}

/// The same, once two days are known.
fn numbers(opened: &[(i64, AlertKind, String)]) -> Vec<i64> {
    numbers_of(opened).into_iter().filter(|window| *window >= 576).collect()
}

#[test]
fn a_side_may_be_of_no_interest() {
    let values = with_faults(150.0, 20.0);
    let of = |direction| numbers(&opened(serde_json::json!({ "direction": direction }), &values));
    assert_eq!(of("both"), [600, 800]);
    assert_eq!(of("up"), [600]);
    assert_eq!(of("down"), [800]);
}

#[test]
fn a_deviation_may_be_too_small_to_matter() {
    let values = with_faults(115.0, 160.0);
    assert_eq!(numbers(&opened(serde_json::json!({}), &values)), [600, 800]);
    assert_eq!(numbers(&opened(serde_json::json!({ "min_deviation": 30.0 }), &values)), [800]);
    assert_eq!(numbers(&opened(serde_json::json!({ "min_deviation_ratio": 0.3 }), &values)), [800]);
    assert!(numbers(&opened(serde_json::json!({ "min_deviation": 100.0 }), &values)).is_empty());
}

#[test]
fn a_value_out_of_its_valid_range_is_an_anomaly_at_once() {
    let guards = serde_json::json!({ "valid_range": [0.0, 1.0] });
    let values = [0.5, 0.4, 1.7, 0.5, 0.5, 0.5, 0.5, -0.2];
    let found = opened(guards.clone(), &values);
    assert_eq!(found[0], (2, AlertKind::Spike, "valid-range".to_owned()), "in warm-up too");
    assert_eq!(numbers_of(&found), [2, 7], "again, though no stronger than the first");
    let mut values = with_faults(160.0, 100.0);
    (values[620], values[640]) = (-50.0, 250.0);
    let guards_of = |range: serde_json::Value| opened(serde_json::json!({ "valid_range": range }), &values);
    assert_eq!(numbers(&guards_of(serde_json::json!([0.0, 200.0]))), [600, 620, 640], "whatever was told before");
    assert!(opened(guards, &[0.0, 1.0, 0.5]).is_empty(), "the ends belong to it");
}

#[test]
fn what_is_far_on_the_other_side_is_news() {
    let mut values = with_faults(160.0, 100.0);
    values[620..632].fill(40.0);
    assert_eq!(numbers(&opened(serde_json::json!({}), &values)), [600, 620]);
    values[620..632].fill(160.0);
    assert_eq!(numbers(&opened(serde_json::json!({}), &values)), [600], "and not what is as far on the same");
}

#[test]
fn under_maintenance_nothing_is_scored_or_learnt() {
    // Windows 600 to 623 are from 02:00 to 04:00 on the third day, a Wednesday.
    let mut values = with_faults(500.0, 101.0);
    values[601..620].fill(500.0);
    assert_eq!(numbers(&opened(serde_json::json!({}), &values)), [600]);
    for when in ["Wed 02:00/2h", "02:00/2h", "2026-01-07T02:00Z/2026-01-07T04:00Z"] {
        let found = opened(serde_json::json!({ "maintenance": [when] }), &values);
        assert!(numbers(&found).iter().all(|window| !(600..650).contains(window)), "{when}: {found:?}");
    }
    assert_eq!(numbers(&opened(serde_json::json!({ "maintenance": ["Thu 02:00/2h"] }), &values)), [600]);
}

#[test]
fn who_is_under_maintenance_has_not_fallen_silent() {
    // Off from 02:00 to 04:00 on the third day, and then for good from 06:00 on.
    let dropouts = |guards: serde_json::Value| -> Vec<i64> {
        let settings: StreamSettings = serde_json::from_value(serde_json::json!({
            "name": "calls", "topic": "calls", "format": "json", "entity": ["service"], "event_time": "at",
            "window": { "tumbling": "5m" }, "disorder": "0s", "alert": { "dropout_after": 3 },
            "measure": [{ "name": "latency", "field": "ms", "guards": guards }],
        }))
        .unwrap();
        let mut engine = Engine::new(settings.validate().unwrap(), 0);
        let mut effects = Effects::default();
        for window in (0..648).filter(|window| !(600..624).contains(window)) {
            let event_time = START + window * 5 * MINUTE;
            engine.ingest(&Event { offset: window, event_time, entity: "a", values: &[100.0], id: None }, &mut effects);
        }
        engine.advance(START + 700 * 5 * MINUTE, &mut effects);
        let begun = effects.alerts.iter().filter(|alert| alert.kind == AlertKind::Dropout);
        let opened = begun.filter(|alert| alert.state == AlertState::Opened);
        opened.map(|alert| (alert.window_end - START) / (5 * MINUTE)).collect()
    };
    assert_eq!(dropouts(serde_json::json!({})), [603, 651]);
    assert_eq!(dropouts(serde_json::json!({ "maintenance": ["02:00/2h"] })), [651]);
    assert_eq!(dropouts(serde_json::json!({ "maintenance": ["Wed 02:00/1h"] })), [615, 651], "it goes on behind it");
}
