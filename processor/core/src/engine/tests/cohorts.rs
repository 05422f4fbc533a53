//! What entities of a cohort learn from each other, and what an alert says of it.

use tidewatch_schemas::record::{AlertKind, AlertState};

use super::*;

const WINDOW: i64 = 300 * SECOND;
const SERVICES: i64 = 10;
/// 2026-01-05, a Monday.
const START: i64 = 1_767_571_200_000;

/// Two measures of services, in windows of five minutes.
fn declared(more: serde_json::Value) -> StreamSettings {
    let mut declared = serde_json::json!({
        "name": "calls", "topic": "calls", "format": "json", "entity": ["tenant", "service"], "event_time": "at",
        "window": { "tumbling": "5m" }, "disorder": "1s", "lateness": "10m",
        "measure": [{ "name": "latency", "field": "ms", "unit": "ms" }, { "name": "load", "field": "load" }],
    });
    declared.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(declared).unwrap()
}

/// Noise between -1 and 1.
fn noise(seed: i64) -> f64 {
    let mixed = (seed as u64).wrapping_add(7).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 31)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (mixed >> 11) as f64 / 4_503_599_627_370_496.0 - 1.0
}

/// Latency and load of a service in a window: both go up and down together.
fn usual(service: i64, window: i64) -> [f64; 2] {
    let level = 100.0 * (service + 1) as f64;
    let together = noise(window * 100 + service) + noise(window * 100 + service + 50);
    let own = |seed: i64| 0.1 * noise(seed + window * 1_000 + service);
    [level * (1.0 + 0.1 * (together + own(7))), 5.0 * (1.0 + 0.1 * (together + own(500_000)))]
}

/// Feeds the windows of these services, an event each, and lets all of them close.
fn watch(settings: &StreamSettings, windows: i64, values: impl Fn(i64, i64) -> Option<[f64; 2]>) -> Effects {
    let mut engine = Engine::new(settings.validate().unwrap(), 0);
    let mut effects = Effects::default();
    let mut offset = 0;
    for window in 0..windows {
        for service in 0..SERVICES {
            let Some(values) = values(service, window) else { continue };
            // Some come after the next window has begun.
            let late = if (window * SERVICES + service) % 23 == 0 { WINDOW } else { 0 };
            let event_time = START + window * WINDOW + service * SECOND;
            let entity = format!("acme/s{service}");
            let event = Event { offset, event_time: event_time - late, entity: &entity, values: &values, id: None };
            engine.ingest(&event, &mut effects);
            while engine.has_more() {
                engine.go_on(&mut effects);
            }
            offset += 1;
        }
    }
    engine.advance(START + (windows + 10) * WINDOW, &mut effects);
    while engine.has_more() {
        engine.go_on(&mut effects);
    }
    effects
}

/// The greatest score that the forest gave.
fn forest_most(effects: &Effects) -> f64 {
    let detectors = effects.metrics.iter().flat_map(|metric| &metric.series).flat_map(|point| &point.detectors);
    let of_forest = detectors.filter(|detector| detector.detector == "isolation-forest");
    of_forest.map(|detector| detector.score).fold(0.0, f64::max)
}

#[test]
fn a_window_is_judged_alike_as_it_closes_and_when_it_is_final() {
    // The same events, whichever way they are told.
    let told = |revisions: &str| {
        watch(&declared(serde_json::json!({ "revisions": revisions })), 320, |service, window| {
            Some(usual(service, window))
        })
    };
    let (on, off) = (told("on"), told("off"));
    assert!(on.metrics.iter().any(|metric| metric.revision > 0), "late events have changed something");
    assert!(forest_most(&off) > 0.3, "the forest takes part");
    let last = |effects: &Effects| {
        let mut last = BTreeMap::new();
        for metric in &effects.metrics {
            let key = (metric.entity.clone(), metric.measure.clone(), metric.window_start);
            last.insert(key, WindowMetric { revision: 0, changed: Vec::new(), ..metric.clone() });
        }
        last
    };
    assert_eq!(last(&on), last(&off));
}

#[test]
fn a_combination_that_no_other_entity_has_is_told_with_its_measures() {
    let odd = |service, window| {
        let [latency, load] = usual(service, window);
        Some(if service == 3 && window >= 400 { [latency * 1.6, load * 0.5] } else { [latency, load] })
    };
    let effects = watch(&declared(serde_json::json!({})), 402, odd);
    let found: Vec<&Alert> = effects.alerts.iter().filter(|alert| alert.opened_at >= START + 400 * WINDOW).collect();
    assert!(!found.is_empty());
    for alert in &found {
        assert_eq!((&*alert.entity, alert.kind), ("acme/s3", AlertKind::Outlier), "{}", alert.summary);
        let shares: Vec<f64> = alert.attribution.iter().map(|of| of.share).collect();
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9 && shares.len() == 2 && shares[0] >= shares[1]);
        assert!(alert.summary.contains(" % by latency") && alert.summary.contains(" % by load"), "{}", alert.summary);
        assert!((alert.detectors.iter().map(|of| of.share).sum::<f64>() - 1.0).abs() < 1e-9);
        assert_eq!(alert.onset, Some(START + 400 * WINDOW));
        let last = alert.recent.last().unwrap();
        assert_eq!((alert.recent.len(), last.window_start, last.value), (6, alert.window_start, alert.observed));
        assert!(alert.probability < 0.01 && alert.confidence > 0.6, "{} {}", alert.probability, alert.confidence);
    }
    let mut names: Vec<&str> = found.iter().map(|alert| &*alert.measure).collect();
    names.dedup();
    assert_eq!(names, ["latency", "load"]);
}

#[test]
fn a_combination_is_odd_though_each_of_its_values_is_usual() {
    // Each a tenth off, as often before, but one up and one down.
    let effects = watch(&declared(serde_json::json!({})), 402, |service, window| {
        let level = 100.0 * (service + 1) as f64;
        let odd = service == 3 && window >= 400;
        Some(if odd { [level * 1.1, 5.0 * 0.9] } else { usual(service, window) })
    });
    let found: Vec<&Alert> = effects.alerts.iter().filter(|alert| alert.opened_at >= START + 400 * WINDOW).collect();
    assert!(!found.is_empty() && found.iter().all(|alert| alert.entity == "acme/s3"), "{found:#?}");
    for alert in found {
        assert_eq!(alert.kind, AlertKind::Outlier, "{}", alert.summary);
        let leads = |of: &tidewatch_schemas::record::DetectorShare| of.detector == "isolation-forest" && of.share > 0.9;
        assert!(alert.detectors.iter().any(leads) && alert.attribution.len() == 2, "{}", alert.summary);
    }
}

#[test]
fn an_entity_that_is_new_borrows_from_its_cohort() {
    // The tenth service comes at window 300, and goes wrong thirty windows later.
    let values = |others: bool| {
        move |service: i64, window: i64| {
            let [latency, load] = usual(service, window);
            let is_new = service == 9;
            let is_there = if is_new { window >= 300 } else { others };
            is_there.then_some(if is_new && window == 330 { [latency * 3.0, load] } else { [latency, load] })
        }
    };
    let opened = |effects: &Effects| -> Vec<i64> {
        let of_new =
            effects.alerts.iter().filter(|alert| alert.entity == "acme/s9" && alert.state == AlertState::Opened);
        // Of the other measure as well: the combination is odd.
        let mut windows: Vec<i64> = of_new.map(|alert| (alert.opened_at - START) / WINDOW).collect();
        windows.dedup();
        windows
    };
    let settings = declared(serde_json::json!({}));
    assert_eq!(opened(&watch(&settings, 340, values(true))), [330]);
    assert_eq!(opened(&watch(&settings, 340, values(false))), [] as [i64; 0], "with nobody to borrow from it warms up");
    let apart = declared(serde_json::json!({ "cohort": ["service"] }));
    assert_eq!(opened(&watch(&apart, 340, values(true))), [] as [i64; 0], "in a cohort of its own as well");
}

#[test]
fn the_papers_forest_of_each_entity_can_be_asked_for() {
    let effects = watch(&declared(serde_json::json!({ "isolation_forest": "online" })), 600, |service, window| {
        let [latency, load] = usual(service, window);
        (service < 2).then_some(if service == 1 && window == 598 {
            [latency * 3.0, load * 0.2]
        } else {
            [latency, load]
        })
    });
    let of_forest =
        |alert: &&Alert| alert.detectors.iter().any(|of| of.detector == "isolation-forest" && of.score >= 1.0);
    assert!(effects.alerts.iter().filter(of_forest).any(|alert| alert.entity == "acme/s1"));
}

#[test]
fn alerts_of_an_entity_share_what_it_may_tell() {
    // Both measures of a service are out at the same time, now and then: each series may tell, or the entity as a whole.
    let per = |per| {
        let settings = declared(serde_json::json!({ "alert": { "per": per, "false_alarms": "1 per year" } }));
        let effects = watch(&settings, 2_000, |service, window| {
            let [latency, load] = usual(service, window);
            let out = if window > 300 && window % 110 == 0 { 1.6 } else { 1.0 };
            (service == 0).then_some([latency * out, load * out])
        });
        effects.alerts.iter().filter(|alert| alert.state == AlertState::Opened).count()
    };
    let (series, entity) = (per("series"), per("entity"));
    assert!(series > 2 && entity < series, "{series} by series, {entity} by entity");
}

#[test]
fn an_alert_of_a_measure_that_has_no_values_any_more_ends() {
    let faulty = |service: i64, window: i64, last: i64| {
        let [latency, load] = usual(service, window);
        let latency = if window > last { f64::NAN } else { latency * if window > 300 { 3.0 } else { 1.0 } };
        (service == 0).then_some([latency, load])
    };
    let steps = |effects: &Effects| -> Vec<(i64, Alert)> {
        let of_latency = effects.alerts.iter().filter(|alert| alert.measure == "latency");
        of_latency.map(|alert| ((alert.window_start - START) / WINDOW, alert.clone())).collect()
    };
    // The entity goes on, and after the 100 windows in which an alert does not repeat nobody waits for the measure any more.
    for revisions in ["off", "on"] {
        let settings = declared(serde_json::json!({ "revisions": revisions }));
        let effects = watch(&settings, 450, |service, window| faulty(service, window, 303));
        let told = steps(&effects);
        let (window, resolved) = told.last().unwrap();
        assert_eq!((*window, resolved.state), (403, AlertState::Resolved));
        assert!(resolved.summary.ends_with("ends here: no value has come since"), "{}", resolved.summary);
        assert_eq!(Some(resolved.observed), resolved.recent.last().map(|last| last.value), "the last there was");
    }
    // The entity is forgotten while the measure has no value.
    let settings = declared(serde_json::json!({ "entities_max": 1 }));
    let effects = watch(&settings, 320, |service, window| match service {
        0 => faulty(service, window, 303),
        _ => (service == 1 && window == 319).then_some([1.0, 1.0]),
    });
    let told = steps(&effects);
    assert_eq!(told.last().map(|(_, alert)| alert.state), Some(AlertState::Resolved), "{told:#?}");
}

#[test]
fn other_features_make_other_forests() {
    let of = |detectors: [&str; 2]| {
        let mut settings = declared(serde_json::json!({ "isolation_forest": "online" }));
        for measure in &mut settings.measures {
            measure.detectors = serde_json::from_value(serde_json::json!(detectors)).unwrap();
        }
        settings.validate().unwrap()
    };
    let (before, after) = (of(["isolation-forest", "z-score"]), of(["isolation-forest", "residual"]));
    let mut cohorts = crate::cohort::Cohorts::new(&before);
    assert!(
        !cohorts.fit(&before) && cohorts.fit(&of(["residual", "z-score"])),
        "of as many series, none in the forest"
    );
    // What it looks at is the residual in both.
    assert!(!crate::cohort::Cohorts::new(&before).fit(&after));
}

#[test]
fn an_alert_says_what_its_detector_expected() {
    // The forecast of the next window follows a departure; what the alert holds against it is where the series was for days.
    let settings = declared(serde_json::json!({
        "measure": [
            { "name": "latency", "field": "ms", "detectors": ["shift"], "forecast": { "seasons": ["24h"] } },
            { "name": "load", "field": "load", "detectors": ["z-score"] },
        ],
    }));
    let effects = watch(&settings, 4 * 288 + 60, |service, window| {
        let gone = 0.2 * (window - 4 * 288).max(0) as f64;
        (service == 0).then_some([100.0 + 5.0 * noise(window) + gone, 1.0])
    });
    let told: Vec<&Alert> = effects.alerts.iter().filter(|alert| alert.opened_at > START + 4 * 288 * WINDOW).collect();
    assert!(told.len() > 1, "opened, and called what it is");
    for alert in &told {
        let expected = alert.expected.unwrap();
        assert!((95.0..103.0).contains(&expected) && expected < alert.observed, "{}", alert.summary);
    }
    let last = told.last().unwrap();
    let same = |metric: &&WindowMetric| metric.measure == "latency" && metric.window_start == last.window_start;
    let forecast = effects.metrics.iter().find(same).and_then(|metric| metric.series[0].expected).unwrap();
    assert!(forecast > last.expected.unwrap(), "{forecast}: {}", last.summary);
}

#[test]
fn an_alert_of_an_entity_that_falls_silent_ends_in_both_ways_of_telling() {
    let told = |revisions: &str, back: Option<i64>| -> Vec<(AlertState, i64, String)> {
        let settings = declared(serde_json::json!({ "revisions": revisions }));
        let effects = watch(&settings, 520, |service, window| match service {
            // Is three times as slow, and then sends nothing, for ever or until it is back.
            0 if window > 304 && back.is_none_or(|back| window < back) => None,
            0 if (300..=304).contains(&window) => Some([300.0, 5.0]),
            _ => Some(usual(service, window)),
        });
        let alerts = effects.alerts.into_iter().filter(|alert| alert.entity == "acme/s0" && alert.measure == "latency");
        let mut last = BTreeMap::new();
        for alert in alerts.filter(|alert| alert.window_start >= START + 300 * WINDOW) {
            last.insert((alert.opened_at, alert.sequence), alert);
        }
        let window = |alert: &Alert| (alert.window_start - START) / WINDOW;
        last.into_values().map(|alert| (alert.state, window(&alert), alert.summary)).collect()
    };
    for back in [None, Some(402), Some(406), Some(430)] {
        let (on, off) = (told("on", back), told("off", back));
        assert_eq!(on, off, "back at {back:?}");
        let resolved: Vec<_> = on.iter().filter(|(state, ..)| *state == AlertState::Resolved).collect();
        let opened = on.iter().filter(|(state, ..)| *state == AlertState::Opened).count();
        assert_eq!((resolved.len(), opened > 0), (opened, true), "back at {back:?}: {on:#?}");
        let is_silent = back.is_none_or(|back| back > 405);
        assert_eq!(resolved[0].2.ends_with("no value has come since"), is_silent, "back at {back:?}: {on:#?}");
    }
}

#[test]
fn a_weekend_of_silence_is_not_the_end_of_what_is_known() {
    // Windows of five minutes, in a month; those of ten seconds, in a day and a half.
    for (gap, is_known) in [(30 * 288, true), (36 * 288, false)] {
        let effects = watch(&declared(serde_json::json!({})), 400 + gap, |service, window| {
            (service == 0 && !(400..400 + gap - 5).contains(&window)).then_some(usual(service, window))
        });
        let last = effects.metrics.last().unwrap();
        assert_eq!(last.series[0].confidence > 0.5, is_known, "{gap} windows: {}", last.series[0].confidence);
    }
}
