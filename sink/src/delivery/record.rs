//! What Delivery needs to know of a record before it is stored: whether it can be read at all, and,
//! of an alert, how grave it is.
//!
//! Reading every record once here is what keeps one bad value from spoiling a whole file: column
//! builders cannot take half a record back.

use tidewatch_schemas::dead_letter::Letter;
use tidewatch_schemas::record::{Alert, AlertState, DeadLetter, Forecast, Late, Severity, WindowMetric};
use tidewatch_schemas::wire::Framing;
use tidewatch_schemas::{Record, Schema, wire};
use tidewatch_topic_io::Message;

use super::kind::TopicKind;

/// What was seen in a readable record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// A record without further interest.
    Readable,
    /// An alert that opens.
    Opened(Severity),
}

impl TopicKind {
    /// The schema of this kind's records.
    pub(crate) fn schema(self) -> &'static Schema {
        match self {
            Self::Metrics => WindowMetric::schema(),
            Self::Forecasts => Forecast::schema(),
            Self::Alerts => Alert::schema(),
            Self::Late => Late::schema(),
            Self::DeadLetters => DeadLetter::schema(),
        }
    }
}

/// A dead letter as the record that is stored of it. `None`: it has no headers of a letter, so its value is all there is.
///
/// # Errors
/// Why its headers cannot be read; it is then kept raw.
pub(crate) fn letter(message: &Message<'_>) -> Option<Result<Vec<u8>, String>> {
    let read = Letter::read(message.key(), message.value(), message.timestamp_as_written_ms(), message.headers())?;
    Some(read.map(|letter| framed(letter.record)).map_err(|error| error.to_string()))
}

fn framed(record: DeadLetter) -> Vec<u8> {
    let mut framed = Vec::new();
    wire::encode(&record, Framing::SingleObject, &mut framed);
    framed
}

/// Reads a value as its kind's record.
///
/// # Errors
/// Why it cannot be read, in words; the record is then kept raw.
pub(crate) fn inspect(kind: TopicKind, value: Option<&[u8]>) -> Result<Seen, String> {
    let value = value.ok_or("the value is null")?;
    match kind {
        TopicKind::Metrics => readable::<WindowMetric>(value),
        TopicKind::Forecasts => readable::<Forecast>(value),
        TopicKind::Late => readable::<Late>(value),
        TopicKind::DeadLetters => readable::<DeadLetter>(value),
        TopicKind::Alerts => {
            let alert: Alert = wire::decode(value).map_err(|e| e.to_string())?;
            Ok(if alert.state == AlertState::Opened { Seen::Opened(alert.severity) } else { Seen::Readable })
        }
    }
}

fn readable<R: Record>(value: &[u8]) -> Result<Seen, String> {
    wire::decode::<R>(value).map(|_| Seen::Readable).map_err(|e| e.to_string())
}
