//! Bad records and strange ones: what is written in an event's place, and what a processor makes of it.
//!
//! Invariant: each is made of the event whose place it takes and of nothing else, and what becomes of it is the same whatever came
//! before it. That holds for a stream that reads the entity, the time and the stream's first measure.

use super::{Outcome, evolution};
use crate::generator::EventRecord;
use serde::Deserialize;
use tidewatch_schemas::dead_letter::Reason;
use tidewatch_schemas::wire::Framing;

/// 2262-04-11, where 64 bits of nanoseconds end.
const FAR_AHEAD_MS: i64 = 9_223_372_036_854;
/// By how much an event of the future is further ahead than allowed.
const TOO_FAR_MS: i64 = 60_000;
/// A processor takes keys of up to 1,024 bytes.
const NAME_BYTES: usize = 2_000;
/// Lists in lists.
const DEEP: usize = 10_000;
const LARGE_BYTES: usize = 10_000_000;
/// An id that no registry has come to.
const UNKNOWN_ID: u32 = u32::MAX >> 1;
const NEAR_OVERFLOW: f64 = 1e308;
const MANY_HEADERS: usize = 1_000;

/// A kind of record that is no event, or a strange one.
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
    /// An id of a registry that nobody knows.
    UnknownSchemaId,
    /// 10,000 lists in each other, as JSON.
    DeepJson,
    /// A value of 10 MB.
    Large,
    /// The entity's first field is null.
    MissingField,
    /// The first measure is a text.
    WrongType,
    /// The first measure is NaN.
    NotFinite,
    /// The first measure is infinite.
    Infinite,
    /// The event time is in 2262.
    EventTimeOutOfRange,
    /// The event time is a millisecond before 1970.
    EventTimeNegative,
    /// The event time is the beginning of 1970: an event that is late by decades.
    EventTimeZero,
    /// The event time is a minute further ahead of Kafka's timestamp than allowed.
    EventTimeInFuture,
    /// The entity's first field has 2,000 bytes.
    EntityTooLong,
    /// The first measure is -0.
    NegativeZero,
    /// The first measure is 1e308.
    NearOverflow,
    /// No key.
    NullKey,
    /// A thousand headers more.
    ManyHeaders,
}

impl Poison {
    /// All kinds that need no settings of the topics and are no outliers.
    pub(crate) const DEFAULT: [Self; 21] = [
        Self::Undecodable,
        Self::Truncated,
        Self::Trailing,
        Self::Empty,
        Self::NullValue,
        Self::InvalidUtf8,
        Self::UnknownSchema,
        Self::UnknownSchemaId,
        Self::DeepJson,
        Self::MissingField,
        Self::WrongType,
        Self::NotFinite,
        Self::Infinite,
        Self::EventTimeOutOfRange,
        Self::EventTimeNegative,
        Self::EventTimeZero,
        Self::EventTimeInFuture,
        Self::EntityTooLong,
        Self::NegativeZero,
        Self::NullKey,
        Self::ManyHeaders,
    ];

    /// What becomes of it.
    pub(crate) fn outcome(self) -> Outcome {
        Outcome::DeadLetter(match self {
            Self::NegativeZero | Self::NearOverflow | Self::NullKey | Self::ManyHeaders => return Outcome::Scored,
            Self::EventTimeZero => return Outcome::Late,
            Self::Undecodable
            | Self::Truncated
            | Self::Trailing
            | Self::Empty
            | Self::InvalidUtf8
            | Self::UnknownSchema
            | Self::UnknownSchemaId
            | Self::DeepJson
            | Self::Large => Reason::Undecodable,
            Self::NullValue => Reason::NullValue,
            Self::MissingField => Reason::MissingField,
            Self::WrongType => Reason::WrongType,
            Self::NotFinite | Self::Infinite => Reason::NotFinite,
            Self::EventTimeOutOfRange | Self::EventTimeNegative => Reason::EventTimeOutOfRange,
            Self::EventTimeInFuture => Reason::EventTimeInFuture,
            Self::EntityTooLong => Reason::EntityTooLong,
        })
    }

    /// Whether the message has the entity as its key.
    pub(crate) fn has_key(self) -> bool {
        self != Self::NullKey
    }

    /// How many headers it has that are not an event's.
    pub(crate) fn headers(self) -> usize {
        if self == Self::ManyHeaders { MANY_HEADERS } else { 0 }
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
        let with_measure = |value: f64| bent(record, |fields| *fields.measure = value);
        match self {
            Self::NullValue => return false,
            Self::Empty => {}
            Self::MissingField => evolution::encode_changed(record, false, framing, out),
            Self::WrongType => evolution::encode_changed(record, true, framing, out),
            Self::NotFinite => with_measure(f64::NAN).encode(framing, out),
            Self::Infinite => with_measure(f64::NEG_INFINITY).encode(framing, out),
            Self::NegativeZero => with_measure(-0.0).encode(framing, out),
            Self::NearOverflow => with_measure(NEAR_OVERFLOW).encode(framing, out),
            Self::EventTimeOutOfRange => bent(record, |fields| *fields.time = FAR_AHEAD_MS).encode(framing, out),
            Self::EventTimeNegative => bent(record, |fields| *fields.time = -1).encode(framing, out),
            Self::EventTimeInFuture => {
                bent(record, |fields| *fields.time += future_max_ms + TOO_FAR_MS).encode(framing, out);
            }
            Self::EntityTooLong => bent(record, |fields| *fields.entity = "x".repeat(NAME_BYTES)).encode(framing, out),
            Self::UnknownSchemaId => record.encode(Framing::Confluent { schema_id: UNKNOWN_ID }, out),
            Self::DeepJson => out.extend(std::iter::repeat_n(b'[', DEEP).chain(std::iter::repeat_n(b']', DEEP))),
            Self::Large => out.resize(begin + LARGE_BYTES, b' '),
            // The sequence says that its time is 0; nothing is wrong with the values of the others.
            Self::EventTimeZero | Self::NullKey | Self::ManyHeaders => record.encode(framing, out),
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
