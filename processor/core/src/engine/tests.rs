//! The engine against plain reference code, and against itself after every kind of interruption.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tidewatch_schemas::record::Correction;

use super::*;
use crate::config::{
    Aggregate, DropoutAfter, ForecastSettings, Format, MeasureSettings, Revisions, Seasons, Span, StreamSettings,
    TimeUnit, WindowSettings,
};
use crate::detect::DetectorKind;

mod breaches;
mod cohorts;
mod guards;
mod history;
mod odd_series;
mod restarts;
mod scenes;

const SECOND: i64 = 1_000;

fn settings(size_ms: i64, slide_ms: i64) -> StreamSettings {
    StreamSettings {
        name: "calls".into(),
        topic: "calls.v1".into(),
        format: Format::Json,
        schemas: vec![],
        bootstrap: Default::default(),
        entity: vec!["service".into(), "instance".into()],
        cohort: Vec::new(),
        isolation_forest: Default::default(),
        event_time: "at".into(),
        event_time_unit: TimeUnit::Millis,
        window: WindowSettings::Hopping([Span::from_millis(size_ms), Span::from_millis(slide_ms)]),
        disorder: Span::from_millis(3 * SECOND),
        lateness: Span::from_millis(2 * SECOND),
        revisions: Revisions::Off,
        idle_timeout: Span::default(),
        future_max: Span::default(),
        event_id: None,
        event_id_memory: Span::from_millis(60 * SECOND),
        event_ids_max: 100,
        only: BTreeMap::new(),
        entities_max: 100,
        seed: 7,
        measures: vec![MeasureSettings {
            name: "latency".into(),
            field: "ms".into(),
            unit: Some("ms".into()),
            aggregates: vec![Aggregate::Mean, Aggregate::P95],
            detectors: ALL_BUT_THE_FOREST.iter().copied().chain([DetectorKind::IsolationForest]).collect(),
            forecast: Some(ForecastSettings {
                seasons: Some(Seasons::Named(vec![Span::from_millis(4 * slide_ms)])),
                horizons: vec![Span::from_millis(slide_ms)],
                emit_every: Span::from_millis(2 * slide_ms),
                ..ForecastSettings::default()
            }),
            limit: None,
            guards: Default::default(),
        }],
        alert: Default::default(),
    }
}

/// A forest is larger than all the rest.
const ALL_BUT_THE_FOREST: [DetectorKind; 6] = [
    DetectorKind::ZScore,
    DetectorKind::Iqr,
    DetectorKind::Residual,
    DetectorKind::Novelty,
    DetectorKind::Shift,
    DetectorKind::RobustZScore,
];

/// Every kind of window, told once or with revisions.
fn variants() -> impl Strategy<Value = StreamSettings> {
    let seconds = |seconds: i64| Span::from_millis(seconds * SECOND);
    let window = prop::sample::select(vec![
        WindowSettings::Tumbling(seconds(10)),
        WindowSettings::Hopping([seconds(10), seconds(5)]),
        WindowSettings::Hopping([seconds(30), seconds(3)]),
        WindowSettings::Session(seconds(4)),
    ]);
    let lateness = prop::sample::select(vec![0, 2, 7, 25]);
    let revisions = prop::sample::select(vec![Revisions::On, Revisions::Off]);
    let dropout_after = prop::option::of(1u32..4);
    let event_id = prop::option::of(Just("id".to_owned()));
    let choices = (window, lateness, revisions, dropout_after, event_id);
    choices.prop_map(move |(window, lateness, revisions, dropout_after, event_id)| {
        let step = match window {
            WindowSettings::Tumbling(step) | WindowSettings::Hopping([_, step]) | WindowSettings::Session(step) => step,
        };
        let mut settings = settings(10 * SECOND, step.as_millis());
        settings.measures[0].detectors = ALL_BUT_THE_FOREST.to_vec();
        if matches!(window, WindowSettings::Session(_)) {
            settings.measures[0].forecast = None;
        } else {
            // Likely enough to be opened, to come true and to be taken back.
            settings.measures[0].limit =
                serde_json::from_value(serde_json::json!({ "above": 60.0, "aggregate": "mean", "chance": 0.3 }))
                    .unwrap();
            settings.alert.dropout_after = dropout_after.map(DropoutAfter::Windows);
        }
        settings.alert = crate::config::AlertSettings { open_after: 1, ..settings.alert };
        StreamSettings { window, lateness: seconds(lateness), revisions, event_id, ..settings }
    })
}

/// What holds in the end: the last revision of every record, by what it is about.
#[derive(Debug, Default, PartialEq)]
struct Held {
    metrics: BTreeMap<(String, i64, i64), WindowMetric>,
    forecasts: BTreeMap<(String, String, i64), Forecast>,
    alerts: BTreeMap<(String, i32), Alert>,
}

/// Goes through effects as a consumer does, and checks that revisions count up and say truly what they change.
fn held(effects: &Effects) -> Held {
    let mut held = Held::default();
    for metric in &effects.metrics {
        let key = (metric.entity.clone(), metric.window_start, metric.window_end);
        for span in &metric.supersedes {
            let gone = (metric.entity.clone(), span.window_start, span.window_end);
            assert!(held.metrics.remove(&gone).unwrap().revision < metric.revision);
        }
        let before = held.metrics.remove(&key);
        if metric.supersedes.is_empty() {
            assert_eq!(metric.revision, before.as_ref().map_or(0, |before| before.revision + 1));
        }
        assert_eq!(metric.changed.is_empty(), before.is_none());
        if let Some(before) = before {
            let count_differs = before.count != metric.count;
            assert_eq!(metric.changed.iter().any(|name| name == "count"), count_differs);
        }
        let plain = WindowMetric { changed: vec![], supersedes: vec![], ..metric.clone() };
        held.metrics.insert(key, plain);
    }
    for forecast in &effects.forecasts {
        let key = (forecast.entity.clone(), forecast.aggregate.clone(), forecast.issued_at);
        let before = held.forecasts.insert(key, forecast.clone());
        assert_eq!(forecast.revision, before.map_or(0, |before| before.revision + 1));
    }
    for alert in &effects.alerts {
        let key = (alert.alert_id.clone(), alert.sequence);
        let before = held.alerts.insert(key, alert.clone());
        assert_eq!(alert.revision, before.as_ref().map_or(0, |before| before.revision + 1));
        let supersedes =
            before.as_ref().map(|before| format!("{}:{}:{}", alert.alert_id, alert.sequence, before.revision));
        assert_eq!(alert.supersedes, supersedes);
        assert_eq!(alert.correction == Correction::None, before.is_none());
    }
    held.alerts.retain(|_, alert| alert.correction != Correction::Retracted);
    held
}

impl Held {
    /// The same without the traces of how it came to be.
    fn plain(mut self) -> Self {
        self.metrics.values_mut().for_each(|metric| metric.revision = 0);
        self.forecasts.values_mut().for_each(|forecast| forecast.revision = 0);
        for alert in self.alerts.values_mut() {
            (alert.revision, alert.correction, alert.supersedes) = (0, Correction::None, None);
        }
        self
    }
}

/// An event long after, of an entity of its own: makes all that was before final.
fn much_later() -> Given {
    Given { event_time: 100_000 * SECOND, entity: "zz/end".into(), value: 1.0, ..Given::default() }
}

#[derive(Clone, Debug, Default)]
struct Given {
    event_time: i64,
    entity: String,
    value: f64,
    id: Option<u64>,
    /// Before the event comes, event time goes on by a clock to so much after the greatest event time.
    silence_ms: Option<i64>,
}

fn run(engine: &mut Engine, first_offset: i64, events: &[Given]) -> (Effects, Vec<Ingested>) {
    let mut effects = Effects::default();
    let ingested = events
        .iter()
        .zip(first_offset..)
        .map(|(e, offset)| {
            if let Some(time) = e.silence_ms.and_then(|silence_ms| engine.watermark().after_silence(silence_ms)) {
                engine.advance(time, &mut effects);
                assert!(!engine.has_more(), "so few windows are told at once");
            }
            let event = Event { offset, event_time: e.event_time, entity: &e.entity, values: &[e.value], id: e.id };
            let ingested = engine.ingest(&event, &mut effects);
            while engine.has_more() {
                engine.go_on(&mut effects);
            }
            ingested
        })
        .collect();
    (effects, ingested)
}

/// Events whose times wander forward with disorder and pauses, of a few entities, some of them with an id that others have, too.
fn events(len: usize) -> impl Strategy<Value = Vec<Given>> {
    let event = (0i64..4 * SECOND, -6 * SECOND..6 * SECOND, 0u8..4, 0.0f64..100.0);
    let id = prop::option::weighted(0.3, 0u64..40);
    let silence_ms = prop::option::weighted(0.05, 0i64..40 * SECOND);
    prop::collection::vec((event, id, silence_ms), 1..len).prop_map(|steps| {
        let mut now = 100 * SECOND;
        steps
            .into_iter()
            .map(|((step, jitter, entity, value), id, silence_ms)| {
                now += step;
                Given { event_time: now + jitter, entity: format!("checkout/{entity}"), value, id, silence_ms }
            })
            .collect()
    })
}

/// (end, start, entity) of a window -> its values.
type ReferenceWindows = BTreeMap<(i64, i64, String), Vec<f64>>;

/// What a person with a spreadsheet would do: the windows that are final, and which events are late.
fn reference(events: &[Given], settings: &StreamSettings) -> (ReferenceWindows, Vec<bool>) {
    let (mut windows, mut late) = (ReferenceWindows::new(), Vec::new());
    let (mut final_until, mut event_time_max) = (i64::MIN, None);
    for event in events {
        if let (Some(silence_ms), Some(event_time_max)) = (event.silence_ms, event_time_max) {
            let behind = settings.disorder.as_millis() + settings.lateness.as_millis();
            final_until = final_until.max(event_time_max + silence_ms - behind);
        }
        let spans = match settings.window {
            WindowSettings::Tumbling(size) => fixed_windows(event.event_time, size, size),
            WindowSettings::Hopping([size, slide]) => fixed_windows(event.event_time, size, slide),
            WindowSettings::Session(gap) => vec![session(&mut windows, event, gap, final_until)],
        };
        let open: Vec<(i64, i64)> = spans.into_iter().filter(|&(_, end)| end > final_until).collect();
        late.push(open.is_empty());
        for &(start, end) in &open {
            windows.entry((end, start, event.entity.clone())).or_default().push(event.value);
        }
        if !open.is_empty() {
            let behind = settings.disorder.as_millis() + settings.lateness.as_millis();
            final_until = final_until.max(event.event_time - behind);
            event_time_max = event_time_max.max(Some(event.event_time));
        }
    }
    windows.retain(|&(end, ..), _| end <= final_until);
    (windows, late)
}

fn fixed_windows(event_time: i64, size: Span, slide: Span) -> Vec<(i64, i64)> {
    let (size, slide) = (size.as_millis(), slide.as_millis());
    let earliest = (event_time - size).div_euclid(slide) + 1;
    let starts = (earliest..).map(|n| n * slide).take_while(|&start| start <= event_time);
    starts.map(|start| (start, start + size)).collect()
}

/// The session that the event is part of, once those that it joins are one under that name.
fn session(windows: &mut ReferenceWindows, event: &Given, gap: Span, final_until: i64) -> (i64, i64) {
    let (mut start, mut end) = (event.event_time, event.event_time + gap.as_millis());
    let mut values = Vec::new();
    let overlaps = |key: &(i64, i64, String)| {
        key.2 == event.entity && key.0 > final_until && key.1 < end && event.event_time < key.0
    };
    let joined: Vec<_> = windows.keys().filter(|key| overlaps(key)).cloned().collect();
    for key in joined {
        (start, end) = (start.min(key.1), end.max(key.0));
        values.extend(windows.remove(&key).unwrap());
    }
    if !values.is_empty() {
        windows.insert((end, start, event.entity.clone()), values);
    }
    (start, end)
}

/// Windows of every kind, size, slide and gap, under any disorder and lateness.
fn any_windows() -> impl Strategy<Value = StreamSettings> {
    let window = prop_oneof![
        (1i64..20_000).prop_map(|size| WindowSettings::Tumbling(Span::from_millis(size))),
        (1i64..15_000, 1i64..12)
            .prop_map(|(slide, panes)| WindowSettings::Hopping([slide * panes, slide].map(Span::from_millis))),
        (1i64..15_000).prop_map(|gap| WindowSettings::Session(Span::from_millis(gap))),
    ];
    (window, 0i64..8_000, 0i64..8_000).prop_map(|(window, disorder, lateness)| {
        let mut settings = settings(SECOND, SECOND);
        settings.measures[0].detectors.truncate(1);
        settings.measures[0].forecast = None;
        let [disorder, lateness] = [disorder, lateness].map(Span::from_millis);
        StreamSettings { window, disorder, lateness, ..settings }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn windows_equal_those_of_plain_reference_code(events in events(200), settings in any_windows()) {
        let mut engine = Engine::new(settings.validate().unwrap(), 3);
        let (effects, ingested) = run(&mut engine, 0, &events);
        let (windows, late) = reference(&events, &settings);

        prop_assert_eq!(ingested.iter().map(|i| matches!(i, Ingested::Late(_))).collect::<Vec<_>>(), late);
        prop_assert_eq!(effects.metrics.len(), windows.len());
        let mut last_end = BTreeMap::new();
        for metric in &effects.metrics {
            let before = last_end.insert(metric.entity.clone(), metric.window_end);
            prop_assert!(before.is_none_or(|end| end < metric.window_end), "an entity's windows close in the order of their ends");
            let values = &windows[&(metric.window_end, metric.window_start, metric.entity.clone())];
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            prop_assert_eq!(metric.count, values.len() as i64);
            prop_assert!((metric.mean - mean).abs() < 1e-9);
            prop_assert_eq!(metric.min, values.iter().copied().fold(f64::MAX, f64::min));
            prop_assert_eq!(metric.max, values.iter().copied().fold(f64::MIN, f64::max));
            prop_assert_eq!(metric.partition, 3);
        }
        let counts = engine.counts();
        prop_assert_eq!(counts.scored + counts.late, events.len() as u64);
    }

    #[test]
    fn no_measure_leads_to_a_number_that_is_none(
        values in prop::collection::vec(
            (0i64..4, prop::sample::select(vec![5.0, 5.0, 5.0, f64::NAN, -0.0, 0.0, f64::MIN_POSITIVE, 1e308, -1e308, f64::MAX, f64::INFINITY])),
            1..400,
        ),
        settings in variants(),
    ) {
        let mut settings = settings;
        settings.measures[0].detectors = vec![DetectorKind::ZScore, DetectorKind::Iqr, DetectorKind::IsolationForest];
        settings.measures[0].aggregates = vec![Aggregate::Mean, Aggregate::P95, Aggregate::Stddev, Aggregate::Sum, Aggregate::Max];
        let mut engine = Engine::new(settings.validate().unwrap(), 0);
        // A window or several apart: some have one point, some are missing, in some the measure is missing.
        let mut now = 0;
        let values = [(0, 5.0)].into_iter().chain(values);
        let events: Vec<Given> = values.map(|(windows, value)| {
            now += windows * 5 * SECOND;
            Given { event_time: now, entity: "a/b".into(), value, ..Given::default() }
        }).chain([much_later()]).collect();
        let (effects, _) = run(&mut engine, 0, &events);
        prop_assert!(!effects.metrics.is_empty());
        let told = format!("{effects:?}");
        prop_assert!(!told.contains("NaN") && !told.contains("inf"), "{}", told);
    }

    #[test]
    fn revisions_on_and_off_end_in_the_same(events in events(150), settings in variants()) {
        let events = [events, vec![much_later()]].concat();
        let [on, off] = [Revisions::On, Revisions::Off].map(|revisions| {
            let config = StreamSettings { revisions, ..settings.clone() }.validate().unwrap();
            run(&mut Engine::new(config, 0), 0, &events)
        });
        prop_assert_eq!(&on.1, &off.1, "the same events are late, with the same verdict");
        prop_assert_eq!(held(&on.0).plain(), held(&off.0));
    }

    #[test]
    fn any_order_within_the_disorder_gives_the_same_windows(
        events in events(150), settings in variants(), keys in prop::collection::vec(0i64..3 * SECOND, 150),
    ) {
        // Sorted by times that are at most the disorder later: nothing is behind the watermark.
        let mut events: Vec<(i64, Given)> = keys.iter().zip(events).map(|(key, event)| (event.event_time + key, event)).collect();
        let config = StreamSettings { event_id: None, ..settings }.validate().unwrap();
        events.iter_mut().for_each(|(_, event)| event.silence_ms = None);
        let mut in_order: Vec<Given> = events.iter().map(|(_, event)| event.clone()).collect();
        in_order.sort_by_key(|event| event.event_time);
        events.sort_by_key(|(key, _)| *key);
        let shuffled: Vec<Given> = events.into_iter().map(|(_, event)| event).collect();
        let [a, b] = [in_order, shuffled].map(|events| {
            let events = [events, vec![much_later()]].concat();
            let (effects, ingested) = run(&mut Engine::new(config.clone(), 0), 0, &events);
            assert!(ingested.iter().all(|ingested| *ingested == Ingested::Scored));
            let windows = effects.metrics.iter().map(|m| (m.entity.clone(), m.window_start, m.window_end, m.count, m.min.to_bits(), m.max.to_bits()));
            windows.collect::<std::collections::BTreeSet<_>>()
        });
        prop_assert_eq!(a, b);
    }
}
