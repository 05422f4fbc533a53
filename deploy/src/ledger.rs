//! `ledger`: whether every input record is accounted for, from the records that the processor commits with its work, and what of its
//! results Delivery has stored.
//!
//! This file asks Kafka and the storage; [`balance`] is the arithmetic and [`text`] the table, both pure. Joins no group, commits
//! nothing, and may look at a pipeline that runs: storage is asked before the committed offsets, those before the ledger, the ledger
//! before the inputs' ends, so that what is compared can only have grown.

pub(crate) mod balance;
mod text;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use tidewatch_schemas::record::Ledger;
use tidewatch_schemas::wire;
use tidewatch_sink::TopicKind;
use tidewatch_sink::delivery::{self, Held};
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
    let balance = read(settings)?;
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

/// The balance of the processor's group.
///
/// # Errors
/// What Kafka or the storage refuses, or a ledger record that cannot be read.
pub(crate) fn read(settings: &Settings) -> anyhow::Result<Balance> {
    let stored = stored(settings)?;
    let admin = Admin::connect(&settings.kafka)?;
    let first = look(settings, &admin, &stored)?;
    if first.problems.is_empty() {
        return Ok(first);
    }
    // A transaction is committed before each of its partitions knows of it, and compaction may take records away while others are
    // read: what is still wrong when all is settled is wrong.
    let reader = PartitionReader::new(&settings.kafka, true)?;
    reader.wait_until_settled(&admin, &settings.topics.ledger, |_| true)?;
    look(settings, &admin, &stored)
}

fn look(settings: &Settings, admin: &Admin, (output, held): &Stored) -> anyhow::Result<Balance> {
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
    Ok(Balance::new(group, inputs, &chains, output, held.as_ref()))
}

/// Where results are stored, and what is there.
type Stored = (String, Option<BTreeMap<TopicKind, Held>>);

fn stored(settings: &Settings) -> anyhow::Result<Stored> {
    let delivery = settings.delivery()?;
    let held = delivery::stored(&delivery)?;
    Ok((delivery.output.to_string(), held))
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
    };
    Ok(lags.map(input).collect())
}

/// All that the ledger topic holds, of every group.
fn chains(settings: &Settings, admin: &Admin) -> anyhow::Result<Chains> {
    let topic = &settings.topics.ledger;
    let mut reader = PartitionReader::new(&settings.kafka, true)?;
    let all: Vec<_> =
        (0..admin.partitions(topic)?).map(|partition| (topic.as_str(), partition, StartAt::Beginning)).collect();
    reader.assign(&all)?;
    let mut chains = Chains::default();
    while !reader.is_at_end() {
        for message in reader.read(READ_MAX, WAIT)?.iter() {
            // A tombstone is how a person takes a group out of the ledger.
            let Some(value) = message.value() else {
                chains.remove(message.key().unwrap_or_default());
                continue;
            };
            let ledger: Ledger = wire::decode(value).with_context(|| {
                format!("{topic} partition {} offset {} holds no ledger record", message.partition(), message.offset())
            })?;
            chains.add(ledger);
        }
    }
    Ok(chains)
}
