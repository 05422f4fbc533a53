//! The files of a killed or damaged broker: opened, repaired, read, compacted.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    tidewatch_broker::fuzzing::recovery(folder.path(), bytes);
});
