//! The score on its topic: a record for the total and for each value of each dimension, under the key `dimension/value`, so that
//! compaction keeps the newest of each. A value that there is no more gets a tombstone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Context as _;
use tidewatch_schemas::wire::{self, Framing};
use tidewatch_schemas::{Record as _, entity, record};
use tidewatch_score::{Figures, Score, Tally};
use tidewatch_topic_io::{Admin, KafkaConfig, Outgoing, PartitionReader, StartAt, Writer};

use super::{READ_MAX, ScoreConfig, WAIT, metrics};

/// The CloudEvents source of what is written.
const SOURCE: &[u8] = b"tidewatch/score";

/// Writes what has changed since it last wrote.
pub(super) struct Publisher<'a> {
    config: &'a ScoreConfig,
    writer: Writer,
    /// What stands on the topic; nothing where nobody can read it.
    told: BTreeMap<Vec<u8>, Option<record::Score>>,
}

impl<'a> Publisher<'a> {
    /// Looks at what an earlier one has left on the topic.
    pub(super) fn new(config: &'a ScoreConfig, admin: &Admin) -> anyhow::Result<Self> {
        let topic = &config.topics.score;
        let partitions = admin.partitions(topic).context("topics.score")?;
        let told = newest(&config.kafka, topic, partitions)?;
        Ok(Self { config, writer: Writer::new(&config.kafka)?, told })
    }

    /// Writes the score and shows it in the metrics; does not wait for its arrival.
    pub(super) fn publish(&mut self, score: &Score) -> anyhow::Result<()> {
        let mut gone: BTreeSet<Vec<u8>> = self.told.keys().cloned().collect();
        for figures in score.figures() {
            let key = entity::join(&[figures.dimension.as_str(), &figures.value]).into_owned().into_bytes();
            gone.remove(&key);
            metrics::figures(&figures);
            let record = record(&figures, score.event_time, self.config.delay_max_ms);
            if self.told.get(&key).is_none_or(|told| told.as_ref() != Some(&record)) {
                self.send(&key, Some(&record))?;
                self.told.insert(key, Some(record));
            }
        }
        for key in gone {
            self.send(&key, None)?;
            if let Some(Some(record)) = self.told.remove(&key) {
                metrics::figures(&Figures::new(record.dimension, &record.value, Tally::default()));
            }
        }
        metrics::event_time(score.event_time);
        Ok(self.writer.poll()?)
    }

    /// Waits so long for all to arrive.
    pub(super) fn finish(mut self, arrive_max: Duration) -> anyhow::Result<()> {
        self.writer
            .flush(arrive_max)
            .with_context(|| format!("the score has not arrived on {}", self.config.topics.score))
    }

    fn send(&mut self, key: &[u8], record: Option<&record::Score>) -> anyhow::Result<()> {
        let mut value = Vec::new();
        if let Some(record) = record {
            wire::encode(record, Framing::SingleObject, &mut value);
        }
        let event_time = record.and_then(|record| record.event_time).unwrap_or_default();
        let id = format!("{}@{event_time}", String::from_utf8_lossy(key));
        let headers = [
            ("ce_specversion", &b"1.0"[..]),
            ("ce_type", record::Score::TYPE.as_bytes()),
            ("ce_source", SOURCE),
            ("ce_id", id.as_bytes()),
        ];
        self.writer.send(Outgoing {
            value: record.is_some().then_some(&value),
            headers: &headers,
            ..Outgoing::new(&self.config.topics.score, key, &[])
        })?;
        metrics::record_published();
        Ok(())
    }
}

/// The newest record of each key of a topic.
fn newest(
    kafka: &KafkaConfig,
    topic: &str,
    partitions: i32,
) -> anyhow::Result<BTreeMap<Vec<u8>, Option<record::Score>>> {
    let mut reader = PartitionReader::new(kafka, true)?;
    let all: Vec<_> = (0..partitions).map(|partition| (topic, partition, StartAt::Beginning)).collect();
    reader.assign(&all)?;
    let mut newest = BTreeMap::new();
    while !reader.is_at_end() {
        for message in reader.read(READ_MAX, WAIT)?.iter() {
            let key = message.key().unwrap_or_default().to_vec();
            match message.value() {
                Some(value) => newest.insert(key, wire::decode(value).ok()),
                None => newest.remove(&key),
            };
        }
    }
    Ok(newest)
}

fn record(figures: &Figures, event_time: Option<i64>, delay_max_ms: i64) -> record::Score {
    let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let Tally { faults, found, named, pending, repeated, false_alerts, entities, watched_ms, .. } = figures.tally;
    record::Score {
        dimension: figures.dimension,
        value: figures.value.clone(),
        event_time,
        delay_max_ms,
        faults: count(faults),
        pending: count(pending),
        found: count(found),
        named: count(named),
        repeated: count(repeated),
        false_alerts: count(false_alerts),
        precision: figures.precision,
        recall: figures.recall,
        f1: figures.f1,
        delay_p50_ms: figures.delay_p50_ms,
        delay_p95_ms: figures.delay_p95_ms,
        entities: count(entities),
        watched_ms: count(watched_ms),
        false_alarms_per_entity_week: figures.false_alarms_per_entity_week,
    }
}
