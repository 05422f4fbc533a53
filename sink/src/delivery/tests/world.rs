//! A small world without Kafka: two partitions' logs, committed offsets, one store, and lives of
//! Delivery in it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{
    AsArray,
    types::{Int32Type, Int64Type},
};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;
use tidewatch_schemas::record::{Alert, AlertKind, AlertState, Late, Severity};
use tidewatch_schemas::wire::{self, Framing};

use super::faulty::{Fate, FaultyStore, Plan};
use crate::config::{RetrySettings, RollSettings};
use crate::delivery::buffer::Arrival;
use crate::delivery::deliverer::{Deliverer, SettleError};
use crate::delivery::kind::TopicKind;
use crate::delivery::shelf::Shelf;

pub(super) const LIMITS: RollSettings = limits(4);
const TOPICS: [(TopicKind, &str, i32); 2] = [(TopicKind::Alerts, "alerts", 0), (TopicKind::Late, "late", 1)];

/// Bounds of so many rows.
pub(super) const fn limits(rows: u64) -> RollSettings {
    RollSettings { rows, bytes: 1 << 20, interval: Duration::from_secs(60) }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Life {
    Finished,
    Died,
    Refused(String),
}

#[derive(Clone, Debug)]
struct Record {
    offset: i64,
    timestamp_ms: i64,
    value: Option<Vec<u8>>,
    spoilt: bool,
    /// What the row must show: the alert's id, or the late record's entity.
    name: String,
}

pub(super) struct World {
    store: Arc<InMemory>,
    logs: [Vec<Record>; 2],
    committed: [Option<i64>; 2],
    runtime: tokio::runtime::Runtime,
}

/// A Delivery in mid-life, and where it has read to.
pub(super) struct Writer {
    pub(super) deliverer: Deliverer,
    read_to: [usize; 2],
}

impl World {
    /// 23 and 9 records: offsets with the gaps of transaction markers, dates that alternate around
    /// midnight, so that a roll has several files.
    pub(super) fn new() -> Self {
        const MIDNIGHT_MS: i64 = 1_700_006_400_000;
        let log = |partition: usize, records: i64| {
            (0..records)
                .map(|n| {
                    let timestamp_ms = MIDNIGHT_MS + (n % 5 - 2) * 1000 + n / 12 * 86_400_000;
                    let name = format!("{partition}:{n}");
                    let value = if partition == 0 { alert(&name, timestamp_ms) } else { late(&name, timestamp_ms) };
                    Record { offset: 3 + n + n / 3 * 2, timestamp_ms, value: Some(value), spoilt: false, name }
                })
                .collect()
        };
        Self {
            store: Arc::new(InMemory::new()),
            logs: [log(0, 23), log(1, 9)],
            committed: [None; 2],
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
        }
    }

    pub(super) fn deliverer(&self, limits: RollSettings, plan: Plan) -> Deliverer {
        self.deliverer_under(limits, Arc::new(Fate::new(plan)), 1 << 30)
    }

    fn deliverer_under(&self, limits: RollSettings, fate: Arc<Fate>, buffer_bytes: u64) -> Deliverer {
        let attempts = if matches!(fate.plan(), Plan::FailEvery(_)) { 3 } else { 1 };
        let retry = RetrySettings { attempts, backoff: Duration::ZERO, backoff_max: Duration::ZERO };
        let store = FaultyStore { inner: Arc::clone(&self.store), fate };
        Deliverer::new(Shelf::on(Arc::new(store), retry), limits, buffer_bytes)
    }

    /// Assigns both partitions; gives the indices of the first records to read.
    pub(super) fn assign_all(&self, deliverer: &mut Deliverer) -> Result<[usize; 2], SettleError> {
        let mut starts = [0; 2];
        for (p, (kind, topic, partition)) in TOPICS.into_iter().enumerate() {
            let start = self.runtime.block_on(deliverer.assign(kind, topic, partition, self.committed[p]))?;
            starts[p] = self.logs[p].partition_point(|record| record.offset < start.unwrap_or(0));
        }
        Ok(starts)
    }

    pub(super) fn absorb(&self, deliverer: &mut Deliverer, p: usize, records: Range<usize>, now: Instant) {
        let (_, topic, partition) = TOPICS[p];
        for record in &self.logs[p][records] {
            let arrival = Arrival {
                offset: record.offset,
                timestamp_ms: Some(record.timestamp_ms),
                value: record.value.as_deref(),
                intended_ms: None,
                unreadable: None,
            };
            deliverer.absorb(topic, partition, arrival, now);
        }
    }

    /// Settles and commits; how many rolls became visible.
    pub(super) fn settle(
        &mut self,
        deliverer: &mut Deliverer,
        now: Instant,
        flush: bool,
    ) -> Result<usize, SettleError> {
        self.settle_under(deliverer, now, flush, &Fate::new(Plan::Healthy)).map(|(rolls, _)| rolls)
    }

    fn settle_under(
        &mut self,
        deliverer: &mut Deliverer,
        now: Instant,
        flush: bool,
        fate: &Fate,
    ) -> Result<(usize, bool), SettleError> {
        let mut stored = Vec::new();
        let result = self.runtime.block_on(deliverer.settle(now, flush, &mut stored));
        let mut alive = true;
        for roll in &stored {
            let (effect, heard) = fate.next();
            if effect {
                self.committed[roll.partition as usize] = Some(roll.next_offset);
            }
            alive &= heard || matches!(fate.plan(), Plan::FailEvery(_));
        }
        result.map(|()| (stored.len(), alive))
    }

    /// One process from start to its death or to the end of the logs.
    pub(super) fn live(&mut self, limits: RollSettings, plan: Plan) -> Life {
        let fate = Arc::new(Fate::new(plan));
        let mut deliverer = self.deliverer_under(limits, Arc::clone(&fate), 1 << 30);
        let outcome = self.live_on(&mut deliverer, &fate);
        match outcome {
            Ok(true) => Life::Finished,
            Ok(false) => Life::Died,
            Err(_) if matches!(plan, Plan::DieAt { .. }) => Life::Died,
            Err(error) => Life::Refused(error.to_string()),
        }
    }

    fn live_on(&mut self, deliverer: &mut Deliverer, fate: &Fate) -> Result<bool, SettleError> {
        let mut at = self.assign_all(deliverer)?;
        let now = Instant::now();
        while (0..2).any(|p| at[p] < self.logs[p].len()) {
            for (p, at) in at.iter_mut().enumerate() {
                let to = (*at + 3).min(self.logs[p].len());
                self.absorb(deliverer, p, (*at).min(to)..to, now);
                *at = to;
            }
            if !self.settle_under(deliverer, now, false, fate)?.1 {
                return Ok(false);
            }
        }
        self.settle_under(deliverer, now, true, fate).map(|(_, alive)| alive)
    }

    pub(super) fn writer(&self, limits: RollSettings) -> Writer {
        let mut deliverer = self.deliverer(limits, Plan::Healthy);
        let read_to = self.assign_all(&mut deliverer).unwrap();
        Writer { deliverer, read_to }
    }

    pub(super) fn read(&self, writer: &mut Writer, p: usize, records: usize) {
        let from = writer.read_to[p];
        let to = (from + records).min(self.logs[p].len());
        self.absorb(&mut writer.deliverer, p, from.min(to)..to, Instant::now());
        writer.read_to[p] = to;
    }

    pub(super) fn finish(&mut self, writer: &mut Writer) {
        for p in 0..2 {
            self.read(writer, p, usize::MAX / 2);
        }
        self.settle(&mut writer.deliverer, Instant::now(), true).unwrap();
    }

    pub(super) fn peak_buffered_bytes(&mut self, limits: RollSettings, buffer_bytes: u64) -> usize {
        let mut deliverer = self.deliverer_under(limits, Arc::new(Fate::new(Plan::Healthy)), buffer_bytes);
        self.assign_all(&mut deliverer).unwrap();
        let mut peak = 0;
        for n in 0..self.logs[0].len() {
            for p in 0..2 {
                let log = self.logs[p].len();
                self.absorb(&mut deliverer, p, n.min(log)..(n + 1).min(log), Instant::now());
            }
            peak = peak.max(deliverer.buffered_bytes());
            self.settle(&mut deliverer, Instant::now(), false).unwrap();
            assert!(deliverer.buffered_bytes() as u64 <= buffer_bytes);
        }
        self.settle(&mut deliverer, Instant::now(), true).unwrap();
        peak
    }

    /// What one record of each partition adds at most.
    pub(super) fn largest_step_bytes(&self) -> usize {
        let largest = |p: usize| self.logs[p].iter().map(|r| r.value.as_ref().map_or(0, Vec::len)).max().unwrap() + 256;
        largest(0) + largest(1)
    }

    pub(super) fn forget_commits(&mut self) {
        self.committed = [None; 2];
    }

    pub(super) fn drop_records_of_even_offset(&mut self) {
        for log in &mut self.logs {
            log.retain(|record| record.offset % 2 == 1);
        }
    }

    pub(super) fn spoil(&mut self, p: usize, n: usize, value: Option<Vec<u8>>) {
        let record = &mut self.logs[p][n];
        (record.value, record.spoilt) = (value, true);
    }

    pub(super) fn rows_of(&self, kind: TopicKind) -> usize {
        let p = TOPICS.iter().position(|topic| topic.0 == kind).unwrap();
        self.logs[p].len()
    }

    /// Paths of the data files (claims are not data), as a reader globbing sees them.
    pub(super) fn files(&self) -> Vec<Path> {
        self.runtime.block_on(async {
            let mut folders = vec![Path::default()];
            let mut files = Vec::new();
            while let Some(folder) = folders.pop() {
                let listing = self.store.list_with_delimiter(Some(&folder)).await.unwrap();
                folders.extend(listing.common_prefixes.into_iter().filter(|f| !f.as_ref().starts_with("_")));
                files.extend(listing.objects.into_iter().map(|object| object.location));
            }
            files.sort();
            files
        })
    }

    fn content(&self, path: &Path) -> bytes::Bytes {
        self.runtime.block_on(async { self.store.get(path).await.unwrap().bytes().await.unwrap() })
    }

    pub(super) fn contents(&self) -> BTreeMap<Path, bytes::Bytes> {
        self.files().into_iter().map(|path| (path.clone(), self.content(&path))).collect()
    }

    pub(super) fn remove_files(&mut self) {
        for path in self.files() {
            self.runtime.block_on(self.store.delete(&path)).unwrap();
        }
    }

    fn lines(&self, folder: &str) -> Vec<Value> {
        let of_folder = self.files().into_iter().filter(|path| path.as_ref().starts_with(folder));
        of_folder
            .flat_map(|path| self.content(&path).split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>())
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(&line).unwrap())
            .collect()
    }

    pub(super) fn alert_lines(&self) -> Vec<Value> {
        self.lines(crate::delivery::ALERT_LINES_FOLDER)
    }

    pub(super) fn rejected_lines(&self) -> Vec<Value> {
        self.lines(crate::delivery::REJECTED_FOLDER)
    }

    /// (partition, offset, timestamp, name) of every row of every visible Parquet file.
    fn rows(&self) -> Vec<(i32, i64, i64, String)> {
        let parquet = self.files().into_iter().filter(|path| path.as_ref().ends_with(".parquet"));
        parquet
            .flat_map(|path| {
                let reader = ParquetRecordBatchReaderBuilder::try_new(self.content(&path)).unwrap().build().unwrap();
                reader.flat_map(|batch| rows_of(&batch.unwrap())).collect::<Vec<_>>()
            })
            .collect()
    }

    /// At no moment does a reader see a row twice, nor an alert line.
    pub(super) fn assert_nothing_doubled(&self) {
        let mut rows: Vec<_> = self.rows().into_iter().map(|row| (row.0, row.1)).collect();
        let count = rows.len();
        rows.sort_unstable();
        rows.dedup();
        assert_eq!(rows.len(), count, "a row is visible twice: {:?}", self.files());
    }

    /// The files hold the logs' records, each once, with what they said.
    pub(super) fn assert_exactly_the_input(&self) {
        let mut found = self.rows();
        found.sort();
        let mut expected = Vec::new();
        for (p, log) in self.logs.iter().enumerate() {
            let readable = log.iter().filter(|record| !record.spoilt);
            expected.extend(readable.map(|r| (p as i32, r.offset, r.timestamp_ms, r.name.clone())));
        }
        expected.sort();
        assert_eq!(found, expected);
        let mut lines: Vec<String> =
            self.alert_lines().iter().map(|line| line["alert_id"].as_str().unwrap().to_owned()).collect();
        let mut alerts: Vec<String> = self.logs[0].iter().filter(|r| !r.spoilt).map(|r| r.name.clone()).collect();
        lines.sort();
        alerts.sort();
        assert_eq!(lines, alerts);
        let spoilt = self.logs.iter().flatten().filter(|record| record.spoilt).count();
        assert_eq!(self.rejected_lines().len(), spoilt);
    }
}

fn rows_of(batch: &arrow::array::RecordBatch) -> Vec<(i32, i64, i64, String)> {
    let column = |name: &str| batch.column_by_name(name).unwrap_or_else(|| panic!("no column {name}"));
    let partitions = column("_partition").as_primitive::<Int32Type>();
    let offsets = column("_offset").as_primitive::<Int64Type>();
    let times = column("_timestamp").as_primitive::<arrow::datatypes::TimestampMillisecondType>();
    let name = if batch.column_by_name("alert_id").is_some() { "alert_id" } else { "entity" };
    let names = arrow::compute::cast(column(name), &arrow::datatypes::DataType::Utf8).unwrap();
    let names = names.as_string::<i32>();
    (0..batch.num_rows())
        .map(|n| (partitions.value(n), offsets.value(n), times.value(n), names.value(n).to_owned()))
        .collect()
}

fn alert(name: &str, window_start: i64) -> Vec<u8> {
    let alert = Alert {
        alert_id: name.to_owned(),
        state: AlertState::Opened,
        severity: Severity::High,
        kind: AlertKind::Spike,
        stream: "service-calls".to_owned(),
        entity: "checkout/1".to_owned(),
        labels: BTreeMap::from([("service".to_owned(), "checkout".to_owned())]),
        measure: "latency".to_owned(),
        aggregate: "p95".to_owned(),
        opened_at: window_start,
        window_start,
        window_end: window_start + 10_000,
        observed: 12.5,
        expected: Some(3.0),
        lower: None,
        upper: Some(7.0),
        score: 2.0,
        peak_score: 2.0,
        detectors: vec![],
        windows: 1,
        sequence: 0,
        partition: 0,
        first_offset: 1,
        last_offset: 2,
        summary: "latency of checkout/1 is high".to_owned(),
        revision: 0,
        correction: tidewatch_schemas::record::Correction::None,
        supersedes: None,
        onset: None,
        confidence: 1.0,
        probability: 0.001,
        attribution: vec![],
        recent: vec![],
        breach: None,
    };
    let mut out = Vec::new();
    wire::encode(&alert, Framing::SingleObject, &mut out);
    out
}

fn late(name: &str, event_time: i64) -> Vec<u8> {
    let late = Late {
        stream: "service-calls".to_owned(),
        entity: name.to_owned(),
        event_time,
        window_start: event_time,
        window_end: event_time + 10_000,
        late_by_ms: 5,
        topic: "in".to_owned(),
        partition: 0,
        offset: 9,
        key: None,
        value: Some(vec![1, 2, 3]),
        would_change_alert: None,
    };
    let mut out = Vec::new();
    wire::encode(&late, Framing::SingleObject, &mut out);
    out
}
