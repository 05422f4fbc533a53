//! The events of a run: checks of many locations, each an entity.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tidewatch_schemas::record::Check;
use tidewatch_schemas::wire::{self, Framing};
use tidewatch_topic_io::{KafkaConfig, Outgoing, Writer};

use crate::stand::Run;

/// How long the last records may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at what is due.
const TICK: Duration = Duration::from_millis(5);

/// Publishes the events of a run. An entity lives in one partition.
pub(crate) struct Input {
    writer: Writer,
    topic: String,
    partitions: u64,
    keys: Vec<String>,
    event: Check,
    value: Vec<u8>,
    next: usize,
}

impl Input {
    pub(crate) fn new(kafka: &KafkaConfig, run: &Run, entities: u64) -> anyhow::Result<Self> {
        let event = Check {
            event_time: 0,
            check: "order".into(),
            location: String::new(),
            region: "EMEA".into(),
            tenant: "acme".into(),
            success: true,
            response_ms: 0.0,
            status: 200,
        };
        Ok(Self {
            writer: Writer::new(kafka)?,
            topic: run.stream.topic.clone(),
            partitions: u64::from(run.partitions.unsigned_abs()),
            keys: (0..entities).map(|n| format!("location-{n}")).collect(),
            event,
            value: Vec::new(),
            next: 0,
        })
    }

    /// An event of the next entity, at this event time; each has its turn before any has two.
    fn send(&mut self, event_time: i64) -> anyhow::Result<()> {
        let (at, key) = (self.next, &self.keys[self.next]);
        self.next = (at + 1) % self.keys.len();
        self.event.event_time = event_time;
        self.event.location.clone_from(key);
        self.event.response_ms = ((at as i64).wrapping_add(event_time) % 97) as f64;
        self.value.clear();
        wire::encode(&self.event, Framing::SingleObject, &mut self.value);
        let partition = Some((at as u64 % self.partitions) as i32);
        let timestamp_ms = Some(event_time);
        let record = Outgoing::new(&self.topic, key.as_bytes(), &self.value);
        Ok(self.writer.send(Outgoing { partition, timestamp_ms, ..record })?)
    }

    /// An event of each entity at this event time, as fast as it goes.
    pub(crate) fn all_at(&mut self, event_time: i64) -> anyhow::Result<()> {
        for _ in 0..self.keys.len() {
            self.send(event_time)?;
        }
        Ok(self.writer.flush(PATIENCE)?)
    }

    /// So many events a second, their time the clock's, until told to stop; how many they were.
    pub(crate) fn steadily(&mut self, per_second: u64, stop: &AtomicBool) -> anyhow::Result<u64> {
        let began = Instant::now();
        let mut sent = 0;
        while !stop.load(Relaxed) {
            let due = (began.elapsed().as_secs_f64() * per_second as f64) as u64;
            let event_time = now_ms();
            while sent < due {
                self.send(event_time)?;
                sent += 1;
            }
            std::thread::sleep(TICK);
        }
        self.writer.flush(PATIENCE)?;
        Ok(sent)
    }
}

/// The clock's time, in ms since 1970.
pub(crate) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
