//! Faults of what is kept on topics: state records, and the input topics themselves. Each is to be refused with a clear word; where it
//! can be repaired it is, and the run goes on to the golden run's end.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use anyhow::Context as _;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tidewatch_schemas::catalogue::Topics;
use tidewatch_schemas::record::State;
use tidewatch_schemas::wire::{self, Framing};
use tidewatch_topic_io::{Admin, KafkaConfig, Outgoing, PartitionLag, PartitionReader, StartAt, TopicSpec, Writer};

use crate::dice::Dice;
use crate::fleet::Role;
use crate::inject::{an_input, expect_refusal, hold_processors};
use crate::input::PARTITIONS;
use crate::settings::GROUP;
use crate::stage::Stage;

const PATIENCE: Duration = Duration::from_millis(200);
const FLUSH_TIMEOUT: Duration = Duration::from_secs(30);

/// What becomes of state records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StateDamage {
    BitFlipped,
    Newer,
}

/// The last committed value of each key.
type Latest = BTreeMap<Vec<u8>, Vec<u8>>;

/// Damages all state records of a partition, so that whichever of them are read, a restart meets one.
pub(crate) fn state(stage: &mut Stage, dice: &mut Dice, damage: StateDamage) -> anyhow::Result<bool> {
    let topic = Topics::default().state;
    // Before a round is complete, no state is read.
    if !stage.wait_until(stage.patience, |stage| Ok(!saved_partitions(&stage.kafka)?.is_empty()))? {
        return Ok(false);
    }
    let held = hold_processors(stage)?;
    let partition = dice.pick(&saved_partitions(&stage.kafka)?);
    let latest = read_latest(&stage.kafka, &topic, partition)?;
    let mut damaged = latest.clone();
    for value in damaged.values_mut() {
        let mut state: State = wire::decode(value)?;
        match damage {
            // That an entity is gone is said by a record without a payload.
            StateDamage::BitFlipped if state.payload.is_empty() => state.checksum ^= 1,
            StateDamage::BitFlipped => {
                let bit = dice.below(state.payload.len() as u64 * 8) as usize;
                state.payload[bit / 8] ^= 1 << (bit % 8);
            }
            StateDamage::Newer => state.format_version += 1_000,
        }
        value.clear();
        wire::encode(&state, Framing::SingleObject, value);
    }
    write_all(&stage.kafka, &topic, partition, &damaged)?;
    let words: &[&str] = match damage {
        StateDamage::BitFlipped => &["state", "damaged"],
        StateDamage::Newer => &["state", "format 100"],
    };
    expect_refusal(stage, Role::Processor, &held, words)?;
    // Streams without a snapshot there have been gone on with, and have state of their own by now.
    let held = hold_processors(stage)?;
    let now = read_latest(&stage.kafka, &topic, partition)?;
    let to_repair = latest.into_iter().filter(|(key, _)| now.get(key) == damaged.get(key)).collect();
    write_all(&stage.kafka, &topic, partition, &to_repair)?;
    held.into_iter().for_each(|member| stage.fleet.let_go(member));
    Ok(true)
}

/// The partitions of which a committed offset names a snapshot.
fn saved_partitions(kafka: &KafkaConfig) -> anyhow::Result<Vec<i32>> {
    let admin = Admin::connect(kafka)?;
    let mut saved = Vec::new();
    for topic in crate::input::topics() {
        let committed = admin.committed(GROUP, &topic)?;
        let named =
            (0..).zip(committed).filter(|(_, at)| at.as_ref().is_some_and(|at| at.metadata.starts_with("snapshot=")));
        saved.extend(named.map(|(partition, _)| partition));
    }
    Ok(saved)
}

fn read_latest(kafka: &KafkaConfig, topic: &str, partition: i32) -> anyhow::Result<Latest> {
    let mut reader = PartitionReader::new(kafka, true)?;
    reader.assign(&[(topic, partition, StartAt::Beginning)])?;
    let mut latest = Latest::new();
    while !reader.is_at_end() {
        for message in reader.read(10_000, PATIENCE)?.iter() {
            let key = message.key().unwrap_or_default();
            match message.value() {
                Some(value) => drop(latest.insert(key.to_vec(), value.to_vec())),
                None => drop(latest.remove(key)),
            }
        }
    }
    Ok(latest)
}

fn write_all(kafka: &KafkaConfig, topic: &str, partition: i32, values: &Latest) -> anyhow::Result<()> {
    let mut writer = Writer::new(kafka)?;
    for (key, value) in values {
        writer.send(Outgoing { partition: Some(partition), ..Outgoing::new(topic, key, value) })?;
    }
    Ok(writer.flush(FLUSH_TIMEOUT)?)
}

fn ask<T>(answer: impl Future<Output = T>) -> anyhow::Result<T> {
    Ok(tokio::runtime::Builder::new_current_thread().build()?.block_on(answer))
}

fn client(stage: &Stage) -> anyhow::Result<AdminClient<DefaultClientContext>> {
    Ok(ClientConfig::new().set("bootstrap.servers", &stage.kafka.bootstrap_servers).create()?)
}

/// Waits until the group has committed something of a topic: without that, a changed topic is a new one to it.
fn wait_for_commit(stage: &mut Stage, topic: &str) -> anyhow::Result<bool> {
    let admin = Admin::connect(&stage.kafka)?;
    let has_begun = |lags: Vec<PartitionLag>| lags.iter().any(|at| at.committed.is_some_and(|offset| offset > 0));
    stage.wait_until(stage.patience, |_| Ok(has_begun(admin.lag(GROUP, &[topic])?)))
}

/// An input topic has more partitions when the processors come back: keys would have moved.
pub(crate) fn add_partitions(stage: &mut Stage, dice: &mut Dice) -> anyhow::Result<bool> {
    let topic = an_input(dice)?;
    if !wait_for_commit(stage, &topic)? {
        return Ok(false);
    }
    let held = hold_processors(stage)?;
    // With as many partitions of the others, nothing but the moved keys is in the way.
    let names = Topics::default();
    for topic in [&topic, &names.state, &names.ledger] {
        let more = NewPartitions::new(topic, PARTITIONS.unsigned_abs() as usize + 1);
        let done = ask(client(stage)?.create_partitions([&more], &AdminOptions::new()))??;
        let done = done.into_iter().next().context("an answer")?;
        done.map_err(|(_, code)| anyhow::anyhow!("adding partitions to {topic}: {code}"))?;
    }
    expect_refusal(stage, Role::Processor, &held, &[&topic, "entities have moved"])?;
    Ok(true)
}

/// An input topic is another one of the same name: what is committed does not belong to it.
pub(crate) fn recreate_topic(stage: &mut Stage, dice: &mut Dice) -> anyhow::Result<bool> {
    let topic = an_input(dice)?;
    stage.quiesce_source()?;
    if !wait_for_commit(stage, &topic)? {
        return Ok(false);
    }
    let held = hold_processors(stage)?;
    let deleted = ask(client(stage)?.delete_topics(&[&topic], &AdminOptions::new()))??;
    deleted.into_iter().next().context("an answer")?.map_err(|(_, code)| anyhow::anyhow!("deleting: {code}"))?;
    let admin = Admin::connect(&stage.kafka)?;
    let spec = TopicSpec::new(&topic, PARTITIONS);
    // Apache Kafka deletes in the background.
    stage.wait_until(FLUSH_TIMEOUT, |_| Ok(admin.ensure_topics(std::slice::from_ref(&spec)).is_ok()))?;
    if dice.flip() {
        fill(stage, &topic)?;
    }
    expect_refusal(stage, Role::Processor, &held, &[&topic, "deleted and made again"])?;
    Ok(true)
}

/// Writes more to a topic than has ever been in it.
fn fill(stage: &Stage, topic: &str) -> anyhow::Result<()> {
    let mut writer = Writer::new(&stage.kafka)?;
    for number in 0..stage.source.total() {
        let partition = Some(number as i32 % PARTITIONS);
        writer.send(Outgoing { partition, ..Outgoing::new(topic, b"filler", b"{}") })?;
    }
    Ok(writer.flush(FLUSH_TIMEOUT)?)
}

/// Input that was not processed is deleted, as retention does.
pub(crate) fn expire_input(stage: &mut Stage, dice: &mut Dice) -> anyhow::Result<bool> {
    let topic = an_input(dice)?;
    if !wait_for_commit(stage, &topic)? {
        return Ok(false);
    }
    let held = hold_processors(stage)?;
    stage.source.release(1.0);
    let admin = Admin::connect(&stage.kafka)?;
    let mut place = None;
    stage.wait_until(stage.patience, |_| {
        let lags = admin.lag(GROUP, &[&topic])?;
        place = lags.into_iter().find(|at| at.committed.is_some() && at.lag > 20);
        Ok(place.is_some())
    })?;
    let Some(at) = place else {
        held.into_iter().for_each(|member| stage.fleet.let_go(member));
        return Ok(false);
    };
    let mut list = TopicPartitionList::new();
    let until = at.committed.unwrap_or(0) + 10;
    list.add_partition_offset(&topic, at.partition, Offset::Offset(until))?;
    ask(client(stage)?.delete_records(&list, &AdminOptions::new()))??;
    expect_refusal(stage, Role::Processor, &held, &[&topic, "removed by retention"])?;
    Ok(true)
}
