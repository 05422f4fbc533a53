//! One frame of a connection: header, check, decoding, an error as the answer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidewatch_broker::fuzzing::frame(bytes));
