//! Scenes of which the outcome is known: alerts over late events, faults, eviction, bounds, state that does not fit.

use tidewatch_schemas::record::State;

use super::*;
use crate::state::{self, StateKey};

/// Random values and disorder around a fault, of an entity that the detectors know: alerts that late events confirm, change, take
/// back and bring back, and in the end the same as if each window had been told once.
#[test]
fn alerts_follow_late_events_to_where_they_would_have_been() {
    let mut seen = BTreeMap::new();
    for seed in 0..400u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let mut events = Vec::new();
        for second in 0..120i64 {
            for _ in 0..1 + random(3) {
                let late = if random(4) == 0 { random(9_000) as i64 } else { 0 };
                let is_high = second > 70 && random(3) == 0;
                let value = 10.0 + random(100) as f64 / 100.0 + if is_high { 30.0 } else { 0.0 };
                events.push(Given {
                    event_time: (1_000 + second) * SECOND - late,
                    entity: "a/b".into(),
                    value,
                    ..Given::default()
                });
            }
        }
        events.push(much_later());
        let mut settings = settings(SECOND, SECOND);
        settings.window = if seed % 2 == 0 {
            WindowSettings::Tumbling(Span::from_millis(SECOND))
        } else {
            WindowSettings::Session(Span::from_millis(300))
        };
        settings.disorder = Span::from_millis(SECOND / 2);
        settings.lateness = Span::from_millis(7 * SECOND);
        settings.measures[0].forecast = None;
        settings.measures[0].detectors = vec![DetectorKind::ZScore];
        settings.alert = crate::config::AlertSettings { resolve_after: 2, ..Default::default() };
        let [on, off] = [Revisions::On, Revisions::Off].map(|revisions| {
            let config = StreamSettings { revisions, ..settings.clone() }.validate().unwrap();
            run(&mut Engine::new(config, 0), 0, &events)
        });
        assert_eq!(on.1, off.1, "seed {seed}");
        assert_eq!(held(&on.0).plain(), held(&off.0), "seed {seed}");
        let mut taken_back = std::collections::BTreeSet::new();
        for alert in &on.0.alerts {
            *seen.entry(alert.correction.as_str()).or_insert(0) += 1;
            let step = (alert.alert_id.clone(), alert.sequence);
            if alert.correction == Correction::Retracted {
                taken_back.insert(step);
            } else if taken_back.remove(&step) {
                *seen.entry("brought back").or_insert(0) += 1;
            }
        }
        for ingested in &off.1 {
            if let Ingested::Late(LateEvent { would_change_alert, .. }) = ingested {
                *seen
                    .entry(match would_change_alert {
                        None => "late: unknown",
                        Some(false) => "late: no change",
                        Some(true) => "late: change",
                    })
                    .or_insert(0) += 1;
            }
        }
    }
    for what in [
        "none",
        "confirmed",
        "changed",
        "retracted",
        "brought back",
        "late: unknown",
        "late: no change",
        "late: change",
    ] {
        assert!(seen.get(what).is_some_and(|&count| count > 20), "{what} is hardly covered: {seen:?}");
    }
}

/// Calm windows of one entity with a daily shape, then a fault; what alerts say of it.
#[test]
fn a_spike_opens_one_alert_and_its_end_resolves_it() {
    let minute = 60 * SECOND;
    let mut settings = settings(minute, minute);
    settings.measures[0].forecast = Some(ForecastSettings {
        seasons: Some(Seasons::Named(vec![Span::from_millis(60 * minute)])),
        horizons: vec![],
        emit_every: Span::from_millis(minute),
        ..ForecastSettings::default()
    });
    settings.measures[0].detectors = crate::config::MeasureSettings::default_detectors();
    let mut engine = Engine::new(settings.validate().unwrap(), 0);
    let faulty = 720..732;
    let events: Vec<Given> = (0..900i64)
        .flat_map(|window| {
            let faulty = faulty.contains(&window);
            (0..20i64).map(move |n| {
                let noise = (((window * 20 + n) * 7_919) % 101) as f64 / 10.0;
                let shape = 20.0 * ((window % 60) as f64 / 60.0 * std::f64::consts::TAU).sin();
                let value = (100.0 + shape + noise) * if faulty { 2.0 } else { 1.0 };
                Given {
                    event_time: 1_000 * minute + window * minute + n * 3 * SECOND,
                    entity: "checkout/eu%2F1".into(),
                    value,
                    ..Given::default()
                }
            })
        })
        .collect();
    let (effects, _) = run(&mut engine, 0, &events);

    let start = |window: i64| (1_000 + window) * minute;
    let mean: Vec<_> = effects.alerts.iter().filter(|a| a.aggregate == "mean").collect();
    assert!(mean.len() >= 2, "opened and resolved at least: {:?}", effects.alerts);
    let (first, last) = (mean[0], mean[mean.len() - 1]);
    assert_eq!((first.state.as_str(), first.opened_at, first.sequence), ("opened", start(720), 0));
    assert_eq!(last.state.as_str(), "resolved");
    assert!(mean.iter().all(|a| a.alert_id == first.alert_id), "one alert");
    assert_eq!(
        first.labels,
        BTreeMap::from([("service".into(), "checkout".into()), ("instance".into(), "eu/1".into())])
    );
    assert!(first.observed > first.upper.unwrap());
    let id_distinct = effects.alerts.iter().map(|a| &a.alert_id).collect::<std::collections::BTreeSet<_>>().len();
    assert!(id_distinct <= 2, "an alert per series at most: {:#?}", effects.alerts);
}

#[test]
fn the_least_recently_seen_entity_makes_room_and_its_windows_close_first() {
    let config = StreamSettings { entities_max: 2, ..settings(10 * SECOND, 10 * SECOND) }.validate().unwrap();
    let mut engine = Engine::new(config, 0);
    let given =
        |entity: &str| Given { event_time: 100 * SECOND, entity: entity.into(), value: 1.0, ..Given::default() };
    // What a round writes: entity (none: the partition's own), slot, and whether it is there, gone, or a tombstone.
    let snapshot = |engine: &mut Engine, offset| -> Vec<String> {
        let told = |(place, state): (StateKey, Option<State>)| {
            let what = match state {
                None => "cleared",
                Some(state) if state.payload.is_empty() => "gone",
                Some(_) => "written",
            };
            format!("{} {} {what}", place.entity.as_deref().unwrap_or("own"), place.slot)
        };
        engine.snapshot(offset).into_iter().map(told).collect()
    };
    run(&mut engine, 0, &[given("a"), given("b"), given("a")]);
    assert_eq!(snapshot(&mut engine, 3), ["a 0 written", "b 0 written", "own 0 written"]);
    let (effects, _) = run(&mut engine, 3, &[given("c")]);
    assert_eq!(effects.metrics.iter().map(|m| (&*m.entity, m.count)).collect::<Vec<_>>(), [("b", 1)]);
    assert_eq!((engine.entities(), engine.counts().evicted), (2, 1));
    // What came and went since the last round was never in one: it is not gone, and takes no memory.
    let (effects, _) = run(&mut engine, 4, &[given("a"), given("d")]);
    assert_eq!(effects.metrics.iter().map(|m| &*m.entity).collect::<Vec<_>>(), ["c"]);
    assert_eq!(snapshot(&mut engine, 6), ["b 1 gone", "d 0 written", "a 1 written", "own 1 written"]);
    // Both records of what is gone are cleared by the next; what has come back is in a round as if it were new.
    run(&mut engine, 6, &[given("b")]);
    assert_eq!(snapshot(&mut engine, 7), ["b 0 cleared", "b 1 cleared", "a 0 gone", "b 0 written", "own 0 written"]);
    // The record before the word that it is gone is cleared first. What goes and comes back between two rounds goes on in its other slot.
    run(&mut engine, 7, &[given("c"), given("d"), given("b")]);
    let again = snapshot(&mut engine, 10);
    assert_eq!(again, ["a 1 cleared", "a 0 cleared", "b 1 written", "d 1 written", "own 1 written"]);
}

#[test]
fn windows_that_are_final_before_an_event_of_other_windows_are_counted() {
    // Windows of 60 s at every second, final 5 s after their end: at 165 s all that end by 160 s are. The event is in the last two of 60.
    let mut engine = Engine::new(settings(60 * SECOND, SECOND).validate().unwrap(), 0);
    let given = |event_time| Given { event_time, entity: "a".into(), value: 1.0, ..Given::default() };
    let (_, ingested) = run(&mut engine, 0, &[given(164 * SECOND), given(165 * SECOND), given(102 * SECOND)]);
    assert_eq!(ingested[2], Ingested::Scored);
    assert_eq!((engine.counts().missed, engine.counts().late), (58, 0));
}

#[test]
fn what_follows_from_one_event_comes_in_portions_and_is_the_same() {
    let config = settings(60 * SECOND, SECOND).validate().unwrap();
    let given = |event_time, n: i64| Given { event_time, entity: format!("{n:04}"), value: 1.0, ..Given::default() };
    let mut engine = Engine::new(StreamConfig { entities_max: 1_000, ..(*config).clone() }.into(), 0);
    run(&mut engine, 0, &(0..400).map(|n| given(100 * SECOND, n)).collect::<Vec<_>>());
    let mut portion = Effects::default();
    let event = Event { offset: 400, event_time: 9_000 * SECOND, entity: "0000", values: &[1.0], id: None };
    engine.ingest(&event, &mut portion);
    let mut ends = Vec::new();
    loop {
        assert!(portion.len() <= EFFECTS_MAX + 10, "an entity's deadline more at most");
        ends.extend(portion.metrics.iter().map(|metric| (metric.window_end, metric.entity.clone())));
        portion.clear();
        if !engine.has_more() {
            break;
        }
        engine.go_on(&mut portion);
    }
    assert_eq!(ends.len(), 400 * 60);
    assert!(ends.is_sorted(), "by the windows' ends, then by entity");
}

#[test]
fn an_alert_that_is_open_when_its_entity_is_forgotten_ends() {
    for (revisions, dropout_after) in
        [(Revisions::Off, None), (Revisions::On, None), (Revisions::Off, Some(DropoutAfter::Windows(2)))]
    {
        let mut settings = StreamSettings { revisions, entities_max: 2, ..settings(10 * SECOND, 10 * SECOND) };
        settings.measures[0].forecast = None;
        settings.measures[0].aggregates.truncate(1);
        settings.measures[0].detectors = vec![DetectorKind::ZScore];
        settings.alert = crate::config::AlertSettings { dropout_after, ..settings.alert };
        let mut engine = Engine::new(settings.validate().unwrap(), 0);
        let given = |window: i64, entity: &str, value| Given {
            event_time: (1_000 + window) * 10 * SECOND,
            entity: entity.into(),
            value,
            ..Given::default()
        };
        let calm = (0..60).map(|window| given(window, "a", 10.0 + (window % 7) as f64 / 10.0));
        let faulty = (60..65).map(|window| given(window, "a", 90.0));
        let other = (65..75).map(|window| given(window, "b", 1.0));
        let events: Vec<Given> = calm.chain(faulty).chain(other).chain([given(75, "c", 1.0)]).collect();
        let (effects, _) = run(&mut engine, 0, &events);
        assert_eq!(engine.counts().evicted, 1);
        let mut last = BTreeMap::new();
        for alert in &effects.alerts {
            last.insert(alert.alert_id.clone(), alert);
        }
        let expected = if dropout_after.is_some() { 2 } else { 1 };
        assert_eq!(last.len(), expected, "{revisions:?}: {:#?}", effects.alerts);
        for alert in last.into_values() {
            assert_eq!(alert.state.as_str(), "resolved");
            assert!(alert.summary.contains("ends here: the entity was forgotten to make room"), "{}", alert.summary);
        }
    }
}

#[test]
fn a_bound_that_was_lowered_holds_from_the_next_new_entity_on() {
    let config =
        |entities_max| StreamSettings { entities_max, ..settings(10 * SECOND, 10 * SECOND) }.validate().unwrap();
    let mut engine = Engine::new(config(10), 0);
    let given =
        |entity: u8| Given { event_time: 100 * SECOND, entity: format!("e{entity}"), value: 1.0, ..Given::default() };
    run(&mut engine, 0, &(0..10).map(given).collect::<Vec<_>>());
    let records = engine.snapshot(10).into_iter().filter_map(|(place, state)| Some((place.slot, state?)));
    let mut engine = state::restore(config(3), 0, Some(10), records).unwrap();
    run(&mut engine, 10, &[given(10)]);
    assert_eq!((engine.entities(), engine.counts().evicted), (3, 8));
}

#[test]
fn a_window_that_comes_to_be_after_its_end_is_counted_too() {
    for revisions in [Revisions::Off, Revisions::On] {
        let lateness = Span::from_millis(60 * SECOND);
        let settings = StreamSettings { lateness, revisions, ..settings(10 * SECOND, 10 * SECOND) };
        let mut engine = Engine::new(settings.validate().unwrap(), 0);
        let given =
            |second: i64| Given { event_time: second * SECOND, entity: "a".into(), value: 1.0, ..Given::default() };
        let (effects, _) = run(&mut engine, 0, &[1, 25, 12, 45, 200, 400].map(given));
        assert_eq!(effects.metrics.len(), 5);
        assert_eq!(engine.counts().windows, 5, "{revisions:?}");
    }
}

#[test]
fn an_event_is_late_only_when_its_last_window_has_closed() {
    // disorder 3 s + lateness 2 s: the window [100 s, 110 s) closes when event time reaches 115 s
    for (head, expected) in [(115 * SECOND - 1, false), (115 * SECOND, true)] {
        let mut engine = Engine::new(settings(10 * SECOND, 10 * SECOND).validate().unwrap(), 0);
        let given = |event_time| Given { event_time, entity: "a".into(), value: 1.0, ..Given::default() };
        let (_, ingested) = run(&mut engine, 0, &[given(100 * SECOND), given(head), given(110 * SECOND - 1)]);
        assert_eq!(matches!(ingested[2], Ingested::Late(_)), expected, "event time at {head}");
    }
}

#[test]
fn state_that_does_not_fit_is_refused_with_what_to_do() {
    let config = settings(10 * SECOND, 10 * SECOND).validate().unwrap();
    let mut engine = Engine::new(config.clone(), 0);
    run(&mut engine, 0, &[Given { event_time: 1, entity: "a".into(), value: 1.0, ..Given::default() }]);
    let records: Vec<State> = engine.snapshot(1).into_iter().filter_map(|(_, state)| state).collect();
    let restore = |config: &Arc<StreamConfig>, round: i64, records: Vec<State>| {
        state::restore(config.clone(), 0, Some(round), records.into_iter().map(|state| (0, state)))
    };
    let refused =
        |config: &Arc<StreamConfig>, records: Vec<State>| restore(config, 1, records).unwrap_err().to_string();

    let mut newer = records.clone();
    newer[0].format_version = 9;
    assert_eq!(
        refused(&config, newer),
        "state of entity `a` of stream `calls` has format 9, this program reads up to 5: run the version that wrote it, or a later one"
    );
    let mut older = records.clone();
    older[0].format_version = 1;
    assert_eq!(
        refused(&config, older),
        "state of entity `a` of stream `calls` has format 1, this program reads 2 to 5: set `processor.group_id` to a new name to start anew"
    );
    let mut damaged = records.clone();
    damaged[0].payload[3] ^= 1;
    assert!(refused(&config, damaged).starts_with("state of entity `a` of stream `calls` is damaged"));
    let other = settings(20 * SECOND, 20 * SECOND).validate().unwrap();
    assert!(
        refused(&other, records.clone()).starts_with("state of stream `calls` was written under another declaration")
    );
    let error = refused(&config, records[..1].to_vec());
    assert!(error.contains("the committed offset names the snapshot at 1, the state topic holds none"), "{error}");
    let error = restore(&config, 2, records.clone()).unwrap_err().to_string();
    assert!(error.contains("names the snapshot at 2, the state topic holds that at 1"), "{error}");
    // Of a round that never became complete nothing counts, nor is anything amiss.
    assert_eq!(restore(&config, 1, records).unwrap().entities(), 1);
}
