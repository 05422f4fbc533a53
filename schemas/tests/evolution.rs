//! Every released version of every schema stays readable, and stays what it was.
//!
//! `golden/<name>.v<version>.hex` is a framed message, written once when the version was released; beside it stand the
//! schema's fingerprint, the length and checksum of the `.avsc` text, and what the message says as JSON.
#![allow(clippy::unwrap_used)]

mod samples;

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema_compatibility::SchemaCompatibility;
use apache_avro::types::Value as Avro;
use apache_avro::writer::datum::GenericDatumWriter;
use proptest::prelude::*;
use samples::sample;
use tidewatch_schemas::project::{AvroPlan, AvroReader, Value};
use tidewatch_schemas::record::*;
use tidewatch_schemas::wire::{self, Framing};
use tidewatch_schemas::{Schema, json, schema};

/// FNV-1a, 64 bits: enough to notice that a file changed.
fn checksum(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let text = text.trim();
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

fn golden(schema: &Schema, extension: &str, otherwise: impl FnOnce() -> String) -> String {
    let file = format!("{}.v{}.{extension}", schema.name(), schema.version());
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(&file);
    std::fs::read_to_string(&path)
        .unwrap_or_else(|e| panic!("{e}: a new version needs tests/golden/{file}, such as\n{}", otherwise()))
}

fn identity(schema: &Schema) -> String {
    format!("{:016x} {} {:016x}\n", schema.fingerprint(), schema.json().len(), checksum(schema.json()))
}

fn check_kind<R: Record + samples::Draw>() {
    for version in schema::versions(R::NAME) {
        assert_eq!(
            golden(version, "schema", || identity(version)),
            identity(version),
            "{} v{} is released and must not change: make a new version",
            R::NAME,
            version.version()
        );
        let framed = unhex(&golden(version, "hex", || {
            let mut framed = Vec::new();
            wire::encode(&sample::<R>(7), Framing::SingleObject, &mut framed);
            hex(&framed)
        }));
        let told = json::to_json(&framed).unwrap();
        // As values, not as text: whether keys are sorted is a feature of serde_json that any crate may turn on.
        let golden_json = golden(version, "json", || format!("{told:#}\n"));
        let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        // Both sides go through text: serde_json's parser may be one unit in the last place off.
        assert_eq!(parse(&told.to_string()), parse(&golden_json));
        let record: R = wire::decode(&framed).unwrap();
        if version.version() == R::schema().version() {
            let mut again = Vec::new();
            wire::encode(&record, Framing::SingleObject, &mut again);
            assert_eq!(again, framed);
        }
    }
}

macro_rules! released {
    ($name:ident, $record:ident) => {
        #[test]
        fn $name() {
            check_kind::<$record>();
        }
    };
}
every_kind!(released);

#[test]
fn every_version_reads_and_is_read_by_every_other() {
    for a in schema::all() {
        for b in schema::versions(a.name()) {
            SchemaCompatibility::can_read(a.parsed(), b.parsed()).unwrap();
        }
    }
}

/// A reader with version 3 has no word for it, and says so.
#[test]
fn an_older_reader_reads_alerts_but_predicted_breaches() {
    let reader = schema::versions(Alert::NAME).find(|schema| schema.version() == 3).unwrap().parsed();
    for kind in AlertKind::ALL {
        let alert = Alert { kind: *kind, ..sample(7) };
        let mut datum = Vec::new();
        alert.encode(&mut datum);
        let old = GenericDatumReader::builder(Alert::schema().parsed()).reader_schema(reader).build().unwrap();
        assert_eq!(old.read_value(&mut &datum[..]).is_ok(), *kind != AlertKind::PredictedBreach, "{kind}");
    }
}

/// A writer's field: name, type, and the value that it wrote.
type Field = (String, &'static str, Avro);

fn writer_schema(fields: &[Field]) -> String {
    let fields: Vec<_> = fields
        .iter()
        .map(|(name, kind, _)| {
            let kind: serde_json::Value = serde_json::from_str(kind).unwrap();
            serde_json::json!({"name": name, "type": kind})
        })
        .collect();
    serde_json::json!({"type": "record", "name": "R", "fields": fields}).to_string()
}

fn number() -> impl Strategy<Value = (&'static str, Avro)> {
    prop_oneof![
        any::<i32>().prop_map(|x| ("\"int\"", Avro::Int(x))),
        any::<i64>().prop_map(|x| ("\"long\"", Avro::Long(x))),
        (-1e6f32..1e6).prop_map(|x| ("\"float\"", Avro::Float(x))),
        (-1e9f64..1e9).prop_map(|x| ("\"double\"", Avro::Double(x))),
    ]
}

fn writer_fields() -> impl Strategy<Value = Vec<Field>> {
    let extra = prop_oneof![
        number(),
        ".{0,9}".prop_map(|s| ("\"string\"", Avro::String(s))),
        prop::collection::vec(any::<i64>(), 0..4).prop_map(|items| {
            (r#"{"type": "array", "items": "long"}"#, Avro::Array(items.into_iter().map(Avro::Long).collect()))
        }),
        Just((r#"["null", "string"]"#, Avro::Union(0, Box::new(Avro::Null)))),
    ];
    (number(), ".{0,9}", any::<i64>(), prop::collection::vec(extra, 0..5))
        .prop_map(|((kind, n), s, t, extras)| {
            let millis = r#"{"type": "long", "logicalType": "timestamp-millis"}"#;
            let mut fields = vec![
                ("n".to_owned(), kind, n),
                ("s".to_owned(), "\"string\"", Avro::String(s)),
                ("t".to_owned(), millis, Avro::TimestampMillis(t)),
            ];
            fields.extend(extras.into_iter().enumerate().map(|(i, (kind, x))| (format!("x{i}"), kind, x)));
            fields
        })
        .prop_shuffle()
}

proptest! {
    /// Fields added, removed, reordered and promoted by the writer: apache-avro's resolution says what is read.
    #[test]
    fn a_plan_reads_what_resolution_reads(fields in writer_fields()) {
        let json = writer_schema(&fields);
        let writer = apache_avro::Schema::parse_str(&json).unwrap();
        let reader = apache_avro::Schema::parse_str(r#"{"type": "record", "name": "R", "fields": [
            {"name": "n", "type": "double"}, {"name": "s", "type": "string"},
            {"name": "t", "type": {"type": "long", "logicalType": "timestamp-millis"}},
            {"name": "added", "type": ["null", "int"], "default": null}]}"#).unwrap();
        let value = Avro::Record(fields.iter().map(|(name, _, x)| (name.clone(), x.clone())).collect());
        let datum = GenericDatumWriter::builder(&writer).build().unwrap().write_value_to_vec(value).unwrap();

        let resolved = GenericDatumReader::builder(&writer).reader_schema(&reader).build().unwrap()
            .read_value(&mut &datum[..]).unwrap();
        let Avro::Record(resolved) = resolved else { unreachable!() };

        let missing = tidewatch_schemas::project::Missing::Absent;
        let plan = AvroPlan::compile_with(&json, &["n", "s", "t", "added"], missing).unwrap();
        let mut out = [Value::Absent; 4];
        plan.decode(&datum, &mut out).unwrap();
        let n = match out[0] { Value::Long(x) => x as f64, Value::Double(x) => x, other => panic!("{other:?}") };
        prop_assert_eq!(&resolved[0].1, &Avro::Double(n));
        let (Value::Str(s), Value::TimestampMs(t)) = (out[1], out[2]) else { panic!("{out:?}") };
        prop_assert_eq!(&resolved[1].1, &Avro::String(s.to_owned()));
        prop_assert_eq!(&resolved[2].1, &Avro::TimestampMillis(t));
        prop_assert_eq!(out[3], Value::Absent);
        for cut in 0..datum.len() {
            prop_assert!(plan.decode(&datum[..cut], &mut [Value::Absent; 4]).is_err());
        }
    }
}

#[test]
fn a_reader_knows_several_writers() {
    let old =
        r#"{"type": "record", "name": "R", "fields": [{"name": "a", "type": "int"}, {"name": "b", "type": "string"}]}"#;
    let new = r#"{"type": "record", "name": "R", "fields": [{"name": "z", "type": "long"}, {"name": "a", "type": "double"}]}"#;
    let mut reader = AvroReader::new(&["a", "b"]);
    reader.add_schema(old, Some(1)).unwrap();
    reader.add_schema(new, Some(2)).unwrap();
    let mut message = vec![0, 0, 0, 0, 1, 6, 2, b'x'];
    let mut out = [Value::Absent; 2];
    reader.decode(&message, &mut out).unwrap();
    assert_eq!(out, [Value::Long(3), Value::Str("x")]);
    message = vec![0, 0, 0, 0, 2, 0];
    message.extend(1.5f64.to_le_bytes());
    let mut out = [Value::Absent; 2];
    reader.decode(&message, &mut out).unwrap();
    assert_eq!(out, [Value::Double(1.5), Value::Absent]);
    let error = reader.decode(&[0, 0, 0, 0, 3], &mut [Value::Absent; 2]).unwrap_err();
    assert_eq!((error.to_string().as_str(), error.reason()), ("unknown schema: id 3", "unknown-schema"));
    let error = reader.decode(b"{}", &mut [Value::Absent; 2]).unwrap_err();
    assert_eq!(error.reason(), "bad-frame");
}
