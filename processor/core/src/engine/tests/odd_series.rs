//! Series as no detector likes them, under the shipped defaults: no panic, no number that is not finite, and no storm of alerts.

use tidewatch_schemas::record::AlertState;

use super::*;

const MINUTE: i64 = 60 * SECOND;
/// Three weeks of windows of five minutes.
const WINDOWS: i64 = 3 * 7 * 288;

/// Alerts that opened, of a series with this value in each window; NaN: the event has none. Windows of five minutes.
fn opened(value: impl Fn(i64) -> f64) -> usize {
    opened_at((0..WINDOWS).map(|window| (window * 5 * MINUTE, value(window))))
}

/// The same for values at any times, from 2026-01-05 on.
fn opened_at(values: impl Iterator<Item = (i64, f64)>) -> usize {
    let settings: StreamSettings = serde_json::from_value(serde_json::json!({
        "name": "calls", "topic": "calls", "format": "json", "entity": ["service"], "event_time": "at",
        "window": { "tumbling": "5m" }, "disorder": "0s", "measure": [{ "name": "latency", "field": "ms" }],
    }))
    .unwrap();
    let config = settings.validate().unwrap();
    let mut engine = Engine::new(config, 0);
    let mut effects = Effects::default();
    let (mut opened, mut last) = (0, 0);
    let mut check = |effects: &mut Effects| {
        for point in effects.metrics.iter().flat_map(|metric| &metric.series) {
            let numbers = [Some(point.value), Some(point.score), point.expected, point.lower, point.upper];
            let scores = point.detectors.iter().map(|detector| Some(detector.score));
            for number in numbers.into_iter().chain(scores).flatten() {
                assert!(number.is_finite(), "{point:?}");
            }
            assert!(point.score >= 0.0, "{point:?}");
        }
        opened += effects.alerts.iter().filter(|alert| alert.state == AlertState::Opened).count();
        effects.clear();
    };
    for (offset, (time, value)) in (0..).zip(values) {
        let event_time = 1_767_571_200_000 + time;
        let event = Event { offset, event_time, entity: "a", values: &[value], id: None };
        engine.ingest(&event, &mut effects);
        last = event_time.max(last);
        check(&mut effects);
    }
    engine.advance(last + 10 * MINUTE, &mut effects);
    check(&mut effects);
    opened
}

/// Noise between 0 and 1.
fn noise(window: i64) -> f64 {
    let mixed = (window as u64).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (mixed >> 11) as f64 / 9_007_199_254_740_992.0
}

#[test]
fn a_constant_says_nothing() {
    for constant in [0.0, 1.0, -3.7, 1e-300, 1e150, 1e308] {
        assert_eq!(opened(|_| constant), 0, "{constant}");
    }
}

#[test]
fn a_single_value_and_three_say_nothing() {
    assert_eq!(opened_at([(0, 5.0)].into_iter()), 0);
    assert_eq!(opened_at([(0, 5.0), (300_000, 500.0), (600_000, -9.0)].into_iter()), 0);
}

#[test]
fn no_values_at_all_say_nothing() {
    assert_eq!(opened(|_| f64::NAN), 0);
    assert_eq!(opened(|window| [f64::NAN, f64::INFINITY, f64::NEG_INFINITY][(window % 3) as usize]), 0);
}

#[test]
fn values_that_alternate_are_usual() {
    assert_eq!(opened(|window| if window % 2 == 0 { 1.0 } else { 1_000.0 }), 0);
    assert_eq!(opened(|window| [3.0, 1.0, 4.0, 1.0, 5.0][(window % 5) as usize]), 0);
}

#[test]
fn what_only_grows_makes_no_storm() {
    for slope in [1e-6, 1.0, -1e6] {
        let alerts = opened(|window| slope * window as f64);
        assert!(alerts <= 6, "{alerts} alerts in three weeks with a slope of {slope}");
    }
    let alerts = opened(|window| 1.003_f64.powi(window as i32));
    assert!(alerts <= 12, "{alerts} alerts in three weeks of exponential growth");
}

#[test]
fn the_greatest_numbers_are_numbers() {
    for odd in [1e308, -1e308, f64::MAX, f64::MIN_POSITIVE] {
        let alerts = opened(|window| if window % 500 == 499 { odd } else { noise(window) });
        assert!(alerts <= 20, "{alerts} alerts with {odd} now and then");
    }
    let alerts = opened(|window| if window % 2 == 0 { 1e308 } else { -1e308 });
    assert!(alerts <= 6, "{alerts} alerts");
}

#[test]
fn few_values_make_no_storm() {
    let rare = |share: f64| move |window| if noise(window) < share { 1.0 } else { 0.0 };
    for share in [0.001, 0.01, 0.1, 0.5] {
        let alerts = opened(rare(share));
        assert!(alerts <= 12, "{alerts} alerts in three weeks where a share of {share} is 1");
    }
    let alerts = opened(|window| (noise(window) * 4.0).floor());
    assert!(alerts <= 6, "{alerts} alerts in three weeks of 0 to 3");
}

#[test]
fn times_in_any_order_are_late_or_not() {
    let value = |window: i64| (window * 7_919 % 2_016) * 5 * MINUTE;
    let alerts = opened_at((0..2_016).map(|window| (value(window), 10.0 + noise(window))));
    assert_eq!(alerts, 0);
}

#[test]
fn a_gap_of_a_year_is_a_beginning() {
    let year = 365 * 288;
    let before = (0..2_016).map(|window| (window * 5 * MINUTE, 10.0 + noise(window)));
    let after = (0..2_016).map(|window| ((2_016 + year + window) * 5 * MINUTE, 900.0 + noise(window)));
    let alerts = opened_at(before.chain(after));
    assert!(alerts <= 4, "{alerts} alerts");
}

#[test]
fn a_gap_of_a_day_makes_no_storm() {
    let values = (0..WINDOWS).filter(|window| window / 288 % 3 != 1);
    let alerts = opened_at(values.map(|window| (window * 5 * MINUTE, 10.0 + noise(window))));
    assert!(alerts <= 6, "{alerts} alerts");
}

#[test]
fn noise_opens_about_as_many_alerts_as_were_asked_for() {
    let alerts = opened(noise);
    assert!(alerts <= 9, "{alerts} alerts in three weeks, one a week was asked for");
}
