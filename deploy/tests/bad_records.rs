//! Records that are no events, among records that are: each becomes one dead letter with everything that it was, and nothing
//! else changes. And topics that do not fit are one line.

#![allow(clippy::unwrap_used)] // The helpers are tests too.

#[allow(dead_code)] // Nothing is cut off in the middle or compared byte for byte here.
mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use support::{Corner, RESULTS};
use tidewatch_schemas::record::{Check, DeadLetter, DeadLetterHeader, Record, WindowMetric};
use tidewatch_schemas::wire::{self, Framing};
use tidewatch_topic_io::{Outgoing, Writer};

tidewatch_test_brokers::on_both_brokers!(
    each_bad_record_becomes_one_dead_letter_and_changes_nothing_else,
    topics_that_do_not_fit_are_one_line,
);

const PARTITIONS: i32 = 2;
const MINUTE_MS: i64 = 60_000;
const START_MS: i64 = 1_736_121_600_000; // 2025-01-06T00:00:00Z
/// 2262-04-11, where nanoseconds end.
const FAR_AHEAD_MS: i64 = 9_223_372_036_854;

fn stream(topic: &str) -> String {
    format!(
        "[[stream]]\nname = \"checks\"\ntopic = \"{topic}\"\nformat = \"avro\"\nentity = [\"check\", \"location\"]\n\
         event_time = \"event_time\"\nwindow = {{ tumbling = \"1m\" }}\ndisorder = \"5s\"\n\
         [[stream.measure]]\nname = \"response\"\nfield = \"response_ms\"\n"
    )
}

/// The event of a minute in a partition; entities of different partitions differ.
fn check(partition: i32, minute: i64) -> Check {
    Check {
        event_time: START_MS + minute * MINUTE_MS + 10_000,
        check: "order".into(),
        location: format!("p{partition}"),
        region: "EMEA".into(),
        tenant: "acme".into(),
        success: true,
        response_ms: 100.0 + (minute % 7) as f64,
        status: 200,
    }
}

fn encoded(check: &Check) -> Vec<u8> {
    let mut value = Vec::new();
    wire::encode(check, Framing::SingleObject, &mut value);
    value
}

/// What is written in place of an event, and why it is none.
struct Bad {
    name: &'static str,
    value: Option<Vec<u8>>,
    reason: &'static str,
    /// A part of what the dead letter says.
    error: &'static str,
}

/// One of each kind, made of an event of the time when it is written.
fn bad_records(event: &Check) -> Vec<Bad> {
    let good = encoded(event);
    let bad = |name, value, reason, error| Bad { name, value: Some(value), reason, error };
    let mut unknown = good.clone();
    unknown[2..10].copy_from_slice(&[0xee; 8]);
    let mut text = good.clone();
    let at = text.windows(5).position(|bytes| bytes == b"order").unwrap();
    text[at] = 0xff;
    // Random in that nothing shaped them; the first byte begins no frame.
    let random = (0..200_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8 | 1).collect();
    vec![
        bad("cut in the datum", good[..good.len() - 20].to_vec(), "undecodable", "truncated"),
        bad("cut in the frame", good[..5].to_vec(), "undecodable", "cut off"),
        bad("random", random, "undecodable", "first byte"),
        bad("empty", Vec::new(), "undecodable", "empty"),
        Bad { name: "null", value: None, reason: "null-value", error: "no value" },
        bad("unknown schema", unknown, "undecodable", "eeee"),
        bad("no text", text, "undecodable", "UTF-8"),
        bad(
            "2262",
            encoded(&Check { event_time: FAR_AHEAD_MS, ..event.clone() }),
            "event-time-out-of-range",
            "9223372036854",
        ),
        bad("before 1970", encoded(&Check { event_time: -1, ..event.clone() }), "event-time-out-of-range", "-1 ms"),
        bad("not a number", encoded(&Check { response_ms: f64::NAN, ..event.clone() }), "not-finite", "response_ms"),
        bad("infinite", encoded(&Check { response_ms: f64::INFINITY, ..event.clone() }), "not-finite", "response_ms"),
    ]
}

/// Writes two hours of events to each partition, and where `with_bad` asks for it a bad record after each tenth; gives what the
/// dead letters must be, by partition and offset.
fn publish(corner: &Corner, topic: &str, with_bad: bool) -> BTreeMap<(i32, i64), (DeadLetter, &'static str)> {
    let mut writer = Writer::new(&corner.kafka).unwrap();
    let mut expected = BTreeMap::new();
    for partition in 0..PARTITIONS {
        let mut offset = 0;
        for minute in 0..120 {
            let event = check(partition, minute);
            let key = format!("order/p{partition}");
            let value = encoded(&event);
            let record = Outgoing {
                partition: Some(partition),
                timestamp_ms: Some(event.event_time),
                headers: &[("trace", b"\x00\xff")],
                ..Outgoing::new(topic, key.as_bytes(), &value)
            };
            writer.send(record).unwrap();
            offset += 1;
            let mut kinds = bad_records(&event);
            let kind = usize::try_from(minute / 10).unwrap();
            if !with_bad || minute % 10 != 5 || kind >= kinds.len() {
                continue;
            }
            let Bad { name, value, reason, error } = kinds.swap_remove(kind);
            let key = (name != "random").then(|| format!("{name} \u{fc}").into_bytes());
            writer.send(Outgoing { key: key.as_deref(), value: value.as_deref(), ..record }).unwrap();
            let letter = DeadLetter {
                stream: "checks".into(),
                topic: topic.into(),
                partition,
                offset,
                timestamp_ms: Some(event.event_time),
                key,
                value,
                headers: vec![DeadLetterHeader { key: "trace".into(), value: Some(vec![0x00, 0xff]) }],
                reason: reason.into(),
                error: String::new(),
            };
            assert!(expected.insert((partition, offset), (letter, error)).is_none());
            offset += 1;
        }
    }
    writer.flush(Duration::from_secs(30)).unwrap();
    expected
}

fn decoded<R: Record>(corner: &Corner, run: &str, what: &str) -> Vec<R> {
    let rows = corner.read(&corner.topic(run, what));
    rows.iter().map(|row| wire::decode(row.value.as_ref().unwrap()).unwrap()).collect()
}

/// The windows without the input offsets, which the bad records shift.
fn windows(corner: &Corner, run: &str) -> BTreeMap<(String, i64), WindowMetric> {
    let metrics = decoded::<WindowMetric>(corner, run, "metrics");
    let count = metrics.len();
    let place = |metric: WindowMetric| WindowMetric { first_offset: 0, last_offset: 0, ..metric };
    let windows: BTreeMap<_, _> =
        metrics.into_iter().map(|metric| ((metric.entity.clone(), metric.window_start), place(metric))).collect();
    assert_eq!(windows.len(), count, "each window once");
    windows
}

fn each_bad_record_becomes_one_dead_letter_and_changes_nothing_else(bootstrap_servers: &str) {
    let corner = Corner::new(bootstrap_servers, "bad-records");
    let mut expected = BTreeMap::new();
    for run in ["clean", "mixed"] {
        let topic = corner.topic(run, "in");
        corner.create(std::slice::from_ref(&topic), PARTITIONS);
        expected = publish(&corner, &topic, run == "mixed");
        corner.run(&format!("{}{}", corner.outputs(run, PARTITIONS), stream(&topic)), &["process", "--drain"]);
    }
    assert_eq!(expected.len(), bad_records(&check(0, 0)).len() * 2);

    let letters = decoded::<DeadLetter>(&corner, "mixed", "dead_letters");
    assert_eq!(letters.len(), expected.len(), "one dead letter each");
    for letter in letters {
        let (wanted, part) = expected.remove(&(letter.partition, letter.offset)).unwrap();
        assert!(letter.error.contains(part), "{part} in: {}", letter.error);
        assert_eq!(DeadLetter { error: String::new(), ..letter }, wanted);
    }
    assert!(expected.is_empty());

    // Had the record of 2262 moved the watermark, what follows it would be late and its windows would have closed at once.
    let (clean, mixed) = (windows(&corner, "clean"), windows(&corner, "mixed"));
    assert_eq!(
        clean.values().map(|window| window.count).sum::<i64>(),
        i64::from(PARTITIONS) * 119,
        "the last one is open"
    );
    assert!(mixed == clean, "the windows are those of the run without bad records");
    for run in ["clean", "mixed"] {
        assert_eq!(corner.read(&corner.topic(run, "late")).len(), 0);
    }
    assert_eq!(corner.read(&corner.topic("clean", "dead_letters")).len(), 0);
}

fn check_one_line(corner: &Corner, settings: &str, parts: &[&str]) {
    let (status, log) = corner.start(settings, &["process", "--drain"]).finish();
    let errors: Vec<&str> = log.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!((status.code(), errors.len()), (Some(1), 1), "{log}");
    assert!(parts.iter().all(|part| errors[0].contains(part)), "{parts:?} in: {log}");
    assert!(!log.contains("panicked"), "{log}");
}

fn topics_that_do_not_fit_are_one_line(bootstrap_servers: &str) {
    let corner = Corner::new(bootstrap_servers, "bad-topics");
    let input = corner.topic("run", "in");
    let outputs = corner.outputs("run", PARTITIONS);
    let settings = format!("{outputs}{}", stream(&input));
    check_one_line(&corner, &settings, &[&format!("\"{input}\"")]);

    corner.create(std::slice::from_ref(&input), PARTITIONS + 1);
    let state = corner.topic("run", "state");
    check_one_line(&corner, &settings, &[&state, "2 partitions", &input, "3"]);

    for what in RESULTS {
        let missing = corner.topic("elsewhere", what);
        let wide = corner.topic("wide", "state");
        corner.create(std::slice::from_ref(&wide), PARTITIONS + 1);
        let settings = settings.replace(&corner.topic("run", what), &missing).replace(&state, &wide);
        check_one_line(&corner, &settings, &[&format!("\"{missing}\"")]);
    }
}
