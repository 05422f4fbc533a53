//! One publishing thread: its partitions' records merged by moment, each sent at its intended time.
//!
//! Invariant: looks at `stop` before every event and at least every 20 ms while waiting.

use super::{FILLER, INTENDED, PublishError, PublishJob, PublishSummary, SOURCE};
use crate::generator::{Generator, PartitionRecords, PublishedRecord, StreamPartition};
use crate::metrics;
use crate::outlet::{Digits, Outlet};
use crate::progress::Progress;
use crate::schedule::{Clock, Lateness};
use crate::stream::StreamKind;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tidewatch_schemas::Record;
use tidewatch_schemas::record::{Beacon, Check, Infrastructure, ServiceCall};
use tidewatch_topic_io::Outgoing;

/// Events between two reports to progress and metrics.
const REPORT_EVERY: u64 = 512;

/// What a thread did.
#[derive(Debug, Default)]
pub(super) struct Tally {
    positions: BTreeMap<StreamPartition, u64>,
    published: BTreeMap<StreamKind, u64>,
    bytes: u64,
    failed: u64,
    stopped: bool,
    behind: Lateness,
}

impl Tally {
    pub(super) fn add_to(self, summary: &mut PublishSummary) {
        for (place, events) in self.positions {
            *summary.positions.entry(place).or_default() += events;
        }
        for (stream, events) in self.published {
            *summary.published.entry(stream).or_default() += events;
        }
        summary.bytes += self.bytes;
        summary.failed += self.failed;
        summary.stopped |= self.stopped;
        summary.behind.add(&self.behind);
    }
}

/// What a thread needs.
#[derive(Clone, Copy)]
pub(super) struct Worker<'a> {
    pub(super) job: &'a PublishJob<'a>,
    pub(super) generator: &'a Generator,
    pub(super) clock: Clock,
    /// Of the first event of the schedule.
    pub(super) first_time: i64,
    pub(super) progress: &'a Progress,
    pub(super) stop: &'a AtomicBool,
    /// Set by a thread that failed, so that the others end too.
    pub(super) abandon: &'a AtomicBool,
}

/// One partition of a thread.
struct Lane {
    place: StreamPartition,
    records: PartitionRecords,
    sent: u64,
    /// Events and bytes that are not reported yet.
    fresh: (u64, u64),
}

impl Worker<'_> {
    pub(super) fn run<O: Outlet>(&self, places: &[StreamPartition], outlet: &mut O) -> Result<Tally, PublishError> {
        let result = self.send_all(places, outlet);
        if result.is_err() {
            self.abandon.store(true, Ordering::Relaxed);
        }
        result
    }

    fn send_all<O: Outlet>(&self, places: &[StreamPartition], outlet: &mut O) -> Result<Tally, PublishError> {
        let mut lanes: Vec<Lane> = places.iter().map(|place| self.lane(*place)).collect();
        let next = |(at, lane): (usize, &Lane)| lane.records.next_moment().map(|time| Reverse((time, at)));
        let mut waiting: BinaryHeap<Reverse<(i64, usize)>> = lanes.iter().enumerate().filter_map(next).collect();
        let mut tally = Tally::default();
        let mut value = Vec::with_capacity(256);
        let (mut since_report, mut behind) = (0, Duration::ZERO);
        while let Some(Reverse((time, at))) = waiting.pop() {
            let intended = self.intended(time);
            let Some(sending) = self.clock.wait(intended, &|| self.is_stopped()) else {
                tally.stopped = self.stop.load(Ordering::Relaxed);
                break;
            };
            behind = sending.behind;
            if intended.is_some() {
                tally.behind.record(behind);
            }
            let lane = &mut lanes[at];
            let Some(record) = lane.records.next_record() else { continue };
            value.clear();
            let has_value = record.encode(self.job.framing, &mut value);
            let bytes = self.send(&record, has_value.then_some(value.as_slice()), sending.intended_ms, outlet)?;
            lane.sent += 1;
            lane.fresh = (lane.fresh.0 + 1, lane.fresh.1 + bytes);
            if let Some(next_time) = lane.records.next_moment() {
                waiting.push(Reverse((next_time, at)));
            }
            since_report += 1;
            if since_report == REPORT_EVERY || sending.waited {
                since_report = 0;
                self.report(&mut lanes, time, behind, &mut tally);
            }
        }
        self.report(&mut lanes, 0, behind, &mut tally);
        self.finish(&lanes, outlet, &mut tally)?;
        Ok(tally)
    }

    fn lane(&self, place: StreamPartition) -> Lane {
        let begin = self.job.resume_from.get(&place).copied().unwrap_or(0);
        Lane { place, records: self.generator.records(place, begin), sent: 0, fresh: (0, 0) }
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.abandon.load(Ordering::Relaxed)
    }

    fn intended(&self, event_time: i64) -> Option<Duration> {
        let position = self.generator.expected_position(event_time) - self.generator.expected_position(self.first_time);
        self.job.pace.intended(position, event_time - self.first_time)
    }

    fn send<O: Outlet>(
        &self,
        record: &PublishedRecord<'_>,
        value: Option<&[u8]>,
        intended_ms: u64,
        outlet: &mut O,
    ) -> Result<u64, PublishError> {
        let event = &record.event;
        let topic = event.stream.topic(self.job.topics);
        let intended = Digits::of(intended_ms);
        let own = [
            ("ce_specversion", &b"1.0"[..]),
            ("ce_type", type_of(event.stream).as_bytes()),
            ("ce_source", SOURCE),
            (INTENDED, intended.as_bytes()),
        ];
        let mut many = Vec::new();
        let headers = if record.more_headers() == 0 {
            &own[..]
        } else {
            many.extend(own);
            many.resize(own.len() + record.more_headers(), (FILLER, &b""[..]));
            &many
        };
        let message = Outgoing {
            topic,
            partition: Some(event.partition),
            key: record.key(),
            value,
            headers,
            timestamp_ms: Some(event.event_time),
        };
        outlet.send(message).map_err(|source| PublishError::Kafka { topic: topic.to_owned(), source })?;
        Ok((event.entity.len() + value.map_or(0, <[u8]>::len)) as u64)
    }

    fn report(&self, lanes: &mut [Lane], event_time: i64, behind: Duration, tally: &mut Tally) {
        for lane in lanes {
            let (events, bytes) = std::mem::take(&mut lane.fresh);
            if events > 0 {
                metrics::published(lane.place.stream, events, bytes);
                self.progress.add(events, bytes, event_time);
                tally.bytes += bytes;
            }
        }
        self.progress.set_behind(behind.as_millis() as u64);
        metrics::behind(behind.as_secs_f64());
    }

    fn finish<O: Outlet>(&self, lanes: &[Lane], outlet: &mut O, tally: &mut Tally) -> Result<(), PublishError> {
        for lane in lanes.iter().filter(|lane| lane.sent > 0) {
            tally.positions.insert(lane.place, lane.sent);
            *tally.published.entry(lane.place.stream).or_default() += lane.sent;
        }
        let flushed = outlet.finish();
        tally.failed = outlet.failed();
        metrics::delivery_failures(tally.failed);
        flushed.map_err(|source| {
            let topic = lanes.first().map_or("", |lane| lane.place.stream.topic(self.job.topics));
            PublishError::Kafka { topic: topic.to_owned(), source }
        })
    }
}

fn type_of(stream: StreamKind) -> &'static str {
    match stream {
        StreamKind::ServiceCalls => ServiceCall::TYPE,
        StreamKind::Infrastructure => Infrastructure::TYPE,
        StreamKind::Beacons => Beacon::TYPE,
        StreamKind::Checks => Check::TYPE,
    }
}
