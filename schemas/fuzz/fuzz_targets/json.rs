//! A JSON message of anybody's.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidewatch_schemas::fuzzing::json(bytes));
