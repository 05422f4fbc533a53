//! Recorded states: what each released format wrote, kept for ever, so that what reads them is tested against the real thing.
//!
//! `states/vN/NAME.state` is the state of a partition in format N, as records one behind the other, each behind its length (4 bytes,
//! little endian). The last format's are compared byte by byte with what is written now: a change to any type that is in a payload
//! shows here, and is a new format. `TIDEWATCH_RECORD_STATE=1 cargo test -p tidewatch-processor-core recorded` records that.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use tidewatch_schemas::record::{Alert, AlertKind, AlertState, State, WindowMetric};
use tidewatch_schemas::wire::{self, Framing};

use super::*;
use crate::config::StreamSettings;
use crate::engine::{Effects, Event};

const PARTITION: i32 = 3;
const EVENTS: usize = 1_500;
/// The events before the state was recorded.
const RECORDED_AT: usize = 1_000;

/// A stream with each kind of window, and with everything else that has state.
fn declarations() -> Vec<(&'static str, StreamSettings)> {
    let declare = |window: &str, latency: &str, size: &str, more: &str| {
        let detectors = r#"["z-score", "iqr", "isolation-forest", "residual", "novelty", "shift", "robust-z-score"]"#;
        let json = format!(
            r#"{{"name": "calls", "topic": "calls", "format": "json", "entity": ["service"], "event_time": "at", "window": {window},
               "disorder": "3s", "lateness": "5s", "seed": 7, {more}
               "measure": [
                 {{"name": "latency", "field": "ms", "aggregates": ["mean", "p95"], "detectors": {detectors}{latency}}},
                 {{"name": "size", "field": "bytes", "aggregates": ["sum"], "detectors": {detectors}{size}}}]}}"#
        );
        serde_json::from_str(&json).unwrap()
    };
    // Forecast by slots; by windows and slots, with a limit that is passed and not; by windows, and seasons looked for.
    let slots = r#", "forecast": {"seasons": ["40s"], "horizons": ["10s"], "emit_every": "20s"}"#;
    let both = r#", "forecast": {"seasons": ["300s"], "horizons": ["5s"], "emit_every": "20s"}, "limit": {"above": 26, "aggregate": "mean"}"#;
    let light = r#", "forecast": {"tier": "light", "seasons": "auto", "horizons": ["10s"]}"#;
    vec![
        (
            "tumbling",
            declare(r#"{"tumbling": "10s"}"#, slots, light, r#""revisions": "on", "alert": {"open_after": 1},"#),
        ),
        (
            "hopping",
            declare(
                r#"{"hopping": ["30s", "5s"]}"#,
                both,
                light,
                r#""event_id": "id", "alert": {"dropout_after": 2},"#,
            ),
        ),
        ("session", declare(r#"{"session": "4s"}"#, "", "", r#""entities_max": 4,"#)),
    ]
}

/// The same events for ever: six entities, disorder, some late, some twice, a few far out and many around the recording, one
/// entity silent in the end.
fn events() -> Vec<(i64, String, [f64; 2], Option<u64>)> {
    let mut random = 42u64;
    let mut draw = move |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let event = |at: usize| {
        let late = if draw(20) == 0 { 9_000 } else { 0 };
        let event_time = 1_000_000 + at as i64 * 1_000 + draw(3_000) as i64 - late;
        let far = if draw(40) == 0 || (960..1_040).contains(&at) { 500.0 } else { 0.0 };
        let entities = if at < 700 { 6 } else { 5 };
        let values = [20.0 + draw(100) as f64 / 10.0 + far, if draw(9) == 0 { f64::NAN } else { draw(1_000) as f64 }];
        (event_time, format!("checkout-{}", draw(entities)), values, Some(draw(EVENTS as u64)))
    };
    (0..EVENTS).map(event).collect()
}

/// An engine that has seen nothing; that of sessions begins with a history.
fn begin(settings: &StreamSettings, name: &str) -> Engine {
    let mut engine = Engine::new(settings.validate().unwrap(), PARTITION);
    if name == "session" {
        engine.learn_until(RECORDED_AT as i64 / 2);
    }
    engine
}

fn run(engine: &mut Engine, from: usize, to: usize) -> Effects {
    let mut effects = Effects::default();
    for (offset, (event_time, entity, values, id)) in events().iter().enumerate().take(to).skip(from) {
        let id = id.filter(|_| engine.config.event_id.is_some());
        let event = Event { offset: offset as i64, event_time: *event_time, entity, values, id };
        engine.ingest(&event, &mut effects);
        while engine.has_more() {
            engine.go_on(&mut effects);
        }
    }
    effects
}

fn file(version: i32, name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("states/v{version}/{name}.state"))
}

fn write(records: &[State]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for record in records {
        let mut framed = Vec::new();
        wire::encode(record, Framing::SingleObject, &mut framed);
        bytes.extend((framed.len() as u32).to_le_bytes());
        bytes.extend(framed);
    }
    bytes
}

fn read(mut bytes: &[u8]) -> Vec<State> {
    let mut records = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let (framed, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        records.push(wire::decode(framed).unwrap());
        bytes = rest;
    }
    records
}

/// Slot and record: a round at once is all in slot 0 when it is the first.
fn restored(settings: &StreamSettings, version: i32, name: &str) -> Engine {
    let path = file(version, name);
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let records = read(&bytes).into_iter().map(|state| (0, state));
    restore(settings.validate().unwrap(), PARTITION, Some(RECORDED_AT as i64), records).unwrap()
}

/// The last telling of each window's metric, by entity, measure and window.
type Metrics = BTreeMap<(String, String, i64, i64), WindowMetric>;

/// What does not hang on detectors and forecasts: those that a format did not know have learnt nothing yet when it is read.
fn but_judgements(effects: Effects) -> Metrics {
    let mut metrics = BTreeMap::new();
    for mut metric in effects.metrics {
        for point in &mut metric.series {
            (point.score, point.warming_up, point.confidence, point.probability) = (0.0, false, 0.0, 1.0);
            (point.expected, point.lower, point.upper) = (None, None, None);
            point.detectors.clear();
        }
        (metric.revision, metric.changed) = (0, Vec::new());
        let key = (metric.entity.clone(), metric.measure.clone(), metric.window_start, metric.window_end);
        metrics.insert(key, metric);
    }
    metrics
}

#[test]
fn what_every_released_format_wrote_is_read_and_goes_on() {
    for (name, settings) in declarations() {
        let mut undisturbed = begin(&settings, name);
        run(&mut undisturbed, 0, RECORDED_AT);
        let expected = run(&mut undisturbed, RECORDED_AT, EVENTS);
        assert!(expected.metrics.len() > 300, "there is something to compare");
        let goes_on = |alert: &Alert| alert.kind == AlertKind::PredictedBreach && alert.state != AlertState::Opened;
        assert_eq!(expected.alerts.iter().any(goes_on), name == "hopping", "a predicted breach is in the state");
        for version in OLDEST_FORMAT..=FORMAT_VERSION {
            let mut engine = restored(&settings, version, name);
            let found = run(&mut engine, RECORDED_AT, EVENTS);
            if version == FORMAT_VERSION {
                assert_eq!(found, expected, "{name} of format {version}");
            }
            assert_eq!(but_judgements(found), but_judgements(expected.clone()), "{name} of format {version}");
            let unrevised = |counts: Counts| Counts { revisions: 0, quiet: 0, ..counts };
            assert_eq!(unrevised(engine.counts()), unrevised(undisturbed.counts()));
        }
    }
}

#[test]
fn what_is_written_is_the_last_recorded_format() {
    for (name, settings) in declarations() {
        let mut engine = begin(&settings, name);
        run(&mut engine, 0, RECORDED_AT);
        let records: Vec<State> = engine.snapshot(RECORDED_AT as i64).into_iter().filter_map(|(_, s)| s).collect();
        let (path, bytes) = (file(FORMAT_VERSION, name), write(&records));
        if std::env::var_os("TIDEWATCH_RECORD_STATE").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &bytes).unwrap();
        }
        let recorded = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(
            read(&recorded) == records,
            "{name}: other bytes; a new FORMAT_VERSION if a layout has changed, a new recording if only numbers have"
        );
    }
}
