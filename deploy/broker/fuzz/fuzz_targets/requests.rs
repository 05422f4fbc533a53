//! The frames of a connection, carried out by a broker in memory.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidewatch_broker::fuzzing::requests(bytes));
