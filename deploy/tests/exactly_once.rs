//! Exactly once, as a consumer of committed records sees it: a processor that is killed again and again, or asked to end in the
//! middle, leaves the same records behind as one that is left alone.

#![allow(clippy::unwrap_used)] // The helpers are tests too.

#[allow(dead_code)] // Nothing is asked or measured here.
mod support;

use std::time::Duration;

use support::{Corner, PATIENCE, RESULTS, Row, Running, assert_same};
use tidewatch_schemas::record::ServiceCall;
use tidewatch_schemas::wire::{self, Framing};
use tidewatch_topic_io::{Outgoing, PartitionReader, StartAt, Writer};

tidewatch_test_brokers::on_both_brokers!(a_processor_that_is_cut_off_leaves_what_an_undisturbed_one_leaves);

const PARTITIONS: i32 = 2;
const INPUTS: [&str; 4] = ["service-calls", "infrastructure", "beacons", "checks"];
/// Many small transactions and many snapshots, so that a kill finds the processor at any point of its work. Smaller ones still, and
/// it takes long; larger ones, and a fast machine is through before it was caught inside of one.
const SMALL: &str = "processor.batch_max = 25\nprocessor.commit_interval = \"50ms\"\nprocessor.snapshot_every = \"150ms\"\n\
                     processor.snapshot_kib_per_second = 64\n";
/// Hundredths of the results at which the processor is killed.
const KILL_AT: [usize; 4] = [2, 20, 45, 70];

/// The streams of the generator on this test's input topics.
fn streams(corner: &Corner) -> String {
    let mut text = include_str!("../config/demo.toml").to_owned();
    for input in INPUTS {
        text = text.replace(&format!("\"tidewatch.{input}.v1\""), &format!("\"{}\"", corner.topic("in", input)));
    }
    text
}

/// Publishes the scenario, and among it records that are late and records that are none.
fn publish(corner: &Corner) {
    let topics: Vec<String> = INPUTS.iter().map(|input| corner.topic("in", input)).collect();
    corner.create(&[&topics[..], &[corner.topic("in", "truth")]].concat(), PARTITIONS);
    let names = ["service_calls", "infrastructure", "beacons", "checks", "truth"];
    let lines = names.map(|name| format!("{name} = \"{}\"\n", corner.topic("in", &name.replace('_', "-"))));
    let settings = format!("topic_creation.partitions = {PARTITIONS}\n[topics]\n{}", lines.concat());
    let mut produce = corner.start(&settings, &["produce", "--scenario", "smoke", "--rate", "10000"]);
    let mut writer = Writer::new(&corner.kafka).unwrap();
    let mut others = 0;
    while !produce.has_ended() || others == 0 {
        write_others(&mut writer, &topics[0]);
        others += 1;
    }
    let (status, log) = produce.finish();
    assert!(status.success(), "{log}");
    write_others(&mut writer, &topics[0]);
}

/// An event of the scenario's first second and a record that is no event, for each partition.
fn write_others(writer: &mut Writer, topic: &str) {
    for partition in 0..PARTITIONS {
        // The outputs' order is promised for a key, so no two partitions may share one.
        let service = format!("late-{partition}");
        let late = ServiceCall {
            event_time: 1_736_121_600_000,
            service: service.clone(),
            instance: "0".into(),
            region: "EMEA".into(),
            tenant: "acme".into(),
            release: "1".into(),
            status: 200,
            duration_ms: 1.0,
            bytes: 1,
            trace_id: [0; 16],
        };
        let mut value = Vec::new();
        wire::encode(&late, Framing::SingleObject, &mut value);
        let key = format!("{service}/0");
        let record = Outgoing { partition: Some(partition), ..Outgoing::new(topic, key.as_bytes(), &value) };
        writer.send(record).unwrap();
        let key = format!("broken-{partition}");
        writer.send(Outgoing { key: Some(key.as_bytes()), value: Some(&value[..20]), ..record }).unwrap();
    }
    writer.flush(Duration::from_secs(30)).unwrap();
}

fn results(corner: &Corner, run: &str) -> Vec<(&'static str, Vec<Row>)> {
    RESULTS.iter().map(|what| (*what, corner.read(&corner.topic(run, what)))).collect()
}

/// Stops the processor (SIGSTOP) in the middle of a transaction: some of its results are written, none of them committed.
fn stop_in_transaction(corner: &Corner, run: &str, process: &mut Running) {
    let mut written = PartitionReader::new(&corner.kafka, false).unwrap();
    let topic = corner.topic(run, "metrics");
    let all: Vec<_> = (0..PARTITIONS).map(|partition| (topic.as_str(), partition, StartAt::End)).collect();
    written.assign(&all).unwrap();
    let mut quiet = 0;
    while quiet < 100 {
        assert!(!process.has_ended(), "ended by itself: {}", process.log());
        if written.read(10_000, PATIENCE).unwrap().is_empty() {
            quiet += 1;
            continue;
        }
        quiet = 0;
        process.signal("STOP");
        // Twice: a commit that was on its way when the processor stopped is through by then.
        if has_open_transaction(corner, run) && has_open_transaction(corner, run) {
            return;
        }
        process.signal("CONT");
    }
    panic!("came to its end before it was caught in a transaction: {}", process.log());
}

/// Whether a result topic of the run holds records of a transaction that is neither committed nor aborted.
fn has_open_transaction(corner: &Corner, run: &str) -> bool {
    let [all, settled] = [false, true].map(|committed| PartitionReader::new(&corner.kafka, committed).unwrap());
    let end = |reader: &PartitionReader, topic: &str, partition| reader.watermarks(topic, partition).unwrap().1;
    let topics = RESULTS.iter().chain(&["state"]).map(|what| corner.topic(run, what));
    let mut places = topics.flat_map(|topic| (0..PARTITIONS).map(move |partition| (topic.clone(), partition)));
    places.any(|(topic, partition)| end(&all, &topic, partition) > end(&settled, &topic, partition))
}

/// Kills the processor (SIGKILL) at one point after another, mostly inside a transaction, then lets it finish.
fn run_with_kills(corner: &Corner, run: &str, more: &str, metrics_in_all: usize) {
    let settings = format!("{SMALL}{more}{}{}", corner.outputs(run, PARTITIONS), streams(corner));
    let mut committed = corner.reader(&corner.topic(run, "metrics"));
    let mut seen = 0;
    for (kill, hundredths) in KILL_AT.into_iter().enumerate() {
        let mut process = corner.start(&settings, &["process"]);
        process.wait_for(&mut committed, &mut seen, metrics_in_all * hundredths / 100);
        if kill > 0 {
            stop_in_transaction(corner, run, &mut process);
        }
        process.kill();
        // Results and input offsets commit together: as results are missing, so is input.
        let now = corner.read(&corner.topic(run, "metrics")).len();
        println!("{run}: kill {kill} at {now} of {metrics_in_all} metrics");
        assert!(now < metrics_in_all, "killed in the middle");
    }
    corner.run(&settings, &["process", "--drain"]);
}

/// Asks the processor twice to end in the middle, then lets it finish.
fn run_with_requests_to_end(corner: &Corner, run: &str, metrics_in_all: usize) {
    let settings = format!("{SMALL}{}{}", corner.outputs(run, PARTITIONS), streams(corner));
    let mut committed = corner.reader(&corner.topic(run, "metrics"));
    let mut seen = 0;
    for (signal, hundredths) in [("TERM", 5), ("INT", 25)] {
        let mut process = corner.start(&settings, &["process"]);
        process.wait_for(&mut committed, &mut seen, metrics_in_all * hundredths / 100);
        process.signal(signal);
        let (status, log) = process.finish();
        assert_eq!(status.code(), Some(0), "{signal}: {log}");
        assert!(!has_open_transaction(corner, run), "{signal}: {log}");
        let inputs = INPUTS.map(|input| corner.topic("in", input));
        let lag = corner.admin.lag(&format!("{}.{run}", corner.name), &inputs.each_ref().map(String::as_str)).unwrap();
        let [done, to_go] =
            [lag.iter().filter_map(|lag| lag.committed).sum::<i64>(), lag.iter().map(|lag| lag.lag).sum()];
        println!("{run}: {signal} with {done} input records committed, {to_go} to go");
        assert!(done > 0 && to_go > 0, "{signal}: {done} committed, {to_go} to go");
        // What it left must not be taken for the next one's: that one would be asked before it listens.
        let left = corner.read(&corner.topic(run, "metrics")).len();
        while seen < left {
            seen += committed.read(10_000, PATIENCE).unwrap().len();
        }
    }
    corner.run(&settings, &["process", "--drain"]);
}

fn a_processor_that_is_cut_off_leaves_what_an_undisturbed_one_leaves(bootstrap_servers: &str) {
    let corner = Corner::new(bootstrap_servers, "exactly-once");
    publish(&corner);
    corner.run(&format!("{}{}", corner.outputs("golden", PARTITIONS), streams(&corner)), &["process", "--drain"]);
    let golden = results(&corner, "golden");
    for (what, rows) in &golden {
        println!("golden: {} {what}", rows.len());
        assert!(!rows.is_empty(), "the comparison covers {what}");
    }
    let metrics = golden[0].1.len();

    run_with_kills(&corner, "static", "processor.static_membership = true\n", metrics);
    // Without static membership the group waits for the dead member's session to end.
    let short = "kafka.properties = { \"session.timeout.ms\" = \"1500\", \"heartbeat.interval.ms\" = \"300\" }\n\
        processor.transaction_timeout = \"1s\"\n";
    run_with_kills(&corner, "dynamic", short, metrics);
    run_with_requests_to_end(&corner, "asked", metrics);
    for run in ["static", "dynamic", "asked"] {
        for ((what, expected), (_, found)) in golden.iter().zip(results(&corner, run)) {
            assert_same(&format!("{run}.{what}"), expected.clone(), found);
        }
    }
}
