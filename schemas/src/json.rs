//! Any of our records as JSON, for people: instants as RFC 3339, fixed as hexadecimal digits.
//!
//! This is the slow, general way (apache-avro's value tree); nothing on an event's way uses it.

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value as Avro;
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::datum::DecodeError;
use crate::schema::{self, Schema};
use crate::wire::{self, Header};

/// A framed message of any released schema as JSON.
///
/// A Confluent id cannot be looked up here: [`to_json_of`] takes the schema from a caller who knows it.
pub fn to_json(framed: &[u8]) -> Result<Value, DecodeError> {
    let (header, datum) = wire::read_header(framed)?;
    match header {
        Header::SchemaId(id) => Err(DecodeError::UnknownSchemaId(id)),
        Header::Fingerprint(fingerprint) => {
            let schema = schema::by_fingerprint(fingerprint).ok_or(DecodeError::UnknownFingerprint(fingerprint))?;
            datum_to_json(datum, schema)
        }
    }
}

/// As [`to_json`], for a topic whose schema is known: a Confluent frame is read as `schema`.
pub fn to_json_of(framed: &[u8], schema: &Schema) -> Result<Value, DecodeError> {
    match wire::read_header(framed)? {
        (Header::SchemaId(_), datum) => datum_to_json(datum, schema),
        (Header::Fingerprint(_), _) => to_json(framed),
    }
}

fn datum_to_json(mut datum: &[u8], schema: &Schema) -> Result<Value, DecodeError> {
    let value = read_datum(&mut datum, schema.parsed(), None).map_err(|_| DecodeError::Resolution(schema.version()))?;
    if !datum.is_empty() {
        return Err(DecodeError::Trailing(datum.len()));
    }
    Ok(value_to_json(value))
}

/// Reads a value by apache-avro.
pub(crate) fn read_datum(
    datum: &mut &[u8],
    writer: &apache_avro::Schema,
    reader: Option<&apache_avro::Schema>,
) -> Result<Avro, Box<apache_avro::Error>> {
    GenericDatumReader::builder(writer).maybe_reader_schema(reader).build()?.read_value(datum).map_err(Box::new)
}

fn value_to_json(value: Avro) -> Value {
    match value {
        Avro::Null => Value::Null,
        Avro::Boolean(b) => b.into(),
        Avro::Int(i) | Avro::Date(i) | Avro::TimeMillis(i) => i.into(),
        Avro::Long(i) | Avro::TimeMicros(i) => i.into(),
        Avro::Float(x) => number(f64::from(x)),
        Avro::Double(x) => number(x),
        Avro::String(s) | Avro::Enum(_, s) => s.into(),
        Avro::Bytes(bytes) => match String::from_utf8(bytes) {
            Ok(text) => text.into(),
            Err(e) => format!("0x{}", hex(e.as_bytes())).into(),
        },
        Avro::Fixed(_, bytes) => hex(&bytes).into(),
        Avro::Union(_, inner) => value_to_json(*inner),
        Avro::Array(items) => items.into_iter().map(value_to_json).collect(),
        // Sorted, because apache-avro's map has no order.
        Avro::Map(entries) => {
            let sorted: std::collections::BTreeMap<_, _> = entries.into_iter().collect();
            sorted.into_iter().map(|(key, value)| (key, value_to_json(value))).collect::<Map<_, _>>().into()
        }
        Avro::Record(fields) => {
            fields.into_iter().map(|(name, value)| (name, value_to_json(value))).collect::<Map<_, _>>().into()
        }
        Avro::TimestampMillis(ms) | Avro::LocalTimestampMillis(ms) => instant(ms, Timestamp::from_millisecond(ms).ok()),
        Avro::TimestampMicros(us) | Avro::LocalTimestampMicros(us) => instant(us, Timestamp::from_microsecond(us).ok()),
        Avro::TimestampNanos(ns) | Avro::LocalTimestampNanos(ns) => {
            instant(ns, Timestamp::from_nanosecond(i128::from(ns)).ok())
        }
        Avro::Uuid(uuid) => uuid.to_string().into(),
        other @ (Avro::Decimal(_) | Avro::BigDecimal(_) | Avro::Duration(_)) => format!("{other:?}").into(),
    }
}

/// JSON has no NaN and no infinity; they become text rather than vanish.
fn number(x: f64) -> Value {
    serde_json::Number::from_f64(x).map_or_else(|| x.to_string().into(), Value::Number)
}

/// RFC 3339 with milliseconds; an instant outside jiff's years -9999 to 9999 stays a number.
fn instant(raw: i64, timestamp: Option<Timestamp>) -> Value {
    timestamp.map_or_else(|| raw.into(), |t| format!("{t:.3}").into())
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Check;
    use crate::wire::Framing;

    #[test]
    fn a_record_reads_like_json() {
        let check = Check {
            event_time: 1_700_000_000_123,
            check: "login".into(),
            location: "sydney".into(),
            region: "APAC".into(),
            tenant: "acme".into(),
            success: false,
            response_ms: f64::INFINITY,
            status: 503,
        };
        let mut framed = Vec::new();
        wire::encode(&check, Framing::SingleObject, &mut framed);
        let json = to_json(&framed).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "event_time": "2023-11-14T22:13:20.123Z", "check": "login", "location": "sydney", "region": "APAC",
                "tenant": "acme", "success": false, "response_ms": "inf", "status": 503
            })
        );
        framed.push(0);
        assert_eq!(to_json(&framed), Err(DecodeError::Trailing(1)));
        framed.truncate(20);
        assert!(to_json(&framed).is_err());
        framed.clear();
        wire::encode(&check, Framing::Confluent { schema_id: 7 }, &mut framed);
        assert_eq!(to_json(&framed), Err(DecodeError::UnknownSchemaId(7)));
        assert_eq!(to_json_of(&framed, schema::current("check").unwrap()), Ok(json));
    }
}
