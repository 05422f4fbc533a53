//! One consume-process-produce transaction.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tidewatch_processor_core::state::StateChange;
use tidewatch_processor_core::{Effects, Event, Ingested, StreamConfig};
use tidewatch_schemas::dead_letter::Draft;
use tidewatch_schemas::record::{Late, Ledger};
use tidewatch_sink::ResultTopics;
use tidewatch_sink::transactional::INTENDED_HEADER;
use tidewatch_topic_io::{Batch, Committed, GroupReader, KafkaError, Message, OffsetCommit, PartitionLag};

use crate::decode::{Decoded, EventDecoder, Taken};
use crate::input::{Input, Silent};
use crate::progress::WorkerProgress;
use crate::rounds::Pace;
use crate::saved::{ledger_key, state_key};
use crate::standing::Standing;
use crate::{Counts, ProcessorConfig, ProcessorError, metrics};

/// Between two looks at the group while it has assigned nothing.
const JOIN_INTERVAL: Duration = Duration::from_millis(10);

/// State that one of the last transactions writes, in bytes.
const LAST_SNAPSHOT_BYTES: usize = 16 * 1024 * 1024;

/// A batch that was made smaller grows by one part in so many with each commit.
const BATCH_GROWTH: usize = 8;

/// A stream's declaration and its decoder.
pub(crate) struct Stream {
    pub(crate) config: Arc<StreamConfig>,
    pub(crate) decoder: EventDecoder,
}

/// What a commit is to make of the group's offsets and of the ledgers.
pub(crate) struct Intended {
    pub(crate) offsets: Vec<((String, i32), Committed)>,
    /// Whether the offsets tell it from the commit before: those of a part of a state do not.
    pub(crate) is_telling: bool,
    ledgers: Vec<Ledger>,
}

/// What a cycle works on: all of one worker but its consumer.
pub(crate) struct Cycle<'a> {
    pub(crate) config: &'a ProcessorConfig,
    pub(crate) streams: Vec<Stream>,
    pub(crate) outputs: ResultTopics,
    pub(crate) inputs: HashMap<(Arc<str>, i32), Input>,
    pub(crate) progress: &'a WorkerProgress,
    in_transaction: bool,
    /// Records that this cycle has taken, and that one may take; not those whose effects are committed already.
    taken: usize,
    batch_max: usize,
    pace: Pace,
    /// The commit that was not answered, if the last was not.
    in_doubt: Option<Intended>,
    /// When the batch at hand was read.
    read_at: Instant,
    decoded: Decoded,
    effects: Effects,
    changes: Vec<StateChange>,
}

impl<'a> Cycle<'a> {
    pub(crate) fn new(
        config: &'a ProcessorConfig,
        streams: Vec<Stream>,
        outputs: ResultTopics,
        progress: &'a WorkerProgress,
    ) -> Self {
        Self {
            config,
            streams,
            outputs,
            inputs: HashMap::new(),
            progress,
            in_transaction: false,
            taken: 0,
            batch_max: config.settings.batch_max,
            pace: Pace::new(config.snapshot_bytes_per_second(), config.commit_interval()),
            in_doubt: None,
            read_at: Instant::now(),
            decoded: Decoded::default(),
            effects: Effects::default(),
            changes: Vec::new(),
        }
    }

    /// Reads for one commit interval or until the batch is full, processes, and commits. False when nothing arrived.
    ///
    /// `last` reads nothing and writes the state of everything, so that the next start has nothing to read again: a large portion of it,
    /// and false when there is no more.
    pub(crate) fn run_once(&mut self, reader: &mut GroupReader, last: bool) -> Result<bool, ProcessorError> {
        let started = Instant::now();
        // Without partitions there is nothing to wait for but them, and they are not told of here.
        let interval = if self.inputs.is_empty() { JOIN_INTERVAL } else { self.config.commit_interval() };
        let deadline = started + interval.min(self.config.commit_interval());
        // First of all, so that state is on its way while events are taken in, and the commit does not wait for it.
        let has_more_state = self.write_snapshots(last)?;
        // What is decided of a new partition is committed without waiting for its first record.
        if self.inputs.values().any(|input| input.touched) {
            self.begin()?;
        }
        self.taken = 0;
        let mut has_read = false;
        while self.taken < self.batch_max && !last {
            let left = deadline.saturating_duration_since(Instant::now());
            let batch = reader.read(self.batch_max - self.taken, left)?;
            if !batch.is_empty() {
                self.progress.step();
                has_read = true;
            }
            self.take(&batch)?;
            if Instant::now() >= deadline {
                break;
            }
        }
        self.advance_idle(reader)?;
        if !self.in_transaction {
            return Ok(has_read);
        }
        let processed = Instant::now();
        let counts = self.commit(reader)?;
        self.batch_max = (self.batch_max + self.batch_max.div_ceil(BATCH_GROWTH)).min(self.config.settings.batch_max);
        metrics::cycle_committed(&counts, processed - started, processed.elapsed());
        self.progress.add_committed(&counts);
        Ok(!last || has_more_state)
    }

    /// Gives up what the cycle has written. The inputs have gone ahead of what is committed: they must be restored.
    ///
    /// An error leaves it to the next producer, or to the broker's time-out.
    pub(crate) fn abort(&mut self) -> Result<(), KafkaError> {
        self.inputs.clear();
        // What was not handed over when it failed is of it, too.
        self.effects.clear();
        self.changes.clear();
        // What takes longer than a transaction may last, because the outputs are slow, would do so again.
        if self.taken > 0 {
            self.batch_max = (self.taken / 2).max(1);
        }
        self.in_transaction = false;
        self.outputs.abort()
    }

    /// Replaces the producer, which settles what was open; gives the commit that was not answered, if that was why.
    pub(crate) fn settle(&mut self) -> Result<Option<Intended>, KafkaError> {
        self.outputs.reopen()?;
        Ok(self.in_doubt.take())
    }

    /// The commit happened after all: goes on from there.
    pub(crate) fn confirm(&mut self, intended: Intended) {
        let counts = self.conclude(intended);
        self.progress.add_committed(&counts);
    }

    fn take(&mut self, batch: &Batch<'_>) -> Result<(), ProcessorError> {
        self.read_at = Instant::now();
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
            input.account.open.read += 1;
            self.taken += 1;
        }
        if offset < input.next {
            input.account.open.duplicate += u64::from(!committed_before);
            return Ok(());
        }
        input.next = offset + 1;
        let taken = self.take_in(message, input, committed_before);
        input.repeat_idle();
        input.account.forget_if_counted(offset);
        taken
    }

    /// Takes a record in that was not taken in before.
    fn take_in(
        &mut self,
        message: &Message<'_>,
        input: &mut Input,
        committed_before: bool,
    ) -> Result<(), ProcessorError> {
        let offset = message.offset();
        let stream = &mut self.streams[input.stream];
        match stream.decoder.decode(message.value(), message.timestamp_ms(), &mut self.decoded) {
            Ok(Taken::Event) => {}
            Ok(Taken::Filtered) => {
                input.account.open.filtered += u64::from(!committed_before);
                return Ok(());
            }
            Err(rejected) => {
                if !committed_before {
                    input.account.open.dead_lettered += 1;
                    let headers: Vec<_> = message.headers().collect();
                    self.outputs.dead_letter(&Draft {
                        stream: &stream.config.name,
                        topic: message.topic(),
                        partition: message.partition(),
                        offset,
                        timestamp_ms: message.timestamp_as_written_ms(),
                        key: message.key(),
                        value: message.value(),
                        omitted_bytes: None,
                        headers: &headers,
                        reason: rejected.reason.as_str(),
                        error: &rejected.error,
                    })?;
                }
                return Ok(());
            }
        }
        let Decoded { event_time, entity, values, id } = &self.decoded;
        let before = input.engine.counts();
        let event = Event { offset, event_time: *event_time, entity, values, id: *id };
        let ingested = input.engine.ingest(&event, &mut self.effects);
        if ingested == Ingested::Scored {
            (input.heard_at, input.silent) = (self.read_at, None);
        }
        if committed_before {
            return Ok(self.write_following(input, None, committed_before)?);
        }
        match ingested {
            Ingested::Scored => input.account.open.scored += 1,
            Ingested::Duplicate => input.account.open.duplicate += 1,
            Ingested::Late(missed) => {
                input.account.open.late += 1;
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
                    would_change_alert: missed.would_change_alert,
                };
                self.outputs.late(late)?;
            }
        }
        if !self.effects.is_empty() {
            self.write_following(input, intended_ms(message), committed_before)?;
        }
        input.count_closed(before);
        Ok(())
    }

    /// Writes what follows, a portion at a time; nothing where it is committed already.
    fn write_following(
        &mut self,
        input: &mut Input,
        intended_ms: Option<i64>,
        committed_before: bool,
    ) -> Result<(), KafkaError> {
        loop {
            if committed_before {
                self.effects.clear();
            } else {
                self.write_effects(intended_ms, &mut input.account.open)?;
            }
            if !input.engine.has_more() {
                return Ok(());
            }
            input.engine.go_on(&mut self.effects);
        }
    }

    /// Lets event time go on in partitions that have been silent for long, if windows close by it.
    ///
    /// Time goes on from the greatest event time as the clock does, so that a window closes when it would have, had events gone on.
    fn advance_idle(&mut self, reader: &GroupReader) -> Result<(), ProcessorError> {
        let mut inputs = std::mem::take(&mut self.inputs);
        let advanced = self.advance_idle_of(&mut inputs, reader);
        self.inputs = inputs;
        advanced
    }

    fn advance_idle_of(
        &mut self,
        inputs: &mut HashMap<(Arc<str>, i32), Input>,
        reader: &GroupReader,
    ) -> Result<(), ProcessorError> {
        for ((topic, partition), input) in inputs {
            let timeout_ms = self.streams[input.stream].config.idle_timeout_ms;
            let Some(time) = timeout_ms.and_then(|ms| input.idle_time(ms)) else {
                input.silent = None;
                continue;
            };
            // The broker is asked for the end: what the last fetch told may be as old as the silence. After a suspension of the machine
            // or a while without a network the clock has gone on, and what was written meanwhile is still to come.
            let Silent { end, time } = match input.silent {
                Some(silent) => silent,
                None => *input.silent.insert(Silent { end: reader.watermarks(topic, *partition)?.1, time }),
            };
            let lags = reader.lag();
            let here = lags.iter().find(|lag| *lag.topic == **topic && lag.partition == *partition);
            if here.and_then(|lag| lag.committed).is_none_or(|position| position < end) {
                continue;
            }
            input.silent = None;
            let before = input.engine.counts();
            input.advance(time, &mut self.effects);
            self.begin()?;
            self.write_following(input, None, false)?;
            input.count_closed(before);
        }
        Ok(())
    }

    /// Takes note of how far event time has come, what history is left, and whether all is accounted for.
    pub(crate) fn look(&mut self, lags: &[PartitionLag]) {
        let mut history_left = 0;
        for ((topic, partition), input) in &mut self.inputs {
            input.look();
            let here = lags.iter().find(|lag| *lag.topic == **topic && lag.partition == *partition);
            let left = input.look_at_history(here.and_then(|lag| lag.committed).unwrap_or_default());
            if left == Some(0) {
                metrics::history_learnt(topic, *partition, input.engine.counts().quiet);
            }
            history_left += left.unwrap_or_default();
        }
        self.progress.set_history_left(history_left);
        self.progress.set_residue(self.inputs.values().map(|input| input.account.residue().unsigned_abs()).sum());
        let clock_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
        for (index, stream) in self.streams.iter().enumerate() {
            let waiting = self.inputs.values().filter(|input| input.stream == index && input.engine.is_due(i64::MAX));
            let oldest = waiting.filter_map(|input| input.engine.watermark().now()).min();
            let lag_ms = oldest.map_or(0, |oldest| (clock_ms - oldest).max(0));
            self.progress.set_watermark_lag(&stream.config.name, lag_ms);
        }
    }

    /// Where event time stands in each input partition. Cost: proportional to the open windows.
    pub(crate) fn standings(&self, lags: &[PartitionLag]) -> Vec<Standing> {
        let standing = |((topic, partition), input): (&(Arc<str>, i32), &Input)| {
            let config = &self.streams[input.stream].config;
            let mut lags = lags.iter().filter(|lag| *lag.topic == **topic && lag.partition == *partition);
            Standing {
                stream: config.name.clone(),
                partition: *partition,
                watermark: input.engine.watermark().now(),
                open_windows: input.engine.open_windows() as u64,
                lag: lags.next().map_or(0, |lag| lag.lag),
                silence: input.heard_at.elapsed(),
                still: input.moved_at.elapsed(),
                idle_timeout: config.idle_timeout_ms.map(|ms| Duration::from_millis(ms.unsigned_abs())),
            }
        };
        self.inputs.iter().map(standing).collect()
    }

    fn write_effects(&mut self, intended_ms: Option<i64>, open: &mut Counts) -> Result<(), KafkaError> {
        for metric in &self.effects.metrics {
            self.outputs.metric(metric, intended_ms)?;
        }
        for forecast in &self.effects.forecasts {
            self.outputs.forecast(forecast, intended_ms)?;
        }
        for alert in &self.effects.alerts {
            self.outputs.alert(alert, intended_ms)?;
        }
        self.progress.learn_accuracy(&self.effects.forecasts);
        open.metrics += self.effects.metrics.len() as u64;
        open.forecasts += self.effects.forecasts.len() as u64;
        open.alerts += self.effects.alerts.len() as u64;
        self.effects.clear();
        Ok(())
    }

    fn begin(&mut self) -> Result<(), KafkaError> {
        begin(&mut self.outputs, &mut self.in_transaction)
    }

    /// Writes on at the snapshot round that is open, then begins those that are due, which waits for longest first: one at a time, so that
    /// what waits to be written is of one partition. As much as the pace allows, or a large portion if these are the last. True if a round
    /// stays open.
    fn write_snapshots(&mut self, last: bool) -> Result<bool, ProcessorError> {
        let mut bytes_left = if last { LAST_SNAPSHOT_BYTES } else { self.pace.take() };
        let every = self.config.snapshot_every();
        loop {
            let is_due = |input: &Input| {
                (last || input.rounds.is_due(every)) && input.rounds.has_news(input.next) && !input.is_replaying()
            };
            let is_open = |input: &Input| input.engine.open_round_offset().is_some();
            let next = self.inputs.iter_mut().filter(|(_, input)| is_open(input) || is_due(input));
            let next = next.min_by_key(|(_, input)| (!is_open(input), input.rounds.began_at()));
            let Some(((topic, partition), input)) = next else { return Ok(false) };
            if !is_open(input) {
                input.engine.open_round(input.next);
                input.rounds.begin();
            }
            begin(&mut self.outputs, &mut self.in_transaction)?;
            input.touched = true;
            let offset = input.engine.open_round_offset();
            let is_complete = input.engine.write_round(bytes_left, &mut self.changes);
            let name = &self.streams[input.stream].config.name;
            for (place, state) in self.changes.drain(..) {
                bytes_left = bytes_left.saturating_sub(state.as_ref().map_or(0, |state| state.payload.len()));
                let key = state_key(&self.config.settings.group_id, name, &place);
                self.outputs.state(*partition, key.as_bytes(), state.as_ref())?;
            }
            let Some(offset) = offset.filter(|_| is_complete) else { return Ok(true) };
            metrics::snapshot_complete(topic, *partition, offset, input.rounds.complete(offset));
        }
    }

    /// Commits with the ledger of each input that was touched; gives what the transaction adds to them all.
    fn commit(&mut self, reader: &GroupReader) -> Result<Counts, ProcessorError> {
        let ledgers = self.write_ledgers()?;
        let touched = || self.inputs.iter().filter(|(_, input)| input.touched);
        let intended = |((topic, partition), input): (&(Arc<str>, i32), &Input)| {
            let committed =
                Committed { offset: input.next, metadata: input.rounds.note(input.topic.clone()).to_metadata() };
            ((topic.as_ref().to_owned(), *partition), committed)
        };
        let offsets: Vec<_> = touched().map(intended).collect();
        let is_telling =
            touched().zip(&offsets).any(|((_, input), (_, intended))| input.committed.as_ref() != Some(intended));
        let intended = Intended { offsets, is_telling, ledgers };
        let offsets: Vec<OffsetCommit<'_>> = intended.offsets.iter().map(offset_commit).collect();
        if let Err(error) = self.outputs.commit(&offsets, reader) {
            self.in_doubt = error.needs_new_writer().then_some(intended);
            return Err(error.into());
        }
        Ok(self.conclude(intended))
    }

    /// What was meant is committed; gives what it adds to all ledgers.
    fn conclude(&mut self, intended: Intended) -> Counts {
        self.in_transaction = false;
        let mut counts = Counts::default();
        for (((topic, partition), committed), ledger) in intended.offsets.into_iter().zip(intended.ledgers) {
            let Some(input) = self.inputs.get_mut(&(Arc::from(topic), partition)) else { continue };
            input.committed = Some(committed);
            if ledger.residue() != input.account.residue() {
                metrics::ledger_broken(&ledger);
            }
            counts.add(&input.account.commit(ledger));
            input.touched = false;
        }
        counts
    }

    fn write_ledgers(&mut self) -> Result<Vec<Ledger>, KafkaError> {
        let mut ledgers = Vec::new();
        for input in self.inputs.values().filter(|input| input.touched) {
            let ledger = input.account.record(input.next);
            self.outputs.ledger(ledger_key(&ledger).as_bytes(), &ledger)?;
            ledgers.push(ledger);
        }
        Ok(ledgers)
    }
}

fn begin(outputs: &mut ResultTopics, in_transaction: &mut bool) -> Result<(), KafkaError> {
    if !*in_transaction {
        outputs.begin()?;
        *in_transaction = true;
    }
    Ok(())
}

fn offset_commit((place, committed): &((String, i32), Committed)) -> OffsetCommit<'_> {
    let ((topic, partition), Committed { offset, metadata }) = (place, committed);
    OffsetCommit { topic, partition: *partition, offset: *offset, metadata }
}

/// When the record was meant to be sent: from its header, else its timestamp.
fn intended_ms(message: &Message<'_>) -> Option<i64> {
    let stated = message.header(INTENDED_HEADER).and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
    stated.or(message.timestamp_ms())
}
