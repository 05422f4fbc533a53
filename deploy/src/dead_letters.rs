//! `dead-letters`: the records that could not be read, to look at and to put back.
//!
//! Only committed letters are seen, partition by partition, up to the end that each had at the start: a record that is put back and
//! fails again is another letter, and not of this run.

mod line;
mod replay;
mod replayed;

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::ops::ControlFlow;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use tidewatch_schemas::dead_letter::Letter;
use tidewatch_schemas::record::DeadLetter;
use tidewatch_schemas::wire;
use tidewatch_topic_io::{Admin, KafkaConfig, Message, PartitionReader, StartAt};

use crate::cli::{DeadLettersAction, LetterFilter};
use crate::live::{bytes, count};
use crate::settings::{Settings, SettingsError};
use crate::shutdown::Shutdown;

use line::Line;

/// Records of one read.
const BATCH_MAX: usize = 1_000;
/// How long a read waits for the first record, so that Ctrl-C is seen.
const WAIT: Duration = Duration::from_millis(200);

/// A letter's place on the dead-letter topic: `partition:offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let place = text.split_once(':').and_then(|(partition, offset)| {
            let place = Self { partition: partition.parse().ok()?, offset: offset.parse().ok()? };
            (place.partition >= 0 && place.offset >= 0).then_some(place)
        });
        place.ok_or_else(|| {
            format!("`{text}` is no place; write PARTITION:OFFSET as `list` prints it, for example 0:17")
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}:{}", self.partition, self.offset))
    }
}

/// A time, in ms since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Since(i64);

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(time) = text.parse::<jiff::Timestamp>() {
            return Ok(Self(time.as_millisecond()));
        }
        let wrong = |_| format!("`{text}` is no time; write 2026-01-06T09:00:00Z, or how long ago: 2h");
        let span = humantime::parse_duration(text).map_err(wrong)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Self(i64::try_from(now.saturating_sub(span).as_millis()).unwrap_or(i64::MAX)))
    }
}

impl LetterFilter {
    fn matches(&self, record: &DeadLetter) -> bool {
        let is = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
        is(&self.stream, &record.stream)
            && is(&self.reason, &record.reason)
            && self.since.is_none_or(|Since(since)| record.timestamp_ms.is_some_and(|time| time >= since))
    }
}

/// Does what was asked for.
///
/// # Errors
/// What Kafka refuses, a letter that is not there, or a file of letters that does not fit the topic.
pub(crate) fn run(action: &DeadLettersAction, settings: &Settings, shutdown: &Shutdown) -> anyhow::Result<()> {
    let source = Source { kafka: &settings.kafka, topic: &settings.topics.dead_letters, shutdown };
    let filter = match action {
        DeadLettersAction::List { filter, .. } => Some(filter),
        DeadLettersAction::Replay(args) => Some(&args.filter),
        DeadLettersAction::Show { .. } => None,
    };
    if let Some(stream) = filter.and_then(|filter| filter.stream.as_deref())
        && settings.streams.iter().all(|declared| declared.name != stream)
    {
        check_stream(&source, stream)?;
    }
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    match action {
        DeadLettersAction::List { filter, limit, json } => list(&source, filter, *limit, *json, &mut out)?,
        DeadLettersAction::Show { letter, full } => {
            show(&source, *letter, if *full { usize::MAX } else { SHOWN_BYTES_MAX }, &mut out)?;
        }
        DeadLettersAction::Replay(args) => {
            // Of the topic, not of a processor's group: a record that is put back is there for every group.
            let group = format!("{}.replay", source.topic);
            let told = replay::run(&source, &group, args)?;
            write!(out, "{told}")?;
        }
    }
    Ok(out.flush()?)
}

/// A stream that is declared no more may have left letters; a name that is only misspelt has not.
fn check_stream(source: &Source<'_>, stream: &str) -> anyhow::Result<()> {
    let mut is_there = false;
    let mut visit = |_, letter: Result<Letter, String>| {
        is_there = letter.is_ok_and(|letter| letter.record.stream == stream);
        Ok(if is_there { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    };
    source.scan(|_| 0, &mut visit)?;
    let unknown = || format!("--stream: no stream `{stream}` is declared, and no dead letter is of one");
    if is_there || source.shutdown.is_asked_for() { Ok(()) } else { Err(SettingsError::Invalid(unknown()).into()) }
}

/// The dead-letter topic.
struct Source<'a> {
    kafka: &'a KafkaConfig,
    topic: &'a str,
    shutdown: &'a Shutdown,
}

/// What a scan comes by.
type Visit<'v> = dyn FnMut(Place, Result<Letter, String>) -> anyhow::Result<ControlFlow<()>> + 'v;

impl Source<'_> {
    /// Visits the letters of each partition from `start` on, in their order, until the end that there is now or a break.
    fn scan(&self, start: impl Fn(i32) -> i64, visit: &mut Visit<'_>) -> anyhow::Result<()> {
        let ends = Admin::connect(self.kafka)?.offsets(self.topic)?;
        let mut reader = PartitionReader::new(self.kafka, true)?;
        for end in ends {
            let from = end.low.max(start(end.partition));
            if from >= end.high {
                continue;
            }
            reader.assign(&[(self.topic, end.partition, StartAt::Offset(from))])?;
            let next_offset =
                |reader: &PartitionReader| reader.positions().next().map_or(end.high, |(_, _, next)| next);
            while !reader.is_at_end() && next_offset(&reader) < end.high && !self.shutdown.is_asked_for() {
                for message in reader.read(BATCH_MAX, WAIT)?.iter().filter(|message| message.offset() < end.high) {
                    let place = Place { partition: message.partition(), offset: message.offset() };
                    if visit(place, letter(&message))?.is_break() {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }
}

/// A record as a letter: by its headers, or, as earlier versions wrote them, by its value.
fn letter(message: &Message<'_>) -> Result<Letter, String> {
    match Letter::read(message.key(), message.value(), message.timestamp_as_written_ms(), message.headers()) {
        Some(read) => read.map_err(|error| error.to_string()),
        None => match message.value().map(wire::decode::<DeadLetter>) {
            Some(Ok(record)) => Ok(record.into()),
            _ => Err("it has no headers of a dead letter".to_owned()),
        },
    }
}

fn list(
    source: &Source<'_>,
    filter: &LetterFilter,
    limit: Option<u64>,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let (mut listed, limit) = (0, limit.unwrap_or(u64::MAX));
    let mut reasons = BTreeMap::<String, u64>::new();
    let mut strange = 0;
    let mut visit = |place: Place, letter: Result<Letter, String>| {
        if listed == limit {
            return Ok(ControlFlow::Break(()));
        }
        let letter = match letter {
            Ok(letter) if filter.matches(&letter.record) => letter,
            Ok(_) => return Ok(ControlFlow::Continue(())),
            Err(_) => {
                strange += 1;
                return Ok(ControlFlow::Continue(()));
            }
        };
        listed += 1;
        *reasons.entry(letter.record.reason.clone()).or_default() += 1;
        if json {
            writeln!(out, "{}", serde_json::to_string(&Line::of(place, &letter))?)?;
        } else {
            writeln!(out, "{}", row(place, &letter.record))?;
        }
        Ok(ControlFlow::Continue(()))
    };
    source.scan(|_| 0, &mut visit)?;
    if !json {
        let reasons: Vec<String> = reasons.iter().map(|(reason, number)| format!("{number} {reason}")).collect();
        let colon = if reasons.is_empty() { "" } else { ": " };
        writeln!(out, "{}{colon}{}", count(listed, "dead letter"), reasons.join(", "))?;
    }
    if strange > 0 {
        tracing::warn!("{} of {} that no dead letters are", count(strange, "record"), source.topic);
    }
    Ok(())
}

/// A letter in a line: its place, when, whose, where from, and what was wrong.
fn row(place: Place, record: &DeadLetter) -> String {
    let DeadLetter { stream, topic, partition, offset, reason, error, .. } = record;
    let error = error.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("{place:10}  {}  {stream}  {reason}  {topic}-{partition}@{offset}  {error}", time(record.timestamp_ms))
}

fn time(timestamp_ms: Option<i64>) -> String {
    let Some(ms) = timestamp_ms else { return "without a timestamp".to_owned() };
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| format!("{ms} ms"), |time| format!("{time:.3}"))
}

fn show(source: &Source<'_>, wanted: Place, bytes_max: usize, out: &mut impl Write) -> anyhow::Result<()> {
    let mut found = None;
    let mut visit = |place: Place, letter: Result<Letter, String>| {
        if place.partition == wanted.partition && place.offset >= wanted.offset {
            found = (place == wanted).then_some(letter);
            return Ok(ControlFlow::Break(()));
        }
        Ok(ControlFlow::Continue(()))
    };
    let start = |partition| if partition == wanted.partition { wanted.offset } else { i64::MAX };
    source.scan(start, &mut visit)?;
    let place = format!("{}-{}@{}", source.topic, wanted.partition, wanted.offset);
    let letter = found
        .with_context(|| format!("there is no record at {place}; `dead-letters list` prints those that are there"))?;
    let letter = letter.map_err(|problem| anyhow::anyhow!("the record at {place} is no dead letter: {problem}"))?;
    Ok(write!(out, "{}", shown(wanted, &letter, bytes_max))?)
}

/// What `show` prints of a key, a value or a header at most.
const SHOWN_BYTES_MAX: usize = 1_024;

/// Everything about a letter, of each part so many bytes.
fn shown(place: Place, letter: &Letter, bytes_max: usize) -> String {
    let DeadLetter { stream, topic, partition, offset, timestamp_ms, key, value, headers, reason, error } =
        &letter.record;
    let mut text = format!("letter     {place}\nstream     {stream}\nreason     {reason}\nerror      {error}\n");
    text.push_str(&format!("record     {topic}-{partition}@{offset}\ntimestamp  {}\n", time(*timestamp_ms)));
    for header in headers {
        part(&mut text, &format!("header     {}", header.key), header.value.as_deref(), bytes_max);
    }
    part(&mut text, "key", key.as_deref(), bytes_max);
    match letter.omitted_bytes {
        Some(omitted) => {
            let what =
                if key.is_none() && headers.is_empty() { "the value, or all of the original" } else { "the value" };
            text.push_str(&format!(
                "left out   {what}: {}, too large for the dead-letter topic; read it from {topic}-{partition}@{offset}\n",
                bytes(omitted)
            ));
        }
        None => part(&mut text, "value", value.as_deref(), bytes_max),
    }
    text
}

/// Bytes under a title, at most so many: as text if that is what they are, else as a hexdump.
fn part(text: &mut String, title: &str, bytes: Option<&[u8]>, bytes_max: usize) {
    let is_plain = |text: &str| text.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\t'));
    match bytes {
        None => text.push_str(&format!("{title:9}  none\n")),
        Some([]) => text.push_str(&format!("{title:9}  empty\n")),
        Some(bytes) => {
            text.push_str(&format!("{title:9}  {}\n", count(bytes.len() as u64, "byte")));
            let shown = match std::str::from_utf8(bytes) {
                Ok(plain) if is_plain(plain) => {
                    let shown = &plain[..plain.floor_char_boundary(bytes_max)];
                    shown.lines().for_each(|line| text.push_str(&format!("    {line}\n")));
                    shown.len()
                }
                _ => {
                    let shown = &bytes[..bytes.len().min(bytes_max)];
                    hexdump(text, shown);
                    shown.len()
                }
            };
            if shown < bytes.len() {
                let more = count((bytes.len() - shown) as u64, "byte");
                text.push_str(&format!("    ... and {more} more (--full)\n"));
            }
        }
    }
}

/// Sixteen bytes a line, as `hexdump -C` writes them.
fn hexdump(text: &mut String, bytes: &[u8]) {
    for (at, line) in bytes.chunks(16).enumerate() {
        let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        let plain = |&byte: &u8| if byte.is_ascii_graphic() || byte == b' ' { char::from(byte) } else { '.' };
        let plain: String = line.iter().map(plain).collect();
        text.push_str(&format!("    {:08x}  {:47}  |{plain}|\n", at * 16, hex.join(" ")));
    }
}

#[cfg(test)]
mod tests {
    use tidewatch_schemas::record::DeadLetterHeader;

    use super::*;

    fn record() -> DeadLetter {
        DeadLetter {
            stream: "calls".into(),
            topic: "calls.v1".into(),
            partition: 2,
            offset: 99,
            timestamp_ms: Some(1_736_121_600_000),
            key: None,
            value: Some(b"\xc3\x01 a record, cut".to_vec()),
            headers: vec![DeadLetterHeader { key: "trace".into(), value: Some(b"a1".to_vec()) }],
            reason: "undecodable".into(),
            error: "truncated:\n  12 bytes".into(),
        }
    }

    const PLACE: Place = Place { partition: 0, offset: 17 };

    #[test]
    fn places_and_times_are_read_or_refused() {
        assert_eq!("0:17".parse(), Ok(PLACE));
        for wrong in ["17", "0:", ":1", "-1:2", "0:-2", "a:b"] {
            assert!(wrong.parse::<Place>().unwrap_err().contains("for example 0:17"), "{wrong}");
        }
        assert_eq!("2025-01-06T00:00:00Z".parse(), Ok(Since(1_736_121_600_000)));
        let hour_ago: Since = "1h".parse().unwrap();
        let now = jiff::Timestamp::now().as_millisecond();
        assert!((now - 3_600_000 - hour_ago.0).abs() < 60_000);
        assert!("soon".parse::<Since>().unwrap_err().contains("how long ago"));
    }

    fn check_matches(stream: Option<&str>, reason: Option<&str>, since: Option<i64>, expected: bool) {
        let own = |text: Option<&str>| text.map(str::to_owned);
        let filter = LetterFilter { stream: own(stream), reason: own(reason), since: since.map(Since) };
        assert_eq!(filter.matches(&record()), expected, "{filter:?}");
    }

    #[test]
    fn filters_must_all_hold() {
        check_matches(None, None, None, true);
        check_matches(Some("calls"), Some("undecodable"), Some(1_736_121_600_000), true);
        check_matches(Some("other"), Some("undecodable"), None, false);
        check_matches(None, Some("wrong-type"), None, false);
        check_matches(None, None, Some(1_736_121_600_001), false);
    }

    #[test]
    fn a_letter_is_a_line_and_shown_in_full() {
        assert_eq!(
            row(PLACE, &record()),
            "0:17        2025-01-06T00:00:00.000Z  calls  undecodable  calls.v1-2@99  truncated: 12 bytes"
        );
        assert_eq!(
            shown(PLACE, &record().into(), SHOWN_BYTES_MAX),
            "letter     0:17\nstream     calls\nreason     undecodable\nerror      truncated:\n  12 bytes\n\
             record     calls.v1-2@99\ntimestamp  2025-01-06T00:00:00.000Z\nheader     trace  2 bytes\n    a1\n\
             key        none\nvalue      16 bytes\n    \
             00000000  c3 01 20 61 20 72 65 63 6f 72 64 2c 20 63 75 74  |.. a record, cut|\n"
        );
    }

    #[test]
    fn of_a_long_part_only_the_beginning_is_shown() {
        let ends = |value: &[u8], bytes_max: usize, expected: &str| {
            let record = DeadLetter { value: Some(value.to_vec()), ..record() };
            let text = shown(PLACE, &record.into(), bytes_max);
            assert!(text.ends_with(expected), "{text}");
        };
        ends("[[[[ü".as_bytes(), 5, "value      6 bytes\n    [[[[\n    ... and 2 bytes more (--full)\n");
        ends(&[0; 17], 16, "|................|\n    ... and 1 byte more (--full)\n");
        ends(b"[[[[", 4, "value      4 bytes\n    [[[[\n");
    }

    #[test]
    fn a_value_that_was_too_large_is_said_to_be_elsewhere() {
        let record = DeadLetter { value: None, ..record() };
        let text = shown(PLACE, &Letter { record, omitted_bytes: Some(16) }, SHOWN_BYTES_MAX);
        assert!(
            text.ends_with(
                "left out   the value: 16 B, too large for the dead-letter topic; read it from calls.v1-2@99\n"
            ),
            "{text}"
        );
        let record = DeadLetter { value: None, headers: Vec::new(), ..self::record() };
        let text = shown(PLACE, &Letter { record, omitted_bytes: Some(16) }, SHOWN_BYTES_MAX);
        assert!(text.contains("left out   the value, or all of the original: 16 B, "), "{text}");
    }
}
