//! Random histories over real logs, groups and journals in a folder, with the process killed at any step: what a
//! read_committed reader is shown, and what groups have committed, is after each request what a naive model says.
//!
//! More of them: `PROPTEST_CASES=10000 cargo test -p tidewatch-broker --lib histories`.

mod world;

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::Config;

use super::super::transaction::{Producer, State};
use world::World;

const IDS: [&str; 3] = ["a", "b", "c"];
const PARTITIONS: [i32; 3] = [0, 1, 2];
const GROUPS: [&str; 2] = ["g", "h"];

/// One request, or a while.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A new instance starts; what an older one left open is aborted.
    Start(&'static str),
    /// The present instance's, in its transaction.
    Write(&'static str, i32),
    /// The present instance's, in its transaction.
    Stage(&'static str, &'static str),
    /// The present instance's.
    End(&'static str, bool),
    /// Of an instance that another one has replaced: it must come to nothing.
    LateWrite(&'static str, i32),
    /// The same.
    LateEnd(&'static str, bool),
    /// A record outside of any transaction.
    Plain(i32),
    /// Seconds in which time-outs of 60 s may run out.
    Pass(u64),
}

/// The process is killed after so many writes to files from the step on, and again so many into the recovery.
type Kill = Option<(u32, Option<u32>)>;

fn step() -> impl Strategy<Value = Step> {
    let (id, partition, group) = (|| select(&IDS[..]), || select(&PARTITIONS[..]), || select(&GROUPS[..]));
    prop_oneof![
        3 => id().prop_map(Step::Start),
        12 => (id(), partition()).prop_map(|(id, partition)| Step::Write(id, partition)),
        4 => (id(), group()).prop_map(|(id, group)| Step::Stage(id, group)),
        6 => (id(), any::<bool>()).prop_map(|(id, is_commit)| Step::End(id, is_commit)),
        2 => (id(), partition()).prop_map(|(id, partition)| Step::LateWrite(id, partition)),
        2 => (id(), any::<bool>()).prop_map(|(id, is_commit)| Step::LateEnd(id, is_commit)),
        2 => partition().prop_map(Step::Plain),
        1 => (1..90_u64).prop_map(Step::Pass),
    ]
}

fn kill() -> impl Strategy<Value = Kill> {
    prop::option::weighted(0.15, (0..8_u32, prop::option::of(0..8_u32)))
}

/// What becomes of the records of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Open,
    Committed,
    Aborted,
}

/// All that should be so.
#[derive(Default)]
struct Model {
    /// `(value, transaction)` in the order of writing; no transaction: plain.
    partitions: BTreeMap<i32, Vec<(u32, Option<usize>)>>,
    fates: Vec<Fate>,
    open: BTreeMap<&'static str, Open>,
    committed: BTreeMap<&'static str, i64>,
    values: u32,
}

struct Open {
    transaction: usize,
    offsets: BTreeMap<&'static str, i64>,
}

impl Model {
    fn value(&mut self) -> u32 {
        self.values += 1;
        self.values
    }

    fn open(&mut self, id: &'static str) -> &mut Open {
        let fates = &mut self.fates;
        self.open.entry(id).or_insert_with(|| {
            fates.push(Fate::Open);
            Open { transaction: fates.len() - 1, offsets: BTreeMap::new() }
        })
    }

    fn write(&mut self, partition: i32, value: u32, transaction: Option<usize>) {
        self.partitions.entry(partition).or_default().push((value, transaction));
    }

    fn end(&mut self, id: &str, is_commit: bool) {
        if let Some(open) = self.open.remove(id) {
            self.fates[open.transaction] = if is_commit { Fate::Committed } else { Fate::Aborted };
            if is_commit {
                // The one that was written later wins, whichever transaction ends first (Kafka's `OffsetMetadataManager`);
                // offsets grow with each write here.
                for (group, offset) in open.offsets {
                    self.committed.entry(group).and_modify(|last| *last = offset.max(*last)).or_insert(offset);
                }
            }
        }
    }

    /// All before the first record of an open transaction, but for aborted ones.
    fn shown(&self, partition: i32) -> Vec<u32> {
        let written = self.partitions.get(&partition).map_or(&[][..], Vec::as_slice);
        let fate = |transaction: Option<usize>| transaction.map_or(Fate::Committed, |at| self.fates[at]);
        let stable = written.iter().take_while(|(_, transaction)| fate(*transaction) != Fate::Open);
        stable.filter(|(_, transaction)| fate(*transaction) == Fate::Committed).map(|(value, _)| *value).collect()
    }
}

/// The world, its model, and who believes to be which producer.
struct History {
    world: World,
    model: Model,
    present: BTreeMap<&'static str, Producer>,
    replaced: BTreeMap<&'static str, Producer>,
}

impl History {
    fn new() -> Self {
        let world = World::new(PARTITIONS.len());
        Self { world, model: Model::default(), present: BTreeMap::new(), replaced: BTreeMap::new() }
    }

    fn take(&mut self, step: Step, kill: Kill) {
        self.world.kill_after(kill.map(|(writes, _)| writes));
        match step {
            Step::Start(id) => self.start(id),
            Step::Write(id, partition) => self.write(id, partition),
            Step::Stage(id, group) => self.stage(id, group),
            Step::End(id, is_commit) => {
                if let Some(&producer) = self.present.get(id)
                    && self.world.end(id, producer, is_commit).is_ok()
                {
                    self.model.end(id, is_commit);
                }
            }
            Step::LateWrite(id, partition) => {
                if let Some(&late) = self.replaced.get(id) {
                    let value = self.model.value();
                    assert!(self.world.write(id, late, partition, value).is_err(), "{id} {late:?} was let in");
                }
            }
            Step::LateEnd(id, is_commit) => {
                if let Some(&late) = self.replaced.get(id) {
                    assert!(self.world.end(id, late, is_commit).is_err(), "{id} {late:?} was let in");
                }
            }
            Step::Plain(partition) => {
                let value = self.model.value();
                self.world.write_plain(partition, value);
                self.model.write(partition, value, None);
            }
            Step::Pass(seconds) => self.world.pass(seconds),
        }
        if let Some((_, in_recovery)) = kill {
            self.world.restart(in_recovery);
        }
        self.follow(step);
    }

    fn start(&mut self, id: &'static str) {
        let had = self.present.get(id).copied();
        if let Ok(producer) = self.world.start(id) {
            self.model.end(id, false);
            self.replaced.extend(had.map(|had| (id, had)));
            self.present.insert(id, producer);
        }
    }

    fn write(&mut self, id: &'static str, partition: i32) {
        let Some(&producer) = self.present.get(id) else { return };
        let value = self.model.value();
        if self.world.write(id, producer, partition, value).is_ok() {
            let transaction = self.model.open(id).transaction;
            self.model.write(partition, value, Some(transaction));
        }
    }

    fn stage(&mut self, id: &'static str, group: &'static str) {
        let Some(&producer) = self.present.get(id) else { return };
        let offset = i64::from(self.model.value());
        if self.world.stage(id, producer, group, offset).is_ok() {
            self.model.open(id).offsets.insert(group, offset);
        }
    }

    /// What was decided without an answer: by a time-out, or before a kill. It must be what the step could decide.
    fn follow(&mut self, step: Step) {
        for id in self.model.open.keys().copied().collect::<Vec<_>>() {
            let decided = match self.world.state(id) {
                State::Ongoing => continue,
                State::CompleteCommit => true,
                State::CompleteAbort | State::Empty => false,
                state => panic!("{id} is left in {state:?}"),
            };
            let is_its_own = match step {
                Step::End(of, is_commit) => of == id && is_commit == decided,
                Step::Start(of) => of == id && !decided,
                Step::Pass(_) => !decided,
                _ => false,
            };
            assert!(is_its_own, "{id}: {step:?} has decided {decided}");
            self.model.end(id, decided);
        }
    }

    fn check(&self) {
        for partition in PARTITIONS {
            assert_eq!(self.world.shown(partition), self.model.shown(partition), "partition {partition}");
        }
        for group in GROUPS {
            assert_eq!(self.world.committed(group), self.model.committed.get(group).copied(), "group {group}");
        }
    }

    /// All instances start anew: nothing is left open anywhere.
    fn finish(&mut self) {
        for id in IDS {
            self.take(Step::Start(id), None);
        }
        self.check();
        assert!(self.world.is_settled());
        self.world.restart(None);
        self.check();
    }
}

/// Each history starts a process some ten times.
fn config() -> Config {
    let cases = if std::env::var_os("PROPTEST_CASES").is_none() { 64 } else { Config::default().cases };
    Config { cases, ..Config::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn read_committed_shows_what_the_model_says(steps in prop::collection::vec((step(), kill()), 1..60)) {
        let mut history = History::new();
        for (step, kill) in steps {
            history.take(step, kill);
            history.check();
        }
        history.finish();
    }
}
