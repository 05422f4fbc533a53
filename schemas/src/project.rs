//! A few fields out of anybody's records: Avro by the writer's schema, or JSON.
//!
//! The wanted fields are dotted paths; slot `i` of the output belongs to field `i`. Values are borrowed from the
//! message. Invariant: no message can panic a reader, and reading takes time and memory linear in its length.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::datum::DecodeError;
use crate::schema::fingerprint_of;
use crate::wire::{self, Header, WireError};

mod compile;
mod json;
mod plan;

pub use compile::{Missing, PlanError};
pub use json::{JsonReader, JsonScratch};
pub use plan::AvroPlan;

/// One projected field.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Value<'a> {
    /// Null, or not in the message.
    #[default]
    Absent,
    /// A boolean.
    Bool(bool),
    /// An int or long, or a JSON number without fraction.
    Long(i64),
    /// A JSON number without fraction that is greater than any [`Long`](Self::Long).
    Unsigned(u64),
    /// A float or double, or any other JSON number.
    Double(f64),
    /// A string or an enum's symbol.
    Str(&'a str),
    /// Bytes or fixed.
    Bytes(&'a [u8]),
    /// An instant, milliseconds since the epoch; finer units are rounded down.
    TimestampMs(i64),
    /// In JSON: an array or an object, or something else than an object on the way to the field.
    NotScalar,
}

/// Why a message could not be read. Each kind means that the message is bad (or its schema is not known).
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ReadError {
    /// No readable frame.
    #[error("{0}")]
    Frame(WireError),
    /// Nobody has told the reader the schema that the message names.
    #[error("unknown schema: {0}")]
    UnknownSchema(Header),
    /// Not a datum of its schema.
    #[error("{0}")]
    Datum(DecodeError),
    /// Not the JSON that is wanted.
    #[error("{0}")]
    Json(String),
    /// JSON with a wanted number that no double holds.
    #[error("{0}")]
    JsonNumber(String),
}

impl ReadError {
    /// The kind in kebab-case, from a closed set, for dead letters and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Frame(_) => "bad-frame",
            Self::UnknownSchema(_) => "unknown-schema",
            Self::Datum(_) => "bad-avro",
            Self::Json(_) | Self::JsonNumber(_) => "bad-json",
        }
    }
}

/// Reads framed Avro messages of several writers' schemas, each by its own plan.
#[derive(Debug, Clone)]
pub struct AvroReader {
    fields: Vec<String>,
    plans: BTreeMap<Header, Arc<AvroPlan>>,
}

impl AvroReader {
    /// A reader of these fields that knows no schema yet.
    pub fn new(fields: &[&str]) -> Self {
        Self { fields: fields.iter().map(|&field| field.to_owned()).collect(), plans: BTreeMap::new() }
    }

    /// Learns a writer's schema, by its fingerprint and, where a registry knows it, by its id.
    ///
    /// The first schema must have every field. A further one may lack some, as versions do: they are absent.
    pub fn add_schema(&mut self, json: &str, confluent_id: Option<u32>) -> Result<(), PlanError> {
        let fields: Vec<&str> = self.fields.iter().map(String::as_str).collect();
        let missing = if self.plans.is_empty() { Missing::Refuse } else { Missing::Absent };
        let schema = compile::parse(json)?;
        let plan = Arc::new(compile::compile(&schema, &fields, missing)?);
        self.plans.insert(Header::Fingerprint(fingerprint_of(&schema)), Arc::clone(&plan));
        if let Some(id) = confluent_id {
            self.plans.insert(Header::SchemaId(id), plan);
        }
        Ok(())
    }

    /// The wanted fields, in slot order.
    pub fn fields(&self) -> &[String] {
        &self.fields
    }

    /// Whether the schema that a frame names is known.
    pub fn knows(&self, header: Header) -> bool {
        self.plans.contains_key(&header)
    }

    /// Reads the wanted fields of a framed message.
    ///
    /// # Panics
    /// If `out` has not one slot per field.
    pub fn decode<'a>(&'a self, framed: &'a [u8], out: &mut [Value<'a>]) -> Result<(), ReadError> {
        let (header, datum) = wire::read_header(framed).map_err(ReadError::Frame)?;
        let plan = self.plans.get(&header).ok_or(ReadError::UnknownSchema(header))?;
        plan.decode(datum, out).map_err(ReadError::Datum)
    }
}

/// The wanted fields as a tree of names.
#[derive(Debug, Clone, Default)]
struct Wanted {
    /// Slots that this very path fills; several when a path is wanted twice.
    slots: Vec<usize>,
    children: BTreeMap<String, Wanted>,
}

impl Wanted {
    fn new<'f>(fields: impl IntoIterator<Item = &'f str>) -> Self {
        let mut root = Self::default();
        for (slot, field) in fields.into_iter().enumerate() {
            let leaf = field.split('.').fold(&mut root, |node, name| node.children.entry(name.to_owned()).or_default());
            leaf.slots.push(slot);
        }
        root
    }
}
