//! A roll as bytes: one Parquet file per date, JSON lines for alerts, raw JSON lines for what could
//! not be read. A pure function of the roll's rows, so that whoever finishes a roll writes the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema, TimeUnit};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde_json::json;
use tidewatch_schemas::columns::ColumnDecoder;

use super::buffer::{Roll, Row};
use super::claim::{CLAIM_VERSION, Claim, ClaimedFile, FileKind, data_path, date_of};
use super::kind::TopicKind;
use super::shelf::EncodedRoll;

/// Rows per Arrow batch: bounds the second copy of the rows while a file is encoded.
const BATCH_ROWS: usize = 4096;

/// Rows that passed the reading at arrival and still could not be encoded: a defect.
#[derive(Debug, thiserror::Error)]
#[error("cannot encode {kind} offsets {first_offset} to {last_offset} as {format}: {reason}")]
pub struct EncodeError {
    /// What the rows are.
    pub kind: TopicKind,
    /// First offset of the roll.
    pub first_offset: i64,
    /// Last offset of the roll.
    pub last_offset: i64,
    /// `Parquet` or `JSON lines`.
    pub format: &'static str,
    /// What went wrong.
    pub reason: String,
}

/// Encodes a roll: its files in the order of their kind, then date, and the claim that lists them.
pub(crate) fn encode(roll: &Roll<'_>) -> Result<EncodedRoll, EncodeError> {
    let offsets = roll.offsets();
    let mut groups: BTreeMap<(FileKind, String), Vec<&Row>> = BTreeMap::new();
    for row in roll.rows {
        let date = date_of(row.timestamp_ms);
        if row.rejected.is_some() {
            groups.entry((FileKind::RejectedLines, date)).or_default().push(row);
            continue;
        }
        if roll.kind == TopicKind::Alerts {
            groups.entry((FileKind::AlertLines, date.clone())).or_default().push(row);
        }
        groups.entry((FileKind::Parquet, date)).or_default().push(row);
    }
    let mut files = Vec::with_capacity(groups.len());
    let mut contents = Vec::with_capacity(groups.len());
    for ((file, date), rows) in groups {
        let bytes = match file {
            FileKind::Parquet => parquet(roll, &rows).map_err(|e| failed(roll, "Parquet", e))?,
            FileKind::AlertLines => alert_lines(roll, &rows).map_err(|e| failed(roll, "JSON lines", e))?,
            FileKind::RejectedLines => rejected_lines(roll, &rows),
        };
        let path = data_path(file, roll.kind, &date, roll.topic, roll.partition, offsets);
        files.push(ClaimedFile { path: path.to_string(), bytes: bytes.len() as u64, rows: rows.len() as u64 });
        contents.push(bytes);
    }
    let claim = Claim {
        version: CLAIM_VERSION,
        topic: roll.topic.to_owned(),
        partition: roll.partition,
        first_offset: offsets.0,
        last_offset: offsets.1,
        records: roll.rows.len() as u64,
        files,
    };
    Ok(EncodedRoll { claim, contents })
}

fn failed(roll: &Roll<'_>, format: &'static str, error: Box<dyn std::error::Error>) -> EncodeError {
    let (first_offset, last_offset) = roll.offsets();
    EncodeError { kind: roll.kind, first_offset, last_offset, format, reason: error.to_string() }
}

type Failure = Box<dyn std::error::Error>;

fn parquet(roll: &Roll<'_>, rows: &[&Row]) -> Result<Vec<u8>, Failure> {
    let mut decoder = ColumnDecoder::new(roll.kind.schema(), BATCH_ROWS)?;
    let mut writer: Option<ArrowWriter<Vec<u8>>> = None;
    for chunk in rows.chunks(BATCH_ROWS) {
        for row in chunk {
            decoder.push(roll.value(row).unwrap_or_default())?;
        }
        let batch = with_origin(decoder.flush()?.ok_or("no rows came out")?, roll.partition, chunk)?;
        let writer = match &mut writer {
            Some(writer) => writer,
            none => none.insert(ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties()))?),
        };
        writer.write(&batch)?;
    }
    Ok(writer.ok_or("a file without rows")?.into_inner()?)
}

fn properties() -> WriterProperties {
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_created_by("tidewatch".to_owned())
        .build()
}

/// Appends where each row came from: `_partition`, `_offset`, `_timestamp` (event time, UTC).
fn with_origin(batch: RecordBatch, partition: i32, rows: &[&Row]) -> Result<RecordBatch, Failure> {
    if batch.num_rows() != rows.len() {
        return Err(format!("{} rows came out where {} went in", batch.num_rows(), rows.len()).into());
    }
    let utc: Arc<str> = Arc::from("UTC");
    let mut fields: Vec<Arc<Field>> = batch.schema().fields().iter().cloned().collect();
    let timestamp = DataType::Timestamp(TimeUnit::Millisecond, Some(Arc::clone(&utc)));
    fields.push(Arc::new(Field::new("_partition", DataType::Int32, false)));
    fields.push(Arc::new(Field::new("_offset", DataType::Int64, false)));
    fields.push(Arc::new(Field::new("_timestamp", timestamp, true)));
    let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
    columns.push(Arc::new(Int32Array::from(vec![partition; rows.len()])));
    columns.push(Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.offset))));
    let times: TimestampMillisecondArray = rows.iter().map(|row| row.timestamp_ms).collect();
    columns.push(Arc::new(times.with_timezone(utc)));
    Ok(RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), columns)?)
}

fn alert_lines(roll: &Roll<'_>, rows: &[&Row]) -> Result<Vec<u8>, Failure> {
    let mut lines = Vec::new();
    for row in rows {
        let alert = tidewatch_schemas::json::to_json_of(roll.value(row).unwrap_or_default(), roll.kind.schema())?;
        serde_json::to_writer(&mut lines, &alert)?;
        lines.push(b'\n');
    }
    Ok(lines)
}

fn rejected_lines(roll: &Roll<'_>, rows: &[&Row]) -> Vec<u8> {
    let mut lines = Vec::new();
    for row in rows {
        let line = json!({
            "topic": roll.topic,
            "partition": roll.partition,
            "offset": row.offset,
            "timestamp_ms": row.timestamp_ms,
            "error": row.rejected,
            "value_hex": roll.value(row).map(hex),
        });
        lines.extend_from_slice(line.to_string().as_bytes());
        lines.push(b'\n');
    }
    lines
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
