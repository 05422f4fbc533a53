//! A datum of anybody's, by a plan; and the same bytes as a framed message.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidewatch_schemas::fuzzing::avro_plan(bytes));
