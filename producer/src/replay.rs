//! Replays recorded data: a CSV file to a topic as JSON, at the recorded pace, a multiple of it, or as fast as possible.
//!
//! Invariant: rows are sent in the file's order, one at a time, so what arrives is a function of the file. A broken row is
//! named by its line, then skipped and counted, or (strict) ends the replay; it is never half sent.

mod rows;
#[cfg(test)]
mod tests;
mod timestamp;

use crate::metrics;
use crate::outlet::{Digits, Outlet, check_topics};
use crate::progress::Progress;
use crate::publisher::{INTENDED, SOURCE};
use crate::schedule::{Clock, Pace};
use csv::ByteRecord;
use rows::{Columns, Row};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tidewatch_topic_io::partitioner::partition_for;
use tidewatch_topic_io::{KafkaConfig, KafkaError, Outgoing, Writer};

/// Broken rows that are kept with their reason; the others are only counted.
pub const BROKEN_KEPT_MAX: usize = 10;
const TYPE: &[u8] = b"tidewatch.replay.v1";
const REPORT_EVERY: u64 = 256;

/// Whose telemetry the rows are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntitySource {
    /// The values of these columns; each becomes a field of the message.
    Columns(Vec<String>),
    /// One entity for all rows.
    Literal {
        /// The message's field.
        field: String,
        /// Its value.
        value: String,
    },
}

/// What to replay, and how.
#[derive(Clone, Debug)]
pub struct ReplayJob<'a> {
    /// A CSV file with a header.
    pub file: PathBuf,
    /// Where to.
    pub topic: String,
    /// How many partitions that topic has.
    pub partitions: i32,
    /// The column of the time; `None`: the first of timestamp, time, ts, date, datetime, event_time.
    pub time_column: Option<String>,
    /// The columns of the measures; empty: `value`, or else all that are neither time nor entity.
    pub value_columns: Vec<String>,
    /// Whose they are.
    pub entity: EntitySource,
    /// When rows are sent; a speed of 1 is the recorded pace.
    pub pace: Pace,
    /// End at the first broken row.
    pub strict: bool,
    /// How to reach Kafka.
    pub kafka: &'a KafkaConfig,
}

/// A row that was skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenRow {
    /// From 1; the header is line 1.
    pub line: u64,
    /// What is wrong with it.
    pub problem: String,
}

/// What was replayed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReplaySummary {
    /// Rows sent.
    pub published: u64,
    /// Rows skipped.
    pub rows_broken: u64,
    /// The first of them, at most [`BROKEN_KEPT_MAX`].
    pub broken: Vec<BrokenRow>,
    /// Rows that Kafka did not take.
    pub failed: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
    /// First and last event time sent, epoch ms.
    pub event_times: Option<(i64, i64)>,
    /// Whether it was stopped before the file's end.
    pub stopped: bool,
    /// How long it took.
    pub duration: Duration,
}

/// Why a file was not replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A setting is out of its range.
    #[error("{setting}: {problem}")]
    Setting {
        /// Its name in the job.
        setting: &'static str,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The file cannot be read.
    #[error("{} cannot be read", file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The header lacks a column.
    #[error("{}: there is no {what} column \"{column}\"; columns are: {present}", file.display())]
    MissingColumn {
        /// Which file.
        file: PathBuf,
        /// What it is for: time, value or entity.
        what: &'static str,
        /// Its name.
        column: String,
        /// Those that the file has.
        present: String,
    },
    /// A broken row, and strict.
    #[error("{}: line {line}: {problem}", file.display())]
    Row {
        /// Which file.
        file: PathBuf,
        /// From 1.
        line: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// No connection, or not the topic that is needed.
    #[error(transparent)]
    Connect(KafkaError),
    /// Kafka did not take something.
    #[error("publishing to {topic} failed")]
    Kafka {
        /// Where to.
        topic: String,
        /// Why.
        source: KafkaError,
    },
}

/// Replays to Kafka; returns when all is acknowledged, or soon after `stop` is set.
pub fn replay(job: &ReplayJob<'_>, progress: &Progress, stop: &AtomicBool) -> Result<ReplaySummary, ReplayError> {
    // The file's faults come before the broker's: they need no connection to be seen.
    let reader = open(job)?;
    check_topics(job.kafka, &[(&job.topic, Some(job.partitions))]).map_err(ReplayError::Connect)?;
    let mut outlet = Writer::new(job.kafka).map_err(ReplayError::Connect)?;
    Replay { job, reader, progress, stop }.run(&mut outlet)
}

fn kafka(job: &ReplayJob<'_>, source: KafkaError) -> ReplayError {
    ReplayError::Kafka { topic: job.topic.clone(), source }
}

/// A file whose header was read.
struct Reader {
    rows: csv::Reader<std::fs::File>,
    columns: Columns,
    lines: u64,
}

fn open(job: &ReplayJob<'_>) -> Result<Reader, ReplayError> {
    if let Some(problem) = job.pace.problem() {
        return Err(ReplayError::Setting { setting: "pace", problem });
    }
    if job.partitions < 1 {
        let problem = format!("{} is not above 0", job.partitions);
        return Err(ReplayError::Setting { setting: "partitions", problem });
    }
    let unreadable = |source| ReplayError::File { file: job.file.clone(), source };
    let lines = count_lines(&job.file).map_err(unreadable)?;
    let file = std::fs::File::open(&job.file).map_err(unreadable)?;
    // A row of another width is a broken row, not the end of the file.
    let mut rows = csv::ReaderBuilder::new().flexible(true).from_reader(file);
    let header = rows.headers().map_err(|error| unreadable(std::io::Error::other(error)))?.clone();
    let columns = Columns::choose(&header, job)?;
    Ok(Reader { rows, columns, lines })
}

/// For progress; a row may span lines, so it is an estimate.
fn count_lines(file: &Path) -> std::io::Result<u64> {
    let mut reader = BufReader::with_capacity(1 << 16, std::fs::File::open(file)?);
    let mut lines = 0;
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(lines);
        }
        lines += buffer.iter().filter(|byte| **byte == b'\n').count() as u64;
        let length = buffer.len();
        reader.consume(length);
    }
}

struct Replay<'a> {
    job: &'a ReplayJob<'a>,
    reader: Reader,
    progress: &'a Progress,
    stop: &'a AtomicBool,
}

impl Replay<'_> {
    fn run<O: Outlet>(mut self, outlet: &mut O) -> Result<ReplaySummary, ReplayError> {
        let started = Instant::now();
        let clock = Clock::start();
        self.progress.set_target(self.reader.lines.saturating_sub(1));
        let mut summary = ReplaySummary::default();
        let (mut record, mut row) = (ByteRecord::new(), Row::default());
        let (mut reported, mut first_time) = ((0, 0), None);
        loop {
            let line = self.reader.rows.position().line();
            match self.reader.rows.read_byte_record(&mut record) {
                Ok(false) => break,
                Ok(true) => {}
                Err(error) => {
                    return Err(ReplayError::File {
                        file: self.job.file.clone(),
                        source: std::io::Error::other(error),
                    });
                }
            }
            let line = record.position().map_or(line, csv::Position::line);
            if let Err(problem) = self.reader.columns.read(&record, &mut row) {
                self.skip(line, problem, &mut summary)?;
                continue;
            }
            let first_time = *first_time.get_or_insert(row.event_time);
            let Some(intended_ms) = self.wait_for(&clock, row.event_time - first_time, summary.published) else {
                summary.stopped = true;
                break;
            };
            self.send(&row, intended_ms, outlet)?;
            summary.published += 1;
            summary.bytes += (row.key.len() + row.json.len()) as u64;
            let (first, last) = summary.event_times.unwrap_or((row.event_time, row.event_time));
            summary.event_times = Some((first.min(row.event_time), last.max(row.event_time)));
            if summary.published - reported.0 >= REPORT_EVERY || self.job.pace != Pace::Unlimited {
                self.report(&summary, &mut reported);
            }
        }
        self.report(&summary, &mut reported);
        let flushed = outlet.finish();
        summary.failed = outlet.failed();
        metrics::delivery_failures(summary.failed);
        flushed.map_err(|source| kafka(self.job, source))?;
        summary.duration = started.elapsed();
        Ok(summary)
    }

    fn skip(&self, line: u64, problem: String, summary: &mut ReplaySummary) -> Result<(), ReplayError> {
        if self.job.strict {
            return Err(ReplayError::Row { file: self.job.file.clone(), line, problem });
        }
        summary.rows_broken += 1;
        self.progress.set_rows_broken(summary.rows_broken);
        metrics::rows_broken(1);
        if summary.broken.len() < BROKEN_KEPT_MAX {
            tracing::warn!(file = %self.job.file.display(), line, problem, "row skipped");
            summary.broken.push(BrokenRow { line, problem });
        }
        Ok(())
    }

    fn wait_for(&self, clock: &Clock, offset_ms: i64, position: u64) -> Option<u64> {
        let intended = self.job.pace.intended(position as f64, offset_ms);
        let sending = clock.wait(intended, &|| self.stop.load(Ordering::Relaxed))?;
        self.progress.set_behind(sending.behind.as_millis() as u64);
        Some(sending.intended_ms)
    }

    fn send<O: Outlet>(&self, row: &Row, intended_ms: u64, outlet: &mut O) -> Result<(), ReplayError> {
        let intended = Digits::of(intended_ms);
        let headers = [
            ("ce_specversion", &b"1.0"[..]),
            ("ce_type", TYPE),
            ("ce_source", SOURCE),
            (INTENDED, intended.as_bytes()),
        ];
        let message = Outgoing {
            topic: &self.job.topic,
            partition: Some(partition_for(row.key.as_bytes(), self.job.partitions)),
            key: Some(row.key.as_bytes()),
            value: Some(&row.json),
            headers: &headers,
            timestamp_ms: Some(row.event_time),
        };
        outlet.send(message).map_err(|source| kafka(self.job, source))
    }

    fn report(&self, summary: &ReplaySummary, reported: &mut (u64, u64)) {
        let (events, bytes) = (summary.published - reported.0, summary.bytes - reported.1);
        if events > 0 {
            self.progress.add(events, bytes, summary.event_times.map_or(0, |(_, last)| last));
            metrics::replayed(events, bytes);
        }
        *reported = (summary.published, summary.bytes);
    }
}
