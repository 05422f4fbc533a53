//! Records that are no events: what is written in an event's place, and the reason for which a processor rejects it.
//!
//! Invariant: each is made of the event whose place it takes and of nothing else, and is rejected whatever came before it. The
//! reasons hold for a stream that reads the entity, the time and the stream's first measure.

use super::{Reason, evolution};
use crate::generator::EventRecord;
use serde::Deserialize;
use tidewatch_schemas::wire::Framing;

/// 2262-04-11, where 64 bits of nanoseconds end.
const FAR_AHEAD_MS: i64 = 9_223_372_036_854;
/// By how much an event of the future is further ahead than allowed.
const TOO_FAR_MS: i64 = 60_000;
/// A processor takes keys of up to 1,024 bytes.
const NAME_BYTES: usize = 2_000;

/// A kind of record that is no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Poison {
    /// Bytes that begin no frame.
    Undecodable,
    /// The second half of the datum is not there.
    Truncated,
    /// A byte follows the datum.
    Trailing,
    /// A value of no bytes.
    Empty,
    /// No value.
    NullValue,
    /// A name that is not UTF-8.
    InvalidUtf8,
    /// A fingerprint that nobody knows.
    UnknownSchema,
    /// The entity's first field is null.
    MissingField,
    /// The first measure is a text.
    WrongType,
    /// The first measure is NaN.
    NotFinite,
    /// The event time is in 2262.
    EventTimeOutOfRange,
    /// The event time is a minute further ahead of Kafka's timestamp than allowed.
    EventTimeInFuture,
    /// The entity's first field has 2,000 bytes.
    EntityTooLong,
}

impl Poison {
    /// All kinds.
    pub(crate) const ALL: [Self; 13] = [
        Self::Undecodable,
        Self::Truncated,
        Self::Trailing,
        Self::Empty,
        Self::NullValue,
        Self::InvalidUtf8,
        Self::UnknownSchema,
        Self::MissingField,
        Self::WrongType,
        Self::NotFinite,
        Self::EventTimeOutOfRange,
        Self::EventTimeInFuture,
        Self::EntityTooLong,
    ];

    /// Why it is rejected.
    pub(crate) fn reason(self) -> Reason {
        match self {
            Self::Undecodable
            | Self::Truncated
            | Self::Trailing
            | Self::Empty
            | Self::InvalidUtf8
            | Self::UnknownSchema => Reason::Undecodable,
            Self::NullValue => Reason::NullValue,
            Self::MissingField => Reason::MissingField,
            Self::WrongType => Reason::WrongType,
            Self::NotFinite => Reason::NotFinite,
            Self::EventTimeOutOfRange => Reason::EventTimeOutOfRange,
            Self::EventTimeInFuture => Reason::EventTimeInFuture,
            Self::EntityTooLong => Reason::EntityTooLong,
        }
    }

    /// Whether it is written with the schema of an incompatible change.
    pub(crate) fn has_changed_schema(self) -> bool {
        matches!(self, Self::MissingField | Self::WrongType)
    }

    /// Appends the value; false: there is none.
    pub(crate) fn encode(self, record: &EventRecord, future_max_ms: i64, framing: Framing, out: &mut Vec<u8>) -> bool {
        let begin = out.len();
        let datum = begin
            + match framing {
                Framing::SingleObject => 10,
                Framing::Confluent { .. } => 5,
            };
        match self {
            Self::NullValue => return false,
            Self::Empty => {}
            Self::MissingField => evolution::encode_changed(record, false, framing, out),
            Self::WrongType => evolution::encode_changed(record, true, framing, out),
            Self::NotFinite => bent(record, |fields| *fields.measure = f64::NAN).encode(framing, out),
            Self::EventTimeOutOfRange => bent(record, |fields| *fields.time = FAR_AHEAD_MS).encode(framing, out),
            Self::EventTimeInFuture => {
                bent(record, |fields| *fields.time += future_max_ms + TOO_FAR_MS).encode(framing, out);
            }
            Self::EntityTooLong => bent(record, |fields| *fields.entity = "x".repeat(NAME_BYTES)).encode(framing, out),
            Self::Undecodable | Self::Truncated | Self::Trailing | Self::InvalidUtf8 | Self::UnknownSchema => {
                record.encode(framing, out);
                match self {
                    Self::Undecodable => out[begin..].iter_mut().for_each(|byte| *byte = !*byte),
                    Self::Truncated => out.truncate(datum + (out.len() - datum) / 2),
                    Self::Trailing => out.push(0),
                    Self::UnknownSchema => out[datum - 4..datum].iter_mut().for_each(|byte| *byte = !*byte),
                    // The event time, the length of the entity's first field, its text.
                    _ => {
                        let text = after_varint(out, after_varint(out, datum));
                        out[text] = 0xff;
                    }
                }
            }
        }
        true
    }
}

/// Where the variable-length number ends that begins at `at`.
fn after_varint(bytes: &[u8], at: usize) -> usize {
    let length = bytes[at..].iter().take_while(|byte| **byte & 0x80 != 0).count();
    at + length + 1
}

/// The fields of an event's record that every kind has.
struct Fields<'a> {
    time: &'a mut i64,
    entity: &'a mut String,
    measure: &'a mut f64,
}

/// A copy of a record with something changed.
fn bent(record: &EventRecord, bend: impl FnOnce(Fields<'_>)) -> EventRecord {
    let mut copy = record.clone();
    bend(match &mut copy {
        EventRecord::ServiceCall(r) => {
            Fields { time: &mut r.event_time, entity: &mut r.service, measure: &mut r.duration_ms }
        }
        EventRecord::Infrastructure(r) => {
            Fields { time: &mut r.event_time, entity: &mut r.host, measure: &mut r.cpu_ratio }
        }
        EventRecord::Beacon(r) => Fields { time: &mut r.event_time, entity: &mut r.site, measure: &mut r.load_ms },
        EventRecord::Check(r) => Fields { time: &mut r.event_time, entity: &mut r.check, measure: &mut r.response_ms },
    });
    copy
}
