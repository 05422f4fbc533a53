//! From a record's bytes to an event of its stream, or to the reason why it is none.

use std::fmt::{Display, Write as _};

use tidewatch_processor_core::config::{Format, TimeUnit};
use tidewatch_processor_core::{EVENT_TIME_END_MS, StreamConfig, is_valid_event_time};
use tidewatch_schemas::catalogue;
use tidewatch_schemas::dead_letter::Reason;
use tidewatch_schemas::project::{AvroPlan, AvroReader, JsonReader, JsonScratch, ReadError, Value};
use twox_hash::XxHash3_64;

use crate::ProcessorError;

/// A record that is no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Why.
    pub reason: Reason,
    /// The particulars.
    pub error: String,
}

impl Rejected {
    fn new(reason: Reason, error: impl Display) -> Self {
        let mut text = String::with_capacity(ERROR_BYTES_USUAL);
        write!(text, "{error}").expect("a string takes whatever is written");
        Self { reason, error: text }
    }
}

/// What the particulars mostly take, so that they are allocated once.
const ERROR_BYTES_USUAL: usize = 128;

/// The last event that was decoded; its memory is used again for the next.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decoded {
    /// Event time, in ms since 1970, within the valid range.
    pub event_time: i64,
    /// The entity's key.
    pub entity: String,
    /// A value per measure; NaN where the event has none.
    pub values: Vec<f64>,
    /// A hash of its id, where the stream remembers ids and the event has one.
    pub id: Option<u64>,
}

/// What a record is that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// An event.
    Event,
    /// An event that the stream does not want.
    Filtered,
}

enum Reader {
    Avro(AvroReader),
    Json(JsonReader, JsonScratch),
}

/// Decodes the records of one stream: compiled once from its declaration.
pub struct EventDecoder {
    wanted: Wanted,
    reader: Reader,
}

/// The fields that a stream asks for: its entity's, the time, the measures', the id's, and those that it chooses events by.
struct Wanted {
    fields: Vec<String>,
    entity_fields: usize,
    unit: TimeUnit,
    future_max_ms: i64,
    measures: usize,
    has_id: bool,
    /// The values wanted of the last fields.
    only: Vec<Vec<String>>,
}

impl EventDecoder {
    /// A decoder for a stream. Avro knows the built-in schemas and those of the files that the declaration names.
    ///
    /// # Errors
    /// If a schema file cannot be read, is no schema, or lacks a field that the stream needs.
    pub fn new(config: &StreamConfig) -> Result<Self, ProcessorError> {
        let fields: Vec<String> = config
            .entity
            .iter()
            .chain([&config.event_time])
            .chain(config.measures.iter().map(|measure| &measure.field))
            .chain(config.event_id.as_ref().map(|(field, _)| field))
            .chain(config.only.keys())
            .cloned()
            .collect();
        let names: Vec<&str> = fields.iter().map(String::as_str).collect();
        let reader = match config.format {
            Format::Json => Reader::Json(JsonReader::new(&names), JsonScratch::default()),
            Format::Avro => Reader::Avro(avro_reader(config, &names)?),
        };
        let wanted = Wanted {
            entity_fields: config.entity.len(),
            unit: config.event_time_unit,
            future_max_ms: config.future_max_ms,
            measures: config.measures.len(),
            has_id: config.event_id.is_some(),
            only: config.only.values().cloned().collect(),
            fields,
        };
        Ok(Self { wanted, reader })
    }

    /// Decodes a record's value into `out`; `timestamp_ms` is the record's own. Of a filtered event `out` holds nothing of use.
    ///
    /// # Errors
    /// Says why the record is no event; `out` is then of no use.
    pub fn decode(
        &mut self,
        value: Option<&[u8]>,
        timestamp_ms: Option<i64>,
        out: &mut Decoded,
    ) -> Result<Taken, Rejected> {
        let Some(bytes) = value else { return Err(Rejected::new(Reason::NullValue, "the record has no value")) };
        let mut row = [const { Value::Absent }; FIELDS_MAX];
        let row = &mut row[..self.wanted.fields.len()];
        let read = match &mut self.reader {
            Reader::Avro(reader) => reader.decode(bytes, row),
            Reader::Json(reader, scratch) => reader.decode(bytes, scratch, row),
        };
        read.map_err(|error| match error {
            ReadError::JsonNumber(_) => Rejected::new(Reason::NotFinite, error),
            _ => Rejected::new(Reason::Undecodable, error),
        })?;
        self.wanted.read(row, timestamp_ms, out)
    }
}

impl Wanted {
    fn read(&self, row: &[Value<'_>], timestamp_ms: Option<i64>, out: &mut Decoded) -> Result<Taken, Rejected> {
        let (entity, rest) = row.split_at(self.entity_fields);
        let (time, rest) = rest.split_at(1);
        let (measures, rest) = rest.split_at(self.measures);
        let (id, chosen_by) = rest.split_at(usize::from(self.has_id));
        if !chosen_by.iter().zip(&self.only).all(|(value, wanted)| is_one_of(value, wanted)) {
            return Ok(Taken::Filtered);
        }
        self.read_entity(entity, &mut out.entity)?;
        out.event_time = self.read_event_time(&time[0])?;
        if let Some(ahead_ms) = timestamp_ms.map(|timestamp| out.event_time - timestamp)
            && ahead_ms > self.future_max_ms
        {
            let allowed = self.future_max_ms;
            let error = format_args!(
                "event time is {ahead_ms} ms after the record's timestamp, {allowed} ms are allowed (future_max)"
            );
            return Err(Rejected::new(Reason::EventTimeInFuture, error));
        }
        out.values.clear();
        for (at, value) in measures.iter().enumerate() {
            out.values.push(self.read_measure(self.entity_fields + 1 + at, value)?);
        }
        out.id = match id {
            [id] => self.read_id(self.entity_fields + 1 + self.measures, id)?,
            _ => None,
        };
        Ok(Taken::Event)
    }

    fn read_entity(&self, values: &[Value<'_>], key: &mut String) -> Result<(), Rejected> {
        key.clear();
        for (at, value) in values.iter().enumerate() {
            if at > 0 {
                key.push('/');
            }
            match value {
                Value::Str(text) => push_escaped(key, text),
                Value::Long(number) => write!(key, "{number}").expect("a string takes whatever is written"),
                Value::Unsigned(number) => write!(key, "{number}").expect("a string takes whatever is written"),
                Value::Bool(flag) => key.push_str(if *flag { "true" } else { "false" }),
                Value::Absent => return Err(self.missing(at)),
                _ => return Err(self.wrong_type(at, "text")),
            }
            if key.len() > ENTITY_BYTES_MAX {
                let error = format_args!("the entity's key has more than {ENTITY_BYTES_MAX} bytes");
                return Err(Rejected::new(Reason::EntityTooLong, error));
            }
        }
        Ok(())
    }

    fn read_event_time(&self, value: &Value<'_>) -> Result<i64, Rejected> {
        let at = self.entity_fields;
        let time = match value {
            Value::TimestampMs(time) => *time,
            Value::Long(number) => match self.unit {
                TimeUnit::Seconds => number.saturating_mul(1_000),
                TimeUnit::Millis => *number,
                TimeUnit::Micros => number.div_euclid(1_000),
                TimeUnit::Nanos => number.div_euclid(1_000_000),
            },
            Value::Unsigned(_) => i64::MAX,
            Value::Double(number) if !number.is_finite() => return Err(self.not_finite(at, *number)),
            Value::Double(number) => match self.unit {
                TimeUnit::Seconds => whole(number * 1e3),
                TimeUnit::Millis => whole(*number),
                TimeUnit::Micros => whole(*number).div_euclid(1_000),
                TimeUnit::Nanos => whole(number / 1e6),
            },
            Value::Str(text) => {
                parse_time(text).ok_or_else(|| self.wrong_type(at, "a time (RFC 3339, or a number)"))?
            }
            Value::Absent => return Err(self.missing(at)),
            _ => return Err(self.wrong_type(at, "a time")),
        };
        if is_valid_event_time(time) {
            Ok(time)
        } else {
            let error = format_args!(
                "field `{}`: {time} ms is not within 0 and {EVENT_TIME_END_MS} (1970 to 2200)",
                self.fields[at]
            );
            Err(Rejected::new(Reason::EventTimeOutOfRange, error))
        }
    }

    fn read_measure(&self, at: usize, value: &Value<'_>) -> Result<f64, Rejected> {
        let number = match value {
            Value::Double(number) => *number,
            Value::Long(number) => *number as f64,
            Value::Unsigned(number) => *number as f64,
            Value::Bool(flag) => f64::from(u8::from(*flag)),
            Value::Absent => return Ok(f64::NAN),
            _ => return Err(self.wrong_type(at, "a number")),
        };
        if number.is_finite() { Ok(number) } else { Err(self.not_finite(at, number)) }
    }

    /// A hash of an event's id, the same on every machine: it is kept in the state. Scalars that are written alike are one id, as they
    /// are one entity: 7 and "7".
    fn read_id(&self, at: usize, id: &Value<'_>) -> Result<Option<u64>, Rejected> {
        let hash = match id {
            Value::Absent => return Ok(None),
            Value::Str(text) => XxHash3_64::oneshot(text.as_bytes()),
            Value::Bytes(bytes) => XxHash3_64::oneshot(bytes),
            Value::Bool(flag) => hash_of_text(flag),
            Value::Long(number) | Value::TimestampMs(number) => hash_of_text(number),
            Value::Unsigned(number) => hash_of_text(number),
            Value::Double(number) if !number.is_finite() => return Err(self.not_finite(at, *number)),
            // Two ids in JSON could be read as one such double, and an event would be lost.
            Value::Double(number) if number.abs() >= WHOLE_DOUBLES_END => {
                return Err(
                    self.wrong_type(at, "an id (a number this large is one only without a fraction, up to 64 bits)")
                );
            }
            // A zero has no sign in an id.
            Value::Double(number) => hash_of_text(number + 0.0),
            Value::NotScalar => return Err(self.wrong_type(at, "an id")),
        };
        Ok(Some(hash))
    }

    fn not_finite(&self, at: usize, number: f64) -> Rejected {
        Rejected::new(Reason::NotFinite, format_args!("field `{}` is {number}", self.fields[at]))
    }

    fn missing(&self, at: usize) -> Rejected {
        Rejected::new(Reason::MissingField, format_args!("field `{}` is missing or null", self.fields[at]))
    }

    fn wrong_type(&self, at: usize, wanted: &str) -> Rejected {
        Rejected::new(Reason::WrongType, format_args!("field `{}` cannot be read as {wanted}", self.fields[at]))
    }
}

/// Fields that a stream can ask for: at most 32 of its entity, the time, 64 measures, the id, and 16 to choose by.
const FIELDS_MAX: usize = 114;
/// Longest entity key: it goes into every record that is written about the entity.
const ENTITY_BYTES_MAX: usize = 1_024;

fn avro_reader(config: &StreamConfig, fields: &[&str]) -> Result<AvroReader, ProcessorError> {
    let wrong = |file: &str, problem: String| ProcessorError::Schema {
        stream: config.name.clone(),
        file: file.into(),
        problem,
    };
    let mut reader = AvroReader::new(fields);
    let mut is_known = false;
    for schema in catalogue::STREAMS.into_iter().flat_map(catalogue::builtin) {
        // A built-in schema that lacks a field is not this stream's; its records are then of an unknown schema.
        if AvroPlan::compile(schema.json(), fields).is_ok() {
            is_known = true;
            reader.add_schema(schema.json(), None).map_err(|error| wrong(schema.name(), error.to_string()))?;
        }
    }
    for source in &config.schemas {
        let json = std::fs::read_to_string(&source.file).map_err(|error| wrong(&source.file, error.to_string()))?;
        reader.add_schema(&json, source.id).map_err(|error| wrong(&source.file, error.to_string()))?;
        is_known = true;
    }
    if !is_known {
        let problem = "none is given, and no built-in one has all fields of the stream: name the writers' .avsc files in `schemas`";
        return Err(wrong("schemas", problem.into()));
    }
    Ok(reader)
}

/// Whether a field has one of these values, written as an entity's key would have it.
fn is_one_of(value: &Value<'_>, wanted: &[String]) -> bool {
    match value {
        Value::Str(text) => wanted.iter().any(|wanted| wanted == text),
        Value::Long(number) => wanted.iter().any(|wanted| wanted.parse() == Ok(*number)),
        Value::Unsigned(number) => wanted.iter().any(|wanted| wanted.parse() == Ok(*number)),
        Value::Bool(flag) => wanted.iter().any(|wanted| wanted.parse() == Ok(*flag)),
        _ => false,
    }
}

/// Longest text of a number: that of the doubles next to 0.
const NUMBER_BYTES_MAX: usize = 400;

fn hash_of_text(scalar: impl Display) -> u64 {
    use std::io::Write as _;
    let mut text = [0; NUMBER_BYTES_MAX];
    let mut rest = &mut text[..];
    write!(rest, "{scalar}").expect("no text of a number is longer");
    let unused = rest.len();
    XxHash3_64::oneshot(&text[..NUMBER_BYTES_MAX - unused])
}

/// Where doubles cease to tell whole numbers apart.
const WHOLE_DOUBLES_END: f64 = (1_u64 << 53) as f64;

/// The whole number of a time, rounded down, but where only the rounding of doubles keeps it from the next one: 1700000000.008 s are
/// 1700000000007.9998 ms. A double that was rounded once, and its product, are off by an epsilon at most.
fn whole(number: f64) -> i64 {
    let near = number.round();
    let is_near = (number - near).abs() <= number.abs() * f64::EPSILON;
    (if is_near { near } else { number.floor() }) as i64
}

fn push_escaped(key: &mut String, text: &str) {
    if text.bytes().any(|byte| byte == b'/' || byte == b'%') {
        tidewatch_schemas::entity::join_into(&[text], key);
    } else {
        key.push_str(text);
    }
}

/// RFC 3339, or a date and a time of day in UTC.
fn parse_time(text: &str) -> Option<i64> {
    let timestamp = text.parse::<jiff::Timestamp>().ok();
    let timestamp = timestamp.or_else(|| {
        let civil = text.parse::<jiff::civil::DateTime>().ok()?;
        civil.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
    });
    timestamp.map(|timestamp| timestamp.as_millisecond())
}

#[cfg(test)]
mod tests;
