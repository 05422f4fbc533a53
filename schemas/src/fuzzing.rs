//! What the fuzz targets run: records of anybody, by a plan or as JSON. Beyond "nothing panics", each target checks what must hold
//! of any bytes; the targets themselves are under `fuzz/`, and a bounded run of them is among the tests.

use std::sync::OnceLock;

use crate::project::{AvroPlan, AvroReader, JsonReader, JsonScratch, Value};
use crate::schema;

/// Everything that Avro has, twice: to be read and to be skipped; and a type that contains itself.
const ALL_TYPES: &str = r#"{"type": "record", "name": "All", "fields": [
    {"name": "skipped", "type": {"type": "record", "name": "Node", "fields": [
        {"name": "next", "type": ["null", "Node"]}, {"name": "nodes", "type": {"type": "array", "items": "Node"}},
        {"name": "map", "type": {"type": "map", "values": ["int", "string", {"type": "fixed", "name": "F3", "size": 3}]}},
        {"name": "e", "type": {"type": "enum", "name": "E", "symbols": ["A", "B", "C"]}},
        {"name": "b", "type": "boolean"}, {"name": "f", "type": "float"}, {"name": "d", "type": "double"}]}},
    {"name": "boolean", "type": "boolean"}, {"name": "int", "type": ["null", "int"]}, {"name": "long", "type": "long"},
    {"name": "float", "type": "float"}, {"name": "double", "type": ["double", "null"]}, {"name": "string", "type": "string"},
    {"name": "bytes", "type": "bytes"}, {"name": "fixed", "type": "F3"}, {"name": "enum", "type": "E"},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-nanos"}},
    {"name": "inner", "type": ["null", {"type": "record", "name": "Inner", "fields": [
        {"name": "text", "type": "string"}, {"name": "list", "type": {"type": "array", "items": "null"}}]}]}]}"#;

const ALL_FIELDS: [&str; 11] =
    ["boolean", "int", "long", "float", "double", "string", "bytes", "fixed", "enum", "at", "inner.text"];

/// The schemas that a datum is read by, and what is wanted of it.
fn plans() -> &'static [AvroPlan; 3] {
    static PLANS: OnceLock<[AvroPlan; 3]> = OnceLock::new();
    PLANS.get_or_init(|| {
        let plan = |json: &str, fields: &[&str]| AvroPlan::compile(json, fields).expect("the plan of a fuzz target");
        let builtin = |name| schema::current(name).expect("a released kind").json();
        [
            plan(ALL_TYPES, &ALL_FIELDS),
            plan(builtin("service-call"), &["event_time", "service", "duration_ms"]),
            plan(builtin("check"), &["check", "status"]),
        ]
    })
}

/// A datum, by the schema that the first byte names; the same bytes then as a framed message.
///
/// # Panics
/// Where a datum can be read and so can the same without its last byte, or with one more: Avro has no such two.
pub fn avro_plan(bytes: &[u8]) {
    let Some((kind, datum)) = bytes.split_first() else { return };
    let plans = plans();
    let plan = &plans[usize::from(*kind) % plans.len()];
    if is_read(plan, datum) {
        if let Some((_, shorter)) = datum.split_last() {
            assert!(!is_read(plan, shorter), "a datum that is cut off is not read");
        }
        assert!(!is_read(plan, &[datum, &[0]].concat()), "bytes after a datum are seen");
    }
    let _ = reader().decode(bytes, &mut [Value::Absent]);
}

/// Made once, as a stream makes it: a run is then one of the readers, not of the compiler.
fn reader() -> &'static AvroReader {
    static READER: OnceLock<AvroReader> = OnceLock::new();
    READER.get_or_init(|| {
        let mut reader = AvroReader::new(&["service"]);
        let json = schema::current("service-call").expect("a released kind").json();
        reader.add_schema(json, Some(7)).expect("a schema");
        reader
    })
}

fn is_read(plan: &AvroPlan, datum: &[u8]) -> bool {
    let mut out = [Value::Absent; ALL_FIELDS.len()];
    plan.decode(datum, &mut out[..plan.slots()]).is_ok()
}

/// A JSON message.
///
/// # Panics
/// Where serde_json's own document says something else about a field.
pub fn json(bytes: &[u8]) {
    let fields = ["n", "deep.er.field", "deep.other", "s"];
    let (mut out, mut scratch) = ([Value::Absent; 4], JsonScratch::default());
    let read = JsonReader::new(&fields).decode(bytes, &mut scratch, &mut out);
    let Ok(document) = serde_json::from_slice::<serde_json::Value>(bytes) else { return };
    if read.is_err() {
        return;
    }
    for (field, value) in [("n", out[0]), ("s", out[3])] {
        let found = document.get(field).unwrap_or(&serde_json::Value::Null);
        assert!(is_same(found, value), "field {field}: {found} was read as {value:?}");
    }
}

fn is_same(found: &serde_json::Value, value: Value<'_>) -> bool {
    match value {
        Value::Absent => found.is_null(),
        Value::Bool(flag) => found.as_bool() == Some(flag),
        Value::Long(number) => found.as_i64() == Some(number),
        Value::Unsigned(number) => found.as_u64() == Some(number),
        Value::Double(number) => found.as_f64() == Some(number),
        Value::Str(text) => found.as_str() == Some(text),
        Value::NotScalar => found.is_object() || found.is_array(),
        Value::Bytes(_) | Value::TimestampMs(_) => false,
    }
}

#[cfg(test)]
mod tests;
