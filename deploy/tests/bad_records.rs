//! Records that are no events, among records that are: each becomes one dead letter with everything that it was, and nothing
//! else changes. And topics that do not fit are one line.

#![allow(clippy::unwrap_used)] // The helpers are tests too.

#[allow(dead_code)] // Nothing is cut off in the middle or compared byte for byte here.
mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use support::{Corner, RESULTS, Row};
use tidewatch_schemas::datum::Datum as _;
use tidewatch_schemas::dead_letter::{Letter, OMITTED};
use tidewatch_schemas::record::{Check, DeadLetter, DeadLetterHeader, Late, Record, WindowMetric};
use tidewatch_schemas::wire::{self, Framing};
use tidewatch_topic_io::{Outgoing, TopicSpec, Writer};

tidewatch_test_brokers::on_both_brokers!(
    each_bad_avro_record_becomes_one_dead_letter_and_changes_nothing_else,
    each_bad_json_record_becomes_one_dead_letter_and_changes_nothing_else,
    a_value_that_no_topic_takes_is_left_out_of_its_letter,
    what_the_dead_letter_topic_does_not_take_is_left_out_before_it_is_sent,
    a_negative_timestamp_is_kept,
    what_the_late_topic_does_not_take_is_left_out_before_it_is_sent,
    a_compression_bomb_is_a_dead_letter_in_bounded_memory,
    topics_that_do_not_fit_are_one_line,
);

const PARTITIONS: i32 = 2;
const MINUTES: i64 = 120;
const MINUTE_MS: i64 = 60_000;
const START_MS: i64 = 1_736_121_600_000; // 2025-01-06T00:00:00Z
/// 2262-04-11, where nanoseconds end.
const FAR_AHEAD_MS: i64 = 9_223_372_036_854;
const LARGE_BYTES: usize = 10_000_000;
/// What a few hundred compressed kilobytes become.
const BOMB_BYTES: usize = 200_000_000;
/// Levels of nested JSON.
const DEEP: usize = 10_000;
/// What an input topic and that of the dead letters take, as `topics create` makes the latter.
const RECORD_BYTES_MAX: &str = "16777216";

/// The stream of a test, on its input topic.
type Declare = fn(&str) -> String;

/// Schemas that another team writes with: one with a field more, which is compatible, and two that are not.
const NEXT: u8 = 9;
const WITHOUT_LOCATION: u8 = 7;
const WITH_TEXT: u8 = 8;

fn avro_stream(topic: &str) -> String {
    let schemas =
        [NEXT, WITHOUT_LOCATION, WITH_TEXT].map(|id| format!("{{ file = \"{id}.avsc\", id = {id} }}")).join(", ");
    format!("{}format = \"avro\"\nschemas = [{schemas}]\n{}", stream(topic), measure())
}

fn json_stream(topic: &str) -> String {
    format!("{}format = \"json\"\n{}", stream(topic), measure())
}

fn stream(topic: &str) -> String {
    format!(
        "[[stream]]\nname = \"checks\"\ntopic = \"{topic}\"\nentity = [\"check\", \"location\"]\nevent_time = \"event_time\"\n\
         window = {{ tumbling = \"1m\" }}\ndisorder = \"5s\"\n"
    )
}

fn measure() -> &'static str {
    "[[stream.measure]]\nname = \"response\"\nfield = \"response_ms\"\n"
}

/// The schema files that the stream names.
fn write_schemas(corner: &Corner) {
    let json = Check::schema().json();
    let location = r#"{ "name": "location", "type": "string", "doc": "Location that ran the check." },"#;
    let response = r#""name": "response_ms", "type": "double""#;
    let status = r#"{ "name": "status", "type": "int", "doc": "HTTP status code; 0 when there was no response." }"#;
    assert!(json.contains(location) && json.contains(response) && json.contains(status));
    let next = format!(r#"{status}, {{ "name": "agent", "type": "string", "default": "" }}"#);
    for (id, text) in [
        (NEXT, json.replace(status, &next)),
        (WITHOUT_LOCATION, json.replace(location, "")),
        (WITH_TEXT, json.replace(response, r#""name": "response_ms", "type": "string""#)),
    ] {
        std::fs::write(corner.folder.path().join(format!("{id}.avsc")), text).unwrap();
    }
}

/// The event of a minute in a partition; entities of different partitions differ. A few have values at the edge of what there is.
fn check(partition: i32, minute: i64) -> Check {
    let response_ms = match minute {
        100 => -0.0,
        105 => 1e308,
        110 => -1e308,
        _ => 100.0 + (minute % 7) as f64,
    };
    Check {
        event_time: START_MS + minute * MINUTE_MS + 10_000,
        check: "order".into(),
        location: format!("p{partition}"),
        region: "EMEA".into(),
        tenant: "acme".into(),
        success: true,
        response_ms,
        status: 200,
    }
}

fn avro(check: &Check) -> Vec<u8> {
    let mut value = Vec::new();
    // Every third is of the schema with a field more, as its writers go over to it one by one.
    if check.event_time / MINUTE_MS % 3 == 0 {
        value.extend([0, 0, 0, 0, NEXT]);
        check.encode(&mut value);
        "agent 7".to_owned().write(&mut value);
    } else {
        wire::encode(check, Framing::SingleObject, &mut value);
    }
    value
}

fn json(check: &Check) -> Vec<u8> {
    let Check { event_time, check, location, response_ms, .. } = check;
    // What nobody asks for may be nested as deep as it likes.
    let more = if event_time / MINUTE_MS % 10 == 0 { "[".repeat(DEEP) + &"]".repeat(DEEP) } else { "[{}]".to_owned() };
    format!(
        r#"{{"event_time": {event_time}, "check": "{check}", "location": "{location}", "response_ms": {response_ms:?}, "more": {more}}}"#
    )
    .into_bytes()
}

/// What is written in place of an event, and why it is none.
struct Bad {
    name: &'static str,
    value: Option<Vec<u8>>,
    reason: &'static str,
    /// A part of what the dead letter says.
    error: &'static str,
}

fn bad(name: &'static str, value: Vec<u8>, reason: &'static str, error: &'static str) -> Bad {
    Bad { name, value: Some(value), reason, error }
}

/// One of each kind of Avro, made of an event of the time when it is written.
fn bad_avro(event: &Check) -> Vec<Bad> {
    let mut good = Vec::new();
    wire::encode(event, Framing::SingleObject, &mut good);
    let with = |change: &dyn Fn(&mut Check)| {
        let mut event = event.clone();
        change(&mut event);
        let mut value = Vec::new();
        wire::encode(&event, Framing::SingleObject, &mut value);
        value
    };
    let mut unknown = good.clone();
    unknown[2..10].copy_from_slice(&[0xee; 8]);
    let mut text = good.clone();
    let at = text.windows(5).position(|bytes| bytes == b"order").unwrap();
    text[at] = 0xff;
    // Random in that nothing shaped them; the first byte begins no frame.
    let random = |size: usize| (0..size as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8 | 1).collect();
    let mut without_location = vec![0, 0, 0, 0, WITHOUT_LOCATION];
    let mut with_text = vec![0, 0, 0, 0, WITH_TEXT];
    event.event_time.write(&mut without_location);
    event.event_time.write(&mut with_text);
    for text in [&event.check, &event.region, &event.tenant] {
        text.write(&mut without_location);
    }
    for text in [&event.check, &event.location, &event.region, &event.tenant] {
        text.write(&mut with_text);
    }
    for value in [&mut without_location, &mut with_text] {
        event.success.write(value);
    }
    event.response_ms.write(&mut without_location);
    "fast".to_owned().write(&mut with_text);
    for value in [&mut without_location, &mut with_text] {
        event.status.write(value);
    }
    vec![
        bad("cut in the datum", good[..good.len() - 20].to_vec(), "undecodable", "truncated"),
        bad("cut in the frame", good[..5].to_vec(), "undecodable", "cut off"),
        bad("trailing bytes", [&good[..], b"more"].concat(), "undecodable", "4 bytes after the end"),
        bad("random", random(200), "undecodable", "first byte"),
        bad("10 MB", random(LARGE_BYTES), "undecodable", "first byte"),
        bad("empty", Vec::new(), "undecodable", "empty"),
        Bad { name: "null", value: None, reason: "null-value", error: "no value" },
        bad("unknown schema", unknown, "undecodable", "eeee"),
        bad("unknown schema id", [&[0, 0, 0, 3, 231][..], &good[10..]].concat(), "undecodable", "id 999"),
        bad("schema without a field", without_location, "missing-field", "`location`"),
        bad("incompatible schema", with_text, "wrong-type", "`response_ms`"),
        bad("no text", text, "undecodable", "UTF-8"),
        bad("2262", with(&|event| event.event_time = FAR_AHEAD_MS), "event-time-out-of-range", "9223372036854"),
        bad("before 1970", with(&|event| event.event_time = -1), "event-time-out-of-range", "-1 ms"),
        bad("not a number", with(&|event| event.response_ms = f64::NAN), "not-finite", "response_ms"),
        bad("infinite", with(&|event| event.response_ms = f64::INFINITY), "not-finite", "response_ms"),
        bad("minus infinite", with(&|event| event.response_ms = f64::NEG_INFINITY), "not-finite", "response_ms"),
        bad("long key", with(&|event| event.location = "x".repeat(2_000)), "entity-too-long", "1024 bytes"),
    ]
}

/// One of each kind of JSON.
fn bad_json(event: &Check) -> Vec<Bad> {
    let good = String::from_utf8(json(event)).unwrap();
    let response = format!("\"response_ms\": {:?}", event.response_ms);
    let time = format!("\"event_time\": {}", event.event_time);
    assert!(good.contains(&response) && good.contains(&time));
    let with = |from: &str, to: &str| good.replace(from, to).into_bytes();
    let mut text = good.clone().into_bytes();
    let at = good.find("order").unwrap();
    text[at] = 0xff;
    let lists = format!("\"response_ms\": {}{}", "[".repeat(DEEP), "]".repeat(DEEP));
    let open_objects = format!("\"more\": {}", "{\"a\": ".repeat(DEEP));
    vec![
        bad("cut", good.as_bytes()[..good.len() - 5].to_vec(), "undecodable", "EOF"),
        bad("trailing bytes", [good.as_bytes(), b"{}"].concat(), "undecodable", "trailing"),
        bad("no text", text, "undecodable", "unicode"),
        bad("10 MB", vec![b' '; LARGE_BYTES], "undecodable", "EOF"),
        bad("empty", Vec::new(), "undecodable", "EOF"),
        Bad { name: "null", value: None, reason: "null-value", error: "no value" },
        bad("10,000 lists for a number", with(&response, &lists), "wrong-type", "`response_ms`"),
        bad("10,000 open objects", with("\"more\": [{}]", &open_objects), "undecodable", "expected value"),
        bad("missing field", with("\"location\"", "\"place\""), "missing-field", "`location`"),
        bad("no pair", with("\"p", "null, \"p"), "undecodable", "expected `:`"),
        bad("wrong type", with(&response, "\"response_ms\": \"fast\""), "wrong-type", "`response_ms`"),
        bad("a list for a number", with(&response, "\"response_ms\": [1]"), "wrong-type", "`response_ms`"),
        bad("an object for a number", with(&response, "\"response_ms\": {\"a\": 1}"), "wrong-type", "`response_ms`"),
        bad("a list for a time", with(&time, "\"event_time\": [1]"), "wrong-type", "`event_time`"),
        bad("infinite time", with(&time, "\"event_time\": 1e400"), "not-finite", "`event_time`"),
        bad("not a number", with(&response, "\"response_ms\": NaN"), "undecodable", "expected value"),
        bad("infinite", with(&response, "\"response_ms\": 1e999"), "not-finite", "`response_ms`"),
        bad(
            "2262",
            with(&time, "\"event_time\": \"2262-04-11T23:47:16.854Z\""),
            "event-time-out-of-range",
            "9223372036854",
        ),
        bad("before 1970", with(&time, "\"event_time\": -1"), "event-time-out-of-range", "-1 ms"),
    ]
}

/// Writes two hours of events to each partition, and where `with_bad` asks for it bad records among them; gives what the dead
/// letters must be, by partition and offset.
fn publish(
    corner: &Corner,
    topic: &str,
    good: fn(&Check) -> Vec<u8>,
    bad: Option<fn(&Check) -> Vec<Bad>>,
) -> BTreeMap<(i32, i64), (DeadLetter, &'static str)> {
    let mut writer = Writer::new(&corner.kafka).unwrap();
    let mut expected = BTreeMap::new();
    let many: Vec<(String, [u8; 1])> = (0..1_000_u32).map(|n| (format!("header {}", n % 300), [n as u8])).collect();
    let many: Vec<(&str, &[u8])> = many.iter().map(|(name, value)| (name.as_str(), &value[..])).collect();
    for partition in 0..PARTITIONS {
        let mut offset = 0;
        for minute in 0..MINUTES {
            let event = check(partition, minute);
            let key = format!("order/p{partition}");
            let value = good(&event);
            let record = Outgoing {
                partition: Some(partition),
                // A record without a key is an event like any other.
                key: (minute % 11 != 0).then_some(key.as_bytes()),
                timestamp_ms: Some(event.event_time),
                headers: &[("trace", b"\x00\xff")],
                ..Outgoing::new(topic, key.as_bytes(), &value)
            };
            writer.send(record).unwrap();
            offset += 1;
            let mut kinds = bad.map(|bad| bad(&event)).unwrap_or_default();
            let kind = usize::try_from(minute / 5).unwrap();
            if minute % 5 != 2 || kind >= kinds.len() {
                continue;
            }
            let Bad { name, value, reason, error } = kinds.swap_remove(kind);
            let key = (name != "random").then(|| format!("{name} \u{fc}").into_bytes());
            let headers = if name == "empty" { &many[..] } else { record.headers };
            writer.send(Outgoing { key: key.as_deref(), value: value.as_deref(), headers, ..record }).unwrap();
            let header =
                |(name, value): &(&str, &[u8])| DeadLetterHeader { key: (*name).into(), value: Some(value.to_vec()) };
            let letter = DeadLetter {
                stream: "checks".into(),
                topic: topic.into(),
                partition,
                offset,
                timestamp_ms: Some(event.event_time),
                key,
                value,
                headers: headers.iter().map(header).collect(),
                reason: reason.into(),
                error: String::new(),
            };
            assert!(expected.insert((partition, offset), (letter, error)).is_none());
            offset += 1;
        }
        // An event of the first moment that there is comes too late; it is no dead letter.
        let value = good(&Check { event_time: 0, ..check(partition, 0) });
        writer.send(Outgoing { partition: Some(partition), ..Outgoing::new(topic, b"first", &value) }).unwrap();
    }
    writer.flush(Duration::from_secs(60)).unwrap();
    expected
}

/// Creates a topic that takes large records.
fn create_wide(corner: &Corner, topic: &str) {
    create_with(corner, topic, RECORD_BYTES_MAX);
}

/// A topic that takes records of so many bytes.
fn create_with(corner: &Corner, topic: &str, record_bytes_max: &str) {
    let mut spec = TopicSpec::new(topic, PARTITIONS);
    spec.properties.insert("max.message.bytes".into(), record_bytes_max.into());
    corner.admin.ensure_topics(&[spec]).unwrap();
}

/// The dead letters of a run. Each is, as it stands on its topic, the record that was published and headers behind its own.
fn letters(corner: &Corner, run: &str) -> Vec<Letter> {
    let read = |row: &Row| {
        let headers = || row.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
        let letter =
            Letter::read(row.key.as_deref(), row.value.as_deref(), row.timestamp_ms, headers()).unwrap().unwrap();
        let DeadLetter { key, value, headers: original, .. } = &letter.record;
        assert!((key, value) == (&row.key, &row.value), "the record as it was");
        let original = original.iter().map(|header| (header.key.as_str(), header.value.as_deref()));
        assert!(original.eq(headers().take(letter.record.headers.len())), "its headers come first");
        assert!(row.headers.iter().any(|(name, _)| name == "__streams.errors.exception"));
        letter
    };
    corner.read(&corner.topic(run, "dead_letters")).iter().map(read).collect()
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

fn check_bad(corner: &Corner, declare: Declare, good: fn(&Check) -> Vec<u8>, kinds: fn(&Check) -> Vec<Bad>) {
    write_schemas(corner);
    let mut expected = BTreeMap::new();
    for run in ["clean", "mixed"] {
        let topic = corner.topic(run, "in");
        create_wide(corner, &topic);
        create_wide(corner, &corner.topic(run, "dead_letters"));
        expected = publish(corner, &topic, good, (run == "mixed").then_some(kinds));
        corner.run(&format!("{}{}", corner.outputs(run, PARTITIONS), declare(&topic)), &["process", "--drain"]);
    }
    assert_eq!(expected.len(), kinds(&check(0, 0)).len() * 2, "each kind was written");

    let letters = letters(corner, "mixed");
    assert_eq!(letters.len(), expected.len(), "one dead letter each");
    for Letter { record, omitted_bytes } in letters {
        let (wanted, part) = expected.remove(&(record.partition, record.offset)).unwrap();
        assert!(record.error.contains(part), "{part} in: {}", record.error);
        // Not by `assert_eq`, which would print ten megabytes.
        let key = String::from_utf8_lossy(wanted.key.as_deref().unwrap_or_default()).into_owned();
        assert_eq!((&record.reason, omitted_bytes), (&wanted.reason, None), "{key}");
        assert!(DeadLetter { error: String::new(), ..record } == wanted, "{key}");
    }
    assert!(expected.is_empty());

    // Had the record of 2262 moved the watermark, what follows it would be late and its windows would have closed at once.
    let (clean, mixed) = (windows(corner, "clean"), windows(corner, "mixed"));
    let scored = clean.values().map(|window| window.count).sum::<i64>();
    assert_eq!(scored, i64::from(PARTITIONS) * (MINUTES - 1), "the last one is open");
    for window in clean.values() {
        let of_series = window.series.iter().flat_map(|point| [point.value, point.score]);
        let numbers = [window.sum, window.mean, window.stddev, window.min, window.max].into_iter().chain(of_series);
        assert!(numbers.into_iter().all(f64::is_finite), "{window:?}");
    }
    assert!(mixed == clean, "the windows are those of the run without bad records");
    for run in ["clean", "mixed"] {
        let late = corner.read(&corner.topic(run, "late"));
        assert_eq!(late.iter().map(|row| row.timestamp_ms).collect::<Vec<_>>(), [Some(1); 2], "the events of 1970");
    }
    assert_eq!(corner.read(&corner.topic("clean", "dead_letters")).len(), 0);
}

fn each_bad_avro_record_becomes_one_dead_letter_and_changes_nothing_else(bootstrap_servers: &str) {
    check_bad(&Corner::new(bootstrap_servers, "bad-avro"), avro_stream, avro, bad_avro);
}

fn each_bad_json_record_becomes_one_dead_letter_and_changes_nothing_else(bootstrap_servers: &str) {
    check_bad(&Corner::new(bootstrap_servers, "bad-json"), json_stream, json, bad_json);
}

fn a_value_that_no_topic_takes_is_left_out_of_its_letter(bootstrap_servers: &str) {
    let corner = Corner::new(bootstrap_servers, "bad-large");
    let topic = corner.topic("run", "in");
    create_wide(&corner, &topic);
    let mut writer = Writer::new(&corner.kafka).unwrap();
    let large = vec![b'x'; 2_000_000];
    for value in [&large[..], b"small"] {
        let record =
            Outgoing { partition: Some(1), timestamp_ms: Some(START_MS), ..Outgoing::new(&topic, b"k", value) };
        writer.send(record).unwrap();
    }
    writer.flush(Duration::from_secs(60)).unwrap();
    let settings = format!("{}{}", corner.outputs("run", PARTITIONS), json_stream(&topic));
    // The program writes no record as large as that which it reads.
    let settings = format!("kafka.properties.\"message.max.bytes\" = \"1000000\"\n{settings}");
    corner.run(&settings, &["process", "--drain"]);
    let found: Vec<_> =
        letters(&corner, "run").into_iter().map(|letter| (letter.record.value, letter.omitted_bytes)).collect();
    assert!(found == [(None, Some(2_000_000)), (Some(b"small".to_vec()), None)], "{:?}", found.len());
}

/// The client would take these records; the topic takes less, one record or several in a batch.
fn what_the_dead_letter_topic_does_not_take_is_left_out_before_it_is_sent(bootstrap_servers: &str) {
    let corner = Corner::new(bootstrap_servers, "bad-narrow");
    let topic = corner.topic("run", "in");
    create_wide(&corner, &topic);
    create_with(&corner, &corner.topic("run", "dead_letters"), "100000");
    // Of bytes that do not compress.
    let mut state = 1_u64;
    let mut random = |size: usize| -> Vec<u8> {
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        (0..size).map(|_| next()).collect()
    };
    let sizes = [30_000, 30_000, 500_000, 30_000, 30_000, 30_000, 30_000, 90_000];
    let values = sizes.map(&mut random);
    let large_key = random(200_000);
    let mut writer = Writer::new(&corner.kafka).unwrap();
    let small = b"small".to_vec();
    for (value, key) in values.iter().map(|value| (value, &b"k"[..])).chain([(&small, &large_key[..])]) {
        let record = Outgoing { partition: Some(0), timestamp_ms: Some(START_MS), ..Outgoing::new(&topic, key, value) };
        writer.send(record).unwrap();
    }
    writer.flush(Duration::from_secs(60)).unwrap();
    corner.run(&format!("{}{}", corner.outputs("run", PARTITIONS), json_stream(&topic)), &["process", "--drain"]);
    let mut found = letters(&corner, "run");
    found.sort_by_key(|letter| letter.record.offset);
    let found: Vec<_> = found.into_iter().map(|letter| (letter.record.value, letter.omitted_bytes)).collect();
    let whole =
        |value: &Vec<u8>| if value.len() < 100_000 { (Some(value.clone()), None) } else { (None, Some(500_000)) };
    // Where the key is too large, nothing of the original is in the letter.
    let expected: Vec<_> = values.iter().map(whole).chain([(None, Some(200_005))]).collect();
    assert!(
        found == expected,
        "{:?}",
        found.iter().map(|(value, omitted)| (value.as_ref().map(Vec::len), omitted)).collect::<Vec<_>>()
    );
}

/// As above, of an event that is late: its original is left out, and the next ones are read.
fn what_the_late_topic_does_not_take_is_left_out_before_it_is_sent(bootstrap_servers: &str) {
    let corner = Corner::new(bootstrap_servers, "late-narrow");
    let topic = corner.topic("run", "in");
    create_wide(&corner, &topic);
    create_with(&corner, &corner.topic("run", "late"), "100000");
    let mut writer = Writer::new(&corner.kafka).unwrap();
    // Of what does not compress to nothing.
    let filler: String = (0..50_000).map(|n: u32| format!("{:08x}", n.wrapping_mul(2_654_435_761))).collect();
    let event = |minute: i64, filler: &str| {
        let json = String::from_utf8(json(&check(0, minute))).unwrap();
        json.replacen('{', &format!("{{\"filler\":\"{filler}\","), 1)
    };
    let values = [event(30, ""), event(1, &filler), event(2, "short"), event(31, "")];
    for value in &values {
        let record = Outgoing {
            partition: Some(0),
            timestamp_ms: Some(START_MS),
            ..Outgoing::new(&topic, b"key", value.as_bytes())
        };
        writer.send(record).unwrap();
    }
    writer.flush(Duration::from_secs(60)).unwrap();
    corner.run(&format!("{}{}", corner.outputs("run", PARTITIONS), json_stream(&topic)), &["process", "--drain"]);
    let rows = corner.read(&corner.topic("run", "late"));
    let late = |row: &Row| -> Late { wire::decode(row.value.as_ref().unwrap()).unwrap() };
    let mut found: Vec<_> = rows.iter().map(|row| (late(row), row.header(OMITTED))).collect();
    found.sort_by_key(|(late, _)| late.offset);
    let told: Vec<_> =
        found.iter().map(|(late, omitted)| (late.offset, late.value.as_deref(), omitted.as_deref())).collect();
    let omitted = (values[1].len() + 3).to_string();
    assert_eq!(told, [(1, None, Some(omitted.as_bytes())), (2, Some(values[2].as_bytes()), None)]);
}

fn a_negative_timestamp_is_kept(bootstrap_servers: &str) {
    let corner = Corner::new(bootstrap_servers, "bad-negative");
    let topic = corner.topic("run", "in");
    create_wide(&corner, &topic);
    let mut writer = Writer::new(&corner.kafka).unwrap();
    let event = json(&check(0, 0));
    for (value, timestamp_ms) in [(&b"garbage"[..], -86_400_000), (&event, -1_000), (b"more", -2)] {
        let record =
            Outgoing { partition: Some(0), timestamp_ms: Some(timestamp_ms), ..Outgoing::new(&topic, b"k", value) };
        writer.send(record).unwrap();
        writer.flush(Duration::from_secs(60)).unwrap();
    }
    let settings = format!("{}{}", corner.outputs("run", PARTITIONS), json_stream(&topic));
    corner.run(&settings, &["process", "--drain"]);
    let found: Vec<_> = letters(&corner, "run")
        .into_iter()
        .map(|Letter { record, .. }| (record.offset, record.timestamp_ms, record.value.unwrap()))
        .collect();
    assert_eq!(
        found,
        [(0, Some(-86_400_000), b"garbage".to_vec()), (2, Some(-2), b"more".to_vec())],
        "the record between them is an event"
    );
}

fn a_compression_bomb_is_a_dead_letter_in_bounded_memory(bootstrap_servers: &str) {
    let corner = Corner::new(bootstrap_servers, "bad-bomb");
    let topic = corner.topic("run", "in");
    create_wide(&corner, &topic);
    let bomb = vec![0; BOMB_BYTES];
    for codec in ["gzip", "zstd", "lz4", "snappy"].repeat(2) {
        let mut kafka = corner.kafka.clone();
        kafka.properties.set("compression.type", codec);
        kafka.properties.set("message.max.bytes", "300000000");
        kafka.properties.set("queue.buffering.max.kbytes", "1000000");
        let mut writer = Writer::new(&kafka).unwrap();
        for value in [&bomb[..], b"small"] {
            let record =
                Outgoing { partition: Some(1), timestamp_ms: Some(START_MS), ..Outgoing::new(&topic, b"k", value) };
            writer.send(record).unwrap();
            writer.flush(Duration::from_secs(60)).unwrap();
        }
    }
    drop(bomb);
    // With a bound below it, the batch that cannot be read is named, and what bounds it.
    let bounded = format!("{}{}", corner.outputs("bounded", PARTITIONS), json_stream(&topic));
    let bounded = format!("kafka.properties.\"receive.message.max.bytes\" = \"50000000\"\n{bounded}");
    check_one_line(&corner, &bounded, &[&format!("{topic}[1]@2"), "receive.message.max.bytes"]);
    let settings = format!("{}{}", corner.outputs("run", PARTITIONS), json_stream(&topic));
    let mut running = corner.start(&settings, &["process", "--drain"]);
    let mut peak_kib = 0;
    while !running.has_ended() {
        peak_kib = peak_kib.max(running.peak_kib().unwrap_or(0));
        std::thread::sleep(Duration::from_millis(5));
    }
    let (status, log) = running.finish();
    assert!(status.success(), "{log}");
    let found: Vec<_> =
        letters(&corner, "run").into_iter().map(|letter| (letter.record.value, letter.omitted_bytes)).collect();
    let (bombs, small): (Vec<_>, Vec<_>) = found.into_iter().partition(|(value, _)| value.is_none());
    assert_eq!(bombs, [(); 8].map(|()| (None, Some(BOMB_BYTES as u64))));
    assert_eq!(small, [(); 8].map(|()| (Some(b"small".to_vec()), None)));
    // Once as it was decompressed, once as a letter to be, and what is fetched ahead meanwhile.
    assert!(peak_kib > 0 && peak_kib < 4 * BOMB_BYTES as u64 / 1_024, "{peak_kib} KiB");
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
    let settings = format!("{outputs}{}", json_stream(&input));
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
