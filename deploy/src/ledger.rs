//! `ledger`: whether every input record is accounted for, from the records that the processor commits with its work, and what of its
//! results Delivery has stored.
//!
//! This file asks Kafka and the storage; [`balance`] is the arithmetic and [`text`] the table, both pure. Joins no group, commits
//! nothing, and may look at a pipeline that runs: what Delivery has committed is asked for before storage, storage before the
//! processor's committed offsets, those before the ledger, the ledger before the inputs' ends, so that what is compared can only
//! have grown.

pub(crate) mod balance;
mod text;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::time::Duration;

use tidewatch_schemas::record::Ledger;
use tidewatch_schemas::{entity, wire};
use tidewatch_sink::delivery::{self, CommittedOffsets, Stored};
use tidewatch_topic_io::{Admin, PartitionLag, PartitionReader, StartAt};

use crate::cli::LedgerArgs;
use crate::settings::Settings;
use balance::{Balance, Chains, Input, Place};

/// Records of one read of the ledger topic, and how long it may wait.
const READ_MAX: usize = 10_000;
const WAIT: Duration = Duration::from_millis(100);

/// Prints the balance.
///
/// # Errors
/// A ledger that does not add up, in one line; or what Kafka or the storage refuses.
pub(crate) fn run(args: &LedgerArgs, settings: &Settings) -> anyhow::Result<()> {
    let balance = read(settings, args.allow_removed)?;
    let mut out = anstream::stdout();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&balance)?)?;
    } else {
        write!(out, "{}", text::render(&balance))?;
    }
    match balance.problem() {
        Some(problem) => anyhow::bail!(problem),
        None => Ok(()),
    }
}

/// The balance of the processor's group; results that were stored and are gone are a problem or, if that is allowed, only told.
///
/// # Errors
/// What Kafka or the storage refuses, or a ledger record that cannot be read.
pub(crate) fn read(settings: &Settings, allow_removed: bool) -> anyhow::Result<Balance> {
    let admin = Admin::connect(&settings.kafka)?;
    let stored = stored(settings, &admin)?;
    let first = look(settings, &admin, &stored, allow_removed)?;
    if first.problems.is_empty() {
        return Ok(first);
    }
    // A transaction is committed before each of its partitions knows of it, and compaction may take records away while others are
    // read: what is still wrong when all is settled is wrong.
    let reader = PartitionReader::new(&settings.kafka, true)?;
    reader.wait_until_settled(&admin, &[&settings.topics.ledger], |_| true, || false)?;
    look(settings, &admin, &stored, allow_removed)
}

fn look(settings: &Settings, admin: &Admin, stored: &Stored, allow_removed: bool) -> anyhow::Result<Balance> {
    let group = &settings.processor.group_id;
    let topics: BTreeSet<String> = admin.list()?.into_iter().map(|topic| topic.name).collect();
    let mut inputs = declared(settings, admin, &topics)?;
    let chains = chains(settings, admin)?;
    // What was read once and is declared no more is accounted for too.
    let known: BTreeSet<Place> = inputs.iter().map(|input| input.place.clone()).collect();
    let others = chains.of_group(group).map(|ledger| Input {
        place: Place { stream: ledger.stream.clone(), partition: ledger.partition },
        topic: ledger.topic.clone(),
        committed: None,
        ends: None,
        empty_until: None,
    });
    inputs.extend(others.filter(|input| !known.contains(&input.place)));
    let mut offsets = BTreeMap::new();
    for input in &mut inputs {
        if !topics.contains(&input.topic) {
            continue;
        }
        let of_topic = match offsets.entry(input.topic.clone()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(admin.offsets(&input.topic)?),
        };
        let of_partition = of_topic.iter().find(|at| at.partition == input.place.partition);
        input.ends = of_partition.map(|at| (at.low, at.high));
    }
    look_ahead(settings, &chains, &mut inputs)?;
    let output = settings.delivery()?.output.to_string();
    Ok(Balance::new(group, inputs, &chains, &output, stored, allow_removed))
}

/// Whether a record follows where the group has come to, or only what takes an offset and is none.
fn look_ahead(settings: &Settings, chains: &Chains, inputs: &mut [Input]) -> anyhow::Result<()> {
    let mut from = BTreeMap::<(&str, i32), i64>::new();
    for Input { place, topic, ends, .. } in &*inputs {
        let Some((low, high)) = *ends else { continue };
        let next = chains.next_offset(&settings.processor.group_id, place).map_or(low, |next| next.max(low));
        if next < high {
            // A topic may be that of two streams, one of them declared no more: what is empty from the lower offset on is so for both.
            from.entry((topic, place.partition)).and_modify(|least| *least = next.min(*least)).or_insert(next);
        }
    }
    if from.is_empty() {
        return Ok(());
    }
    let mut reader = PartitionReader::new(&settings.kafka, true)?;
    let starts: Vec<_> =
        from.iter().map(|(&(topic, partition), &next)| (topic, partition, StartAt::Offset(next))).collect();
    reader.assign(&starts)?;
    let mut has_records = BTreeSet::new();
    let mut ends = BTreeMap::new();
    while has_records.len() + ends.len() < starts.len() {
        let batch = reader.read(READ_MAX, WAIT)?;
        has_records.extend(batch.iter().map(|message| (message.topic().to_owned(), message.partition())));
        drop(batch);
        let empty = reader.ends().map(|(topic, partition, end)| ((topic.to_owned(), partition), end));
        ends = empty.filter(|(partition, _)| !has_records.contains(partition)).collect();
    }
    for input in inputs {
        input.empty_until = ends.get(&(input.topic.clone(), input.place.partition)).copied();
    }
    Ok(())
}

/// What is stored of what Delivery had committed before.
fn stored(settings: &Settings, admin: &Admin) -> anyhow::Result<Stored> {
    let delivery = settings.delivery()?;
    let there: BTreeSet<String> = admin.list()?.into_iter().map(|topic| topic.name).collect();
    let mut committed = CommittedOffsets::new();
    for topic in delivery.topics.iter().filter(|topic| there.contains(&topic.name)) {
        let of_topic = admin.committed(&delivery.group_id, &topic.name)?;
        let offsets = of_topic.into_iter().map(|committed| Some(committed?.offset));
        committed.insert(topic.name.clone(), offsets.collect());
    }
    Ok(delivery::stored(&delivery, &committed)?)
}

/// The partitions of the declared streams whose topics are there, with the group's committed offsets.
fn declared(settings: &Settings, admin: &Admin, topics: &BTreeSet<String>) -> anyhow::Result<Vec<Input>> {
    let declared = settings.streams.iter().filter(|stream| topics.contains(&stream.topic));
    let streams: BTreeMap<&str, &str> = declared.map(|stream| (stream.topic.as_str(), stream.name.as_str())).collect();
    let topics: Vec<&str> = streams.keys().copied().collect();
    if topics.is_empty() {
        return Ok(Vec::new());
    }
    let lags = admin.lag(&settings.processor.group_id, &topics)?.into_iter();
    let input = |at: PartitionLag| Input {
        place: Place { stream: streams[at.topic.as_str()].to_owned(), partition: at.partition },
        topic: at.topic,
        committed: at.committed,
        ends: None,
        empty_until: None,
    };
    Ok(lags.map(input).collect())
}

/// All that the ledger topic holds, of every group. What counts is the last record of a key, as compaction leaves it: one of this
/// group that cannot be read is an error until another one or a tombstone comes behind it; what is no ledger record and not under
/// this group's keys is somebody else's.
fn chains(settings: &Settings, admin: &Admin) -> anyhow::Result<Chains> {
    let topic = &settings.topics.ledger;
    let ours = format!("{}/", entity::join(&[&settings.processor.group_id]));
    let mut reader = PartitionReader::new(&settings.kafka, true)?;
    let all: Vec<_> =
        (0..admin.partitions(topic)?).map(|partition| (topic.as_str(), partition, StartAt::Beginning)).collect();
    reader.assign(&all)?;
    let mut chains = Chains::default();
    let mut broken = BTreeMap::new();
    while !reader.is_at_end() {
        for message in reader.read(READ_MAX, WAIT)?.iter() {
            let key = message.key().unwrap_or_default();
            let place = (message.partition(), key.to_vec());
            broken.remove(&place);
            match message.value().map(|value| ledger_of(key, value)) {
                // A tombstone is how a person takes a group out of the ledger.
                None => chains.remove(key),
                Some(Ok(ledger)) => chains.add(ledger),
                Some(Err(error)) if key.starts_with(ours.as_bytes()) => {
                    broken.insert(place, (message.offset(), error));
                }
                Some(Err(_)) => {}
            }
        }
    }
    match broken.into_iter().next() {
        None => Ok(chains),
        Some(((partition, key), (offset, error))) => anyhow::bail!(
            "{topic} partition {partition} offset {offset} holds no ledger record: {error}; a tombstone takes it out, under its key \
             {:?}",
            String::from_utf8_lossy(&key)
        ),
    }
}

/// A record of the ledger topic, if it is one and under its own key.
fn ledger_of(key: &[u8], value: &[u8]) -> Result<Ledger, String> {
    let ledger: Ledger = wire::decode(value).map_err(|error| error.to_string())?;
    let own = entity::join(&[&ledger.group, &ledger.stream, &ledger.partition.to_string()]).into_owned();
    if own.as_bytes() == key { Ok(ledger) } else { Err(format!("it is the record of the key {own:?}")) }
}
