//! Several workers, several members, and the other guarantee: the results are those of one worker.

use std::thread;
use std::time::Duration;

use tidewatch_processor::{Counts, ProcessorConfig, ProcessorSettings, Progress};
use tidewatch_sink::{ProcessingGuarantee, Stop, StopSignal};
use tidewatch_topic_io::{KafkaConfig, PartitionReader, StartAt};

use crate::{PARTITIONS, assert_same_results, create, drain, last_ledgers, processor, publish, readings};

tidewatch_test_brokers::on_both_brokers!(
    workers_write_what_one_writes,
    a_member_that_joins_in_mid_stream_changes_nothing,
    at_least_once_writes_the_same_and_can_be_read_at_once,
);

fn with(config: ProcessorConfig, change: impl FnOnce(&mut ProcessorSettings)) -> ProcessorConfig {
    let mut config = config;
    change(&mut config.settings);
    config
}

fn workers_write_what_one_writes(bootstrap_servers: &str) {
    let kafka = &KafkaConfig::at(bootstrap_servers);
    let input = "workers";
    create(kafka, &[input]);
    let readings = readings(9_000);
    let one = processor(kafka, input, "one");
    let three = with(processor(kafka, input, "three"), |settings| settings.workers = 3);
    // One of them has no partition.
    let four = with(processor(kafka, input, "four"), |settings| {
        (settings.workers, settings.static_membership) = (4, true);
    });
    let mut counts = [Counts::default(); 3];
    for part in readings.chunks(4_500) {
        publish(kafka, input, part);
        for (counts, config) in counts.iter_mut().zip([&one, &three, &four]) {
            let more = drain(config);
            assert_eq!((more.read, more.residue()), (4_500, 0));
            counts.windows += more.windows;
        }
    }
    assert_eq!((counts[0].windows, counts[0].windows), (counts[1].windows, counts[2].windows));
    for config in [&three, &four] {
        assert_same_results(kafka, config, &one);
        assert_eq!(last_ledgers(kafka, config), last_ledgers(kafka, &one));
    }
}

fn a_member_that_joins_in_mid_stream_changes_nothing(bootstrap_servers: &str) {
    let kafka = &KafkaConfig::at(bootstrap_servers);
    let input = "joined";
    create(kafka, &[input]);
    let readings = readings(30_000);
    publish(kafka, input, &readings[..15_000]);
    let first = with(processor(kafka, input, "two"), |settings| settings.batch_max = 50);
    let second = with(first.clone(), |settings| settings.instance = "1".into());
    let (progresses, stops) = ([Progress::new(), Progress::new()], [StopSignal::new(), StopSignal::new()]);
    let summaries = thread::scope(|scope| {
        let run = |config, number: usize| {
            let (progress, stop) = (&progresses[number], &stops[number]);
            scope.spawn(move || tidewatch_processor::run(config, progress, stop))
        };
        let one = run(&first, 0);
        while progresses[0].transactions() < 5 {
            assert!(!one.is_finished());
            thread::yield_now();
        }
        let two = run(&second, 1);
        publish(kafka, input, &readings[15_000..]);
        while progresses[1].transactions() == 0 {
            assert!(!one.is_finished() && !two.is_finished());
            thread::yield_now();
        }
        stops.iter().for_each(|stop| stop.request(Stop::Drain));
        [one, two].map(|member| member.join().unwrap().unwrap())
    });
    let read = summaries.each_ref().map(|summary| summary.counts.read);
    assert_eq!(read.iter().sum::<u64>(), 30_000, "{read:?}");
    assert!(read.iter().all(|&read| read > 0), "both were at it: {read:?}");
    let alone = processor(kafka, input, "alone");
    drain(&alone);
    assert_same_results(kafka, &first, &alone);
    assert_eq!(last_ledgers(kafka, &first), last_ledgers(kafka, &alone));
}

fn at_least_once_writes_the_same_and_can_be_read_at_once(bootstrap_servers: &str) {
    let kafka = &KafkaConfig::at(bootstrap_servers);
    let input = "at-least-once";
    create(kafka, &[input]);
    let readings = readings(9_000);
    let exactly = processor(kafka, input, "exactly");
    let at_least = with(processor(kafka, input, "at-least"), |settings| {
        settings.processing_guarantee = ProcessingGuarantee::AtLeastOnce;
        settings.workers = 2;
    });
    for part in readings.chunks(4_500) {
        publish(kafka, input, part);
        for config in [&exactly, &at_least] {
            assert_eq!(drain(config).read, 4_500, "what is committed is not read again");
        }
    }
    assert_same_results(kafka, &at_least, &exactly);
    assert_eq!(last_ledgers(kafka, &at_least), last_ledgers(kafka, &exactly));
    // Without transactions there are no markers of their ends: each offset is a record.
    let records = |config: &ProcessorConfig| {
        let mut reader = PartitionReader::new(kafka, true).unwrap();
        let topic = config.topics.metrics.as_str();
        let all: Vec<_> = (0..PARTITIONS).map(|partition| (topic, partition, StartAt::Beginning)).collect();
        reader.assign(&all).unwrap();
        let mut records = 0;
        while !reader.is_at_end() {
            records += reader.read(1_000, Duration::from_millis(200)).unwrap().len() as i64;
        }
        (records, reader.ends().map(|(_, _, end)| end).sum::<i64>())
    };
    let ((records, end), (committed, marked_end)) = (records(&at_least), records(&exactly));
    assert_eq!((records, end), (committed, committed));
    assert!(marked_end > committed);
}
