//! What Delivery needs to know of a record before it is stored: whether it can be read at all, and,
//! of an alert, how grave it is.
//!
//! Reading every record once here is what keeps one bad value from spoiling a whole file: column
//! builders cannot take half a record back.

use tidewatch_schemas::record::{Alert, AlertState, DeadLetter, Forecast, Late, Severity, WindowMetric};
use tidewatch_schemas::{Record, Schema, wire};

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
