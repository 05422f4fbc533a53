//! Outputs and offsets in one transaction: visible together or not at all, and only one writer of an id lives.

use std::time::Duration;

use tidewatch_topic_io::{
    Disposition, KafkaConfig, KafkaError, OffsetCommit, Outgoing, PartitionReader, StartAt, TransactionOptions,
    TransactionOutcome, TransactionalWriter,
};

use crate::{Admin, contents, create, join, next_events, read_values, write};

tidewatch_test_brokers::on_both_brokers!(
    committed_outputs_and_offsets_are_there_aborted_ones_never,
    an_abort_is_quick_and_complete_with_records_still_on_their_way,
    a_second_writer_of_an_id_fences_the_first,
    a_writer_that_learns_by_its_abort_that_it_is_fenced_leaves_the_id,
    a_reopened_writer_settles_what_was_open,
    a_member_that_was_replaced_cannot_commit_its_offsets,
    a_record_that_is_too_large_is_a_dead_letter_and_the_writer_lives_on,
    a_missing_topic_is_said_by_its_writers,
    what_an_open_transaction_has_written_is_told_from_what_is_settled,
);

fn open(kafka: &KafkaConfig, id: &str) -> TransactionalWriter {
    TransactionalWriter::new(kafka, id, TransactionOptions::default()).unwrap()
}

fn committed_outputs_and_offsets_are_there_aborted_ones_never(bootstrap_servers: &str) {
    let kafka = &KafkaConfig::at(bootstrap_servers);
    create(kafka, "in", 1);
    create(kafka, "out", 2);
    write(kafka, "in", 1, 0, 10);
    let mut reader = join(kafka, "cycle", "in");
    next_events(&mut reader);
    let mut writer = open(kafka, "cycle-0");

    let inputs = read_values(&mut reader, 4);
    writer.begin().unwrap();
    assert!(writer.is_open());
    for (_, _, value) in &inputs {
        writer.send(Outgoing { partition: Some(1), ..Outgoing::new("out", b"k", value.as_bytes()) }).unwrap();
    }
    assert_eq!(contents(kafka, "out", 2, true), [""; 0], "nothing is visible before the commit");
    writer
        .commit(
            &[OffsetCommit { topic: "in", partition: 0, offset: 4, metadata: "m" }],
            &reader.group_metadata().unwrap(),
        )
        .unwrap();
    assert!(!writer.is_open());
    assert_eq!(contents(kafka, "out", 2, true), ["0:0", "0:1", "0:2", "0:3"]);

    writer.begin().unwrap();
    writer.send(Outgoing::new("out", b"k", b"aborted")).unwrap();
    writer.abort().unwrap();
    writer.abort().unwrap(); // there is none: nothing happens
    writer.begin().unwrap();
    writer.send(Outgoing { partition: Some(1), ..Outgoing::new("out", b"k", b"after") }).unwrap();
    writer.commit_records().unwrap();
    assert_eq!(contents(kafka, "out", 2, true), ["0:0", "0:1", "0:2", "0:3", "after"]);

    let lag = &Admin::connect(kafka).unwrap().lag("cycle", &["in"]).unwrap()[0];
    assert_eq!((lag.committed, lag.end_offset, lag.lag), (Some(4), 10, 6));
}

fn an_abort_is_quick_and_complete_with_records_still_on_their_way(bootstrap_servers: &str) {
    let kafka = &KafkaConfig::at(bootstrap_servers);
    create(kafka, "big-abort", 1);
    let mut writer = open(kafka, "big-abort");
    writer.begin().unwrap();
    let value = vec![b'x'; 1000];
    for _ in 0..20_000 {
        writer.send(Outgoing::new("big-abort", b"k", &value)).unwrap();
    }
    writer.abort().unwrap();
    writer.begin().unwrap();
    writer.send(Outgoing::new("big-abort", b"k", b"kept")).unwrap();
    writer.commit_records().unwrap();
    assert_eq!(contents(kafka, "big-abort", 1, true), ["kept"]);
}

fn a_second_writer_of_an_id_fences_the_first(bootstrap_servers: &str) {
    let kafka = &KafkaConfig::at(bootstrap_servers);
    create(kafka, "fenced", 1);
    let mut first = open(kafka, "fenced");
    first.begin().unwrap();
    first.send(Outgoing::new("fenced", b"k", b"lost")).unwrap();
    let mut second = open(kafka, "fenced");
    second.begin().unwrap();
    second.send(Outgoing::new("fenced", b"k", b"kept")).unwrap();
    second.commit_records().unwrap();

    let error = first.commit_records().unwrap_err();
    let outcome = if let KafkaError::Transaction { outcome, .. } = &error { Some(*outcome) } else { None };
    assert_eq!(outcome, Some(TransactionOutcome::Fenced), "{error}");
    assert_eq!(error.disposition(), Disposition::Fatal);
    // Who is fenced does not take the id back on its way out.
    let error = first.abort().unwrap_err();
    assert!(matches!(error, KafkaError::Transaction { outcome: TransactionOutcome::Fenced, .. }), "{error}");
    drop(first);
    second.begin().unwrap();
    second.send(Outgoing::new("fenced", b"k", b"too")).unwrap();
    second.commit_records().unwrap();
    assert_eq!(contents(kafka, "fenced", 1, true), ["kept", "too"]);
}

fn a_writer_that_learns_by_its_abort_that_it_is_fenced_leaves_the_id(bootstrap_servers: &str) {
    let kafka = &KafkaConfig::at(bootstrap_servers);
    create(kafka, "fenced-late", 1);
    let mut first = open(kafka, "fenced-late");
    first.begin().unwrap();
    first.send(Outgoing::new("fenced-late", b"k", b"lost")).unwrap();
    // All that it has on its way has arrived: it is not told by a record.
    first.flush().unwrap();
    let mut second = open(kafka, "fenced-late");
    let error = first.abort().unwrap_err();
    assert!(matches!(error, KafkaError::Transaction { outcome: TransactionOutcome::Fenced, .. }), "{error}");
    second.begin().unwrap();
    second.send(Outgoing::new("fenced-late", b"k", b"kept")).unwrap();
    second.commit_records().unwrap();
    assert_eq!(contents(kafka, "fenced-late", 1, true), ["kept"]);
}

fn a_reopened_writer_settles_what_was_open(bootstrap_servers: &str) {
    let kafka = &KafkaConfig::at(bootstrap_servers);
    create(kafka, "reopened", 1);
    let mut writer = open(kafka, "reopened");
    writer.begin().unwrap();
    writer.send(Outgoing::new("reopened", b"k", b"open")).unwrap();
    writer.reopen().unwrap();
    assert!(!writer.is_open());
    writer.begin().unwrap();
    writer.send(Outgoing::new("reopened", b"k", b"kept")).unwrap();
    writer.commit_records().unwrap();
    assert_eq!(contents(kafka, "reopened", 1, true), ["kept"]);
}

fn a_member_that_was_replaced_cannot_commit_its_offsets(bootstrap_servers: &str) {
    let kafka = &KafkaConfig::at(bootstrap_servers);
    create(kafka, "stale", 1);
    create(kafka, "stale-out", 1);
    write(kafka, "stale", 1, 0, 2);
    let mut reader = join(kafka, "stale", "stale");
    next_events(&mut reader);
    read_values(&mut reader, 2);
    let stale = reader.group_metadata().unwrap();
    drop(reader); // it left: its membership is worth nothing now
    let mut writer = open(kafka, "stale");
    writer.begin().unwrap();
    writer.send(Outgoing::new("stale-out", b"k", b"v")).unwrap();
    let error =
        writer.commit(&[OffsetCommit { topic: "stale", partition: 0, offset: 2, metadata: "" }], &stale).unwrap_err();
    assert_eq!(error.disposition(), Disposition::AbortCycle, "{error}");
    assert!(!error.needs_new_writer(), "{error}");
    writer.abort().unwrap();
    assert_eq!(contents(kafka, "stale-out", 1, true), [""; 0]);
}

fn a_record_that_is_too_large_is_a_dead_letter_and_the_writer_lives_on(bootstrap_servers: &str) {
    let kafka = &KafkaConfig::at(bootstrap_servers);
    create(kafka, "large", 1);
    let mut writer = open(kafka, "large");
    writer.begin().unwrap();
    let error = writer.send(Outgoing::new("large", b"k", &vec![0; 20_000_000])).unwrap_err();
    assert_eq!(error.disposition(), Disposition::DeadLetter, "{error}");
    assert!(error.to_string().contains("20000001 bytes is too large for topic \"large\""), "{error}");
    writer.send(Outgoing::new("large", b"k", b"small")).unwrap();
    writer.commit_records().unwrap();
    assert_eq!(contents(kafka, "large", 1, true), ["small"]);
}

fn a_missing_topic_is_said_by_its_writers(bootstrap_servers: &str) {
    let kafka = &KafkaConfig::at(bootstrap_servers);
    let mut writer = tidewatch_topic_io::Writer::new(kafka).unwrap();
    let sent = writer.send(Outgoing::new("no-such-topic", b"k", b"v"));
    let error = sent.and_then(|()| writer.flush(crate::PATIENCE)).unwrap_err();
    assert!(matches!(&error, KafkaError::UnknownTopic { topic } if topic == "no-such-topic"), "{error:?}");
}

fn what_an_open_transaction_has_written_is_told_from_what_is_settled(bootstrap_servers: &str) {
    let kafka = &KafkaConfig::at(bootstrap_servers);
    create(kafka, "unsettled", 1);
    let mut writer = open(kafka, "unsettled");
    writer.begin().unwrap();
    writer.send(Outgoing::new("unsettled", b"k", b"on its way")).unwrap();
    let mut reader = PartitionReader::new(kafka, false).unwrap();
    reader.assign(&[("unsettled", 0, StartAt::Beginning)]).unwrap();
    while reader.read(1, Duration::from_millis(100)).unwrap().is_empty() {}
    let admin = Admin::connect(kafka).unwrap();
    let ends = || [admin.offsets("unsettled"), admin.written("unsettled")].map(|ends| ends.unwrap()[0].high);
    assert_eq!(ends(), [0, 1]);

    writer.commit_records().unwrap();
    let mut reader = PartitionReader::new(kafka, true).unwrap();
    reader.wait_until_settled(&admin, &["unsettled"], |_| true, || false).unwrap();
    assert_eq!(ends(), [2, 2], "the record, and the end of its transaction");
    reader.assign(&[("unsettled", 0, StartAt::Beginning)]).unwrap();
    let mut read = 0;
    while !reader.is_at_end() {
        read += reader.read(10, Duration::from_millis(100)).unwrap().len();
    }
    assert_eq!((read, reader.ends().collect::<Vec<_>>()), (1, vec![("unsettled", 0, 2)]));
}
