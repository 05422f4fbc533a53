//! What is an event, what is none and why; times and ids in every form.

use super::*;
use tidewatch_processor_core::StreamSettings;

fn decoder() -> EventDecoder {
    let settings: StreamSettings = serde_json::from_value(serde_json::json!({
        "name": "calls", "topic": "calls.v1", "format": "json", "entity": ["service", "shard"], "event_time": "at",
        "window": { "tumbling": "1m" }, "measure": [{ "name": "latency", "field": "timing.ms" }],
    }))
    .unwrap();
    EventDecoder::new(&settings.validate().unwrap()).unwrap()
}

/// A decoder of an event that has nothing but an entity, a time of this unit, a measure and an id.
fn plain(unit: &str) -> EventDecoder {
    let settings: StreamSettings = serde_json::from_value(serde_json::json!({
        "name": "calls", "topic": "calls.v1", "format": "json", "entity": ["e"], "event_time": "at",
        "event_time_unit": unit, "window": { "tumbling": "1m" }, "measure": [{ "name": "m", "field": "m" }],
        "event_id": "id",
    }))
    .unwrap();
    EventDecoder::new(&settings.validate().unwrap()).unwrap()
}

fn time(decoder: &EventDecoder, value: Value<'_>) -> Result<i64, Rejected> {
    decoder.wanted.read_event_time(&value)
}

#[test]
fn every_millisecond_is_read_back_from_doubles_of_any_unit() {
    let units = ["s", "ms", "us", "ns"].map(plain);
    // Now, and the last seconds that are valid.
    for start in [0, 1_700_000_000_000, EVENT_TIME_END_MS - 50_000] {
        for ms in start..start + 50_000 {
            let exact = ms as f64;
            let doubles = [
                (0, exact / 1e3),
                (0, exact * 1e-3),
                (1, exact),
                (1, exact / 1e3 * 1e3),
                (2, exact * 1e3),
                (2, exact / 1e3 * 1e6),
                (3, exact * 1e6),
            ];
            for (unit, double) in doubles {
                assert_eq!(time(&units[unit], Value::Double(double)), Ok(ms), "{double} in unit {unit}");
            }
        }
    }
}

#[test]
fn what_is_finer_than_a_millisecond_is_rounded_down() {
    let cases = [
        ("s", 1_700_000_000.008_9, 1_700_000_000_008),
        ("ms", 1_700_000_000_007.9, 1_700_000_000_007),
        ("us", 1_700_000_000_007_999.0, 1_700_000_000_007),
        ("us", 7_200_000_000_007_999.0, 7_200_000_000_007),
        ("ns", 1_700_000_000_007_990_000.0, 1_700_000_000_007),
    ];
    for (unit, double, expected) in cases {
        assert_eq!(time(&plain(unit), Value::Double(double)), Ok(expected), "{double} {unit}");
    }
    for double in [-1e-20, -0.5] {
        assert_eq!(time(&plain("s"), Value::Double(double)).unwrap_err().reason, Reason::EventTimeOutOfRange);
    }
}

#[test]
fn a_time_that_is_not_finite_is_none() {
    for double in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let rejected = time(&plain("ms"), Value::Double(double)).unwrap_err();
        assert_eq!((rejected.reason, rejected.error), (Reason::NotFinite, format!("field `at` is {double}")));
    }
}

#[test]
fn every_scalar_is_an_id_by_its_text() {
    let decoder = plain("ms");
    let hash = |value| decoder.wanted.read_id(3, &value);
    let alike: [(Value<'_>, &str); 9] = [
        (Value::Long(7), "7"),
        (Value::Long(i64::MIN), "-9223372036854775808"),
        (Value::Unsigned(u64::MAX), "18446744073709551615"),
        (Value::Double(7.0), "7"),
        (Value::Double(1.5), "1.5"),
        (Value::Double(-0.0), "0"),
        (Value::Bool(true), "true"),
        (Value::TimestampMs(5), "5"),
        (Value::Bytes(b"x"), "x"),
    ];
    for (value, text) in alike {
        assert_eq!(hash(value), Ok(Some(XxHash3_64::oneshot(text.as_bytes()))), "{value:?}");
    }
    for small in [f64::MIN_POSITIVE, -f64::from_bits(0x000f_ffff_ffff_ffff)] {
        assert!(hash(Value::Double(small)).unwrap().is_some());
    }
    assert_eq!(hash(Value::Absent), Ok(None));
    for (value, reason) in [
        (Value::NotScalar, Reason::WrongType),
        (Value::Double(1e20), Reason::WrongType),
        (Value::Double(f64::NAN), Reason::NotFinite),
    ] {
        assert_eq!(hash(value).unwrap_err().reason, reason, "{value:?}");
    }
}

#[test]
fn json_events_are_taken_in_many_forms() {
    let cases = [
        (r#"{"service":"a/b","shard":7,"at":1500,"timing":{"ms":2.5},"other":[1,{}]}"#, 1500, "a%2Fb/7", 2.5),
        (r#"{"at":"1970-01-01T00:00:02.5Z","service":"a","shard":true,"timing":{"ms":3}}"#, 2500, "a/true", 3.0),
        (r#"{"at":1,"service":"a","shard":18446744073709551615,"timing":{"ms":1}}"#, 1, "a/18446744073709551615", 1.0),
        (r#"{"at":"1970-01-01 00:00:02","service":"ü\"","shard":-1,"timing":{"ms":true}}"#, 2000, "ü\"/-1", 1.0),
    ];
    for (json, event_time, entity, value) in cases {
        let mut out = Decoded::default();
        decoder().decode(Some(json.as_bytes()), None, &mut out).unwrap();
        assert_eq!(out, Decoded { event_time, entity: entity.into(), values: vec![value], id: None }, "{json}");
    }
    let mut out = Decoded::default();
    decoder().decode(Some(br#"{"service":"a","shard":1,"at":0}"#), None, &mut out).unwrap();
    assert!(out.values[0].is_nan(), "a measure may be missing");
}

#[test]
fn an_entity_that_is_no_name_is_refused() {
    let json = format!(r#"{{"service":"{}","shard":1,"at":1}}"#, "x".repeat(1_025));
    let rejected = decoder().decode(Some(json.as_bytes()), None, &mut Decoded::default()).unwrap_err();
    assert_eq!(rejected.reason, Reason::EntityTooLong);
}

#[test]
fn what_is_no_event_says_why() {
    let cases: [(Option<&str>, &str); 16] = [
        (None, "null-value"),
        (Some(""), "undecodable"),
        (Some("{"), "undecodable"),
        (Some("\u{0}\u{1}"), "undecodable"),
        (Some(r#"{"shard":1,"at":1}"#), "missing-field"),
        (Some(r#"{"service":"a","shard":1,"at":null}"#), "missing-field"),
        (Some(r#"{"service":"a","shard":1,"at":"soon"}"#), "wrong-type"),
        (Some(r#"{"service":"a","shard":1,"at":1,"timing":{"ms":"fast"}}"#), "wrong-type"),
        (Some(r#"{"service":"a","shard":1,"at":1,"timing":{"ms":{"a":1}}}"#), "wrong-type"),
        (Some(r#"{"service":"a","shard":1,"at":1,"timing":5}"#), "wrong-type"),
        (Some(r#"{"service":"a","shard":[],"at":1}"#), "wrong-type"),
        (Some(r#"{"service":"a","shard":1,"at":[1]}"#), "wrong-type"),
        (Some(r#"{"service":"a","shard":1,"at":1,"timing":{"ms":1e400}}"#), "not-finite"),
        (Some(r#"{"service":"a","shard":1,"at":18446744073709551615}"#), "event-time-out-of-range"),
        (Some(r#"{"service":"a","shard":1,"at":-1}"#), "event-time-out-of-range"),
        (Some(r#"{"service":"a","shard":1,"at":"2262-01-01T00:00:00Z"}"#), "event-time-out-of-range"),
    ];
    for (json, expected) in cases {
        let rejected = decoder().decode(json.map(str::as_bytes), None, &mut Decoded::default()).unwrap_err();
        assert_eq!(rejected.reason.as_str(), expected, "{json:?}: {}", rejected.error);
    }
}

#[test]
fn an_event_of_the_future_is_refused_by_its_records_timestamp() {
    let json = br#"{"service":"a","shard":1,"at":3600100}"#;
    let decode = |timestamp_ms| decoder().decode(Some(json), timestamp_ms, &mut Decoded::default());
    for fine in [None, Some(100), Some(9_999_999)] {
        assert_eq!(decode(fine), Ok(Taken::Event));
    }
    for early in [Some(99), Some(-1)] {
        assert_eq!(decode(early).unwrap_err().reason, Reason::EventTimeInFuture);
    }
}

#[test]
fn events_are_chosen_and_known_by_fields() {
    let settings: StreamSettings = serde_json::from_value(serde_json::json!({
        "name": "calls", "topic": "calls.v1", "format": "json", "entity": ["service"], "event_time": "at",
        "window": { "tumbling": "1m" }, "measure": [{ "name": "latency", "field": "ms" }],
        "event_id": "id", "only": { "region": ["EMEA", "7"], "live": ["true"] },
    }))
    .unwrap();
    let mut decoder = EventDecoder::new(&settings.validate().unwrap()).unwrap();
    let mut decode = |json: &str| {
        let mut out = Decoded::default();
        decoder.decode(Some(json.as_bytes()), None, &mut out).map(|taken| (taken, out.id))
    };
    let (taken, id) = decode(r#"{"service":"a","at":1,"id":"x","region":"EMEA","live":true}"#).unwrap();
    assert_eq!((taken, id), (Taken::Event, Some(twox_hash::XxHash3_64::oneshot(b"x"))));
    let (taken, id) = decode(r#"{"service":"a","at":1,"region":7,"live":true}"#).unwrap();
    assert_eq!((taken, id), (Taken::Event, None));
    let rejected = decode(r#"{"service":"a","at":1,"id":[7],"region":7,"live":true}"#).unwrap_err();
    assert_eq!((rejected.reason, rejected.error.as_str()), (Reason::WrongType, "field `id` cannot be read as an id"));
    for other in [r#""region":"APAC","live":true"#, r#""region":"EMEA","live":false"#, r#""live":true"#] {
        assert_eq!(decode(&format!(r#"{{"service":"a","at":1,{other}}}"#)).unwrap().0, Taken::Filtered);
    }
}
