//! Input that is not what it was: removed by retention, made again, or spread over more partitions.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tidewatch_processor::{OnLostInput, ProcessorConfig, ProcessorError, Progress, Recoveries};
use tidewatch_processor_core::config::Span;
use tidewatch_sink::{Stop, StopSignal};
use tidewatch_topic_io::{Admin, GroupOptions, GroupReader, KafkaConfig, OffsetCommit, StartAt, TopicSpec};

use crate::{PARTITIONS, Reading, create, drain, last_ledgers, processor, publish, readings};

tidewatch_test_brokers::on_both_brokers!(
    input_that_retention_removed_is_an_error_or_skipped,
    input_that_is_gone_in_all_partitions_is_gone_on_behind_at_once,
    input_that_only_the_state_needs_again_is_not_silently_left_out,
    a_result_that_its_topic_refuses_ends_with_the_setting_to_change,
    a_topic_that_was_made_again_is_refused,
    a_topic_that_is_made_again_while_it_is_read_is_refused,
    offsets_of_another_topic_of_the_name_are_refused,
    an_input_that_ends_before_the_committed_offset_is_refused,
    partitions_that_are_added_while_it_runs_are_refused,
);

fn admin(kafka: &KafkaConfig) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", &kafka.bootstrap_servers).create().unwrap()
}

/// The admin client works on a thread of its own; there is nothing to do here meanwhile.
fn wait<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return value;
        }
        thread::yield_now();
    }
}

fn refused(config: &ProcessorConfig) -> ProcessorError {
    tidewatch_processor::run(config, &Progress::new(), &StopSignal::new()).unwrap_err()
}

fn input_that_retention_removed_is_an_error_or_skipped(bootstrap_servers: &str) {
    let kafka = &KafkaConfig::at(bootstrap_servers);
    let input = "lost";
    create(kafka, &[input]);
    let readings = readings(6_000);
    publish(kafka, input, &readings[..3_000]);
    let mut config = processor(kafka, input, "only");
    assert_eq!(drain(&config).read, 3_000);
    let committed = last_ledgers(kafka, &config)[1].to_offset;
    publish(kafka, input, &readings[3_000..]);
    // Ten records of partition 1 that nobody has read.
    remove(kafka, input, [(1, committed + 10)]);

    let error = refused(&config);
    let expected = format!(
        "input `lost` partition 1: offsets {committed} to {} were removed by retention before they were read; raise the topic's \
         retention, and set `processor.on_lost_input = \"skip\"` to go on behind them",
        committed + 9
    );
    assert_eq!(error.to_string(), expected);
    config.settings.on_lost_input = OnLostInput::Skip;
    // What the other partitions had committed when it ended is committed.
    let metrics = crate::metrics();
    drain(&config);
    let ledgers = last_ledgers_with_gaps(kafka, &config);
    assert_eq!(ledgers.iter().map(|ledger| ledger.read).sum::<i64>(), 5_990);
    assert_eq!(ledgers[1].to_offset - ledgers[1].begin_offset - ledgers[1].read, 10);
    let counted = metrics.render();
    let counted = counted.lines().find_map(|line| {
        line.strip_prefix("tidewatch_processor_lost_records_total{topic=\"lost\",partition=\"1\"} ")?
            .parse::<u64>()
            .ok()
    });
    // The test is run on two brokers, at one time perhaps.
    assert!(matches!(counted, Some(10 | 20)), "{counted:?}");
    // The state is behind the gap by now: nothing is skipped again.
    config.settings.on_lost_input = OnLostInput::Fail;
    assert_eq!(drain(&config).read, 0);
}

fn input_that_is_gone_in_all_partitions_is_gone_on_behind_at_once(bootstrap_servers: &str) {
    let kafka = &KafkaConfig::at(bootstrap_servers);
    let input = "lost-everywhere";
    create(kafka, &[input]);
    let readings = readings(6_000);
    publish(kafka, input, &readings[..3_000]);
    let mut config = processor(kafka, input, "only");
    drain(&config);
    publish(kafka, input, &readings[3_000..]);
    let places = last_ledgers(kafka, &config).into_iter().map(|ledger| (ledger.partition, ledger.to_offset + 10));
    remove(kafka, input, places);
    config.settings.on_lost_input = OnLostInput::Skip;
    let (progress, stop) = (Progress::new(), StopSignal::new());
    stop.request(Stop::Drain);
    let summary = tidewatch_processor::run(&config, &progress, &stop).unwrap();
    assert_eq!(summary.recoveries, Recoveries { rebuilt: 1, ..Recoveries::default() });
    let ledgers = last_ledgers_with_gaps(kafka, &config);
    assert_eq!(ledgers.iter().map(|ledger| ledger.read).sum::<i64>(), 6_000 - 10 * i64::from(PARTITIONS));
}

/// Removes what is before these offsets of some partitions.
fn remove(kafka: &KafkaConfig, input: &str, places: impl IntoIterator<Item = (i32, i64)>) {
    let mut removed = TopicPartitionList::new();
    for (partition, offset) in places {
        removed.add_partition_offset(input, partition, Offset::Offset(offset)).unwrap();
    }
    wait(admin(kafka).delete_records(&removed, &AdminOptions::new())).unwrap();
}

fn input_that_only_the_state_needs_again_is_not_silently_left_out(bootstrap_servers: &str) {
    let kafka = &KafkaConfig::at(bootstrap_servers);
    let input = "needed-again";
    create(kafka, &[input]);
    publish(kafka, input, &readings(3_000));
    let mut config = processor(kafka, input, "only");
    // No snapshot is written: it ends as by a crash, with all that was read committed.
    config.settings.snapshot_every = Span::from_millis(3_600_000);
    config.settings.shutdown_grace = Span::from_millis(1);
    let (progress, stop) = (Progress::new(), StopSignal::new());
    thread::scope(|scope| {
        let run = scope.spawn(|| tidewatch_processor::run(&config, &progress, &stop));
        while last_committed(kafka, &config) < 3_000 && !run.is_finished() {
            thread::sleep(Duration::from_millis(20));
        }
        stop.request(Stop::Now);
        run.join().unwrap().unwrap();
    });
    remove(kafka, input, [(1, 10)]);
    let error = refused(&config).to_string();
    let expected = "partition 1: offsets 0 to 9 were removed by retention before a snapshot held what they had led to";
    assert!(error.contains(expected), "{error}");
}

fn last_committed(kafka: &KafkaConfig, config: &ProcessorConfig) -> i64 {
    let committed = Admin::connect(kafka).unwrap().committed(&config.settings.group_id, &config.streams[0].topic);
    committed.unwrap().iter().flatten().map(|at| at.offset).sum()
}

fn a_result_that_its_topic_refuses_ends_with_the_setting_to_change(bootstrap_servers: &str) {
    let kafka = &KafkaConfig::at(bootstrap_servers);
    let input = "ahead";
    create(kafka, &[input]);
    // An hour ahead is Kafka's own bound; the brokers of the tests take any time.
    let mut narrow = TopicSpec::new("ahead.only.metrics", PARTITIONS);
    narrow.properties.insert("message.timestamp.after.max.ms".into(), "3600000".into());
    Admin::connect(kafka).unwrap().ensure_topics(&[narrow]).unwrap();
    let mut config = processor(kafka, input, "only");
    let ahead = 1_000_000_000_000;
    let readings: Vec<_> = readings(3_000).into_iter().map(|at| Reading { at: at.at + ahead, ..at }).collect();
    publish(kafka, input, &readings);
    let error = refused(&config);
    assert_eq!(
        error.to_string(),
        "topic \"ahead.only.metrics\" refuses a record (InvalidRecord (Broker: Broker failed to validate record)): records are of their \
         events' time, so set the topic's message.timestamp.before.max.ms and message.timestamp.after.max.ms to 9223372036854775807"
    );
    // Nothing is lost: with a topic that takes it, all is there.
    config.topics.metrics = "ahead.wide.metrics".into();
    create(kafka, &[&config.topics.metrics]);
    assert_eq!(drain(&config).read, 3_000);
}

/// The last ledger records where offsets are missing: intervals join over them, and nothing is unexplained.
fn last_ledgers_with_gaps(kafka: &KafkaConfig, config: &ProcessorConfig) -> Vec<tidewatch_schemas::record::Ledger> {
    let mut last = std::collections::BTreeMap::new();
    for ledger in crate::records::<tidewatch_schemas::record::Ledger>(kafka, &config.topics.ledger) {
        let before = last.get(&ledger.partition);
        let before = before.map_or(ledger.begin_offset, |before: &tidewatch_schemas::record::Ledger| before.to_offset);
        assert_eq!((ledger.from_offset, ledger.residue()), (before, 0), "{ledger:?}");
        last.insert(ledger.partition, ledger);
    }
    last.into_values().collect()
}

fn a_topic_that_was_made_again_is_refused(bootstrap_servers: &str) {
    let kafka = &KafkaConfig::at(bootstrap_servers);
    let input = "made-again";
    create(kafka, &[input]);
    publish(kafka, input, &readings(3_000));
    let config = processor(kafka, input, "only");
    drain(&config);
    make_again(kafka, input);
    publish(kafka, input, &readings(30));
    // The broker has forgotten the group's offsets with the topic; the state is there.
    let text = refused(&config).to_string();
    assert!(text.contains("the input was deleted and made again") && text.contains("`processor.group_id`"), "{text}");
}

/// Deletes a topic and creates one of its name.
fn make_again(kafka: &KafkaConfig, input: &str) {
    wait(admin(kafka).delete_topics(&[input], &AdminOptions::new())).unwrap();
    // It takes a moment until every part of the broker knows.
    let is_there = || tidewatch_topic_io::Admin::connect(kafka).unwrap().partitions(input).is_ok();
    while is_there() {
        thread::yield_now();
    }
    create(kafka, &[input]);
}

fn a_topic_that_is_made_again_while_it_is_read_is_refused(bootstrap_servers: &str) {
    let kafka = &KafkaConfig::at(bootstrap_servers);
    let input = "made-again-live";
    create(kafka, &[input]);
    publish(kafka, input, &readings(300));
    let config = processor(kafka, input, "only");
    let (progress, stop) = (Progress::new(), StopSignal::new());
    let error = thread::scope(|scope| {
        let run = scope.spawn(|| tidewatch_processor::run(&config, &progress, &stop));
        while progress.counts().read < 300 {
            assert!(!run.is_finished());
            thread::yield_now();
        }
        make_again(kafka, input);
        // There is more in it than was read of the one before.
        publish(kafka, input, &readings(3_000));
        run.join().unwrap().unwrap_err()
    });
    assert!(error.to_string().contains("was deleted and made again"), "{error}");
    let text = refused(&config).to_string();
    assert!(text.contains("was deleted and made again") && text.contains("`processor.group_id`"), "{text}");
}

/// Commits an offset for each partition, as a member of the processor's group that is gone.
fn commit(kafka: &KafkaConfig, config: &ProcessorConfig, input: &str, offset: i64, metadata: &str) {
    let mut reader = GroupReader::new(kafka, &config.settings.group_id, &[input], GroupOptions::default()).unwrap();
    while reader.serve_group(&mut |_, _, _| StartAt::Beginning).unwrap().is_empty() {
        reader.read(1, Duration::from_millis(50)).unwrap();
    }
    let commit = |partition| OffsetCommit { topic: input, partition, offset, metadata };
    reader.commit(&(0..PARTITIONS).map(commit).collect::<Vec<_>>()).unwrap();
}

fn offsets_of_another_topic_of_the_name_are_refused(bootstrap_servers: &str) {
    let kafka = &KafkaConfig::at(bootstrap_servers);
    let input = "another";
    create(kafka, &[input]);
    publish(kafka, input, &readings(300));
    let config = processor(kafka, input, "only");
    commit(kafka, &config, input, 10, "start=0;partitions=3;topic=sM5qhaYeRSWbY6pHkbBM_w");
    let error = refused(&config);
    assert!(matches!(&error, ProcessorError::InputRecreated { topic } if topic == input), "{error:?}");
}

fn an_input_that_ends_before_the_committed_offset_is_refused(bootstrap_servers: &str) {
    let kafka = &KafkaConfig::at(bootstrap_servers);
    let input = "cut";
    create(kafka, &[input]);
    publish(kafka, input, &readings(30));
    let config = processor(kafka, input, "only");
    commit(kafka, &config, input, 1_000, "start=0;partitions=3");
    let error = refused(&config);
    assert!(
        matches!(&error, ProcessorError::InputReplaced { topic, committed: 1_000, .. } if topic == input),
        "{error:?}"
    );
    let text = error.to_string();
    assert!(
        text.contains("the group had come to offset 1000 of it") && text.contains("`processor.group_id`"),
        "{text}"
    );
}

fn partitions_that_are_added_while_it_runs_are_refused(bootstrap_servers: &str) {
    let kafka = &KafkaConfig::at(bootstrap_servers);
    let input = "added";
    create(kafka, &[input]);
    publish(kafka, input, &readings(300));
    let mut config = processor(kafka, input, "only");
    // The client looks for new partitions as often as it asks for metadata.
    config.kafka.properties.set("topic.metadata.refresh.interval.ms", "200");
    let (progress, stop) = (Progress::new(), StopSignal::new());
    let error = thread::scope(|scope| {
        let run = scope.spawn(|| tidewatch_processor::run(&config, &progress, &stop));
        while progress.counts().read < 300 {
            assert!(!run.is_finished());
            thread::yield_now();
        }
        let more = NewPartitions::new(input, PARTITIONS as usize + 1);
        wait(admin(kafka).create_partitions(&[more], &AdminOptions::new())).unwrap();
        run.join().unwrap().unwrap_err()
    });
    let expected = format!("input `added` has {} partitions, its state was written with {PARTITIONS}", PARTITIONS + 1);
    assert!(error.to_string().starts_with(&expected), "{error}");
    config.kafka = kafka.clone();
    // The state topic is too narrow for them, too, and that is said first.
    assert!(refused(&config).to_string().starts_with("state topic `added.only.state` has 3 partitions"));
}
