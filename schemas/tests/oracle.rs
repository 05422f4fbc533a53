//! apache-avro as the oracle: the same bytes for the same record, and the same record for the same bytes.
#![allow(clippy::unwrap_used)]

mod samples;

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::writer::datum::GenericDatumWriter;
use proptest::prelude::*;
use samples::{Draw, Tree};
use tidewatch_schemas::project::{AvroPlan, JsonReader, JsonScratch, Value};
use tidewatch_schemas::record::*;
use tidewatch_schemas::wire::{self, Framing};
use tidewatch_schemas::{json, schema};

fn check<R: Record + Tree + PartialEq + std::fmt::Debug>(record: &R) -> Result<(), TestCaseError> {
    let schema = R::schema().parsed();
    let mut ours = Vec::new();
    record.encode(&mut ours);
    let theirs = GenericDatumWriter::builder(schema).build().unwrap().write_value_to_vec(record.tree()).unwrap();
    prop_assert_eq!(&ours, &theirs);
    prop_assert_eq!(&R::decode(&theirs).unwrap(), record);
    // Their reader reads ours: the tree that it makes writes the same bytes again.
    let tree = GenericDatumReader::builder(schema).build().unwrap().read_value(&mut &ours[..]).unwrap();
    let again = GenericDatumWriter::builder(schema).build().unwrap().write_value_to_vec(tree).unwrap();
    prop_assert_eq!(&again, &ours);
    for framing in [Framing::SingleObject, Framing::Confluent { schema_id: 77 }] {
        let mut framed = Vec::new();
        wire::encode(record, framing, &mut framed);
        prop_assert_eq!(&wire::decode::<R>(&framed).unwrap(), record);
    }
    for cut in 0..ours.len() {
        prop_assert!(R::decode(&ours[..cut]).is_err(), "{} of {} bytes were enough", cut, ours.len());
    }
    Ok(())
}

/// Random bytes behind a valid frame, and valid bytes with one changed: an error or a record, never a panic.
fn survive<R: Record>(framed: &[u8], noise: &[u8]) {
    let _ = R::decode(noise);
    let _ = wire::decode::<R>(noise);
    let _ = json::to_json(noise);
    for i in 0..framed.len() {
        let mut bent = framed.to_vec();
        bent[i] = noise.get(i).copied().unwrap_or(0xff);
        let _ = wire::decode::<R>(&bent);
    }
    let plan = AvroPlan::compile(R::schema().json(), &[]).unwrap();
    let _ = plan.decode(noise, &mut []);
    let _ = JsonReader::new(&["a.b"]).decode(noise, &mut JsonScratch::default(), &mut [Value::Absent]);
}

macro_rules! property {
    ($name:ident, $record:ident) => {
        mod $name {
            use super::*;
            proptest! {
                #![proptest_config(ProptestConfig::with_cases(64))]
                #[test]
                fn agrees_with_apache_avro(record in $record::draw()) {
                    check(&record)?;
                }
                #[test]
                fn survives_any_bytes(record in $record::draw(), noise in prop::collection::vec(any::<u8>(), 0..200)) {
                    let mut framed = Vec::new();
                    wire::encode(&record, Framing::SingleObject, &mut framed);
                    survive::<$record>(&framed, &noise);
                }
            }
        }
    };
}
every_kind!(property);

#[test]
fn records_are_named_like_their_schemas() {
    macro_rules! named {
        ($name:ident, $record:ident) => {
            assert_eq!($record::NAME, stringify!($name).replace('_', "-"));
            assert_eq!($record::TYPE, format!("tidewatch.{}.v{}", $record::NAME, $record::schema().version()));
            assert!(std::ptr::eq($record::schema(), schema::current($record::NAME).unwrap()));
        };
    }
    every_kind!(named);
}
