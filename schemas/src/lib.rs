//! The contract between Tidewatch's roles: Avro schemas, record types, a fast codec and the topic catalogue.
//!
//! The `.avsc` files under `avsc/` are the source of truth; each released version stays, unchanged, for ever.
//! Nothing here does I/O, and nothing outside this crate knows Avro.
//!
//! - [`record`]: one file per record kind, written and read in schema order without a schema at hand.
//! - [`dead_letter`]: a record that could not be read, as it stands on its topic.
//! - [`wire`]: how a record is framed in a Kafka message (single-object or Confluent).
//! - [`project`]: a few fields of *anybody's* Avro or JSON records, by a plan compiled once.
//! - [`schema`]: the released schemas, by name, version and fingerprint.
//! - [`json`]: any of our records as JSON, for people.
//! - `columns` (feature `arrow`): framed messages into Arrow record batches.

pub mod catalogue;
#[cfg(feature = "arrow")]
pub mod columns;
pub mod datum;
pub mod dead_letter;
pub mod entity;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod json;
pub mod project;
pub mod record;
pub mod schema;
pub mod wire;

pub use datum::DecodeError;
pub use record::Record;
pub use schema::{Schema, versions};
