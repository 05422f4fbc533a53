//! The worker: serves the group, runs cycles, and begins again from the committed offsets whenever a cycle fails.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidewatch_sink::transactional::ValueFraming;
use tidewatch_sink::{Stop, StopSignal, TransactionalTopics};
use tidewatch_topic_io::{
    Admin, Assigned, Committed, Disposition, GroupEvent, GroupOptions, GroupReader, KafkaError, StartAt,
    TransactionOptions, TransactionalWriter,
};

use crate::config::Start;
use crate::cycle::{Cycle, Input, Stream};
use crate::decode::EventDecoder;
use crate::ledger::Account;
use crate::restore::{self, Beginning, CommitNote};
use crate::{Counts, ProcessorConfig, ProcessorError, Progress, metrics};

/// Cycles that may fail in a row before the processor gives up: each begins anew with fresh clients.
const FAILURES_MAX: u32 = 10;
/// Pause after a failed cycle, times the failures in a row.
const BACKOFF: Duration = Duration::from_millis(200);
/// How often lag and other standing figures are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long the state is written at the end.
const LAST_SNAPSHOTS_MAX: Duration = Duration::from_secs(5);

/// The client's own bound of a batch: a topic that takes less must not be sent as much.
const BATCH_BYTES_USUAL: usize = 1_000_000;

/// What a processor did from its start to its end.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// The ledger and what followed.
    pub counts: Counts,
    /// Transactions committed.
    pub transactions: u64,
    /// Times that everything was dropped and restored after a failed cycle.
    pub restarts: u64,
}

/// Runs the processor until it is told to stop: blocking, on the caller's thread.
///
/// [`Stop::Drain`] ends it once all input is committed, [`Stop::Now`] after the cycle at hand; both write a snapshot and leave the
/// group.
///
/// # Errors
/// On what cannot be helped by trying again: a declaration or state that does not fit, a connection that is refused, or a cycle that
/// failed many times in a row.
pub fn run(config: &ProcessorConfig, progress: &Progress, stop: &StopSignal) -> Result<Summary, ProcessorError> {
    config.settings.validate()?;
    let mut failures = 0;
    loop {
        let before = progress.transactions();
        match Worker::start(config, open_streams(config)?, progress).and_then(|mut worker| worker.work(stop)) {
            Ok(()) => break,
            Err(error) if !has_worked(progress) || !may_pass(&error) => return Err(error),
            Err(error) => {
                metrics::cycle_aborted(&error);
                progress.add_restart();
                progress.set_assigned(0);
                failures = if progress.transactions() > before { 1 } else { failures + 1 };
                if failures >= FAILURES_MAX || stop.requested() == Some(Stop::Now) {
                    return Err(error);
                }
                std::thread::sleep(BACKOFF * failures);
            }
        }
    }
    Ok(Summary { counts: progress.counts(), transactions: progress.transactions(), restarts: progress.restarts() })
}

/// Whether a failed cycle is worth another try. A broker that has been there may come back.
fn may_pass(error: &ProcessorError) -> bool {
    matches!(error, ProcessorError::Kafka(KafkaError::Unreachable { .. })) || error.disposition() != Disposition::Fatal
}

/// Trouble at the very start is told at once; later it is something to get over.
fn has_worked(progress: &Progress) -> bool {
    progress.transactions() > 0 || progress.restarts() > 0 || progress.assigned() > 0
}

fn open_streams(config: &ProcessorConfig) -> Result<Vec<Stream>, ProcessorError> {
    if config.streams.is_empty() {
        return Err(ProcessorError::Settings(
            "no stream is declared; write a [[stream]] with a topic and a measure".into(),
        ));
    }
    crate::config::check_streams(&config.streams, &config.topics)?;
    let open = |config: &Arc<_>| Ok(Stream { decoder: EventDecoder::new(config)?, config: config.clone() });
    config.streams.iter().map(open).collect()
}

struct Worker<'a> {
    cycle: Cycle<'a>,
    reader: GroupReader,
    partitions: HashMap<Arc<str>, i32>,
    looked_at: Instant,
    /// Whether the group has given this member its share, be it none.
    has_joined: bool,
    /// Where the inputs ended when a drain was first seen.
    ends: Option<HashMap<(String, i32), i64>>,
}

impl<'a> Worker<'a> {
    fn start(
        config: &'a ProcessorConfig,
        streams: Vec<Stream>,
        progress: &'a Progress,
    ) -> Result<Self, ProcessorError> {
        let admin = Admin::connect(&config.kafka)?;
        let partitions = check_topics(config, &admin)?;
        let letter_bytes_max = admin.batch_bytes_max(&config.topics.dead_letters)?;
        let late_bytes_max = admin.batch_bytes_max(&config.topics.late)?;
        let batch_bytes_max = letter_bytes_max.into_iter().chain(late_bytes_max).min();
        let options = TransactionOptions {
            transaction_timeout: crate::config::millis(config.settings.transaction_timeout),
            batch_bytes_max: batch_bytes_max.filter(|&bytes| bytes < BATCH_BYTES_USUAL),
            ..TransactionOptions::default()
        };
        let writer = TransactionalWriter::new(&config.kafka, &config.transactional_id(), options)?;
        let outputs = TransactionalTopics::new(writer, &config.topics, &ValueFraming::SingleObject, "processor")
            .with_bytes_max(letter_bytes_max, late_bytes_max);
        let names: Vec<&str> = streams.iter().map(|stream| stream.config.topic.as_str()).collect();
        let options = GroupOptions {
            read_committed: true,
            instance_id: config.settings.static_membership.then(|| config.transactional_id()),
            prefetch_kbytes_total: config.settings.prefetch_kib,
            ..GroupOptions::default()
        };
        let reader = GroupReader::new(&config.kafka, &config.settings.group_id, &names, options)?;
        Ok(Self {
            cycle: Cycle::new(config, streams, outputs, progress),
            reader,
            partitions,
            looked_at: Instant::now(),
            has_joined: false,
            ends: None,
        })
    }

    fn work(&mut self, stop: &StopSignal) -> Result<(), ProcessorError> {
        let result = self.cycles(stop);
        if result.is_err() {
            self.cycle.abort();
        }
        result
    }

    fn cycles(&mut self, stop: &StopSignal) -> Result<(), ProcessorError> {
        loop {
            self.serve_group()?;
            let requested = stop.requested();
            if requested == Some(Stop::Now) {
                break;
            }
            let busy = self.cycle.run_once(&mut self.reader, false)?;
            if self.looked_at.elapsed() >= LOOK_EVERY || !busy {
                self.look();
            }
            if !busy && requested == Some(Stop::Drain) && self.is_drained()? {
                break;
            }
        }
        // All of a large state may take longer than anybody waits for an end: what is not written is read again.
        let write_until = Instant::now() + LAST_SNAPSHOTS_MAX;
        while self.cycle.run_once(&mut self.reader, true)? && Instant::now() < write_until {}
        self.look();
        Ok(())
    }

    /// Whether everything has been taken in that the inputs held when a drain was first seen.
    fn is_drained(&mut self) -> Result<bool, ProcessorError> {
        let config = self.cycle.config;
        if self.ends.is_none() {
            // Asked by a client of its own: what the reader knows of the ends is as old as its last fetch.
            let admin = Admin::connect(&config.kafka)?;
            let mut ends = HashMap::new();
            for stream in &config.streams {
                let offsets = admin.offsets(&stream.topic)?.into_iter();
                ends.extend(offsets.map(|at| ((stream.topic.clone(), at.partition), at.high)));
            }
            self.ends = Some(ends);
        }
        let positions: HashMap<(String, i32), i64> =
            self.reader.lag().into_iter().filter_map(|at| Some(((at.topic, at.partition), at.committed?))).collect();
        let is_read = |topic: &str, partition: i32| {
            let place = (topic.to_owned(), partition);
            let end = self.ends.as_ref().and_then(|ends| ends.get(&place)).copied();
            positions.get(&place).is_some_and(|&position| end.is_none_or(|end| position >= end))
        };
        Ok(self.has_joined && self.cycle.inputs.keys().all(|(topic, partition)| is_read(topic, *partition)))
    }

    /// Looks at how far there is to go.
    fn look(&mut self) {
        self.looked_at = Instant::now();
        let lags = self.reader.lag();
        let lag = lags.iter().map(|partition| partition.lag).sum();
        self.cycle.look();
        if self.cycle.progress.is_explaining() {
            self.cycle.progress.set_standings(self.cycle.standings(&lags));
        }
        let entities = self.cycle.inputs.values().map(|input| input.engine.entities() as u64).sum();
        self.cycle.progress.set_lag(lag);
        self.cycle.progress.set_entities(entities);
        self.cycle.progress.set_assigned(self.cycle.inputs.len() as u64);
        metrics::standing(lag, entities);
    }

    /// Takes part in the group: gives up what is revoked, restores what is assigned. No transaction is open here.
    fn serve_group(&mut self) -> Result<(), ProcessorError> {
        let start = self.cycle.config.settings.start;
        let mut start_at = |_: &str, _: i32, committed: Option<&Committed>| start_at(committed, start);
        for event in self.reader.serve_group(&mut start_at)? {
            match event {
                GroupEvent::Revoked(partitions) | GroupEvent::Lost(partitions) => {
                    for (topic, partition) in partitions {
                        self.cycle.inputs.remove(&(topic.as_str().into(), partition));
                    }
                }
                GroupEvent::Assigned(assigned) => {
                    self.restore(&assigned)?;
                    self.has_joined = true;
                }
            }
        }
        Ok(())
    }

    fn restore(&mut self, assigned: &[Assigned]) -> Result<(), ProcessorError> {
        let config = self.cycle.config;
        let partitions = assigned.iter().map(|assigned| assigned.partition).collect();
        let mut state =
            restore::read_state(&config.kafka, &config.topics.state, &config.settings.group_id, &partitions)?;
        let mut ledgers =
            restore::read_ledgers(&config.kafka, &config.topics.ledger, &config.settings.group_id, &partitions)?;
        for assigned in assigned {
            let Some(stream) = self.cycle.streams.iter().position(|stream| stream.config.topic == assigned.topic)
            else {
                continue;
            };
            let topic: Arc<str> = assigned.topic.as_str().into();
            let now = self.partitions[&topic];
            let note = assigned.committed.as_ref().and_then(|committed| CommitNote::parse(&committed.metadata));
            if let Some(then) = note.as_ref().map(|note| note.partitions).filter(|&then| then != now) {
                return Err(ProcessorError::PartitionsChanged { topic: assigned.topic.clone(), now, then });
            }
            let committed = assigned.committed.as_ref().map(|committed| committed.offset);
            let write_from = committed.unwrap_or(assigned.start_offset);
            let is_snapshot = note.as_ref().is_some_and(|note| note.is_snapshot);
            let idle = note.map(|note| note.idle).unwrap_or_default();
            let begin = Beginning { read_from: assigned.start_offset, is_snapshot, write_from, idle };
            let declared = &self.cycle.streams[stream].config;
            let records = state.remove(&(declared.name.clone(), assigned.partition)).unwrap_or_default();
            let engine = restore::restore(declared, assigned.partition, &begin, records)?;
            let group = &config.settings.group_id;
            let last = ledgers.remove(&(declared.name.clone(), assigned.partition));
            let account = Account::begin(group, &declared.name, &assigned.topic, assigned.partition, write_from)
                .resume(last, committed, &config.topics.ledger)?;
            if account.residue() != 0 {
                metrics::ledger_broken(account.committed());
            }
            self.cycle.inputs.insert((topic, assigned.partition), Input::new(stream, engine, begin, now, account));
        }
        Ok(())
    }
}

/// Where reading of an assigned partition starts: at the snapshot that its committed offset names.
fn start_at(committed: Option<&Committed>, start: Start) -> StartAt {
    match committed {
        Some(committed) => {
            StartAt::Offset(CommitNote::parse(&committed.metadata).map_or(committed.offset, |note| note.read_from))
        }
        None if start == Start::Latest => StartAt::End,
        None => StartAt::Beginning,
    }
}

/// Checks that inputs and outputs are there, and gives the inputs' numbers of partitions.
fn check_topics(config: &ProcessorConfig, admin: &Admin) -> Result<HashMap<Arc<str>, i32>, ProcessorError> {
    let mut partitions: HashMap<Arc<str>, i32> = HashMap::new();
    for stream in &config.streams {
        partitions.insert(stream.topic.as_str().into(), admin.partitions(&stream.topic)?);
    }
    let check_width = |what: &'static str, topic: &str| {
        let found = admin.partitions(topic)?;
        let mut inputs = config.streams.iter().map(|stream| (&stream.topic, partitions[stream.topic.as_str()]));
        match inputs.find(|&(_, wanted)| wanted > found) {
            None => Ok(()),
            Some((input, wanted)) => {
                let (topic, input) = (topic.to_owned(), input.clone());
                Err(ProcessorError::TooFewPartitions { what, topic, found, input, wanted })
            }
        }
    };
    let t = &config.topics;
    check_width("state", &t.state)?;
    for output in [&t.metrics, &t.forecasts, &t.alerts, &t.late, &t.dead_letters] {
        admin.partitions(output)?;
    }
    check_width("ledger", &t.ledger)?;
    Ok(partitions)
}
