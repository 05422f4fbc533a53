//! Draining: knowing when all input is read and committed that there was when it was asked for.
//!
//! A partition is drained once a worker has read it to that end, or the group has committed that far: another process may be at it.
//! What is on its way from one member to another is nobody's for a moment, and is waited for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tidewatch_topic_io::{Admin, KafkaError, PartitionReader, StartAt};

use crate::ProcessorConfig;
use crate::config::Start;
use crate::progress::WorkerProgress;
use crate::supervisor::Orders;

/// How often the workers' positions are looked at, and the group's offsets asked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const ASK_EVERY: Duration = Duration::from_millis(500);
/// Wait of one read of what is left, and of all until the first record or the end.
const READ_WAIT: Duration = Duration::from_millis(100);
const READ_TIMEOUT: Duration = Duration::from_secs(10);

type Place = (String, i32);

/// Waits until all input is committed. Returns early when the workers are told to end anyhow.
pub(crate) fn wait(config: &ProcessorConfig, workers: &[Arc<WorkerProgress>], orders: &Orders) {
    let mut ends = None;
    let mut drained = BTreeSet::new();
    let mut asked_at = Instant::now();
    while !orders.is_stopping() {
        thread::sleep(LOOK_EVERY);
        let is_due = asked_at.elapsed() >= ASK_EVERY || ends.is_none();
        let ends = match &ends {
            Some(ends) => ends,
            None => match ends_of(config) {
                Ok(found) => ends.insert(found),
                // Whether Kafka is there is the workers' business: they say what is wrong.
                Err(error) => {
                    tracing::debug!(%error, "no answer where the inputs end");
                    continue;
                }
            },
        };
        if !workers.iter().all(|worker| worker.is_member()) {
            continue;
        }
        let owned: BTreeMap<Place, i64> = workers.iter().flat_map(|worker| worker.read_to()).collect();
        drained
            .extend(ends.iter().filter(|(place, end)| owned.get(place) >= Some(end)).map(|(place, _)| place.clone()));
        let left: Vec<&Place> = ends.keys().filter(|place| !drained.contains(*place)).collect();
        if left.is_empty() {
            return;
        }
        if is_due && left.iter().all(|place| !owned.contains_key(*place)) {
            asked_at = Instant::now();
            match read_by_others(config, ends, &left) {
                Ok(others) => drained.extend(others),
                Err(error) => tracing::debug!(%error, "no answer how far others have come"),
            }
        }
    }
}

fn ends_of(config: &ProcessorConfig) -> Result<BTreeMap<Place, i64>, KafkaError> {
    // Asked by a client of its own: what a reader knows of the ends is as old as its last fetch.
    let admin = Admin::connect(&config.kafka)?;
    let mut ends = BTreeMap::new();
    for stream in &config.streams {
        let offsets = admin.offsets(&stream.topic)?.into_iter();
        ends.extend(offsets.map(|at| ((stream.topic.clone(), at.partition), at.high)));
    }
    Ok(ends)
}

/// Which of these partitions, that are none of ours, have no record left between what the group has committed and their ends.
fn read_by_others(
    config: &ProcessorConfig,
    ends: &BTreeMap<Place, i64>,
    left: &[&Place],
) -> Result<Vec<Place>, KafkaError> {
    let admin = Admin::connect(&config.kafka)?;
    let topics: BTreeSet<&str> = left.iter().map(|(topic, _)| topic.as_str()).collect();
    let lags = admin.lag(&config.settings.group_id, &topics.into_iter().collect::<Vec<_>>())?;
    let mut drained = Vec::new();
    for place in left {
        let Some(at) = lags.iter().find(|at| (&at.topic, at.partition) == (&place.0, place.1)) else { continue };
        let end = ends[*place];
        let is_read = match at.committed {
            // It would begin at its end with the next member.
            None if config.start_of(&place.0) == Start::Latest => true,
            None => !has_record(config, place, StartAt::Beginning, end)?,
            Some(committed) => committed >= end || !has_record(config, place, StartAt::Offset(committed), end)?,
        };
        if is_read {
            drained.push((*place).clone());
        }
    }
    Ok(drained)
}

/// Whether there is a record before `end`: the ends of transactions take offsets, too.
fn has_record(config: &ProcessorConfig, place: &Place, from: StartAt, end: i64) -> Result<bool, KafkaError> {
    let mut reader = PartitionReader::new(&config.kafka, true)?;
    reader.assign(&[(&place.0, place.1, from)])?;
    let start = Instant::now();
    while !reader.is_at_end() {
        if start.elapsed() >= READ_TIMEOUT {
            return Err(KafkaError::TimedOut { operation: "reading what is left", waited: READ_TIMEOUT });
        }
        if let Some(first) = reader.read(1, READ_WAIT)?.iter().next() {
            return Ok(first.offset() < end);
        }
    }
    Ok(false)
}
