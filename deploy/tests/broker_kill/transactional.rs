//! Transactional producers: each notes what became of every transaction, as far as it was told.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use tidewatch_topic_io::{
    Admin, KafkaError, OffsetCommit, Outgoing, TransactionOptions, TransactionOutcome, TransactionalWriter,
};

use crate::observers::Seen;
use crate::random::Random;
use crate::{INPUT, LEDGER, Load, PARTITIONS, PATIENCE};

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Committed,
    Aborted,
    Unknown,
}

/// By number: the fate and how many records there were.
#[derive(Default)]
pub(crate) struct Fates(pub(crate) BTreeMap<u32, (Fate, u32)>);

/// The group whose offsets a producer commits.
pub(crate) fn group(producer: u32) -> String {
    format!("group-{producer}")
}

/// Transactions of one to twelve records over all partitions, with an offset; some are aborted, some are left open by a producer
/// that is replaced.
pub(crate) fn produce(load: &Load, id: u32) -> Fates {
    let mut random = Random::of(load.seed, 200 + u64::from(id));
    let name = format!("producer-{id}");
    let begun = Instant::now();
    let mut writer = loop {
        match TransactionalWriter::new(&load.kafka, &name, TransactionOptions::default()) {
            Ok(writer) => break writer,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
        }
    };
    // Outside of a group: only its name matters, as for a program that assigns partitions itself.
    let metadata = loop {
        match Admin::connect(&load.kafka).and_then(|admin| admin.group_metadata(&group(id))) {
            Ok(metadata) => break metadata,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
        }
    };
    let mut fates = Fates::default();
    for number in 0.. {
        if load.is_over.load(Relaxed) {
            break;
        }
        let size = 1 + u32::try_from(random.below(12)).unwrap();
        let fate = match transaction(&mut writer, id, number, size, &mut random, &metadata) {
            Ok(fate) => fate,
            Err(error) if error.needs_new_writer() => Fate::Unknown,
            Err(error) => {
                check_harmless(&error);
                Fate::Aborted
            }
        };
        // Also if it was not told: the replacement waits until what was open is settled.
        if fate == Fate::Unknown || writer.is_open() && writer.abort().is_err() {
            replace(&mut writer);
        }
        fates.0.insert(number, (fate, size));
        load.transactions.fetch_add(u64::from(fate == Fate::Committed), Relaxed);
    }
    fates
}

fn transaction(
    writer: &mut TransactionalWriter,
    id: u32,
    number: u32,
    size: u32,
    random: &mut Random,
    metadata: &tidewatch_topic_io::GroupMetadata,
) -> Result<Fate, KafkaError> {
    writer.begin()?;
    for part in 0..size {
        let payload = Seen::payload(id, number, part, usize::try_from(random.below(100)).unwrap());
        let partition = i32::try_from(random.below(PARTITIONS as u64)).unwrap();
        writer.send(Outgoing { partition: Some(partition), ..Outgoing::new(LEDGER, b"", &payload) })?;
    }
    match random.below(20) {
        // The producer goes away, as a killed one does; the next of its name ends what it began.
        0 => {
            replace(writer);
            Ok(Fate::Aborted)
        }
        1..4 => writer.abort().map(|()| Fate::Aborted),
        _ => {
            let offset = OffsetCommit { topic: INPUT, partition: 0, offset: i64::from(number) + 1, metadata: "" };
            writer.commit(&[offset], metadata).map(|()| Fate::Committed)
        }
    }
}

/// The one producer of its name is never fenced by a kill of the broker.
fn check_harmless(error: &KafkaError) {
    let fenced = matches!(error, KafkaError::Transaction { outcome: TransactionOutcome::Fenced, .. });
    assert!(!fenced, "{error}");
}

fn replace(writer: &mut TransactionalWriter) {
    let begun = Instant::now();
    while let Err(error) = writer.reopen() {
        assert!(begun.elapsed() < PATIENCE, "{error}");
    }
}
