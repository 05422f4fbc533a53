//! A worker: one member of the group with its consumer, its producer, and the engines of its partitions, on a thread of its own. It
//! runs cycles, and goes on from the committed offsets when one fails.
//!
//! Transactional calls are made on this thread, all but the first, which may take long: there is nothing that it could do meanwhile, as
//! the next cycle must not begin before the last is committed. Records are fetched, and heartbeats sent, by the clients' own threads.
//!
//! No transaction is open while the group is served: a cycle ends with a commit or an error, and only then the group has its word. So
//! a partition that is *revoked* has nothing open (all that was taken of it is committed) and is handed over at once; one that is
//! *lost* is dropped, and a commit that did not know of it yet is refused by the broker, by the generation of the group that goes
//! with it. That generation is read anew for each commit; without one nothing is sent, as brokers take offsets of nobody's unchecked.
//!
//! What a failed cycle is answered with:
//!
//! | what happened | the transaction | what is done |
//! |---|---|---|
//! | a record or the offsets were not accepted; the membership is not one any more; a question timed out | not committed | *abort*: abort it by a new producer's epoch, seek to the committed offsets, restore the engines, and take half as many records at once, so that outputs that are slow are caught up with; the group does not notice |
//! | the commit was not answered in time | unknown | *settle*: replace the producer. Its new epoch fences what is still on its way, and the coordinator ends the transaction one way or the other before it answers. If the committed offsets, with their metadata, are those that were meant, it happened, and the worker goes on as if it had been answered; else as after an abort |
//! | fenced: the broker gave the transaction up at its time-out, or another process uses the id | not committed | *settle*, as above; the third time within two `transaction_timeout`s is another process, and ends the processor |
//! | a fatal error of a client, an expelled static member (the third time, it is another process, too), no connection, no progress, input that is gone and to be skipped | unknown | *rebuild*: make all clients anew, join the group again, restore |
//! | anything else: settings, rights, state or ledger that do not fit, lost input | as it is | *end* with the error |
//!
//! Whatever fails ten times in a row without a transaction in between ends the processor; a broker that does not answer is waited for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidewatch_processor_core::config::Bootstrap;
use tidewatch_sink::transactional::ValueFraming;
use tidewatch_sink::{CycleWriter, ResultTopics};
use tidewatch_topic_io::{
    Admin, Assigned, Committed, GroupEvent, GroupOptions, GroupReader, KafkaError, StartAt, TransactionOptions,
};

use crate::config::{OnLostInput, Start, millis};
use crate::cycle::{Cycle, Stream};
use crate::decode::EventDecoder;
use crate::error::Recovery;
use crate::failures::Failures;
use crate::input::Input;
use crate::input_topics::{self, InputTopics};
use crate::ledger::Account;
use crate::progress::{Recoveries, WorkerProgress};
use crate::restore::{self, Beginning, CommitNote, Restored, Wanted};
use crate::supervisor::Orders;
use crate::{ProcessorConfig, ProcessorError, metrics};

/// How often lag and other standing figures are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What is left of the time for an end when no more of the state is written: the last transaction has to be settled.
const LAST_COMMIT_TIME: Duration = Duration::from_secs(1);
/// How long a commit is waited for at least, however short transactions are.
const COMMIT_TIME_MIN: Duration = Duration::from_secs(2);

/// The client's own bound of a batch: a topic that takes less must not be sent as much.
const BATCH_BYTES_USUAL: usize = 1_000_000;

/// Works until told to end.
///
/// # Errors
/// What cannot be helped by trying again, or failed too many times in a row. Trouble at the very start is told at once; later it is
/// something to get over.
pub(crate) fn run(
    config: &ProcessorConfig,
    number: usize,
    progress: &WorkerProgress,
    orders: &Orders,
) -> Result<(), ProcessorError> {
    let (mut has_started, mut has_opened) = (false, false);
    let mut failures = Failures::new(config, number);
    let mut floors = Floors::new();
    loop {
        let started = Worker::start(config, number, progress, orders, &mut floors);
        let outcome = started.and_then(|mut worker| {
            has_started = true;
            let outcome = worker.work(&mut failures);
            has_opened |= worker.cycle.outputs.has_opened();
            outcome
        });
        let Err(error) = outcome else { return Ok(()) };
        progress.clear();
        let is_start = !has_started || !has_opened && error.is_of_opening();
        if is_start || error.recovery() == Recovery::End {
            return Err(error);
        }
        if orders.is_stopping() {
            tracing::warn!(worker = number, %error, "the last cycle is given up, as after a crash");
            return Ok(());
        }
        progress.add_recovery(&Recoveries { rebuilt: 1, ..Recoveries::default() });
        failures.add(Recovery::Rebuild, error, progress)?;
    }
}

/// The streams, each with a decoder of its own.
pub(crate) fn open_streams(config: &ProcessorConfig) -> Result<Vec<Stream>, ProcessorError> {
    if config.streams.is_empty() {
        return Err(ProcessorError::Settings(
            "no stream is declared; write a [[stream]] with a topic and a measure".into(),
        ));
    }
    crate::config::check_streams(&config.streams, &config.topics)?;
    let open = |config: &Arc<_>| Ok(Stream { decoder: EventDecoder::new(config)?, config: config.clone() });
    config.streams.iter().map(open).collect()
}

/// No reading of these partitions begins before: there is nothing any more, or it began there with nothing committed.
type Floors = BTreeMap<(String, i32), i64>;

/// Offsets that are gone, and how many of them were never read.
struct Lost {
    from: i64,
    to: i64,
    unread: i64,
}

struct Worker<'a> {
    number: usize,
    orders: &'a Orders,
    cycle: Cycle<'a>,
    reader: GroupReader,
    topics: InputTopics,
    looked_at: Instant,
    floors: &'a mut Floors,
}

impl<'a> Worker<'a> {
    fn start(
        config: &'a ProcessorConfig,
        number: usize,
        progress: &'a WorkerProgress,
        orders: &'a Orders,
        floors: &'a mut Floors,
    ) -> Result<Self, ProcessorError> {
        let began = Instant::now();
        let streams = open_streams(config)?;
        let admin = Admin::connect(&config.kafka)?;
        let topics = check_topics(config, &admin)?;
        let [letter_bytes_max, late_bytes_max] =
            admin.batch_bytes_max([&config.topics.dead_letters, &config.topics.late])?;
        let batch_bytes_max = letter_bytes_max.into_iter().chain(late_bytes_max).min();
        let transaction_timeout = millis(config.settings.transaction_timeout);
        let options = TransactionOptions {
            transaction_timeout,
            operation_timeout: (transaction_timeout / 2).max(COMMIT_TIME_MIN),
            batch_bytes_max: batch_bytes_max.filter(|&bytes| bytes < BATCH_BYTES_USUAL),
        };
        let id = config.transactional_id(number);
        let names: Vec<&str> = streams.iter().map(|stream| stream.config.topic.as_str()).collect();
        let group_options = GroupOptions {
            read_committed: true,
            instance_id: config.settings.static_membership.then(|| config.group_instance_id(number)),
            prefetch_kbytes_total: config.settings.prefetch_kib / config.settings.workers as u32,
            ..GroupOptions::default()
        };
        let reader = GroupReader::new(&config.kafka, &config.settings.group_id, &names, group_options)?;
        // It joins the group, and the partitions are restored, while the producer waits for the end of a transaction that the last life
        // has left open. What that has committed meanwhile is waited for, too; and it can commit nothing under a later generation.
        let guarantee = config.settings.processing_guarantee;
        let writer = CycleWriter::new(&config.kafka, guarantee, &id, options)?;
        let outputs = ResultTopics::new(writer, &config.topics, &ValueFraming::SingleObject, "processor")
            .with_bytes_max(letter_bytes_max, late_bytes_max);
        let cycle = Cycle::new(config, streams, outputs, progress);
        metrics::clients_made(number, began.elapsed());
        let looked_at = Instant::now();
        Ok(Self { number, orders, cycle, reader, topics, looked_at, floors })
    }

    fn work(&mut self, failures: &mut Failures) -> Result<(), ProcessorError> {
        loop {
            let Err(error) = self.cycles() else { return Ok(()) };
            let Err(error) = self.recover(error, failures) else { continue };
            // Where new clients are made, theirs is the epoch that ends the transaction.
            if self.orders.is_stopping() || error.recovery() != Recovery::Rebuild {
                self.cycle.outputs.set_deadline(self.orders.deadline());
                if let Err(error) = self.cycle.abort() {
                    tracing::warn!(%error, "abort failed; the next producer's epoch fences the transaction");
                }
            }
            return Err(error);
        }
    }

    fn cycles(&mut self) -> Result<(), ProcessorError> {
        loop {
            self.serve_group()?;
            if self.orders.is_stopping() {
                break;
            }
            if self.orders.take_renewal() {
                let waited = millis(self.cycle.config.settings.stall_timeout);
                return Err(ProcessorError::Stalled { worker: self.number, waited, times: 1 });
            }
            let busy = self.cycle.run_once(&mut self.reader, false)?;
            if self.looked_at.elapsed() >= LOOK_EVERY || !busy {
                self.look();
            }
        }
        // All of a large state may take longer than anybody waits for an end: what is not written is read again. A deadline may come later
        // than the order to end, which a drain gives without one.
        let has_time = || self.orders.deadline().is_none_or(|deadline| Instant::now() + LAST_COMMIT_TIME < deadline);
        loop {
            self.cycle.outputs.set_deadline(self.orders.deadline());
            if !self.cycle.run_once(&mut self.reader, true)? || !has_time() {
                break;
            }
        }
        self.look();
        Ok(())
    }

    /// Gets over a failed cycle, or gives the error back: what needs new clients, or cannot be got over.
    fn recover(&mut self, error: ProcessorError, failures: &mut Failures) -> Result<(), ProcessorError> {
        let progress = self.cycle.progress;
        self.check_lost_input(&error)?;
        let recovery = error.recovery();
        let is_to_end = self.orders.is_stopping() || error.is_of_opening();
        if is_to_end || !matches!(recovery, Recovery::Abort | Recovery::Settle) {
            return Err(error);
        }
        failures.add(recovery, error, progress)?;
        if recovery == Recovery::Abort {
            match self.cycle.abort().map_err(ProcessorError::from) {
                Ok(()) => {
                    progress.add_recovery(&Recoveries { aborted: 1, ..Recoveries::default() });
                    return self.go_back();
                }
                // It may be the abort that tells that it is fenced.
                Err(error) if error.recovery() == Recovery::Settle => {
                    failures.add(Recovery::Settle, error, progress)?
                }
                Err(error) => return Err(error),
            }
        }
        let intended = self.cycle.settle()?;
        if let Some(intended) = intended {
            let places: Vec<_> = intended.offsets.iter().map(|(place, _)| place.clone()).collect();
            let found = self.reader.committed(&places)?;
            // Where the offsets are those of the commit before, as of a cycle that wrote state and nothing else, they say nothing: what
            // it wrote is written again.
            let is_committed = intended.is_telling
                && intended.offsets.iter().map(|(_, meant)| Some(meant)).eq(found.iter().map(Option::as_ref));
            metrics::commit_settled(self.number, is_committed);
            if is_committed {
                progress.add_recovery(&Recoveries { confirmed: 1, ..Recoveries::default() });
                self.cycle.confirm(intended);
                return Ok(());
            }
        }
        progress.add_recovery(&Recoveries { undone: 1, ..Recoveries::default() });
        self.cycle.abort()?;
        self.go_back()
    }

    /// Goes back to the committed offsets in all partitions, without leaving the group.
    fn go_back(&mut self) -> Result<(), ProcessorError> {
        self.cycle.inputs.clear();
        // What has become of the group meanwhile comes first; what it brings is restored at once. How far all is read is told only once
        // it was gone back: what the failed cycle had read is not committed.
        let events = self.group_events()?;
        self.follow(events)?;
        let is_restored = |topic: &str, partition| self.cycle.inputs.contains_key(&(Arc::from(topic), partition));
        let owned = self.reader.positions().filter(|&(topic, partition, _)| !is_restored(topic, partition));
        let owned: Vec<_> = owned.map(|(topic, partition, _)| (topic.to_owned(), partition)).collect();
        let (config, floors) = (self.cycle.config, &*self.floors);
        let assigned = self.reader.go_back(&owned, &mut |topic, partition, committed| {
            start_at(committed, config.start_of(topic), floors.get(&(topic.to_owned(), partition)).copied())
        })?;
        self.cycle.progress.set_read_to(self.reader.read_to());
        self.restore(&assigned)
    }

    /// Says what became of input that was not there where it was read, and takes note where to go on.
    fn check_lost_input(&mut self, error: &ProcessorError) -> Result<(), ProcessorError> {
        let ProcessorError::Kafka(KafkaError::OffsetOutOfRange { topic, partition, offset }) = error else {
            return Ok(());
        };
        let place = (topic.clone(), *partition);
        if !self.topics.contains_key(topic.as_str()) {
            return Ok(());
        }
        let (low, high) = self.reader.watermarks(topic, *partition)?;
        // It was not there when it was read. Where it is now, something else has been written in its place meanwhile.
        if *offset >= low {
            let (topic, partition) = place;
            return Err(ProcessorError::InputReplaced { topic, partition, committed: *offset, end: high });
        }
        let lost = self.lost(place.clone(), *offset, low)?;
        if self.cycle.config.settings.on_lost_input == OnLostInput::Fail {
            let (Lost { from, to, unread }, (topic, partition)) = (lost, place);
            return Err(ProcessorError::InputLost { topic, partition, from, to, unread });
        }
        // Where retention has come past one partition, it has past others: all are gone on behind at once, as it takes new clients.
        let others = self.reader.positions().filter(|&(name, number, _)| (name, number) != (&*place.0, place.1));
        let others: Vec<_> = others.map(|(name, number, position)| ((name.to_owned(), number), position)).collect();
        let mut all = vec![(place.clone(), lost)];
        for (other, position) in others {
            let (low, _) = self.reader.watermarks(&other.0, other.1)?;
            if position < low {
                let lost = self.lost(other.clone(), position, low)?;
                all.push((other, lost));
            }
        }
        let from = all[0].1.from;
        for (skipped, Lost { from, to, unread }) in all {
            metrics::input_lost(&skipped.0, skipped.1, from, to, unread);
            self.floors.insert(skipped, to + 1);
        }
        Err(ProcessorError::InputSkipped { topic: place.0, partition: place.1, from, to: low })
    }

    /// What is gone of a partition that was to be read from `offset` on and begins at `low`.
    fn lost(&self, place: (String, i32), offset: i64, low: i64) -> Result<Lost, KafkaError> {
        // What is read a second time, to come back to the state that there was, was not lost before it was read; what the cycle at hand has
        // read was not committed.
        let committed = self.reader.committed(std::slice::from_ref(&place))?.into_iter().next().flatten();
        // What was skipped before was lost then.
        let begun = committed.map(|committed| committed.offset).max(self.floors.get(&place).copied()).unwrap_or(offset);
        Ok(Lost { from: offset.min(begun), to: low - 1, unread: (low - begun).max(0) })
    }

    /// Looks at how far there is to go.
    fn look(&mut self) {
        self.looked_at = Instant::now();
        let lags = self.reader.lag();
        self.cycle.look(&lags);
        let progress = self.cycle.progress;
        if progress.is_explaining() {
            progress.set_standings(self.cycle.standings(&lags));
        }
        progress.set_lag(lags.iter().map(|partition| partition.lag).sum());
        progress.set_entities(self.cycle.inputs.values().map(|input| input.engine.entities() as u64).sum());
        progress.set_assigned(self.cycle.inputs.len() as u64);
        progress.set_read_to(self.reader.read_to());
        progress.set_member(!self.cycle.inputs.is_empty() || self.reader.is_member());
    }

    /// Takes part in the group: gives up what is revoked, restores what is assigned. No transaction is open here.
    fn serve_group(&mut self) -> Result<(), ProcessorError> {
        let events = self.group_events()?;
        if !events.is_empty() {
            // Said before they are restored: who watches knows that there is something to read.
            self.cycle.progress.set_read_to(self.reader.read_to());
        }
        self.follow(events)
    }

    /// What has become of the group; a partition that comes is positioned already.
    fn group_events(&mut self) -> Result<Vec<GroupEvent>, KafkaError> {
        let (config, floors) = (self.cycle.config, &*self.floors);
        self.reader.serve_group(&mut |topic, partition, committed| {
            start_at(committed, config.start_of(topic), floors.get(&(topic.to_owned(), partition)).copied())
        })
    }

    /// Gives up what is revoked or lost, and restores what is assigned.
    fn follow(&mut self, events: Vec<GroupEvent>) -> Result<(), ProcessorError> {
        for event in events {
            match event {
                GroupEvent::Revoked(partitions) | GroupEvent::Lost(partitions) => {
                    for (topic, partition) in partitions {
                        self.cycle.inputs.remove(&(topic.as_str().into(), partition));
                    }
                }
                GroupEvent::Assigned(assigned) => self.restore(&assigned)?,
            }
        }
        Ok(())
    }

    /// Partitions that were not there at the start have been added.
    fn check_partitions(&self, assigned: &[Assigned]) -> Result<(), ProcessorError> {
        let known = |at: &Assigned| self.topics.get(at.topic.as_str()).map_or(i32::MAX, |topic| topic.partitions);
        let Some(added) = assigned.iter().find(|at| at.partition >= known(at)) else { return Ok(()) };
        let (topic, then) = (added.topic.clone(), known(added));
        let now = Admin::connect(&self.cycle.config.kafka)?.partitions(&topic)?;
        Err(ProcessorError::PartitionsChanged { topic, now, then })
    }

    fn restore(&mut self, assigned: &[Assigned]) -> Result<(), ProcessorError> {
        let Err(error) = self.restore_as_of(assigned) else { return Ok(()) };
        if matches!(error, ProcessorError::Stopped) {
            return Err(error);
        }
        // State and ledger are of later than the committed offsets where somebody has gone on meanwhile: a process that was suspended
        // while it restored finds its partitions in other hands.
        let places: Vec<_> = assigned.iter().map(|at| (at.topic.clone(), at.partition)).collect();
        let now = self.reader.committed(&places)?;
        match assigned.iter().zip(now).find(|(at, now)| at.committed != *now) {
            Some((at, _)) => Err(ProcessorError::Outrun { topic: at.topic.clone(), partition: at.partition }),
            None => Err(error),
        }
    }

    /// Brings partitions back as of what was committed when they were assigned.
    fn restore_as_of(&mut self, assigned: &[Assigned]) -> Result<(), ProcessorError> {
        let config = self.cycle.config;
        let settings = &config.settings;
        self.check_partitions(assigned)?;
        let (mut wanted, mut places) = (Vec::with_capacity(assigned.len()), Vec::with_capacity(assigned.len()));
        for at in assigned {
            let Some(stream) = self.cycle.streams.iter().position(|stream| stream.config.topic == at.topic) else {
                continue;
            };
            let now = &self.topics[at.topic.as_str()];
            let note = at.committed.as_ref().and_then(|committed| CommitNote::parse(&committed.metadata));
            if let Some(then) = note.as_ref().map(|note| &note.topic) {
                let topic = at.topic.clone();
                if now.is_other(then) {
                    return Err(ProcessorError::InputRecreated { topic });
                }
                if now.partitions != then.partitions {
                    let (now, then) = (now.partitions, then.partitions);
                    return Err(ProcessorError::PartitionsChanged { topic, now, then });
                }
            }
            let committed = at.committed.as_ref().map(|committed| committed.offset);
            let (_, end) = self.reader.watermarks(&at.topic, at.partition)?;
            if committed.is_none() {
                // `latest` would be later when the first transaction fails.
                self.floors.insert((at.topic.clone(), at.partition), at.start_offset);
            }
            if let Some(committed) = committed.filter(|&committed| committed > end) {
                let (topic, partition) = (at.topic.clone(), at.partition);
                return Err(ProcessorError::InputReplaced { topic, partition, committed, end });
            }
            let write_from = committed.unwrap_or(at.start_offset);
            let is_snapshot = note.as_ref().is_some_and(|note| note.is_snapshot);
            // Where input is gone, reading starts behind the snapshot.
            let read_from = note.as_ref().map_or(at.start_offset, |note| note.read_from);
            let declared = self.cycle.streams[stream].config.clone();
            // Decided for good by the first commit, that of the next cycle.
            let is_new = committed.is_none() && declared.bootstrap == Bootstrap::Earliest && at.start_offset < end;
            let history_end = note.as_ref().and_then(|note| note.history_end).or(is_new.then_some(end));
            let idle = note.map(|note| note.idle).unwrap_or_default();
            let begin = Beginning { read_from, is_snapshot, write_from, history_end, idle };
            wanted.push(Wanted { config: declared, partition: at.partition, begin });
            places.push((at, stream, now.clone()));
        }
        // A drain has nobody who waits for its end, and tells of a state that cannot be read even where there is nothing to read.
        let is_given_up = || self.orders.deadline().is_some();
        let stay = || if is_given_up() { Err(ProcessorError::Stopped) } else { Ok(self.reader.stay()?) };
        let restored = restore::restore(config, &wanted, self.cycle.progress, stay)?;
        for ((Wanted { config: declared, begin, .. }, Restored { engine, ledger }), (at, stream, topic)) in
            wanted.into_iter().zip(restored).zip(places)
        {
            let committed = at.committed.as_ref().map(|committed| committed.offset);
            let account = Account::begin(&settings.group_id, &declared.name, &at.topic, at.partition, begin.write_from)
                .resume(ledger, committed, settings.processing_guarantee, &config.topics.ledger)?;
            if account.residue() != 0 {
                metrics::ledger_broken(account.committed());
            }
            let mut input = Input::new(stream, engine, begin, topic, account, at.committed.clone());
            input.skip_to(at.start_offset);
            if let Some(left) = input.look_at_history(0).filter(|&left| left > 0) {
                metrics::history_begun(&at.topic, at.partition, left);
            }
            self.cycle.inputs.insert((at.topic.as_str().into(), at.partition), input);
        }
        self.cycle.progress.step();
        Ok(())
    }
}

/// Where reading of an assigned partition starts: at the snapshot that its committed offset names.
fn start_at(committed: Option<&Committed>, start: Start, floor: Option<i64>) -> StartAt {
    match (committed, floor) {
        (Some(committed), _) => {
            let wanted = CommitNote::parse(&committed.metadata).map_or(committed.offset, |note| note.read_from);
            StartAt::Offset(floor.map_or(wanted, |floor| floor.max(wanted)))
        }
        (None, Some(floor)) => StartAt::Offset(floor),
        (None, None) if start == Start::Latest => StartAt::End,
        (None, None) => StartAt::Beginning,
    }
}

/// Checks that inputs and outputs are there, and gives the inputs.
fn check_topics(config: &ProcessorConfig, admin: &Admin) -> Result<InputTopics, ProcessorError> {
    let topics = input_topics::find(config, admin)?;
    let check_width = |what: &'static str, topic: &str| {
        let found = admin.partitions(topic)?;
        let mut inputs = config.streams.iter().map(|stream| (&stream.topic, topics[stream.topic.as_str()].partitions));
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
    Ok(topics)
}
