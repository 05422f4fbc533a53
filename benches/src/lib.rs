//! Tidewatch's measuring instruments.
//!
//! `cargo bench -p tidewatch-benches --bench decode` holds the decode plan of `tidewatch-schemas` against apache-avro's paths, in one
//! run on the same records. Nothing here is part of the product; there is no code to use.
