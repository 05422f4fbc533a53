//! A dead letter as a JSON line, for people, `jq` and editors, and back.
//!
//! Bytes that are UTF-8 are text; others are in base64 under a name of their own (`value_base64`), so that nothing is lost and
//! nothing has to be guessed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use tidewatch_schemas::dead_letter::Letter;
use tidewatch_schemas::record::{DeadLetter, DeadLetterHeader};

use super::Place;

/// A line of `dead-letters list --json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    /// Its place on the dead-letter topic.
    letter: String,
    stream: String,
    reason: String,
    error: String,
    /// Where the record stood.
    topic: String,
    partition: i32,
    offset: i64,
    timestamp_ms: Option<i64>,
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
    headers: Vec<Header>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    omitted_bytes: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    key: String,
    value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

impl Line {
    pub(super) fn of(place: Place, letter: &Letter) -> Self {
        let record = &letter.record;
        let (key, key_base64) = written(record.key.as_deref());
        let (value, value_base64) = written(record.value.as_deref());
        let header = |header: &DeadLetterHeader| {
            let (value, value_base64) = written(header.value.as_deref());
            Header { key: header.key.clone(), value, value_base64 }
        };
        Self {
            letter: place.to_string(),
            stream: record.stream.clone(),
            reason: record.reason.clone(),
            error: record.error.clone(),
            topic: record.topic.clone(),
            partition: record.partition,
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            key,
            key_base64,
            value,
            value_base64,
            headers: record.headers.iter().map(header).collect(),
            omitted_bytes: letter.omitted_bytes,
        }
    }

    /// The letter again. A value that was left out and has been put in is no longer left out.
    ///
    /// # Errors
    /// What is wrong with the line, in words.
    pub(super) fn read(text: &str) -> Result<(Place, Letter), String> {
        let line: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let place = line.letter.parse()?;
        let header = |header: Header| {
            let value = bytes("a header's value", header.value, header.value_base64)?;
            Ok(DeadLetterHeader { key: header.key, value })
        };
        let value = bytes("value", line.value, line.value_base64)?;
        let omitted_bytes = line.omitted_bytes.filter(|_| value.is_none());
        let record = DeadLetter {
            stream: line.stream,
            topic: line.topic,
            partition: line.partition,
            offset: line.offset,
            timestamp_ms: line.timestamp_ms,
            key: bytes("key", line.key, line.key_base64)?,
            value,
            headers: line.headers.into_iter().map(header).collect::<Result<_, String>>()?,
            reason: line.reason,
            error: line.error,
        };
        Ok((place, Letter { record, omitted_bytes }))
    }
}

/// As text, or in base64.
fn written(bytes: Option<&[u8]>) -> (Option<String>, Option<String>) {
    match bytes.map(|bytes| (std::str::from_utf8(bytes), bytes)) {
        None => (None, None),
        Some((Ok(text), _)) => (Some(text.to_owned()), None),
        Some((Err(_), bytes)) => (None, Some(STANDARD.encode(bytes))),
    }
}

fn bytes(what: &str, text: Option<String>, base64: Option<String>) -> Result<Option<Vec<u8>>, String> {
    match (text, base64) {
        (Some(_), Some(_)) => Err(format!("{what} is there as text and in base64: set one of them to null")),
        (None, Some(base64)) => STANDARD.decode(base64).map(Some).map_err(|error| format!("{what} in base64: {error}")),
        (text, None) => Ok(text.map(String::into_bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(key: Option<&[u8]>, value: Option<&[u8]>) -> Letter {
        let record = DeadLetter {
            stream: "calls".into(),
            topic: "calls.v1".into(),
            partition: 2,
            offset: 99,
            timestamp_ms: Some(-5),
            key: key.map(<[u8]>::to_vec),
            value: value.map(<[u8]>::to_vec),
            headers: vec![
                DeadLetterHeader { key: "a".into(), value: None },
                DeadLetterHeader { key: "a".into(), value: Some(vec![0xff]) },
            ],
            reason: "undecodable".into(),
            error: "EOF".into(),
        };
        Letter { record, omitted_bytes: None }
    }

    const PLACE: Place = Place { partition: 1, offset: 5 };

    fn check_kept(letter: &Letter) {
        let text = serde_json::to_string(&Line::of(PLACE, letter)).unwrap();
        assert_eq!(Line::read(&text), Ok((PLACE, letter.clone())), "{text}");
    }

    #[test]
    fn a_letter_is_kept_by_its_line() {
        check_kept(&letter(None, None));
        check_kept(&letter(Some(b""), Some(b"")));
        check_kept(&letter(Some("ü\n\0".as_bytes()), Some(&[0xc3, 0x01, 0xff])));
        check_kept(&Letter { omitted_bytes: Some(8), ..letter(None, None) });
    }

    fn check_refused(from: &str, to: &str, expected: &str) {
        let text = serde_json::to_string(&Line::of(PLACE, &letter(Some(b"k"), Some(&[0xff])))).unwrap();
        assert!(text.contains(from), "{text}");
        let error = Line::read(&text.replace(from, to)).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn what_is_no_line_says_why() {
        check_refused(r#""value":null,"value_base64""#, r#""value":"x","value_base64""#, "set one of them to null");
        check_refused(r#""value_base64":"/w==""#, r#""value_base64":"?""#, "base64");
        check_refused(r#""letter":"1:5""#, r#""letter":"five""#, "for example 0:17");
        check_refused(r#""partition""#, r#""partitions""#, "unknown field");
    }
}
