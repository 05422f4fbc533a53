//! Declarations that are taken, and the line for each that is not.

use super::*;
use crate::config::{ForecastSettings, MeasureSettings, Seasons};

fn settings() -> StreamSettings {
    StreamSettings {
        name: "calls".into(),
        topic: "calls.v1".into(),
        format: Format::Json,
        schemas: vec![],
        bootstrap: Default::default(),
        entity: vec!["service".into()],
        cohort: Vec::new(),
        isolation_forest: Default::default(),
        event_time: "at".into(),
        event_time_unit: TimeUnit::Millis,
        window: WindowSettings::Tumbling(Span::from_millis(60_000)),
        disorder: Span::default(),
        lateness: Span::default(),
        revisions: Revisions::Off,
        idle_timeout: Span::default(),
        future_max: Span::default(),
        event_id: None,
        event_id_memory: Span::default(),
        event_ids_max: 1,
        only: BTreeMap::new(),
        entities_max: 10,
        seed: 0,
        measures: vec![MeasureSettings {
            name: "latency".into(),
            field: "ms".into(),
            unit: None,
            aggregates: vec![Aggregate::Mean],
            detectors: vec![DetectorKind::ZScore],
            forecast: None,
            limit: None,
            guards: Default::default(),
        }],
        alert: AlertSettings::default(),
    }
}

#[track_caller]
fn check(change: impl FnOnce(&mut StreamSettings), expected: &str) {
    let mut settings = settings();
    change(&mut settings);
    assert_eq!(settings.validate().unwrap_err().to_string(), expected);
}

#[test]
fn a_sound_declaration_is_taken() {
    let config = settings().validate().unwrap();
    assert_eq!(config.window, Window::Fixed { size_ms: 60_000, slide_ms: 60_000 });
    assert_eq!(config.series_count(), 1);
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let span = Span::from_millis;
    check(
        |s| s.entity.clear(),
        "stream `calls`: `entity` names no field; name those that tell whose telemetry an event is",
    );
    check(
        |s| s.event_ids_max = 1_000_000,
        "stream `calls`: `event_ids_max` is 1000000; an entity's state is one record, so write 500000 at most",
    );
    check(|s| s.measures.clear(), "stream `calls`: `measure` has 0 entries; declare 1 to 64");
    check(
        |s| s.window = WindowSettings::Hopping([span(60_000), span(7_000)]),
        "stream `calls`: `window` of 1m is not a whole number of slides of 7s",
    );
    check(
        |s| s.window = WindowSettings::Tumbling(span(0)),
        "stream `calls`: `window` has no length; write for example { tumbling = \"10s\" }",
    );
    check(|s| s.measures.push(s.measures[0].clone()), "stream `calls`: `measure.name` `latency` is declared twice");
    check(
        |s| {
            s.measures[0].forecast = Some(ForecastSettings {
                seasons: Some(Seasons::Named(vec![span(90_000)])),
                horizons: vec![],
                emit_every: span(60_000),
                ..ForecastSettings::default()
            });
        },
        "stream `calls`: `measure.latency.forecast.seasons` has `1m 30s`, which is not a whole number, at least 2, of steps of 1m",
    );
    check(
        |s| s.window = WindowSettings::Session(span(0)),
        "stream `calls`: `window` has no gap; write for example { session = \"30s\" }",
    );
    check(
        |s| {
            s.window = WindowSettings::Session(span(1));
            s.alert.dropout_after = Some(DropoutAfter::Windows(3));
        },
        "stream `calls`: `alert.dropout_after` needs windows of a fixed length; a session ends by silence",
    );
    check(
        |s| s.only = BTreeMap::from([("region".into(), vec![])]),
        "stream `calls`: `only.region` names no value; write for example [\"EMEA\"]",
    );
    check(
        |s| s.topic = "bad topic!".into(),
        "stream `calls`: `topic` is \"bad topic!\"; a topic's name has letters of ASCII, digits, `.`, `_` and `-` only",
    );
    check(|s| s.entity.push("service".into()), "stream `calls`: `entity` names `service` twice");
    check(|s| s.entities_max = (1 << 31) + 1, "stream `calls`: `entities_max` is 2147483649; write at most 2147483648");
    check(
        |s| s.alert.calm_below = f64::NAN,
        "stream `calls`: `alert.calm_below` is NaN; it lies above 0 and at most at 1",
    );
    check(
        |s| {
            s.window = WindowSettings::Tumbling(span(60 * 86_400_000));
            s.alert.dropout_after = Some(DropoutAfter::Windows(u32::MAX));
        },
        "stream `calls`: `alert.dropout_after` is 4294967295; 61 steps of 1month 29days 13h 26m 24s are ten years",
    );
}

#[test]
fn a_path_names_every_field_on_its_way() {
    type Set = fn(&mut StreamSettings, String);
    let paths: [(Set, &str); 5] = [
        (|s, path| s.event_time = path, "event_time"),
        (|s, path| s.entity.push(path), "entity"),
        (|s, path| s.event_id = Some(path), "event_id"),
        (|s, path| s.measures[0].field = path, "measure.latency.field"),
        (|s, path| drop(s.only.insert(path, vec!["x".into()])), "only"),
    ];
    for (set, setting) in paths {
        for path in ["a..b", ".a", "a.", "."] {
            let expected =
                format!("stream `calls`: `{setting}` has the field `{path}`; write names with one dot between them");
            check(|s| set(s, path.into()), &expected);
        }
        let mut sound = settings();
        set(&mut sound, "a.b".into());
        sound.validate().unwrap();
    }
}

#[test]
fn what_is_of_no_use_may_be_declared() {
    let mut settings = settings();
    settings.entity.push(settings.event_time.clone());
    settings.revisions = Revisions::On;
    settings.validate().unwrap();
}

#[test]
fn maintenance_leaves_some_window() {
    let checked = |window: &str, when: &str| {
        let text = serde_json::json!({
            "name": "calls", "topic": "calls", "format": "json", "entity": ["service"], "event_time": "at",
            "window": { "tumbling": window },
            "measure": [{ "name": "ms", "field": "ms", "guards": { "maintenance": [when] } }],
        });
        serde_json::from_value::<StreamSettings>(text).unwrap().validate().map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(checked("1h", "02:00/23h"), Ok(()));
    assert_eq!(checked("1d", "Sun 02:00/4h"), Ok(()));
    for (window, when) in [("1d", "02:00/30m"), ("2h", "02:00/23h"), ("7d", "Sun 02:00/4h")] {
        let error = checked(window, when).unwrap_err();
        assert!(error.contains("measure.ms.guards.maintenance") && error.contains("every window"), "{error}");
    }
}

#[test]
fn a_limit_is_of_one_series_that_is_forecast() {
    let limit = |limit: serde_json::Value| {
        move |s: &mut StreamSettings| {
            let measure = &mut s.measures[0];
            measure.aggregates = vec![Aggregate::Mean, Aggregate::P95];
            measure.forecast = serde_json::from_value(serde_json::json!({ "horizons": ["1h"] })).unwrap();
            measure.limit = serde_json::from_value(limit).unwrap();
        }
    };
    for (settings, problem) in [
        (serde_json::json!({}), "measure.latency.limit` needs one of `above` and `below`"),
        (serde_json::json!({ "above": 1.0, "below": 0.0 }), "measure.latency.limit` needs one of `above` and `below`"),
        (
            serde_json::json!({ "above": 1.0 }),
            "measure.latency.limit.aggregate` is left out, and the measure has more than one; write one of \"mean\", \"p95\"",
        ),
        (
            serde_json::json!({ "above": 1.0, "aggregate": "p99" }),
            "measure.latency.limit` is of \"p99\", which the measure does not watch; add it to `aggregates`",
        ),
        (
            serde_json::json!({ "above": 1.0, "objective": 0.999 }),
            "measure.latency.limit.objective` is 0.999, of which no percentile is kept; write 0.5, 0.95 or 0.99",
        ),
        (
            serde_json::json!({ "below": 1.0, "objective": 0.95 }),
            "measure.latency.limit.objective` goes with `above`: so many values are at most that",
        ),
        (
            serde_json::json!({ "above": 1.0, "objective": 0.95, "aggregate": "p95" }),
            "measure.latency.limit` names an aggregate and an objective, which says which one it is",
        ),
        (
            serde_json::json!({ "above": 1.0, "aggregate": "mean", "chance": 1.0 }),
            "measure.latency.limit.chance` is 1; it lies between 0.025 and 0.975",
        ),
    ] {
        check(limit(settings), &format!("stream `calls`: `{problem}"));
    }
    let declared = |s: &mut StreamSettings| {
        s.measures[0].limit = serde_json::from_value(serde_json::json!({ "above": 1.0 })).unwrap();
    };
    let needs = "needs forecasts; write for example forecast = { horizons = [\"1h\"] }, the furthest is how early";
    check(declared, &format!("stream `calls`: `measure.latency.limit` {needs}"));
    let mut sound = settings();
    limit(serde_json::json!({ "above": 1.0, "objective": 0.95 }))(&mut sound);
    assert_eq!(sound.validate().unwrap().measures[0].limit.unwrap().aggregate, Aggregate::P95);
}
