//! Decoding a service call of 8 fields in 80 bytes: our plan against apache-avro's ways, in one run.
//!
//! Target: at most 110 ns for all 8 fields, where apache-avro's fastest way takes about 330 ns.
#![allow(missing_docs)]

use std::hint::black_box;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value as Avro;
use apache_avro::writer::datum::GenericDatumWriter;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde::Deserialize;
use tidewatch_schemas::project::{AvroPlan, Value};

const SCHEMA: &str = r#"{"type": "record", "name": "Call", "fields": [
    {"name": "event_time", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    {"name": "service", "type": "string"}, {"name": "instance", "type": "string"},
    {"name": "region", "type": "string"}, {"name": "tenant", "type": "string"},
    {"name": "status", "type": "int"}, {"name": "duration_ms", "type": "double"},
    {"name": "release", "type": "string"}]}"#;

const FIELDS: [&str; 8] = ["event_time", "service", "instance", "region", "tenant", "status", "duration_ms", "release"];

/// What apache-avro's serde way reads, strings borrowed by nobody.
#[derive(Deserialize)]
#[allow(dead_code)]
struct Call {
    event_time: i64,
    service: String,
    instance: String,
    region: String,
    tenant: String,
    status: i32,
    duration_ms: f64,
    release: String,
}

fn datum(schema: &Schema) -> Vec<u8> {
    let text = |s: &str| Avro::String(s.to_owned());
    let values = [
        Avro::TimestampMillis(1_700_000_000_123),
        text("checkout-service"),
        text("checkout-7f9c4d-x2"),
        text("EMEA"),
        text("northwind-bank"),
        Avro::Int(200),
        Avro::Double(42.75),
        text("2026.11.1"),
    ];
    let record = Avro::Record(FIELDS.iter().map(|&name| name.to_owned()).zip(values).collect());
    let writer = GenericDatumWriter::builder(schema).build().expect("the schema is valid");
    writer.write_value_to_vec(record).expect("the record fits the schema")
}

fn decode(c: &mut Criterion) {
    let schema = Schema::parse_str(SCHEMA).expect("the schema is valid");
    let datum = datum(&schema);
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Bytes(datum.len() as u64));

    let plan = AvroPlan::compile(SCHEMA, &FIELDS).expect("the fields are there");
    group.bench_function("plan, 8 of 8 fields", |b| {
        b.iter(|| {
            let mut out = [Value::Absent; 8];
            plan.decode(black_box(&datum), &mut out).expect("the datum is valid");
            black_box(out);
        });
    });
    let few = AvroPlan::compile(SCHEMA, &["event_time", "service", "duration_ms"]).expect("the fields are there");
    group.bench_function("plan, 3 of 8 fields", |b| {
        b.iter(|| {
            let mut out = [Value::Absent; 3];
            few.decode(black_box(&datum), &mut out).expect("the datum is valid");
            black_box(out);
        });
    });
    let reader = GenericDatumReader::builder(&schema).build().expect("the schema is valid");
    group.bench_function("apache-avro, value tree", |b| {
        b.iter(|| black_box(reader.read_value(&mut black_box(&datum[..])).expect("the datum is valid")));
    });
    group.bench_function("apache-avro, serde", |b| {
        b.iter(|| black_box(reader.read_deser::<Call>(&mut black_box(&datum[..])).expect("the datum is valid")));
    });
    group.finish();
    assert!((78..=84).contains(&datum.len()), "the record is about 80 bytes, not {}", datum.len());
}

criterion_group!(benches, decode);
criterion_main!(benches);
