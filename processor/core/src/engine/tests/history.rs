//! A history that is learnt from without alerts: what is told is what would have been, less the alerts that opened in it.

use super::restarts::Dice;
use super::*;

/// An engine that begins with so many events of history.
fn after_history(config: &Arc<StreamConfig>, history: i64) -> Engine {
    let mut engine = Engine::new(config.clone(), 0);
    engine.learn_until(history);
    engine
}

#[test]
fn all_is_told_but_alerts_that_opened_in_the_history() {
    let seconds = |seconds: i64| Span::from_millis(seconds * SECOND);
    let windows = [
        WindowSettings::Tumbling(seconds(10)),
        WindowSettings::Hopping([seconds(30), seconds(3)]),
        WindowSettings::Session(seconds(4)),
    ];
    let (mut told, mut kept_quiet, mut corrected) = (0, 0, 0);
    for (seed, window) in windows.into_iter().enumerate() {
        let mut settings = StreamSettings { window, ..settings(10_000, 5_000) };
        settings.measures[0].detectors = ALL_BUT_THE_FOREST.to_vec();
        settings.measures[0].forecast = None;
        if seed != 2 {
            settings.alert.dropout_after = Some(DropoutAfter::Windows(3));
        }
        let mut events = Dice(seed as u64).events(4_000);
        events.push(much_later());
        // In the middle of a fault, too: faults are from 800 to 899, from 1,700 on, and so on.
        for history in [0, 1, 850, 2_000, 2_650, 4_001] {
            events[..history].iter_mut().for_each(|event| event.silence_ms = None);
            let [on, off] = [Revisions::On, Revisions::Off].map(|revisions| {
                let config = StreamSettings { revisions, ..settings.clone() }.validate().unwrap();
                let (mut expected, ingested) = run(&mut Engine::new(config.clone(), 0), 0, &events);
                let scored = events[..history].iter().zip(&ingested).filter(|(_, i)| **i == Ingested::Scored);
                let last = scored.map(|(event, _)| event.event_time).max().unwrap_or(i64::MIN);
                let all = expected.alerts.len();
                expected.alerts.retain(|alert| alert.opened_at > last);

                let mut engine = after_history(&config, history as i64);
                let (found, _) = run(&mut engine, 0, &events);
                assert!(found == expected, "{window:?} {revisions:?} {history}: not what was to be told");
                assert_eq!(engine.counts().quiet, (all - expected.alerts.len()) as u64);
                let revised = found.alerts.iter().filter(|alert| alert.revision > 0).count();
                let revised = revised + found.metrics.iter().filter(|metric| metric.revision > 0).count();
                assert_eq!(engine.counts().revisions, revised as u64);
                told += found.alerts.len();
                kept_quiet += engine.counts().quiet;
                corrected += found.alerts.iter().filter(|alert| alert.revision > 0).count();
                found
            });
            assert_eq!(held(&on).plain(), held(&off), "{window:?} {history}");
        }
    }
    assert!(told > 500 && kept_quiet > 500 && corrected > 20, "{told} {kept_quiet} {corrected}");
}

/// Calm windows with two runs of faulty ones. Told is which alerts opened, by the number of their first window, and their last step.
fn told(history: i64, faulty: [std::ops::Range<i64>; 2]) -> Vec<(i64, &'static str)> {
    let mut settings = settings(10 * SECOND, 10 * SECOND);
    settings.measures[0].aggregates.truncate(1);
    settings.measures[0].detectors = vec![DetectorKind::ZScore];
    settings.measures[0].forecast = None;
    settings.alert.repeat_after = Span::from_millis(1);
    let event = |window: i64| Given {
        event_time: (1_000 + window) * 10 * SECOND,
        entity: "a".into(),
        value: if faulty.iter().any(|faulty| faulty.contains(&window)) { 90.0 } else { 10.0 + (window % 7) as f64 },
        ..Given::default()
    };
    let events: Vec<Given> = (0..200).map(event).chain([much_later()]).collect();
    let (effects, _) = run(&mut after_history(&settings.validate().unwrap(), history), 0, &events);
    let mut alerts = BTreeMap::new();
    for alert in &effects.alerts {
        let begins = !alerts.contains_key(&alert.alert_id);
        assert_eq!(begins, alert.sequence == 0, "an alert is told from its beginning on, or not at all");
        alerts.insert(alert.alert_id.clone(), (alert.opened_at / (10 * SECOND) - 1_000, alert.state.as_str()));
    }
    let mut told: Vec<_> = alerts.into_values().collect();
    told.sort_unstable();
    told
}

#[test]
fn an_alert_that_is_open_at_the_end_of_the_history_is_never_told() {
    let faulty = || [100..103, 150..153];
    assert_eq!(told(0, faulty()), [(100, "resolved"), (150, "resolved")]);
    assert_eq!(told(130, faulty()), [(150, "resolved")]);
    // The last event of the history is of the faulty window itself, or of the one before.
    assert_eq!(told(101, faulty()), [(150, "resolved")]);
    assert_eq!(told(100, faulty()), [(100, "resolved"), (150, "resolved")]);
    assert_eq!(told(151, faulty()), []);
    assert_eq!(told(1_000, faulty()), []);
}

#[test]
fn what_is_silent_since_the_history_is_not_told_and_what_falls_silent_after_it_is() {
    let mut settings = settings(10 * SECOND, 10 * SECOND);
    settings.alert.dropout_after = Some(DropoutAfter::Windows(2));
    let given = |second: i64, entity: &str| Given {
        event_time: second * SECOND,
        entity: entity.into(),
        value: 1.0,
        ..Given::default()
    };
    // The history is of offsets 0 to 3, the last of which hold no event any more. Then event time goes on by a clock.
    let mut engine = after_history(&settings.validate().unwrap(), 4);
    let (mut effects, _) = run(&mut engine, 0, &[given(100, "before"), given(155, "at the end")]);
    engine.advance(400 * SECOND, &mut effects);
    let dropouts: Vec<_> = effects.alerts.iter().map(|alert| (&*alert.entity, alert.opened_at / SECOND)).collect();
    assert_eq!(dropouts, [("at the end", 160)]);
    assert_eq!((engine.counts().quiet, engine.history_end()), (1, Some(4)));
}
