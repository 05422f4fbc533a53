//! Framed messages of one record kind into Arrow record batches, by arrow-avro.
//!
//! Invariant: a message that is refused leaves no trace in the batch. arrow-avro gives up in the middle of a row, so
//! every datum is checked from end to end before it gets there.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_avro::reader::{Decoder, ReaderBuilder};
use arrow_avro::schema::{AvroSchema, Fingerprint, SchemaStore};

use crate::datum::DecodeError;
use crate::project::AvroPlan;
use crate::schema::{self, Schema};
use crate::wire::{self, Framing, Header};

/// Why rows cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ColumnsError {
    /// The message is bad; the batch is as it was.
    #[error("{0}")]
    Message(DecodeError),
    /// The batch has all the rows it may have: flush it first.
    #[error("the batch is full at {0} rows")]
    Full(usize),
    /// Arrow refused what the check let pass.
    #[error("arrow: {0}")]
    Arrow(String),
}

/// Collects messages of one record kind and gives them out as a batch of columns.
#[derive(Debug)]
pub struct ColumnDecoder {
    schema: &'static Schema,
    check: AvroPlan,
    decoder: Decoder,
    rows_max: usize,
    frame: Vec<u8>,
}

impl ColumnDecoder {
    /// A decoder into the columns of `schema` (the current version of a kind), for at most `rows_max` rows a batch.
    pub fn new(schema: &'static Schema, rows_max: usize) -> Result<Self, ColumnsError> {
        let arrow = |e: &dyn std::fmt::Display| ColumnsError::Arrow(e.to_string());
        let check = AvroPlan::checking(schema.parsed()).map_err(|e| arrow(&e))?;
        let json = AvroSchema::new(schema.json().to_owned());
        let mut store = SchemaStore::new();
        store.set(Fingerprint::Rabin(schema.fingerprint()), json.clone()).map_err(|e| arrow(&e))?;
        let decoder = ReaderBuilder::new()
            .with_batch_size(rows_max)
            .with_reader_schema(json)
            .with_writer_schema_store(store)
            .with_active_fingerprint(Fingerprint::Rabin(schema.fingerprint()))
            .build_decoder()
            .map_err(|e| arrow(&e))?;
        Ok(Self { schema, check, decoder, rows_max, frame: Vec::new() })
    }

    /// The columns.
    pub fn arrow_schema(&self) -> SchemaRef {
        self.decoder.schema()
    }

    /// Rows that wait to be flushed.
    pub fn rows(&self) -> usize {
        self.rows_max - self.decoder.capacity()
    }

    /// Adds a message of any released version; a Confluent frame is read as the current one.
    pub fn push(&mut self, framed: &[u8]) -> Result<(), ColumnsError> {
        if self.decoder.batch_is_full() {
            return Err(ColumnsError::Full(self.rows_max));
        }
        let (header, datum) = wire::read_header(framed).map_err(|e| ColumnsError::Message(e.into()))?;
        self.frame.clear();
        wire::write_header(Framing::SingleObject, self.schema.fingerprint(), &mut self.frame);
        let header_len = self.frame.len();
        match header {
            Header::Fingerprint(fingerprint) if fingerprint != self.schema.fingerprint() => {
                let current = self.resolve(datum, fingerprint).map_err(ColumnsError::Message)?;
                self.frame.extend_from_slice(&current);
            }
            _ => self.frame.extend_from_slice(datum),
        }
        self.check.decode(&self.frame[header_len..], &mut []).map_err(ColumnsError::Message)?;
        let consumed = self.decoder.decode(&self.frame).map_err(|e| ColumnsError::Arrow(e.to_string()))?;
        if consumed != self.frame.len() {
            return Err(ColumnsError::Arrow(format!("read {consumed} of {} bytes", self.frame.len())));
        }
        Ok(())
    }

    fn resolve(&self, datum: &[u8], fingerprint: u64) -> Result<Vec<u8>, DecodeError> {
        let writer = schema::versions(self.schema.name())
            .find(|version| version.fingerprint() == fingerprint)
            .ok_or(DecodeError::UnknownFingerprint(fingerprint))?;
        wire::resolve(datum, writer.parsed(), self.schema.parsed()).ok_or(DecodeError::Resolution(writer.version()))
    }

    /// The rows pushed since the last flush; `None` if there are none.
    pub fn flush(&mut self) -> Result<Option<RecordBatch>, ColumnsError> {
        self.decoder.flush().map_err(|e| ColumnsError::Arrow(e.to_string()))
    }
}
