//! `tap`: a topic's records as JSON lines, for people and for `jq`.
//!
//! Reads committed records only, joins no group, and commits nothing. What cannot be decoded is shown as it is, never skipped.

use std::io::Write;
use std::str::FromStr;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tidewatch_schemas::Schema;
use tidewatch_schemas::catalogue::Topics;
use tidewatch_schemas::dead_letter::{Letter, OMITTED};
use tidewatch_schemas::wire::{self, Framing};
use tidewatch_topic_io::{Admin, KafkaConfig, Message, PartitionReader, StartAt};

use crate::cli::TapArgs;
use crate::shutdown::Shutdown;

/// Records of one read.
const BATCH_MAX: usize = 1_000;
/// How long a read waits for the first record, so that Ctrl-C is seen.
const WAIT: Duration = Duration::from_millis(200);

/// `field=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    path: Vec<String>,
    value: String,
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no filter; write field=value, for example severity=critical");
        let (field, value) = text.split_once('=').ok_or_else(wrong)?;
        let path: Vec<String> = field.split('.').map(str::to_owned).collect();
        if path.iter().any(String::is_empty) {
            return Err(wrong());
        }
        Ok(Self { path, value: value.to_owned() })
    }
}

impl Filter {
    /// Whether the record's field has the value: text as it is, anything else as JSON writes it.
    pub(crate) fn matches(&self, record: &Value) -> bool {
        self.holds(record, 0)
    }

    fn holds(&self, value: &Value, depth: usize) -> bool {
        let Some(key) = self.path.get(depth) else { return self.equals(value) };
        match value {
            // A list holds what one of its elements holds.
            Value::Array(items) => items.iter().any(|item| self.holds(item, depth)),
            Value::Object(fields) => {
                // A field's own name may have dots in it.
                let rest = self.path[depth..].join(".");
                fields.get(&rest).is_some_and(|found| self.equals(found))
                    || fields.get(key).is_some_and(|inner| self.holds(inner, depth + 1))
            }
            _ => false,
        }
    }

    fn equals(&self, value: &Value) -> bool {
        match value {
            Value::String(text) => *text == self.value,
            Value::Number(number) => {
                number.to_string() == self.value
                    || self.value.parse().is_ok_and(|wanted: f64| number.as_f64() == Some(wanted))
            }
            Value::Array(items) => items.iter().any(|item| self.equals(item)),
            Value::Bool(flag) => self.value == if *flag { "true" } else { "false" },
            Value::Null => self.value == "null",
            Value::Object(_) => false,
        }
    }
}

/// A topic's name: the name itself, or the setting that names it.
pub(crate) fn topic_name<'a>(text: &'a str, topics: &'a Topics) -> &'a str {
    match text.replace('-', "_").as_str() {
        "service_calls" => &topics.service_calls,
        "infrastructure" => &topics.infrastructure,
        "beacons" => &topics.beacons,
        "checks" => &topics.checks,
        "metrics" => &topics.metrics,
        "forecasts" => &topics.forecasts,
        "alerts" => &topics.alerts,
        "late" => &topics.late,
        "dead_letters" => &topics.dead_letters,
        "state" => &topics.state,
        "ledger" => &topics.ledger,
        "truth" => &topics.truth,
        "score" => &topics.score,
        _ => text,
    }
}

/// Prints records until the end, the limit, Ctrl-C, or until nobody reads any more.
///
/// # Errors
/// What Kafka refuses, or an output that cannot be written for another reason than that its reader left.
pub(crate) fn run(args: &TapArgs, kafka: &KafkaConfig, topics: &Topics, shutdown: &Shutdown) -> anyhow::Result<()> {
    let topic = topic_name(&args.topic, topics);
    let schema = topics.with_schemas().iter().find(|(name, _)| *name == topic).map(|&(_, schema)| schema);
    let partitions = Admin::connect(kafka)?.partitions(topic)?;
    let mut reader = PartitionReader::new(kafka, true)?;
    let all: Vec<_> = (0..partitions).map(|partition| (topic, partition, StartAt::Beginning)).collect();
    reader.assign(&all)?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut left = args.limit.unwrap_or(u64::MAX);
    while left > 0 && !shutdown.is_asked_for() {
        let batch = reader.read(BATCH_MAX, WAIT)?;
        let records = batch.iter().map(|message| record(&message, schema));
        let wanted = records.filter(|record| args.filters.iter().all(|filter| filter.matches(record)));
        for record in wanted.take(usize::try_from(left).unwrap_or(usize::MAX)) {
            left -= 1;
            if let Err(error) = writeln!(out, "{record}") {
                return reader_left(error);
            }
        }
        drop(batch);
        if let Err(error) = out.flush() {
            return reader_left(error);
        }
        if !args.follow && reader.is_at_end() {
            break;
        }
    }
    Ok(())
}

/// `tap ... | head` is no failure.
fn reader_left(error: std::io::Error) -> anyhow::Result<()> {
    if error.kind() == std::io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error.into()) }
}

fn record(message: &Message<'_>, schema: Option<&Schema>) -> Value {
    let mut fields = Map::new();
    fields.insert("_topic".to_owned(), message.topic().into());
    fields.insert("_partition".to_owned(), message.partition().into());
    fields.insert("_offset".to_owned(), message.offset().into());
    fields.insert("_timestamp".to_owned(), message.timestamp_ms().map_or(Value::Null, timestamp));
    fields.insert("_key".to_owned(), message.key().map_or(Value::Null, text_or_hex));
    // A dead letter is its original record, which its headers explain; it is shown as the record that is stored of it.
    let letter = Letter::read(message.key(), message.value(), message.timestamp_as_written_ms(), message.headers());
    let shown = match letter.and_then(Result::ok) {
        Some(letter) => letter_fields(&letter),
        None => {
            // Of a late record whose original is elsewhere.
            let omitted = message.header(OMITTED).and_then(|text| std::str::from_utf8(text).ok()?.parse::<u64>().ok());
            fields.extend(omitted.map(|bytes| ("omitted_bytes".to_owned(), bytes.into())));
            decode(message.value(), schema)
        }
    };
    match shown {
        Value::Object(decoded) => fields.extend(decoded),
        other => {
            fields.insert("_value".to_owned(), other);
        }
    }
    Value::Object(fields)
}

/// A dead letter's fields: the original record, its place, and why it is there.
fn letter_fields(letter: &Letter) -> Value {
    let mut framed = Vec::new();
    wire::encode(&letter.record, Framing::SingleObject, &mut framed);
    let mut shown = decode(Some(&framed), None);
    if let (Some(bytes), Some(fields)) = (letter.omitted_bytes, shown.as_object_mut()) {
        fields.insert("omitted_bytes".to_owned(), bytes.into());
    }
    shown
}

fn timestamp(millis: i64) -> Value {
    jiff::Timestamp::from_millisecond(millis).map_or(Value::from(millis), |time| Value::from(format!("{time:.3}")))
}

/// Our Avro, JSON, or else the bytes with the reason.
fn decode(value: Option<&[u8]>, schema: Option<&Schema>) -> Value {
    let Some(bytes) = value else { return Value::Null };
    let avro = match schema {
        Some(schema) => tidewatch_schemas::json::to_json_of(bytes, schema),
        None => tidewatch_schemas::json::to_json(bytes),
    };
    match avro {
        Ok(decoded) => decoded,
        Err(reason) => serde_json::from_slice(bytes)
            .unwrap_or_else(|_| json!({ "_undecoded": text_or_hex(bytes), "_reason": reason.to_string() })),
    }
}

fn text_or_hex(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::from(text),
        Err(_) => Value::from(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(filter: &str, expected: bool) {
        let record = json!({
            "severity": "high", "windows": 3, "score": 2.5, "upper": null, "ok": true, "a.b": "dotted",
            "labels": { "service": "checkout", "team": { "name": "x=y" } },
            "series": [{ "aggregate": "mean", "score": 1.0 }, { "aggregate": "p95", "score": 2.0 }], "tags": ["red", "blue"],
        });
        assert_eq!(filter.parse::<Filter>().unwrap().matches(&record), expected, "{filter}");
    }

    #[test]
    fn filters_compare_nested_fields() {
        for (filter, expected) in [
            ("severity=high", true),
            ("severity=low", false),
            ("windows=3", true),
            ("score=2.50", true),
            ("upper=null", true),
            ("ok=true", true),
            ("labels.service=checkout", true),
            ("labels.team.name=x=y", true),
            ("labels.team=x", false),
            ("labels.none=x", false),
            ("series.aggregate=p95", true),
            ("series.aggregate=p99", false),
            ("tags=blue", true),
            ("a.b=dotted", true),
            ("severity.more=high", false),
            ("severity=", false),
        ] {
            check(filter, expected);
        }
    }

    #[test]
    fn what_is_no_filter_is_refused_with_an_example() {
        for text in ["severity", "=high", "a..b=1", ""] {
            let error = text.parse::<Filter>().unwrap_err();
            assert!(error.contains("write field=value"), "{error}");
        }
    }

    #[test]
    fn a_topic_may_be_called_by_its_setting() {
        let topics = Topics { alerts: "mine".into(), ..Topics::default() };
        assert_eq!(topic_name("alerts", &topics), "mine");
        assert_eq!(topic_name("dead-letters", &topics), "tidewatch.dead-letters.v1");
        assert_eq!(topic_name("other.topic", &topics), "other.topic");
    }

    #[test]
    fn values_are_decoded_or_shown_as_they_are() {
        assert_eq!(decode(None, None), Value::Null);
        assert_eq!(decode(Some(b"{\"a\": 1}"), None), json!({ "a": 1 }));
        let shown = decode(Some(b"nonsense"), None);
        assert_eq!(shown["_undecoded"], "nonsense");
        assert!(shown["_reason"].as_str().is_some_and(|reason| !reason.is_empty()));
        assert_eq!(decode(Some(&[0xff, 0x00]), None)["_undecoded"], "ff00");
    }
}
