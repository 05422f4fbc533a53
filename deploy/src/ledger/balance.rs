//! The arithmetic of the ledger: plain values in, totals and what is wrong with them out.
//!
//! A group's records of a stream's partition make a chain: each begins where the one before ended. Compaction keeps the end of a
//! chain and everything since, so that what is left of it still has no hole.

use std::collections::BTreeMap;

use serde::Serialize;
use tidewatch_schemas::entity;
use tidewatch_schemas::record::Ledger;
use tidewatch_sink::TopicKind;
use tidewatch_sink::delivery::{Files, Held, Stored};

use crate::live::count;

/// A partition of a stream's input.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// The stream.
    pub stream: String,
    /// The partition.
    pub partition: i32,
}

/// What Kafka says of a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Input {
    /// Which.
    pub place: Place,
    /// The input topic.
    pub topic: String,
    /// The group's committed offset.
    pub committed: Option<i64>,
    /// The oldest offset and the one behind the newest; `None` if the topic is gone.
    pub ends: Option<(i64, i64)>,
    /// How far the partition has been found to hold no record behind what the group has taken in.
    pub empty_until: Option<i64>,
}

/// The chains of all groups: by group, then place.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chains(BTreeMap<(String, Place), Chain>);

#[derive(Clone, Debug)]
struct Chain {
    last: Ledger,
    /// The first thing that is wrong with it.
    problem: Option<String>,
}

impl Chains {
    /// Takes the next record of its chain.
    pub(crate) fn add(&mut self, ledger: Ledger) {
        let place = Place { stream: ledger.stream.clone(), partition: ledger.partition };
        let key = (ledger.group.clone(), place);
        let before = self.0.remove(&key);
        let wrong = problem_of(before.as_ref().map(|chain| &chain.last), &ledger);
        let problem = before.and_then(|chain| chain.problem).or(wrong);
        self.0.insert(key, Chain { last: ledger, problem });
    }

    /// Forgets the chain of a record's key: group, stream and partition.
    pub(crate) fn remove(&mut self, key: &[u8]) {
        let parts = std::str::from_utf8(key).map(entity::split).unwrap_or_default();
        if let [group, stream, partition] = &parts[..]
            && let Ok(partition) = partition.parse()
        {
            self.0.remove(&(group.to_string(), Place { stream: stream.to_string(), partition }));
        }
    }

    /// Where a group goes on in a place.
    pub(crate) fn next_offset(&self, group: &str, place: &Place) -> Option<i64> {
        self.chain(group, place).map(|chain| chain.last.to_offset)
    }

    /// The last records of a group.
    pub(crate) fn of_group<'a>(&'a self, group: &'a str) -> impl Iterator<Item = &'a Ledger> {
        self.0.values().map(|chain| &chain.last).filter(move |ledger| ledger.group == group)
    }

    fn chain(&self, group: &str, place: &Place) -> Option<&Chain> {
        self.0.get(&(group.to_owned(), place.clone()))
    }
}

/// What is wrong with a record, by itself and after the one before.
fn problem_of(before: Option<&Ledger>, ledger: &Ledger) -> Option<String> {
    let Ledger { begin_offset, from_offset, to_offset, .. } = *ledger;
    let residue = ledger.residue();
    if residue != 0 {
        return Some(format!(
            "{} records read, {} accounted for: a residue of {residue}",
            ledger.read,
            ledger.read.wrapping_sub(residue)
        ));
    }
    if begin_offset > from_offset || from_offset > to_offset {
        return Some(format!("offsets {from_offset} to {to_offset} of a ledger that begins at {begin_offset}"));
    }
    let before = before?;
    if from_offset > before.to_offset {
        return Some(format!("offsets {} to {from_offset} are in no transaction", before.to_offset));
    }
    if from_offset < before.to_offset {
        return Some(format!("offsets {from_offset} to {} are in two transactions", before.to_offset));
    }
    let (was, is) = (Totals::of(before), Totals::of(ledger));
    (begin_offset != before.begin_offset || is.has_less_than(&was))
        .then(|| format!("the totals up to offset {to_offset} are less than those up to {from_offset}"))
}

/// Sums since the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Totals {
    pub read: i64,
    pub scored: i64,
    pub late: i64,
    pub dead_lettered: i64,
    pub duplicate: i64,
    pub filtered: i64,
    pub residue: i64,
    pub windows: i64,
    pub revisions: i64,
    pub metrics: i64,
    pub forecasts: i64,
    pub alerts: i64,
}

impl Totals {
    fn of(ledger: &Ledger) -> Self {
        let Ledger { read, scored, late, dead_lettered, duplicate, filtered, .. } = *ledger;
        let Ledger { windows, revisions, metrics, forecasts, alerts, .. } = *ledger;
        let residue = ledger.residue();
        Self {
            read,
            scored,
            late,
            dead_lettered,
            duplicate,
            filtered,
            residue,
            windows,
            revisions,
            metrics,
            forecasts,
            alerts,
        }
    }

    fn fields(&mut self) -> [&mut i64; 12] {
        let Self { read, scored, late, dead_lettered, duplicate, filtered, residue, .. } = self;
        let Self { windows, revisions, metrics, forecasts, alerts, .. } = self;
        [
            read,
            scored,
            late,
            dead_lettered,
            duplicate,
            filtered,
            residue,
            windows,
            revisions,
            metrics,
            forecasts,
            alerts,
        ]
    }

    fn add(&mut self, mut more: Self) {
        for (mine, theirs) in self.fields().into_iter().zip(more.fields()) {
            *mine = mine.saturating_add(*theirs);
        }
    }

    fn has_less_than(mut self, before: &Self) -> bool {
        let mut before = *before;
        self.fields().into_iter().zip(before.fields()).any(|(now, then)| *now < *then)
    }

    /// Records on the topic of a kind.
    fn written(&self, kind: TopicKind) -> i64 {
        match kind {
            TopicKind::Metrics => self.metrics,
            TopicKind::Forecasts => self.forecasts,
            TopicKind::Alerts => self.alerts,
            TopicKind::Late => self.late,
            TopicKind::DeadLetters => self.dead_lettered,
        }
    }
}

/// An input partition's line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct PartitionBalance {
    pub stream: String,
    pub topic: String,
    pub partition: i32,
    /// Where the group began; `None` if it has taken nothing in yet.
    pub begin_offset: Option<i64>,
    /// Of the last transaction, inclusive.
    pub from_offset: Option<i64>,
    /// Of the last transaction, exclusive.
    pub to_offset: Option<i64>,
    /// Behind the newest record; `None` if the topic is gone.
    pub end_offset: Option<i64>,
    /// Offsets from the last transaction to the end: records, and the end markers of transactions.
    pub lag: i64,
    /// The same, but nothing if there is no record among them.
    pub to_go: i64,
    #[serde(flatten)]
    pub totals: Totals,
}

/// A kind of result and what Delivery has of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct KindBalance {
    pub kind: TopicKind,
    /// Records that the processor committed, those of other groups included: they share the topic.
    pub written: i64,
    /// In files that are there.
    pub stored: i64,
    /// Of these, kept raw because they could not be read.
    pub rejected: i64,
    /// Stored once, in files that are gone or cut short.
    pub removed: i64,
    pub not_stored_yet: i64,
}

/// Everything that is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Balance {
    pub group: String,
    /// By stream, then partition.
    pub partitions: Vec<PartitionBalance>,
    pub streams: BTreeMap<String, Totals>,
    pub total: Totals,
    /// Where results are stored.
    pub output: String,
    /// Whether anything is there.
    pub is_output_there: bool,
    /// The kinds that are stored.
    pub results: Vec<KindBalance>,
    /// What is wrong, each in one line.
    pub problems: Vec<String>,
}

impl Balance {
    pub(crate) fn new(
        group: &str,
        mut inputs: Vec<Input>,
        chains: &Chains,
        output: &str,
        stored: &Stored,
        allow_removed: bool,
    ) -> Self {
        inputs.sort_by(|a, b| a.place.cmp(&b.place));
        let mut balance =
            Self { group: group.into(), output: output.into(), is_output_there: stored.is_there, ..Self::default() };
        for input in inputs {
            let chain = chains.chain(group, &input.place);
            if let Some(problem) = problem_of_input(&input, chain) {
                let Place { stream, partition } = &input.place;
                balance.problems.push(format!("stream `{stream}` partition {partition}: {problem}"));
            }
            balance.take(input, chain.map(|chain| &chain.last));
        }
        balance.results = results(chains, &stored.topics);
        let more = balance.results.iter().filter(|kind| kind.not_stored_yet < 0);
        balance.problems.extend(more.map(|KindBalance { kind, written, stored, removed, .. }| {
            format!("{} {kind} records are stored in {output}, but {written} were written", stored + removed)
        }));
        balance.problems.extend(problems_of_storage(stored, output, allow_removed));
        balance
    }

    fn take(&mut self, input: Input, last: Option<&Ledger>) {
        let totals = last.map(Totals::of).unwrap_or_default();
        self.total.add(totals);
        self.streams.entry(input.place.stream.clone()).or_default().add(totals);
        let next = last.map(|last| last.to_offset).or(input.ends.map(|(low, _)| low));
        let left =
            |from: Option<i64>| input.ends.zip(from).map_or(0, |((_, high), from)| high.saturating_sub(from).max(0));
        self.partitions.push(PartitionBalance {
            stream: input.place.stream,
            topic: input.topic,
            partition: input.place.partition,
            begin_offset: last.map(|last| last.begin_offset),
            from_offset: last.map(|last| last.from_offset),
            to_offset: last.map(|last| last.to_offset),
            end_offset: input.ends.map(|(_, high)| high),
            lag: left(next),
            to_go: left(next.max(input.empty_until)),
            totals,
        });
    }

    /// Why it does not add up, in one line.
    pub(crate) fn problem(&self) -> Option<String> {
        let first = self.problems.first()?;
        let more = match self.problems.len() - 1 {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        Some(format!("the ledger of group `{}` does not add up: {first}{more}", self.group))
    }

    /// Results that were written and are in no file yet.
    pub(crate) fn not_stored_yet(&self) -> i64 {
        self.results.iter().map(|kind| kind.not_stored_yet).sum()
    }
}

fn problem_of_input(input: &Input, chain: Option<&Chain>) -> Option<String> {
    let Some(chain) = chain else {
        let committed = input.committed?;
        return Some(format!("offset {committed} is committed, but no transaction is in the ledger"));
    };
    let to_offset = chain.last.to_offset;
    let ahead = || {
        let committed = input.committed.filter(|&committed| committed > to_offset)?;
        Some(format!("offsets {to_offset} to {committed} are in no transaction"))
    };
    chain.problem.clone().or_else(ahead)
}

/// What is wrong with the files, each in one line.
fn problems_of_storage(stored: &Stored, output: &str, allow_removed: bool) -> Vec<String> {
    let mut problems = Vec::new();
    let strays = &stored.strays;
    if strays.number > 0 {
        problems.push(format!(
            "{} in {output} that Delivery did not store, though a reader of the folder counts what they hold: {}",
            count(strays.number, "file"),
            first(strays)
        ));
    }
    for (kind, Held { missing, cut_short, unclaimed, .. }) in &stored.topics {
        if cut_short.number > 0 {
            let number = count(cut_short.number, "file");
            problems.push(format!("{kind}: {number} in {output} not as large as stored: {}", first(cut_short)));
        }
        if missing.number > 0 && !allow_removed {
            let number = count(missing.number, "file");
            problems.push(format!(
                "{kind}: {number} gone from {output}: {} (--allow-removed if they were removed on purpose)",
                first(missing)
            ));
        }
        let unclaimed = unclaimed.iter().filter(|_| !allow_removed);
        problems.extend(unclaimed.map(|(partition, from, to)| {
            format!(
                "{kind} partition {partition}: offsets {from} to {to} are committed as stored, but nothing in {output} claims \
                 them (--allow-removed if an earlier `sink.output` holds them)"
            )
        }));
    }
    problems
}

fn first(files: &Files) -> String {
    let more = if files.number > 1 { ", ..." } else { "" };
    format!("{}{more}", files.first)
}

fn results(chains: &Chains, held: &BTreeMap<TopicKind, Held>) -> Vec<KindBalance> {
    let mut all = Totals::default();
    for chain in chains.0.values() {
        all.add(Totals::of(&chain.last));
    }
    let balance = |(&kind, held): (&TopicKind, &Held)| {
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let (written, stored, removed) = (all.written(kind), number(held.records), number(held.removed));
        let rejected = number(held.rejected);
        KindBalance { kind, written, stored, rejected, removed, not_stored_yet: written - stored - removed }
    };
    held.iter().map(balance).collect()
}

#[cfg(test)]
mod tests;
