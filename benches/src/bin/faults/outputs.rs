//! What a consumer of committed records sees of the outputs, and how two runs are compared: the records of each key of each stream, in
//! their order, byte for byte. An entity lives in one partition of a stream, so that order is determined; the order between keys is not.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use tidewatch_schemas::catalogue::Topics;
use tidewatch_schemas::dead_letter::Letter;
use tidewatch_schemas::record::{Alert, Forecast, Late, WindowMetric};
use tidewatch_schemas::wire;
use tidewatch_sink::TopicKind;
use tidewatch_topic_io::{Admin, KafkaConfig, Message, PartitionReader, StartAt};

const READ_MAX: usize = 10_000;
const PATIENCE: Duration = Duration::from_millis(200);

/// Whose records follow each other in a determined order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// What the records are.
    pub(crate) kind: TopicKind,
    /// The partition of the output topic.
    pub(crate) partition: i32,
    /// The stream that they come from.
    pub(crate) stream: String,
    /// Of dead letters the input partition: a broken record's key says nothing.
    pub(crate) input_partition: Option<i32>,
    /// Their key.
    pub(crate) key: Vec<u8>,
}

/// A record, all but its offset: the end markers of transactions take offsets too.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Row {
    timestamp_ms: Option<i64>,
    value: Option<Box<[u8]>>,
    /// Names and values as text, one a line.
    headers: Box<str>,
}

/// All outputs of a run.
#[derive(Default)]
pub(crate) struct Outputs {
    /// The records of each key.
    pub(crate) rows: BTreeMap<Place, Vec<Row>>,
    /// The offsets of each partition, as they were read.
    pub(crate) offsets: BTreeMap<(TopicKind, i32), Vec<i64>>,
}

/// How many of the golden run's records have to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// All.
    Whole,
    /// The first of each key; the run was refused to go on.
    Prefix,
}

impl Outputs {
    /// Reads them from the beginning to the end.
    pub(crate) fn read(kafka: &KafkaConfig) -> anyhow::Result<Self> {
        let (topics, admin) = (Topics::default(), Admin::connect(kafka)?);
        let mut outputs = Self::default();
        for kind in TopicKind::ALL {
            let topic = kind.topic_name(&topics);
            let partitions = admin.partitions(topic)?;
            let mut reader = PartitionReader::new(kafka, true)?;
            let all: Vec<_> = (0..partitions).map(|partition| (topic, partition, StartAt::Beginning)).collect();
            reader.assign(&all)?;
            while !reader.is_at_end() {
                for message in reader.read(READ_MAX, PATIENCE)?.iter() {
                    outputs.add(kind, &message)?;
                }
            }
        }
        Ok(outputs)
    }

    fn add(&mut self, kind: TopicKind, message: &Message<'_>) -> anyhow::Result<()> {
        let (stream, input_partition) = origin(kind, message)?;
        let mut headers = String::new();
        for (name, value) in message.headers() {
            let value = value.map_or("nothing".into(), |value| value.escape_ascii().to_string());
            writeln!(headers, "{name}: {value}")?;
        }
        let row = Row {
            timestamp_ms: message.timestamp_ms(),
            value: message.value().map(Into::into),
            headers: headers.into_boxed_str(),
        };
        let key = message.key().unwrap_or_default().to_vec();
        let place = Place { kind, partition: message.partition(), stream, input_partition, key };
        self.rows.entry(place).or_default().push(row);
        self.offsets.entry((kind, message.partition())).or_default().push(message.offset());
        Ok(())
    }

    /// Records of a kind.
    pub(crate) fn count(&self, kind: TopicKind) -> usize {
        self.rows.iter().filter(|(place, _)| place.kind == kind).map(|(_, rows)| rows.len()).sum()
    }
}

/// The stream that a record comes from, and of a dead letter the partition.
fn origin(kind: TopicKind, message: &Message<'_>) -> anyhow::Result<(String, Option<i32>)> {
    let value = message.value().unwrap_or_default();
    Ok(match kind {
        TopicKind::Metrics => (wire::decode::<WindowMetric>(value)?.stream, None),
        TopicKind::Forecasts => (wire::decode::<Forecast>(value)?.stream, None),
        TopicKind::Alerts => (wire::decode::<Alert>(value)?.stream, None),
        TopicKind::Late => (wire::decode::<Late>(value)?.stream, None),
        TopicKind::DeadLetters => {
            let written_ms = message.timestamp_as_written_ms();
            let letter = Letter::read(message.key(), message.value(), written_ms, message.headers());
            let letter = letter.ok_or_else(|| anyhow::anyhow!("a dead letter without a letter's headers"))??;
            (letter.record.stream, Some(letter.record.partition))
        }
    })
}

/// The first difference between an undisturbed run's outputs and another's, in readable form.
pub(crate) fn first_difference(golden: &Outputs, found: &Outputs, extent: Extent) -> Option<String> {
    for (place, expected) in &golden.rows {
        let rows = found.rows.get(place).map(Vec::as_slice).unwrap_or_default();
        if let Some(at) = expected.iter().zip(rows).position(|(expected, row)| expected != row) {
            let repeats = expected[..at].contains(&rows[at]);
            let again = if repeats { " (a record that was there before)" } else { "" };
            return Some(format!(
                "{}, record {at} of {} differs{again}\n  golden: {}\n  found:  {}",
                name(place),
                expected.len(),
                text(place.kind, &expected[at]),
                text(place.kind, &rows[at])
            ));
        }
        if rows.len() < expected.len() && extent == Extent::Whole {
            let missing = text(place.kind, &expected[rows.len()]);
            return Some(format!(
                "{}: {} records of {} are there, the first that is missing\n  golden: {missing}",
                name(place),
                rows.len(),
                expected.len()
            ));
        }
        if rows.len() > expected.len() {
            let more = &rows[expected.len()];
            let again = if expected.contains(more) { " (it was there before)" } else { "" };
            return Some(format!(
                "{}: {} records instead of {}, the first beyond{again}\n  found:  {}",
                name(place),
                rows.len(),
                expected.len(),
                text(place.kind, more)
            ));
        }
    }
    let stray = found.rows.iter().find(|(place, _)| !golden.rows.contains_key(place));
    stray.map(|(place, rows)| {
        format!(
            "{}: {} records, in the golden run none\n  found:  {}",
            name(place),
            rows.len(),
            text(place.kind, &rows[0])
        )
    })
}

fn name(place: &Place) -> String {
    let of = place.input_partition.map_or(String::new(), |partition| format!(" partition {partition}"));
    format!(
        "{} partition {}, stream {}{of}, key {:?}",
        place.kind,
        place.partition,
        place.stream,
        String::from_utf8_lossy(&place.key)
    )
}

/// A record for people.
fn text(kind: TopicKind, row: &Row) -> String {
    let value = row.value.as_deref().unwrap_or_default();
    let decoded = match kind {
        TopicKind::Metrics => wire::decode::<WindowMetric>(value).map(|record| format!("{record:?}")),
        TopicKind::Forecasts => wire::decode::<Forecast>(value).map(|record| format!("{record:?}")),
        TopicKind::Alerts => wire::decode::<Alert>(value).map(|record| format!("{record:?}")),
        TopicKind::Late => wire::decode::<Late>(value).map(|record| format!("{record:?}")),
        TopicKind::DeadLetters => Ok(value.escape_ascii().to_string()),
    };
    let decoded = decoded.unwrap_or_else(|error| error.to_string());
    let headers: Vec<&str> = row.headers.lines().collect();
    format!("at {} {decoded} with {}", row.timestamp_ms.unwrap_or(-1), headers.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(number: u8) -> Row {
        Row { timestamp_ms: Some(1), value: Some([number].into()), headers: "".into() }
    }

    fn outputs(keys: &[(&str, &[u8])]) -> Outputs {
        let place = |key: &str| Place {
            kind: TopicKind::DeadLetters,
            partition: 0,
            stream: "checks".into(),
            input_partition: Some(1),
            key: key.into(),
        };
        let rows = keys.iter().map(|(key, numbers)| (place(key), numbers.iter().map(|&number| row(number)).collect()));
        Outputs { rows: rows.collect(), offsets: BTreeMap::new() }
    }

    /// What is said of a run against `a: 1 2 3, b: 4`; nothing if all is well.
    fn check(found: &[(&str, &[u8])], extent: Extent, expected: Option<&str>) {
        let golden = outputs(&[("a", &[1, 2, 3]), ("b", &[4])]);
        let said = first_difference(&golden, &outputs(found), extent);
        match (&said, expected) {
            (None, None) => {}
            (Some(said), Some(part)) if said.contains(part) => {}
            _ => panic!("{found:?} {extent:?}: {said:?}, not {expected:?}"),
        }
    }

    #[test]
    fn what_was_tampered_with_is_told() {
        use Extent::Whole;
        check(&[("a", &[1, 2, 3]), ("b", &[4])], Whole, None);
        check(&[("a", &[1, 2, 2]), ("b", &[4])], Whole, Some("record 2 of 3 differs (a record that was there before)"));
        check(&[("a", &[1, 3, 2]), ("b", &[4])], Whole, Some("record 1 of 3 differs"));
        check(&[("a", &[1, 2]), ("b", &[4])], Whole, Some("2 records of 3 are there"));
        check(&[("a", &[1, 2, 3])], Whole, Some("key \"b\": 0 records of 1"));
        check(&[("a", &[1, 2, 3, 3]), ("b", &[4])], Whole, Some("the first beyond (it was there before)"));
        check(&[("a", &[1, 2, 3]), ("b", &[4]), ("c", &[5])], Whole, Some("in the golden run none"));
    }

    #[test]
    fn a_run_that_was_refused_is_a_beginning_of_the_golden_one() {
        use Extent::Prefix;
        check(&[("a", &[1, 2])], Prefix, None);
        check(&[("a", &[1, 3])], Prefix, Some("record 1 of 3 differs"));
        check(&[("a", &[1, 2, 3, 4])], Prefix, Some("the first beyond"));
    }

    #[test]
    fn headers_and_time_count() {
        let golden = outputs(&[("a", &[1])]);
        for change in [|row: &mut Row| row.headers = "a: b".into(), |row: &mut Row| row.timestamp_ms = None] {
            let mut found = outputs(&[("a", &[1])]);
            found.rows.values_mut().flatten().for_each(change);
            assert!(first_difference(&golden, &found, Extent::Whole).is_some_and(|said| said.contains("differs")));
        }
    }
}
