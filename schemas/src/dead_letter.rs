//! A dead letter as it stands on its topic: the original record, with headers behind its own that say why it is there.
//!
//! Key, value and headers are the original's, byte for byte, so that any client can read a letter or send it back. What was wrong,
//! and where the record stood, are one block of headers at the end, under the names of KIP-1034 (Kafka Streams' dead letter queue)
//! where it has one. Invariant: the block begins at the *last* header named [`EXCEPTION`]; what is before it is the original's, also
//! where the original was itself a dead letter.
//!
//! | header | value, text |
//! |---|---|
//! | `__streams.errors.exception` | the reason, kebab case, from a closed set |
//! | `__streams.errors.message` | what exactly was wrong, at most 1,024 bytes |
//! | `__streams.errors.topic`, `.partition`, `.offset` | where the original stands |
//! | `tidewatch-stream` | the stream's name in the settings |
//! | `tidewatch-original-timestamp-ms` | only where the letter's own timestamp is another: clients cannot write 0 or less |
//! | `tidewatch-omitted-bytes` | only where the original was larger than the letter's topic takes: how much of it is not here |
//!
//! What is left out is the value, or, where that was not enough, all of the original: key, value and headers. It is at the original's
//! place.
//!
//! Headers' names that are not UTF-8 have lost their spelling when they come here; everything else is kept.

use crate::record::{DeadLetter, DeadLetterHeader};

/// The reason; the block of a letter's own headers begins with it.
pub const EXCEPTION: &str = "__streams.errors.exception";
/// On a record that was put back on its topic: the letter that it was, `topic-partition@offset`.
pub const REPLAYED_FROM: &str = "tidewatch-replayed-from";
const MESSAGE: &str = "__streams.errors.message";
const TOPIC: &str = "__streams.errors.topic";
const PARTITION: &str = "__streams.errors.partition";
const OFFSET: &str = "__streams.errors.offset";
const STREAM: &str = "tidewatch-stream";
const TIMESTAMP: &str = "tidewatch-original-timestamp-ms";
/// How much of the original was left out of a letter, or of a late record, because its topic does not take so much.
pub const OMITTED: &str = "tidewatch-omitted-bytes";

/// The longest text that says what was wrong: a letter is to be little more than its original.
const MESSAGE_BYTES_MAX: usize = 1_024;
/// The lengths of a header's name and value.
const HEADER_BYTES_MAX: usize = 10;
/// The names and lengths of a letter's own headers, its numbers, and the frames of the record and its batch.
const REST_BYTES_MAX: usize = 1_024;
/// Kafka's word for "no timestamp".
const NO_TIMESTAMP: i64 = -1;
/// The least timestamp that a client writes as it is given; it takes 0 for "now".
const TIMESTAMP_MIN_MS: i64 = 1;

/// Why a record is no event: a closed set, in kebab case where it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The record has no value.
    NullValue,
    /// The value is not of the declared format, or cut short.
    Undecodable,
    /// A field that the stream needs is not there.
    MissingField,
    /// A field is of a type that it cannot be read as.
    WrongType,
    /// A number that the stream needs is NaN or infinite, or JSON with more than a double holds.
    NotFinite,
    /// The event time is before 1970 or not before 2200.
    EventTimeOutOfRange,
    /// The event time is further after the record's timestamp than the stream allows.
    EventTimeInFuture,
    /// The entity's key is longer than 1,024 bytes.
    EntityTooLong,
}

impl Reason {
    /// All there are.
    pub const ALL: [Self; 8] = [
        Self::NullValue,
        Self::Undecodable,
        Self::MissingField,
        Self::WrongType,
        Self::NotFinite,
        Self::EventTimeOutOfRange,
        Self::EventTimeInFuture,
        Self::EntityTooLong,
    ];

    /// The name that dead letters carry.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NullValue => "null-value",
            Self::Undecodable => "undecodable",
            Self::MissingField => "missing-field",
            Self::WrongType => "wrong-type",
            Self::NotFinite => "not-finite",
            Self::EventTimeOutOfRange => "event-time-out-of-range",
            Self::EventTimeInFuture => "event-time-in-future",
            Self::EntityTooLong => "entity-too-long",
        }
    }
}

/// A record of the dead-letter topic, as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Letter {
    /// The original record, its place, and what was wrong.
    pub record: DeadLetter,
    /// How large what was left out is: the value, and, where the letter has no key and no headers, these.
    pub omitted_bytes: Option<u64>,
}

/// Why a record with a letter's headers is no letter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LetterError {
    /// A header that every letter has.
    #[error("header `{0}` is missing")]
    Missing(&'static str),
    /// A header of text.
    #[error("header `{0}` is no text")]
    NotText(&'static str),
    /// A header that is a number.
    #[error("header `{name}` is {value:?}, not a number in its range")]
    NotANumber {
        /// Its name.
        name: &'static str,
        /// What it holds.
        value: String,
    },
}

/// A letter to be written, borrowed from the record that it is about: nothing of a letter is copied before the client copies it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Draft<'a> {
    /// The stream's name in the settings.
    pub stream: &'a str,
    /// Where the original stands.
    pub topic: &'a str,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// The original's timestamp as it was written.
    pub timestamp_ms: Option<i64>,
    /// The original's key.
    pub key: Option<&'a [u8]>,
    /// The original's value, if it goes along.
    pub value: Option<&'a [u8]>,
    /// How large what does not go along is.
    pub omitted_bytes: Option<u64>,
    /// The original's headers.
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
    /// From a closed set, in kebab case.
    pub reason: &'a str,
    /// What exactly was wrong.
    pub error: &'a str,
}

impl<'a> Draft<'a> {
    /// The letter without its value, for a topic that does not take so large a record.
    #[must_use]
    pub fn without_value(self) -> Self {
        let omitted_bytes = self.value.map(|value| value.len() as u64).or(self.omitted_bytes);
        Self { value: None, omitted_bytes, ..self }
    }

    /// The letter without anything of the original, for a topic that does not even take its key and headers.
    #[must_use]
    pub fn without_original(self) -> Self {
        let size = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len) as u64;
        let headers = self.headers.iter().map(|(name, value)| name.len() as u64 + size(*value)).sum::<u64>();
        let omitted_bytes = Some(size(self.key) + size(self.value) + headers);
        Self { key: None, value: None, headers: &[], omitted_bytes, ..self }
    }

    /// The most that the letter's record takes in a batch of its own, in bytes, uncompressed.
    #[must_use]
    pub fn bytes_max(&self) -> usize {
        let size = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
        let headers =
            self.headers.iter().map(|(name, value)| HEADER_BYTES_MAX + name.len() + size(*value)).sum::<usize>();
        let block = MESSAGE_BYTES_MAX + self.topic.len() + self.stream.len() + self.reason.len() + REST_BYTES_MAX;
        size(self.key) + size(self.value) + headers + block
    }

    /// The timestamp of the letter's record: the original's, or the least there is where no client can write that.
    #[must_use]
    pub fn record_timestamp_ms(&self) -> i64 {
        writable_ms(self.timestamp_ms)
    }

    /// All headers of the letter's record: the original's, and behind them its own. Numbers are spelled out in `text`.
    pub fn all_headers<'b>(
        &self,
        text: &'b mut String,
    ) -> impl Iterator<Item = (&'b str, Option<&'b [u8]>)> + use<'a, 'b>
    where
        'a: 'b,
    {
        use std::fmt::Write as _;
        let is_other_time = self.timestamp_ms != Some(self.record_timestamp_ms());
        let numbers = [
            (PARTITION, Some(i128::from(self.partition))),
            (OFFSET, Some(i128::from(self.offset))),
            (TIMESTAMP, is_other_time.then(|| self.timestamp_ms.unwrap_or(NO_TIMESTAMP).into())),
            (OMITTED, self.omitted_bytes.map(i128::from)),
        ];
        text.clear();
        let spelled = numbers.map(|(name, number)| {
            let begin = text.len();
            number.map(|number| {
                write!(text, "{number}").expect("a string takes whatever is written");
                (name, begin..text.len())
            })
        });
        let texts =
            [(EXCEPTION, self.reason), (MESSAGE, bounded(self.error)), (TOPIC, self.topic), (STREAM, self.stream)];
        let text: &'b str = text;
        let texts = texts.into_iter().map(|(name, text)| (name, Some(text.as_bytes())));
        let numbers = spelled.into_iter().flatten().map(move |(name, range)| (name, Some(&text.as_bytes()[range])));
        self.headers.iter().copied().chain(texts).chain(numbers)
    }
}

impl From<DeadLetter> for Letter {
    fn from(record: DeadLetter) -> Self {
        Self { record, omitted_bytes: None }
    }
}

impl Letter {
    /// The timestamp of the letter's record: the original's, or the least there is where no client can write that.
    #[must_use]
    pub fn timestamp_ms(&self) -> i64 {
        writable_ms(self.record.timestamp_ms)
    }

    /// Reads a record of the dead-letter topic back; `None` if it has no header of a letter.
    ///
    /// # Errors
    /// A header of the block that is missing or says nothing.
    pub fn read<'a>(
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        timestamp_ms: Option<i64>,
        headers: impl IntoIterator<Item = (&'a str, Option<&'a [u8]>)>,
    ) -> Option<Result<Self, LetterError>> {
        let headers: Vec<(&str, Option<&[u8]>)> = headers.into_iter().collect();
        let begin = headers.iter().rposition(|(name, _)| *name == EXCEPTION)?;
        let (original, block) = headers.split_at(begin);
        Some(Self::of(key, value, timestamp_ms, original, &Block(block)))
    }

    fn of(
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        timestamp_ms: Option<i64>,
        original: &[(&str, Option<&[u8]>)],
        block: &Block<'_>,
    ) -> Result<Self, LetterError> {
        let own = |&(name, value): &(&str, Option<&[u8]>)| DeadLetterHeader {
            key: name.to_owned(),
            value: value.map(<[u8]>::to_vec),
        };
        let omitted_bytes = block.number_if_there(OMITTED)?;
        let timestamp_ms = match block.number_if_there::<i64>(TIMESTAMP)? {
            Some(NO_TIMESTAMP) => None,
            Some(stated) => Some(stated),
            None => timestamp_ms,
        };
        let record = DeadLetter {
            stream: block.text(STREAM)?.to_owned(),
            topic: block.text(TOPIC)?.to_owned(),
            partition: block.number(PARTITION)?,
            offset: block.number(OFFSET)?,
            timestamp_ms,
            key: key.map(<[u8]>::to_vec),
            value: value.filter(|_| omitted_bytes.is_none()).map(<[u8]>::to_vec),
            headers: original.iter().map(own).collect(),
            reason: block.text(EXCEPTION)?.to_owned(),
            error: block.text(MESSAGE)?.to_owned(),
        };
        Ok(Self { record, omitted_bytes })
    }
}

/// A letter's own headers.
struct Block<'a>(&'a [(&'a str, Option<&'a [u8]>)]);

impl<'a> Block<'a> {
    fn text_if_there(&self, name: &'static str) -> Result<Option<&'a str>, LetterError> {
        let Some((_, value)) = self.0.iter().find(|(found, _)| *found == name) else { return Ok(None) };
        let text = value.and_then(|bytes| std::str::from_utf8(bytes).ok());
        text.map(Some).ok_or(LetterError::NotText(name))
    }

    fn text(&self, name: &'static str) -> Result<&'a str, LetterError> {
        self.text_if_there(name)?.ok_or(LetterError::Missing(name))
    }

    fn number_if_there<N: std::str::FromStr>(&self, name: &'static str) -> Result<Option<N>, LetterError> {
        let Some(text) = self.text_if_there(name)? else { return Ok(None) };
        let wrong = |_| LetterError::NotANumber { name, value: text.to_owned() };
        text.parse().map(Some).map_err(wrong)
    }

    fn number<N: std::str::FromStr>(&self, name: &'static str) -> Result<N, LetterError> {
        self.number_if_there(name)?.ok_or(LetterError::Missing(name))
    }
}

fn writable_ms(timestamp_ms: Option<i64>) -> i64 {
    timestamp_ms.map_or(TIMESTAMP_MIN_MS, |ms| ms.max(TIMESTAMP_MIN_MS))
}

/// As much of a text as a header may hold, cut between characters.
fn bounded(text: &str) -> &str {
    &text[..text.floor_char_boundary(MESSAGE_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter() -> DeadLetter {
        DeadLetter {
            stream: "checks".into(),
            topic: "in".into(),
            partition: 3,
            offset: 42,
            timestamp_ms: Some(1_700_000_000_000),
            key: Some(vec![0xff, 0]),
            value: Some(b"{".to_vec()),
            headers: vec![
                DeadLetterHeader { key: "trace".into(), value: Some(vec![0, 0xff]) },
                DeadLetterHeader { key: "none".into(), value: None },
                DeadLetterHeader { key: "trace".into(), value: Some(Vec::new()) },
            ],
            reason: "undecodable".into(),
            error: "EOF while parsing".into(),
        }
    }

    fn pairs(headers: &[DeadLetterHeader]) -> Vec<(&str, Option<&[u8]>)> {
        headers.iter().map(|header| (header.key.as_str(), header.value.as_deref())).collect()
    }

    /// What a letter is as a record: its timestamp, value and headers.
    fn written(letter: &Letter) -> (i64, Option<&[u8]>, Vec<DeadLetterHeader>) {
        let Letter { record, omitted_bytes } = letter;
        let headers = pairs(&record.headers);
        let draft = Draft {
            stream: &record.stream,
            topic: &record.topic,
            partition: record.partition,
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            omitted_bytes: None,
            headers: &headers,
            reason: &record.reason,
            error: &record.error,
        };
        let draft = if omitted_bytes.is_some() { draft.without_value() } else { draft };
        let own = |(key, value): (&str, Option<&[u8]>)| DeadLetterHeader {
            key: key.to_owned(),
            value: value.map(<[u8]>::to_vec),
        };
        let value = record.value.as_deref().filter(|_| draft.value.is_some());
        (draft.record_timestamp_ms(), value, draft.all_headers(&mut "left over".to_owned()).map(own).collect())
    }

    fn read_back(letter: &Letter) -> Letter {
        let (timestamp_ms, value, headers) = written(letter);
        Letter::read(letter.record.key.as_deref(), value, Some(timestamp_ms), pairs(&headers)).unwrap().unwrap()
    }

    fn check_kept(record: DeadLetter) {
        let letter = Letter::from(record);
        assert_eq!(read_back(&letter), letter);
    }

    #[test]
    fn a_letter_is_the_original_and_is_read_back() {
        check_kept(letter());
        check_kept(DeadLetter { key: None, value: None, headers: Vec::new(), ..letter() });
        check_kept(DeadLetter { key: Some(Vec::new()), value: Some(Vec::new()), ..letter() });
        for timestamp_ms in [None, Some(0), Some(-5), Some(1), Some(i64::MAX)] {
            check_kept(DeadLetter { timestamp_ms, ..letter() });
        }
        let headers = (0..1_000).map(|n| DeadLetterHeader { key: format!("h{}", n % 7), value: Some(vec![n as u8]) });
        check_kept(DeadLetter { headers: headers.collect(), ..letter() });
    }

    #[test]
    fn the_headers_are_those_of_kip_1034() {
        let letter = Letter::from(letter());
        let (_, _, headers) = written(&letter);
        let own: Vec<(&str, &str)> = pairs(&headers)[3..]
            .iter()
            .map(|(name, value)| (*name, std::str::from_utf8(value.unwrap()).unwrap()))
            .collect();
        assert_eq!(
            own,
            [
                ("__streams.errors.exception", "undecodable"),
                ("__streams.errors.message", "EOF while parsing"),
                ("__streams.errors.topic", "in"),
                ("tidewatch-stream", "checks"),
                ("__streams.errors.partition", "3"),
                ("__streams.errors.offset", "42"),
            ]
        );
    }

    #[test]
    fn a_letter_of_a_letter_keeps_the_first_ones_headers() {
        let first = Letter::from(letter());
        let (_, _, headers) = written(&first);
        check_kept(DeadLetter { headers, topic: "dead-letters".into(), ..letter() });
    }

    #[test]
    fn a_value_that_does_not_fit_is_left_out_and_said_to_be() {
        let without = read_back(&Letter { record: letter(), omitted_bytes: Some(1) });
        assert_eq!(without, Letter { record: DeadLetter { value: None, ..letter() }, omitted_bytes: Some(1) });
    }

    #[test]
    fn a_letter_is_no_larger_than_it_says() {
        let draft = Draft {
            stream: "",
            topic: "t",
            partition: i32::MIN,
            offset: i64::MIN,
            timestamp_ms: Some(i64::MIN),
            key: Some(b"key"),
            value: Some(b"value"),
            omitted_bytes: Some(u64::MAX),
            headers: &[("none", None), ("some", Some(b"1"))],
            reason: "",
            error: &"x".repeat(2_000),
        };
        let mut text = String::new();
        let lengths = draft.all_headers(&mut text).map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len));
        let headers: usize = lengths.map(|length| length + HEADER_BYTES_MAX).sum();
        // The frames of a batch and of a record in it (Kafka's documentation, "Message Format").
        let frames = 61 + 50;
        assert!((headers + 8 + frames..headers + 1_024).contains(&draft.bytes_max()), "{}", draft.bytes_max());
    }

    #[test]
    fn a_long_error_is_cut_between_characters() {
        let long = Letter::from(DeadLetter { error: format!("a{}", "ü".repeat(1_000)), ..letter() });
        assert_eq!(read_back(&long).record.error, format!("a{}", "ü".repeat(511)));
    }

    fn check_refused(change: impl Fn(&mut DeadLetterHeader), dropped: Option<&str>, expected: &str) {
        let (_, _, mut headers) = written(&Letter::from(letter()));
        headers.retain(|header| Some(header.key.as_str()) != dropped);
        headers.iter_mut().for_each(change);
        let error = Letter::read(None, None, None, pairs(&headers)).unwrap().unwrap_err();
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn what_only_looks_like_a_letter_is_told() {
        assert_eq!(Letter::read(None, Some(b"x"), None, [("trace", None)]), None);
        let set = |name: &'static str, value: Option<&'static str>| {
            move |header: &mut DeadLetterHeader| {
                if header.key == name {
                    header.value = value.map(|text| text.as_bytes().to_vec());
                }
            }
        };
        check_refused(|_| {}, Some(TOPIC), "header `__streams.errors.topic` is missing");
        check_refused(set(OFFSET, None), None, "header `__streams.errors.offset` is no text");
        let number = "header `__streams.errors.partition` is \"3000000000\", not a number in its range";
        check_refused(set(PARTITION, Some("3000000000")), None, number);
    }

    #[test]
    fn all_reasons_are_all_there_are() {
        // A reason that is new has to be put among them: this match does not compile without it.
        let next = |reason| match reason {
            Reason::NullValue => Some(Reason::Undecodable),
            Reason::Undecodable => Some(Reason::MissingField),
            Reason::MissingField => Some(Reason::WrongType),
            Reason::WrongType => Some(Reason::NotFinite),
            Reason::NotFinite => Some(Reason::EventTimeOutOfRange),
            Reason::EventTimeOutOfRange => Some(Reason::EventTimeInFuture),
            Reason::EventTimeInFuture => Some(Reason::EntityTooLong),
            Reason::EntityTooLong => None,
        };
        let all: Vec<Reason> = std::iter::successors(Some(Reason::NullValue), |reason| next(*reason)).collect();
        assert_eq!(all, Reason::ALL);
    }
}
