//! What the scorer takes in: records of three topics into [`Evidence`], those that nobody can read counted.

use std::fmt;
use std::time::Duration;

use tidewatch_schemas::catalogue::Topics;
use tidewatch_schemas::project::{AvroReader, Value};
use tidewatch_schemas::record::{Alert, Truth, WindowMetric};
use tidewatch_schemas::{Record as _, schema, wire};
use tidewatch_score::{Evidence, Score, Window};
use tidewatch_topic_io::{Batch, Message};

use super::{Judgement, ScoreConfig, decode, metrics};
use crate::live::count;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Truth,
    Alerts,
    Metrics,
}

impl Source {
    pub(super) const ALL: [Self; 3] = [Self::Truth, Self::Alerts, Self::Metrics];

    /// As `[topics]` spells it.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Truth => "truth",
            Self::Alerts => "alerts",
            Self::Metrics => "metrics",
        }
    }

    pub(super) fn topic(self, topics: &Topics) -> &str {
        match self {
            Self::Truth => &topics.truth,
            Self::Alerts => &topics.alerts,
            Self::Metrics => &topics.metrics,
        }
    }
}

/// Records that nobody could read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable {
    records: u64,
    /// Where the first of them is, and why.
    first: String,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} could not be read; the first: {}", count(self.records, "record"), self.first)
    }
}

/// The fields of a metric that say what was watched.
const WINDOW: [&str; 5] = ["stream", "entity", "partition", "window_start", "window_end"];

/// All that was read, as far as it counts.
pub(super) struct Intake<'a> {
    config: &'a ScoreConfig,
    windows: AvroReader,
    evidence: Evidence,
    read: u64,
    unreadable: Option<Unreadable>,
    left_out: u64,
}

impl<'a> Intake<'a> {
    pub(super) fn new(config: &'a ScoreConfig) -> anyhow::Result<Self> {
        let mut windows = AvroReader::new(&WINDOW);
        for version in schema::versions(WindowMetric::NAME) {
            windows.add_schema(version.json(), None)?;
        }
        Ok(Self { config, windows, evidence: Evidence::default(), read: 0, unreadable: None, left_out: 0 })
    }

    pub(super) const fn read(&self) -> u64 {
        self.read
    }

    pub(super) fn score(&self, delay_max_ms: i64) -> Score {
        self.evidence.score(delay_max_ms)
    }

    /// All that it comes to.
    pub(super) fn judge(self, delay_max_ms: i64, is_whole: bool) -> Judgement {
        Judgement {
            score: self.score(delay_max_ms),
            delay_max: Duration::from_millis(delay_max_ms.unsigned_abs()),
            read: self.read,
            unreadable: self.unreadable,
            left_out: self.left_out,
            is_whole,
        }
    }

    pub(super) fn take(&mut self, batch: &Batch<'_>) {
        let (read, left_out) = ([0; Source::ALL.len()], self.left_out);
        let read = batch.iter().fold(read, |mut read, message| {
            let topic = message.topic();
            let topics = &self.config.topics;
            if let Some(source) = Source::ALL.into_iter().find(|source| source.topic(topics) == topic) {
                read[source as usize] += 1;
                if let Err(reason) = self.take_record(source, message.value().unwrap_or_default()) {
                    self.count_unreadable(source, &message, &reason);
                }
            }
            read
        });
        self.read += read.iter().sum::<u64>();
        for source in Source::ALL {
            metrics::records_read(source.as_str(), read[source as usize]);
        }
        metrics::records_left_out(self.left_out - left_out);
    }

    fn take_record(&mut self, source: Source, value: &[u8]) -> Result<(), String> {
        let is_full = self.evidence.records() >= self.config.records_max;
        let mut left_out = is_full;
        match source {
            Source::Truth => match decode::<Truth>(value) {
                // What it did to a partition is no fault.
                None => left_out = false,
                Some(truth) => {
                    let truth = truth.map_err(|error| error.to_string())?;
                    if !is_full {
                        self.evidence.add_fault(&truth);
                    }
                }
            },
            Source::Alerts => {
                let alert: Alert = wire::decode(value).map_err(|error| error.to_string())?;
                if !is_full {
                    self.evidence.add_alert(&alert);
                }
            }
            Source::Metrics => {
                let mut slots = [Value::Absent; WINDOW.len()];
                self.windows.decode(value, &mut slots).map_err(|error| error.to_string())?;
                let window = window(&slots).ok_or("it lacks its entity or its window")?;
                left_out = is_full && !self.evidence.knows(window.stream, window.entity);
                if !left_out {
                    self.evidence.add_window(window);
                }
            }
        }
        self.left_out += u64::from(left_out);
        Ok(())
    }

    fn count_unreadable(&mut self, source: Source, message: &Message<'_>, reason: &str) {
        metrics::record_unreadable(source.as_str());
        let unreadable = self.unreadable.get_or_insert_with(|| {
            let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
            tracing::warn!(
                topic,
                partition,
                offset,
                reason,
                "a record cannot be read; it and others like it are counted"
            );
            Unreadable { records: 0, first: format!("{topic} partition {partition} offset {offset}: {reason}") }
        });
        unreadable.records += 1;
    }
}

fn window<'v>(slots: &[Value<'v>; WINDOW.len()]) -> Option<Window<'v>> {
    let &[
        Value::Str(stream),
        Value::Str(entity),
        Value::Long(partition),
        Value::TimestampMs(start),
        Value::TimestampMs(end),
    ] = slots
    else {
        return None;
    };
    Some(Window { stream, entity, partition: i32::try_from(partition).ok()?, start, end })
}
