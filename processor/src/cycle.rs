//! One consume-process-produce transaction.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use tidewatch_processor_core::{Effects, Engine, Event, Ingested, StreamConfig};
use tidewatch_schemas::record::{DeadLetter, DeadLetterHeader, Late};
use tidewatch_sink::TransactionalTopics;
use tidewatch_sink::transactional::INTENDED_HEADER;
use tidewatch_topic_io::{Batch, GroupReader, KafkaError, Message, OffsetCommit};

use crate::decode::{Decoded, EventDecoder, Rejected};
use crate::restore::{Beginning, CommitNote, state_key};
use crate::{Counts, ProcessorConfig, ProcessorError, Progress, metrics};

/// An input partition at work.
pub(crate) struct Input {
    pub(crate) stream: usize,
    pub(crate) engine: Engine,
    /// The next offset to take in.
    next: i64,
    /// Effects of earlier offsets are committed already.
    write_from: i64,
    /// The next offset when the last snapshot was written; where it all began, before the first one.
    snapshot: i64,
    is_snapshot: bool,
    snapshot_at: Instant,
    partitions: i32,
    touched: bool,
}

impl Input {
    pub(crate) fn new(stream: usize, engine: Engine, begin: Beginning, partitions: i32) -> Self {
        Self {
            stream,
            engine,
            next: begin.read_from,
            write_from: begin.write_from,
            snapshot: begin.read_from,
            is_snapshot: begin.is_snapshot,
            snapshot_at: Instant::now(),
            partitions,
            touched: false,
        }
    }
}

/// A stream's declaration and its decoder.
pub(crate) struct Stream {
    pub(crate) config: Arc<StreamConfig>,
    pub(crate) decoder: EventDecoder,
}

/// What a cycle works on: all of one worker but its consumer.
pub(crate) struct Cycle<'a> {
    pub(crate) config: &'a ProcessorConfig,
    pub(crate) streams: Vec<Stream>,
    pub(crate) outputs: TransactionalTopics,
    pub(crate) inputs: HashMap<(Arc<str>, i32), Input>,
    pub(crate) progress: &'a Progress,
    counts: Counts,
    in_transaction: bool,
    decoded: Decoded,
    effects: Effects,
}

impl<'a> Cycle<'a> {
    pub(crate) fn new(
        config: &'a ProcessorConfig,
        streams: Vec<Stream>,
        outputs: TransactionalTopics,
        progress: &'a Progress,
    ) -> Self {
        Self {
            config,
            streams,
            outputs,
            inputs: HashMap::new(),
            progress,
            counts: Counts::default(),
            in_transaction: false,
            decoded: Decoded::default(),
            effects: Effects::default(),
        }
    }

    /// Reads for one commit interval or until the batch is full, processes, and commits. False when nothing arrived.
    ///
    /// `last` asks for a snapshot of everything, so that the next start has nothing to read again.
    pub(crate) fn run_once(&mut self, reader: &mut GroupReader, last: bool) -> Result<bool, ProcessorError> {
        let started = Instant::now();
        let deadline = started + self.config.commit_interval();
        let mut taken = 0;
        while taken < self.config.settings.batch_max && !last {
            let left = deadline.saturating_duration_since(Instant::now());
            let batch = reader.read(self.config.settings.batch_max - taken, left)?;
            taken += batch.len();
            self.take(&batch)?;
            if Instant::now() >= deadline {
                break;
            }
        }
        self.write_snapshots(last)?;
        if !self.in_transaction {
            return Ok(taken > 0);
        }
        let processed = Instant::now();
        self.commit(reader)?;
        metrics::cycle_committed(&self.counts, processed - started, processed.elapsed());
        self.progress.add_committed(&std::mem::take(&mut self.counts));
        Ok(true)
    }

    /// Gives up what the cycle has written. The inputs have gone ahead of what is committed: they must be restored.
    pub(crate) fn abort(&mut self) {
        if self.in_transaction {
            // The broker aborts it at the time-out, or when the producer comes back, if this does not.
            if let Err(error) = self.outputs.abort() {
                tracing::warn!(%error, "abort failed; the next producer's epoch fences the transaction");
            }
            self.in_transaction = false;
        }
    }

    fn take(&mut self, batch: &Batch<'_>) -> Result<(), ProcessorError> {
        // Records come in runs of one partition: what they need is looked up once a run.
        let mut at: Option<((Arc<str>, i32), Input)> = None;
        for message in batch.iter() {
            let same = at.as_ref().is_some_and(|((topic, partition), _)| {
                *partition == message.partition() && **topic == *message.topic()
            });
            if !same {
                if let Some((key, input)) = at.take() {
                    self.inputs.insert(key, input);
                }
                // A partition that has been revoked may leave records behind in the queue; they are another member's now.
                let key = (Arc::from(message.topic()), message.partition());
                at = self.inputs.remove_entry(&key);
            }
            if let Some((_, input)) = &mut at {
                let taken = self.take_one(&message, input);
                if let Err(error) = taken {
                    self.inputs.extend(at);
                    return Err(error);
                }
            }
        }
        self.inputs.extend(at);
        Ok(())
    }

    fn take_one(&mut self, message: &Message<'_>, input: &mut Input) -> Result<(), ProcessorError> {
        let offset = message.offset();
        let committed_before = offset < input.write_from;
        if !committed_before {
            self.begin()?;
            input.touched = true;
            self.counts.read += 1;
        }
        if offset < input.next {
            self.counts.duplicate += u64::from(!committed_before);
            return Ok(());
        }
        input.next = offset + 1;
        let stream = &mut self.streams[input.stream];
        if let Err(rejected) = stream.decoder.decode(message.value(), &mut self.decoded) {
            if !committed_before {
                self.counts.dead_lettered += 1;
                self.outputs.dead_letter(&dead_letter(&stream.config.name, message, rejected))?;
            }
            return Ok(());
        }
        let Decoded { event_time, entity, values } = &self.decoded;
        let windows_before = input.engine.counts().windows;
        let ingested =
            input.engine.ingest(&Event { offset, event_time: *event_time, entity, values }, &mut self.effects);
        if committed_before {
            self.effects.clear();
            return Ok(());
        }
        self.counts.windows += input.engine.counts().windows - windows_before;
        match ingested {
            Ingested::Scored => self.counts.scored += 1,
            Ingested::Late(missed) => {
                self.counts.late += 1;
                let late = Late {
                    stream: stream.config.name.clone(),
                    entity: entity.clone(),
                    event_time: *event_time,
                    window_start: missed.window_start,
                    window_end: missed.window_end,
                    late_by_ms: missed.late_by_ms,
                    topic: message.topic().into(),
                    partition: message.partition(),
                    offset,
                    key: message.key().map(<[u8]>::to_vec),
                    value: message.value().map(<[u8]>::to_vec),
                };
                self.outputs.late(&late)?;
            }
        }
        if !self.effects.is_empty() {
            self.write_effects(intended_ms(message))?;
        }
        Ok(())
    }

    fn write_effects(&mut self, intended_ms: Option<i64>) -> Result<(), KafkaError> {
        for metric in &self.effects.metrics {
            self.outputs.metric(metric, intended_ms)?;
        }
        for forecast in &self.effects.forecasts {
            self.outputs.forecast(forecast, intended_ms)?;
        }
        for alert in &self.effects.alerts {
            self.outputs.alert(alert, intended_ms)?;
        }
        self.counts.alerts += self.effects.alerts.len() as u64;
        self.effects.clear();
        Ok(())
    }

    fn begin(&mut self) -> Result<(), KafkaError> {
        if !self.in_transaction {
            self.outputs.begin()?;
            self.in_transaction = true;
        }
        Ok(())
    }

    /// Writes the state of each partition whose turn it is, as of its next offset.
    fn write_snapshots(&mut self, all: bool) -> Result<(), ProcessorError> {
        let every = self.config.snapshot_every();
        let mut inputs = std::mem::take(&mut self.inputs);
        for ((_, partition), input) in &mut inputs {
            let due = all || input.snapshot_at.elapsed() >= every;
            // While earlier offsets are read again, the state topic is ahead of the engine.
            if !due || input.next <= input.snapshot || input.next < input.write_from {
                continue;
            }
            self.begin()?;
            for (entity, state) in input.engine.snapshot(input.next) {
                let group = &self.config.settings.group_id;
                let key = state_key(group, &self.streams[input.stream].config.name, entity.as_deref());
                self.outputs.state(*partition, key.as_bytes(), state.as_ref())?;
            }
            input.snapshot = input.next;
            input.is_snapshot = true;
            input.snapshot_at = Instant::now();
            input.touched = true;
        }
        self.inputs = inputs;
        Ok(())
    }

    fn commit(&mut self, reader: &GroupReader) -> Result<(), ProcessorError> {
        let touched = || self.inputs.iter().filter(|(_, input)| input.touched);
        let note = |input: &Input| {
            let Input { snapshot: read_from, is_snapshot, partitions, .. } = *input;
            CommitNote { read_from, is_snapshot, partitions }.to_metadata()
        };
        let notes: Vec<String> = touched().map(|(_, input)| note(input)).collect();
        let offsets: Vec<OffsetCommit<'_>> = touched()
            .zip(&notes)
            .map(|(((topic, partition), input), metadata)| OffsetCommit {
                topic,
                partition: *partition,
                offset: input.next,
                metadata,
            })
            .collect();
        self.outputs.commit(&offsets, &reader.group_metadata())?;
        self.in_transaction = false;
        for input in self.inputs.values_mut() {
            input.touched = false;
        }
        Ok(())
    }
}

/// When the record was meant to be sent: from its header, else its timestamp.
fn intended_ms(message: &Message<'_>) -> Option<i64> {
    let stated = message.header(INTENDED_HEADER).and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
    stated.or(message.timestamp_ms())
}

fn dead_letter(stream: &str, message: &Message<'_>, rejected: Rejected) -> DeadLetter {
    DeadLetter {
        stream: stream.into(),
        topic: message.topic().into(),
        partition: message.partition(),
        offset: message.offset(),
        timestamp_ms: message.timestamp_ms(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.value().map(<[u8]>::to_vec),
        headers: message
            .headers()
            .map(|(key, value)| DeadLetterHeader { key: key.into(), value: value.map(<[u8]>::to_vec) })
            .collect(),
        reason: rejected.reason.as_str().into(),
        error: rejected.error,
    }
}
