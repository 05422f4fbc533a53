//! The scorer by the real binary, behind a real producer and processor: its records, its metrics and its table are what a naive count
//! of the same topics comes to, and follow them.

#![allow(clippy::unwrap_used)] // The helpers are tests too.

#[allow(dead_code)] // Nothing is killed or compared byte for byte here.
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use support::{Corner, Running, page};
use tidewatch_schemas::Record;
use tidewatch_schemas::record::{
    Alert, AlertKind, AlertState, AnomalyKind, Correction, Dimension, Score, Truth, WindowMetric,
};
use tidewatch_schemas::wire::{self, Framing};
use tidewatch_topic_io::{Outgoing, Writer};

tidewatch_test_brokers::on_both_brokers!(
    what_is_published_is_what_a_naive_count_comes_to,
    a_topic_that_is_not_there_is_named_with_its_setting,
);

const TOPICS: [&str; 13] = [
    "service_calls",
    "infrastructure",
    "beacons",
    "checks",
    "metrics",
    "forecasts",
    "alerts",
    "late",
    "dead_letters",
    "state",
    "ledger",
    "truth",
    "score",
];
const DELAY_MAX_MS: i64 = 30 * 60_000;
const WEEK_MS: f64 = 7.0 * 86_400_000.0;

fn settings(corner: &Corner) -> String {
    let topics: Vec<String> =
        TOPICS.iter().map(|what| format!("{what} = \"{}\"\n", corner.topic("run", what))).collect();
    format!(
        "topic_creation.partitions = 2\nprocessor.group_id = \"{}\"\nscore.publish_every = \"50ms\"\n[topics]\n{}",
        corner.name,
        topics.concat()
    )
}

/// What the topics hold.
struct Topics {
    truth: Vec<Truth>,
    alerts: Vec<Alert>,
    metrics: Vec<WindowMetric>,
}

fn records<R: Record>(corner: &Corner, what: &str) -> Vec<R> {
    let values = corner.read(&corner.topic("run", what)).into_iter().filter_map(|row| row.value);
    values.filter_map(|value| wire::decode(&value).ok()).collect()
}

/// A naive count of what belongs to some entities.
#[derive(Debug, Default, PartialEq)]
struct Count {
    faults: i64,
    found: i64,
    repeated: i64,
    false_alerts: i64,
    delays_ms: Vec<i64>,
    entities: i64,
    watched_ms: i64,
}

impl Topics {
    fn count(&self, is_of: impl Fn(&str, &str) -> bool) -> Count {
        let mut count = Count::default();
        let mut truth: Vec<&Truth> = self.truth.iter().filter(|fault| is_of(&fault.stream, &fault.entity)).collect();
        truth.sort_by_key(|fault| fault.onset);
        let reach = |fault: &Truth| fault.end.max(fault.onset + DELAY_MAX_MS);
        let ids: BTreeSet<&str> = self.alerts.iter().map(|alert| alert.alert_id.as_str()).collect();
        let mut finders = BTreeSet::new();
        for fault in &truth {
            let says = self.alerts.iter().filter(|alert| {
                alert.stream == fault.stream
                    && alert.entity == fault.entity
                    && alert.state != AlertState::Resolved
                    && alert.window_end > fault.onset
                    && alert.window_start < reach(fault)
                    && !finders.contains(alert.alert_id.as_str())
            });
            count.faults += 1;
            if let Some((at, id)) = says.map(|alert| (alert.window_end, alert.alert_id.as_str())).min() {
                count.found += 1;
                count.delays_ms.push(at - fault.onset);
                finders.insert(id);
            }
        }
        count.delays_ms.sort_unstable();
        for id in ids.difference(&finders) {
            let of_alert: Vec<&Alert> = self.alerts.iter().filter(|alert| alert.alert_id == **id).collect();
            let alert = of_alert[0];
            if !is_of(&alert.stream, &alert.entity) {
                continue;
            }
            let resolved = of_alert.iter().find(|alert| alert.state == AlertState::Resolved);
            let end = resolved.map_or(i64::MAX, |alert| alert.window_end);
            let is_on_fault = truth.iter().any(|fault| {
                (&fault.stream, &fault.entity) == (&alert.stream, &alert.entity)
                    && alert.opened_at < reach(fault)
                    && end > fault.onset
            });
            *(if is_on_fault { &mut count.repeated } else { &mut count.false_alerts }) += 1;
        }
        let mut spans = BTreeMap::<(&str, &str), (i64, i64)>::new();
        for metric in self.metrics.iter().filter(|metric| is_of(&metric.stream, &metric.entity)) {
            let (start, end) = (metric.window_start, metric.window_end);
            let span = spans.entry((&metric.stream, &metric.entity)).or_insert((start, end));
            *span = (span.0.min(start), span.1.max(end));
        }
        count.entities = spans.len() as i64;
        for ((stream, entity), (start, end)) in spans {
            let faults: Vec<(i64, i64)> = truth
                .iter()
                .filter(|fault| (fault.stream.as_str(), fault.entity.as_str()) == (stream, entity))
                .map(|fault| (fault.onset, reach(fault)))
                .collect();
            let bounds = faults.iter().flat_map(|&(onset, end)| [onset, end]).chain([start, end]);
            let bounds: BTreeSet<i64> = bounds.filter(|at| (start..=end).contains(at)).collect();
            let bounds: Vec<i64> = bounds.into_iter().collect();
            let is_free = |at: i64| !faults.iter().any(|&(onset, end)| (onset..end).contains(&at));
            let free = bounds.windows(2).filter(|piece| is_free(piece[0])).map(|piece| piece[1] - piece[0]);
            count.watched_ms += free.sum::<i64>();
        }
        count
    }
}

#[track_caller]
fn check_figures(score: &Score, count: &Count) {
    let said = Count {
        faults: score.faults,
        found: score.found,
        repeated: score.repeated,
        false_alerts: score.false_alerts,
        delays_ms: count.delays_ms.clone(),
        entities: score.entities,
        watched_ms: score.watched_ms,
    };
    assert_eq!(said, *count, "{score:?}");
    let (found, alerts, faults) = (count.found as f64, (count.found + count.false_alerts) as f64, count.faults as f64);
    let weeks = count.watched_ms as f64 / WEEK_MS;
    for (said, expected) in [
        (score.precision, found / alerts),
        (score.recall, found / faults),
        (score.f1, 2.0 * found / (alerts + faults)),
        (score.false_alarms_per_entity_week, count.false_alerts as f64 / weeks),
    ] {
        assert_eq!(said.is_some(), expected.is_finite(), "{score:?}");
        assert!(said.is_none_or(|said| (said - expected).abs() < 1e-9 * expected.abs().max(1.0)), "{score:?}");
    }
    // No fewer than the share were found by then, and fewer before.
    for (said, share) in [(score.delay_p50_ms, 0.5), (score.delay_p95_ms, 0.95)] {
        let within = |ms: i64| count.delays_ms.iter().filter(|&&delay| delay <= ms).count() as f64;
        assert_eq!(said.is_some(), count.found > 0, "{score:?}");
        assert!(said.is_none_or(|ms| count.delays_ms.contains(&ms) && within(ms) >= share * found), "{score:?}");
    }
}

/// What the score topic says: the newest record of each key, without those that have a tombstone.
fn newest(corner: &Corner) -> BTreeMap<(Dimension, String), Score> {
    let mut by_key = BTreeMap::new();
    for row in corner.read(&corner.topic("run", "score")) {
        by_key.insert(row.key, row.value);
    }
    let records = by_key.into_iter().filter_map(|(key, value)| Some((key, wire::decode::<Score>(&value?).unwrap())));
    let place = |(key, score): (Option<Vec<u8>>, Score)| {
        assert_eq!(key.unwrap(), format!("{}/{}", score.dimension, score.value.replace('/', "%2F")).into_bytes());
        ((score.dimension, score.value.clone()), score)
    };
    records.map(place).collect()
}

fn total(corner: &Corner) -> Score {
    newest(corner)[&(Dimension::Total, "all".to_owned())].clone()
}

/// A gauge on the page, by its labels in any order.
fn gauge(metrics: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let is_it = |line: &&str| {
        line.starts_with(&format!("{name}{{"))
            && labels.iter().all(|(key, value)| line.contains(&format!("{key}=\"{value}\"")))
    };
    let line = metrics.lines().find(is_it).unwrap_or_else(|| panic!("{name} {labels:?} in {metrics}"));
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

fn wait_until(scorer: &mut Running, is_so: impl Fn() -> bool) {
    while !is_so() {
        assert!(!scorer.has_ended(), "{}", scorer.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn send<R: Record>(corner: &Corner, what: &str, key: &str, record: &R) {
    let mut value = Vec::new();
    wire::encode(record, Framing::SingleObject, &mut value);
    send_bytes(corner, what, key, &value);
}

fn send_bytes(corner: &Corner, what: &str, key: &str, value: &[u8]) {
    let mut writer = Writer::new(&corner.kafka).unwrap();
    writer.send(Outgoing::new(&corner.topic("run", what), key.as_bytes(), value)).unwrap();
    writer.flush(Duration::from_secs(60)).unwrap();
}

fn what_is_published_is_what_a_naive_count_comes_to(bootstrap_servers: &str) {
    let corner = Corner::new(bootstrap_servers, "score");
    let settings = settings(&corner);
    corner.run(&settings, &["topics", "create"]);
    corner.run(&settings, &["produce", "--scenario", "smoke"]);
    corner.run(&settings, &["process", "--drain"]);

    let (predictions, alerts): (Vec<Alert>, Vec<Alert>) =
        records(&corner, "alerts").into_iter().partition(|alert: &Alert| alert.kind == AlertKind::PredictedBreach);
    let topics = Topics { truth: records(&corner, "truth"), alerts, metrics: records(&corner, "metrics") };
    let expected = topics.count(|_, _| true);
    assert!(expected.found > 0 && expected.repeated + expected.false_alerts > 0, "{expected:?}");
    let (code, table, said) = corner.ask(&settings, &["score", "--drain"]);
    assert_eq!(code, Some(0), "{said}");
    check_records(&corner, &topics);
    check_predictions(&corner, &predictions);
    check_table(&table, &expected);
    // Nothing has changed, so there is nothing to write.
    let written = corner.read(&corner.topic("run", "score")).len();
    corner.run(&settings, &["score", "--drain"]);
    assert_eq!(corner.read(&corner.topic("run", "score")).len(), written);

    follow(&corner, &settings, &topics);

    let (code, table, said) = corner.ask(&format!("score.records_max = 3\n{settings}"), &["score", "--drain"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(table.contains(" left out to keep memory bounded: score.records_max\n"), "{table}");
}

fn check_records(corner: &Corner, topics: &Topics) {
    let newest = newest(corner);
    let expected = topics.count(|_, _| true);
    check_figures(&newest[&(Dimension::Total, "all".to_owned())], &expected);
    for dimension in [Dimension::Region, Dimension::Tenant] {
        let place = |fault: &Truth| fault.labels[dimension.as_str()].clone();
        for value in topics.truth.iter().map(place).collect::<BTreeSet<String>>() {
            let of_value: BTreeSet<(&str, &str)> = topics
                .truth
                .iter()
                .filter(|fault| place(fault) == value)
                .map(|fault| (fault.stream.as_str(), fault.entity.as_str()))
                .collect();
            let count = topics.count(|stream, entity| of_value.contains(&(stream, entity)));
            check_figures(&newest[&(dimension, value)], &count);
        }
    }
    let sum = |dimension: Dimension, of: fn(&Score) -> i64| -> i64 {
        newest.values().filter(|score| score.dimension == dimension).map(of).sum()
    };
    for dimension in [Dimension::Kind, Dimension::Severity] {
        assert_eq!(sum(dimension, |score| score.found), expected.found);
        assert_eq!(sum(dimension, |score| score.repeated), expected.repeated);
        assert_eq!(sum(dimension, |score| score.false_alerts), expected.false_alerts);
    }
    assert_eq!(sum(Dimension::Kind, |score| score.faults), expected.faults);
    let detectors: BTreeSet<&str> = topics
        .alerts
        .iter()
        .filter(|alert| alert.sequence == 0)
        .filter_map(|alert| alert.detectors.iter().max_by(|a, b| a.score.total_cmp(&b.score)))
        .map(|leading| leading.detector.as_str())
        .collect();
    let said = newest.keys().filter(|(dimension, _)| *dimension == Dimension::Detector);
    assert_eq!(said.map(|(_, value)| value.as_str()).collect::<BTreeSet<_>>(), detectors);
    for score in newest.values() {
        assert_eq!(score.event_time, topics.metrics.iter().map(|metric| metric.window_end).max());
        assert_eq!(score.delay_max_ms, DELAY_MAX_MS);
    }
}

/// Predicted breaches count apart from all else.
fn check_predictions(corner: &Corner, predictions: &[Alert]) {
    let ends = predictions.iter().filter(|alert| alert.state == AlertState::Resolved);
    let is_true = |alert: &&Alert| alert.breach.as_ref().is_some_and(|breach| breach.came_true_at.is_some());
    let (came_true, did_not): (Vec<&Alert>, Vec<&Alert>) = ends.partition(is_true);
    assert!(!came_true.is_empty() || !did_not.is_empty(), "{predictions:?}");
    let newest = newest(corner);
    let all = &newest[&(Dimension::Prediction, "all".to_owned())];
    assert_eq!((all.found, all.false_alerts), (came_true.len() as i64, did_not.len() as i64), "{all:?}");
    assert_eq!((all.faults, all.recall, all.f1), (0, None, None), "{all:?}");
}

fn check_table(table: &str, expected: &Count) {
    let Count { faults, found, repeated, false_alerts, entities, .. } = expected;
    let missed = faults - found;
    assert!(table.contains(&format!("{found} of {faults} injected faults found, {missed} missed")), "{table}");
    assert!(table.contains(&format!("{false_alerts} of them false")), "{table}");
    let rate = *false_alerts as f64 / (expected.watched_ms as f64 / WEEK_MS);
    let told = format!("{rate:.3} false alarms per entity and week ({entities} entities");
    assert!(table.contains(&told), "{told}: {table}");
    for (title, name) in
        [("by kind", "spike"), ("by severity", "critical"), ("by region", "EMEA"), ("by tenant", "acme")]
    {
        assert!(table.contains(title) && table.contains(name), "{table}");
    }
    assert!(*repeated == 0 || table.contains(&format!("{repeated} on faults that were found already")), "{table}");
}

/// A scorer that runs sees what is written meanwhile.
fn follow(corner: &Corner, settings: &str, topics: &Topics) {
    let expected = topics.count(|_, _| true);
    let (mut scorer, address) = corner.serve(settings, &["score"]);
    wait_until(&mut scorer, || page(&address, "/ready").starts_with("HTTP/1.1 200"));
    check_metrics(&page(&address, "/metrics"), &total(corner));

    // An alert on nothing, of a kind that nothing else has; and a fault that event time has not come to.
    let kind = AnomalyKind::ALL
        .iter()
        .copied()
        .find(|kind| !newest(corner).contains_key(&(Dimension::Kind, kind.to_string())));
    let kind = kind.unwrap();
    let of_kind = (Dimension::Kind, kind.to_string());
    let made_up = Alert {
        alert_id: "made-up".into(),
        entity: "nobody".into(),
        kind: kind.into(),
        sequence: 0,
        revision: 0,
        correction: Correction::None,
        ..topics.alerts[0].clone()
    };
    send(corner, "alerts", "nobody", &made_up);
    wait_until(&mut scorer, || total(corner).false_alerts == expected.false_alerts + 1);
    wait_until(&mut scorer, || newest(corner).get(&of_kind).is_some_and(|score| score.false_alerts == 1));
    let end = total(corner).event_time.unwrap();
    let future = Truth { fault_id: "future".into(), onset: end, end: end + 1, ..topics.truth[0].clone() };
    send(corner, "truth", "future", &future);
    wait_until(&mut scorer, || total(corner).pending == 1);
    assert_eq!(total(corner).faults, expected.faults);
    check_metrics(&page(&address, "/metrics"), &total(corner));

    // What is retracted was not said: its kind is gone.
    send(corner, "alerts", "nobody", &Alert { revision: 1, correction: Correction::Retracted, ..made_up });
    wait_until(&mut scorer, || !newest(corner).contains_key(&of_kind));
    wait_until(&mut scorer, || total(corner).false_alerts == expected.false_alerts);

    send_bytes(corner, "truth", "broken", b"nonsense");
    let unreadable =
        || page(&address, "/metrics").contains("tidewatch_score_unreadable_records_total{topic=\"truth\"} 1");
    wait_until(&mut scorer, unreadable);
    scorer.signal("TERM");
    while !scorer.has_ended() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let table = scorer.printed();
    let (status, log) = scorer.finish();
    assert!(status.success(), "{log}");
    check_table(&table, &expected);
    assert!(table.contains(", 1 not over yet\n"), "{table}");
    let first = format!("1 record could not be read; the first: {} partition ", corner.topic("run", "truth"));
    assert!(table.contains(&first), "{table}");
    assert!(log.contains("score"), "{log}");
}

fn check_metrics(metrics: &str, total: &Score) {
    let all = [("dimension", "total"), ("value", "all")];
    let with = |key, value| [&all[..], &[(key, value)]].concat();
    for (name, outcome, expected) in [
        ("tidewatch_score_faults", "found", total.found),
        ("tidewatch_score_faults", "missed", total.faults - total.found),
        ("tidewatch_score_faults", "pending", total.pending),
        ("tidewatch_score_alerts", "found", total.found),
        ("tidewatch_score_alerts", "repeated", total.repeated),
        ("tidewatch_score_alerts", "false", total.false_alerts),
    ] {
        assert_eq!(gauge(metrics, name, &with("outcome", outcome)), expected as f64, "{name} {outcome}");
    }
    let seconds = |ms: Option<i64>| ms.map(|ms| ms as f64 / 1_000.0);
    for (name, labels, expected) in [
        ("tidewatch_score_recall_ratio", all.to_vec(), total.recall),
        ("tidewatch_score_precision_ratio", all.to_vec(), total.precision),
        ("tidewatch_score_f1_ratio", all.to_vec(), total.f1),
        ("tidewatch_score_false_alarms_per_entity_week", all.to_vec(), total.false_alarms_per_entity_week),
        ("tidewatch_score_delay_seconds", with("quantile", "0.5"), seconds(total.delay_p50_ms)),
        ("tidewatch_score_delay_seconds", with("quantile", "0.95"), seconds(total.delay_p95_ms)),
    ] {
        assert_eq!(Some(gauge(metrics, name, &labels)), expected, "{name}");
    }
    assert!(gauge(metrics, "tidewatch_score_faults", &[("dimension", "kind"), ("value", "spike")]) >= 0.0);
}

fn a_topic_that_is_not_there_is_named_with_its_setting(bootstrap_servers: &str) {
    let corner = Corner::new(bootstrap_servers, "score-nowhere");
    let settings = settings(&corner);
    for what in ["truth", "alerts", "metrics", "score"] {
        let missing = corner.topic("run", what);
        let (code, table, said) = corner.ask(&settings, &["score", "--drain"]);
        let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error:")).collect();
        assert_eq!((code, table.as_str(), errors.len()), (Some(1), "", 1), "{said}");
        assert!(errors[0].contains(&format!("topics.{what}: topic {missing:?} does not exist")), "{said}");
        corner.create(&[missing], 1);
    }
    corner.run(&settings, &["score", "--drain"]);
    assert_eq!(total(&corner).faults, 0);
}
