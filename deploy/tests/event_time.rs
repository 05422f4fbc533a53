//! Event time through the real binary: however the input is cut into transactions, and whenever the processor dies, hopping and
//! session windows, revisions and known ids come out the same to the byte; and what the clock decided for a silent partition is
//! decided once.

#![allow(clippy::unwrap_used)] // The helpers are tests too.

#[allow(dead_code)] // Not all is measured or asked here.
mod support;

#[path = "event_time/idle.rs"]
mod idle;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use idle::{
    what_came_while_the_processor_slept_is_not_late, what_is_not_scored_keeps_no_partition_awake,
    what_the_clock_decided_is_decided_once,
};
use support::{Corner, PATIENCE, RESULTS, Row, assert_same};
use tidewatch_schemas::record::{Alert, WindowMetric};
use tidewatch_schemas::wire;
use tidewatch_topic_io::{Outgoing, Writer};

tidewatch_test_brokers::on_both_brokers!(
    no_split_and_no_death_changes_a_byte,
    what_the_clock_decided_is_decided_once,
    what_came_while_the_processor_slept_is_not_late,
    what_is_not_scored_keeps_no_partition_awake,
);

const PARTITIONS: i32 = 2;
const START_MS: i64 = 1_736_121_600_000; // 2025-01-06T00:00:00Z

/// Seconds of event time, an event of each partition in each of them.
const SECONDS: i64 = 3_000;
/// More detectors than the shipped ones: half an hour is no time for these.
const DETECTORS: &str =
    "detectors = [\"z-score\", \"iqr\", \"isolation-forest\", \"residual\", \"novelty\", \"shift\"]\n";
/// Windows that overlap, with more entities than are remembered; windows that merge; and windows that are told once.
const KINDS: [(&str, &str); 3] = [
    (
        "hopping",
        "window = { hopping = [\"60s\", \"15s\"] }\nrevisions = \"on\"\nentities_max = 4\n\
         alert.dropout_after = 3\n[[stream.measure]]\nname = \"amount\"\nfield = \"amount\"\n\
         aggregates = [\"mean\", \"p95\"]\n\
         forecast = { seasons = [\"10m\"], horizons = [\"1m\"], emit_every = \"5m\" }\n",
    ),
    (
        "session",
        "window = { session = \"5s\" }\nrevisions = \"on\"\n[[stream.measure]]\nname = \"amount\"\nfield = \"amount\"\n",
    ),
    (
        "tumbling",
        "window = { tumbling = \"10s\" }\n[[stream.measure]]\nname = \"amount\"\nfield = \"amount\"\n\
         forecast = { seasons = [\"10m\"], horizons = [\"1m\"], emit_every = \"5m\" }\n",
    ),
];

/// Without decisions of the clock: they are no function of the input.
fn streams(corner: &Corner) -> String {
    let stream = |(kind, rest): (&str, &str)| {
        format!(
            "[[stream]]\nname = \"{kind}\"\ntopic = \"{}\"\nformat = \"json\"\nentity = [\"till\"]\nevent_time = \"at\"\n\
             event_id = \"id\"\nonly = {{ kind = [\"sale\"] }}\ndisorder = \"3s\"\nlateness = \"20s\"\nidle_timeout = \"0s\"\n{rest}",
            corner.topic("in", kind)
        )
    };
    KINDS.map(stream).concat().replace("field = \"amount\"\n", &format!("field = \"amount\"\n{DETECTORS}"))
}

/// Numbers that look random and are the same each time (Steele and Vigna's SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }
}

fn send(writer: &mut Writer, topic: &str, partition: i32, value: &[u8]) {
    let key = format!("{topic}-{partition}");
    let record = Outgoing { partition: Some(partition), ..Outgoing::new(topic, key.as_bytes(), value) };
    writer.send(record).unwrap();
}

/// An event, so many ms after the start.
fn event(till: &str, id: &str, at_ms: i64, kind: &str, amount: u64) -> String {
    serde_json::json!({ "till": till, "id": id, "at": START_MS + at_ms, "kind": kind, "amount": amount }).to_string()
}

/// The records of a partition: events out of order by less than the disorder and by more, late, twice, not wanted, broken; tills that
/// fall silent for a while; and values that leap for seconds. No two partitions share a till: order is promised for a key.
fn records(kind: &str, partition: i32) -> Vec<Vec<u8>> {
    let mut dice = Dice(u64::try_from(partition).unwrap());
    let mut records: Vec<Vec<u8>> = Vec::new();
    for second in 0..SECONDS {
        let fate = dice.roll(100);
        let back_ms = match fate {
            0..12 => 3_000 + dice.roll(20_000), // a revision, mostly
            12..15 => 120_000 + dice.roll(100_000),
            _ => dice.roll(3_000),
        };
        let till = match dice.roll(4) {
            0 => 3 + second as u64 / 40 % 3,
            till => till - 1,
        };
        let leap = if (second / 20) % 20 == 13 { 90 } else { 0 };
        let at = (second * 1_000 - back_ms as i64).max(0);
        let sold = if fate >= 98 { "refund" } else { "sale" };
        let till = format!("{kind}-{partition}-{till}");
        let record = event(&till, &second.to_string(), at, sold, 10 + dice.roll(7) + leap).into_bytes();
        records.push(record);
        if fate >= 94 {
            let again = records[records.len() - 1 - dice.roll(20.min(records.len() as u64)) as usize].clone();
            records.push(again);
        }
        if fate == 50 {
            records.push(b"no event".to_vec());
        }
    }
    records
}

fn results(corner: &Corner, run: &str) -> Vec<(&'static str, Vec<Row>)> {
    RESULTS.iter().map(|what| (*what, corner.read(&corner.topic(run, what)))).collect()
}

/// Everything that event time can do to a result is in the results that are compared.
fn check_covered(results: &[(&str, Vec<Row>)]) {
    let of = |wanted: &str| &results.iter().find(|(what, _)| *what == wanted).unwrap().1;
    for (what, rows) in results {
        println!("golden: {} {what}", rows.len());
        assert!(rows.len() > 10, "{} {what}", rows.len());
    }
    let metrics: Vec<WindowMetric> =
        of("metrics").iter().map(|row| wire::decode(row.value.as_ref().unwrap()).unwrap()).collect();
    for (kind, _) in KINDS {
        let revised = metrics.iter().filter(|metric| metric.stream == kind && metric.revision > 0).count();
        assert_eq!(revised > 10, kind != "tumbling", "{revised} revisions in {kind} windows");
    }
    assert!(metrics.iter().any(|metric| !metric.supersedes.is_empty()), "sessions merge");
    let alerts: Vec<Alert> =
        of("alerts").iter().map(|row| wire::decode(row.value.as_ref().unwrap()).unwrap()).collect();
    assert!(alerts.iter().any(|alert| alert.supersedes.is_some()), "alerts are corrected");
    // CloudEvents: no two records have one id. A correction names that of the record before.
    let mut ids = BTreeSet::new();
    for (row, alert) in of("alerts").iter().zip(&alerts) {
        assert!(alert.supersedes.as_ref().is_none_or(|before| ids.contains(before)), "{alert:?}");
        assert!(ids.insert(String::from_utf8(row.header("ce_id").unwrap()).unwrap()), "{alert:?}");
    }
}

/// Ends the processor again and again in the middle, by turns with SIGKILL and SIGTERM, then lets it finish.
fn run_with_deaths(corner: &Corner, run: &str, settings: &str, metrics_in_all: usize) {
    let mut committed = corner.reader(&corner.topic(run, "metrics"));
    let (mut seen, mut dice) = (0, Dice(7));
    let deaths = 6;
    for death in 0..deaths {
        let mut process = corner.start(settings, &["process"]);
        let wanted = (metrics_in_all * death + dice.roll(metrics_in_all as u64) as usize) / (deaths + 1);
        process.wait_for(&mut committed, &mut seen, wanted);
        if death % 3 == 2 {
            process.signal("TERM");
            let (status, log) = process.finish();
            assert!(status.success(), "{log}");
        } else {
            process.kill();
        }
        println!("{run}: death {death} at {seen} of {metrics_in_all} metrics");
        let left = corner.read(&corner.topic(run, "metrics")).len();
        if left == metrics_in_all {
            break; // On a busy machine it may have come to its end: the next one would have nothing to tell.
        }
        // What was left must not be taken for the next one's.
        while seen < left {
            seen += committed.read(10_000, PATIENCE).unwrap().len();
        }
    }
    corner.run(settings, &["process", "--drain"]);
}

fn no_split_and_no_death_changes_a_byte(bootstrap_servers: &str) {
    let corner = Corner::new(bootstrap_servers, "splits");
    let topics = KINDS.map(|(kind, _)| corner.topic("in", kind));
    corner.create(&topics, PARTITIONS);
    let mut writer = Writer::new(&corner.kafka).unwrap();
    let mut read = 0;
    for ((topic, (kind, _)), partition) in
        topics.iter().zip(KINDS).flat_map(|topic| (0..PARTITIONS).map(move |partition| (topic, partition)))
    {
        let records = records(kind, partition);
        read += records.len();
        for record in &records {
            send(&mut writer, topic, partition, record);
        }
    }
    writer.flush(Duration::from_secs(60)).unwrap();

    let runs = [
        ("golden", "".to_owned()),
        ("few", split(17, "1ms", "30ms")),
        ("many", split(1_999, "700ms", "1s")),
        ("deaths", format!("{}processor.static_membership = true\n", split(100, "20ms", "120ms"))),
    ];
    let (mut golden, mut metrics_in_all) = (Vec::new(), 0);
    for (run, how) in runs {
        let settings = format!("{how}{}{}", corner.outputs(run, PARTITIONS), streams(&corner));
        let started = Instant::now();
        if run == "deaths" {
            run_with_deaths(&corner, run, &settings, metrics_in_all);
        } else {
            corner.run(&settings, &["process", "--drain"]);
        }
        println!("{run}: {:?}", started.elapsed());
        let balance = corner.ledger(&settings);
        assert_eq!(balance["total"]["read"], read, "{balance}");
        let found = results(&corner, run);
        if golden.is_empty() {
            check_covered(&found);
            metrics_in_all = found[0].1.len();
            golden = found;
            continue;
        }
        // Keys, values, times and headers: not one of them is a function of anything but the input.
        for ((what, expected), (_, found)) in golden.iter().zip(found) {
            assert_same(&format!("{run}.{what}"), expected.clone(), found);
        }
    }
}

/// Records that a transaction takes at most, how long it collects, and how often the state is written.
fn split(batch_max: u32, commit_interval: &str, snapshot_every: &str) -> String {
    format!(
        "processor.batch_max = {batch_max}\nprocessor.commit_interval = \"{commit_interval}\"\n\
         processor.snapshot_every = \"{snapshot_every}\"\n"
    )
}
