//! What a person sees of a processor at work, by the real binary: which partition holds event time back and why, on standard error
//! and on a page; and figures on `/metrics`, in the live line and at the end that are the ledger's.

#![allow(clippy::unwrap_used)] // The helpers are tests too.

#[allow(dead_code)] // Nothing is killed or compared byte for byte here.
mod support;

use std::time::Duration;

use support::{Corner, page};
use tidewatch_topic_io::{Outgoing, PartitionReader, TransactionOptions, TransactionalWriter, Writer};

tidewatch_test_brokers::on_both_brokers!(
    each_partition_is_told_with_what_holds_it_back,
    every_figure_is_there_and_is_the_ledgers,
);

const START_MS: i64 = 1_736_121_600_000; // 2025-01-06T00:00:00Z

fn event(till: &str, id: i64, at_ms: i64, kind: &str) -> String {
    serde_json::json!({ "till": till, "id": id.to_string(), "at": START_MS + at_ms, "kind": kind, "amount": 10 })
        .to_string()
}

fn stream(topic: &str, more: &str) -> String {
    format!(
        "[[stream]]\nname = \"tills\"\ntopic = \"{topic}\"\nformat = \"json\"\nentity = [\"till\"]\nevent_time = \"at\"\n\
         window = {{ tumbling = \"1m\" }}\ndisorder = \"1s\"\n{more}[[stream.measure]]\nname = \"amount\"\nfield = \"amount\"\n"
    )
}

fn send(writer: &mut Writer, topic: &str, partition: i32, value: &str) {
    let key = partition.to_string();
    let record = Outgoing { partition: Some(partition), ..Outgoing::new(topic, key.as_bytes(), value.as_bytes()) };
    writer.send(record).unwrap();
    writer.flush(Duration::from_secs(60)).unwrap();
}

/// What must be told of each partition: how many windows wait, and why.
const REASONS: [(i32, &str, &str); 5] = [
    (0, "1 window waits", "on time"),
    (1, "2 windows wait", "; its event time goes on by the clock in 5"),
    (2, "1 window waits", "lag: 2 records still to read, and no event for "),
    (3, "1 window waits", "slow producer: all is read, and its events are "),
    (4, "0 windows wait", "empty: no event yet"),
];

fn each_partition_is_told_with_what_holds_it_back(bootstrap_servers: &str) {
    let corner = Corner::new(bootstrap_servers, "explained");
    let topic = corner.topic("run", "in");
    corner.create(std::slice::from_ref(&topic), 5);
    let settings = format!("{}{}", corner.outputs("run", 5), stream(&topic, "idle_timeout = \"1h\"\n"));
    let mut writer = Writer::new(&corner.kafka).unwrap();
    let noon_ms = 12 * 3_600_000;
    // Two entities fall silent; what a third has to say is in a transaction that nobody ends.
    for till in ["b", "c"] {
        send(&mut writer, &topic, 1, &event(till, 0, noon_ms, "sale"));
    }
    send(&mut writer, &topic, 2, &event("d", 0, noon_ms, "sale"));
    let options = TransactionOptions { transaction_timeout: Duration::from_secs(600), ..TransactionOptions::default() };
    let mut open = TransactionalWriter::new(&corner.kafka, "explained", options).unwrap();
    open.begin().unwrap();
    for second in [1, 2] {
        let record = event("d", second, noon_ms + 1_000 * second, "sale");
        open.send(Outgoing { partition: Some(2), ..Outgoing::new(&topic, b"d", record.as_bytes()) }).unwrap();
    }
    let all = PartitionReader::new(&corner.kafka, false).unwrap();
    while all.watermarks(&topic, 2).unwrap().1 < 3 {
        std::thread::sleep(Duration::from_millis(20));
    }

    let (mut process, address) = corner.serve(&settings, &["process", "--explain-watermark"]);
    let is_told = |text: &str| {
        let line = |partition: i32| text.lines().rfind(|line| line.starts_with(&format!("  partition {partition} ")));
        REASONS.iter().all(|(partition, windows, reason)| {
            line(*partition).is_some_and(|line| line.contains(windows) && line.contains(reason))
        }) && text.contains("tills: partition 3 holds event time back, 1h")
    };
    let mut second = 0;
    let (mut on_page, mut on_error) = (String::new(), String::new());
    while !(is_told(&on_page) && is_told(&on_error)) {
        // Both go on in the same minute: no window of theirs closes.
        second += 1;
        send(&mut writer, &topic, 0, &event("a", second, noon_ms + 60_000 + second, "sale"));
        send(&mut writer, &topic, 3, &event("e", second, noon_ms - 3_600_000 + second, "sale"));
        // Minutes, where seconds do.
        assert!(!process.has_ended() && second < 6_000, "{on_page}{}", process.log());
        on_page = page(&address, "/watermarks");
        assert!(on_page.starts_with("HTTP/1.1 200"), "{on_page}");
        on_error = process.log();
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("{on_page}");
    let held = on_page.lines().find(|line| line.starts_with("  partition 3")).unwrap();
    assert!(held.contains("2025-01-06 10:59:5"), "{held}");
    // Since when: a partition without records does not move, however often it is looked at.
    let unmoved: Vec<&str> = on_page.lines().filter(|line| line.contains("unmoved for 0s")).collect();
    assert!(
        unmoved.iter().all(|line| !line.starts_with("  partition 1") && !line.starts_with("  partition 2")),
        "{on_page}"
    );
    process.signal("TERM");
    let (status, log) = process.finish();
    assert!(status.success(), "{log}");
}

/// The value of a figure, with its labels as Prometheus writes them.
fn figure(metrics: &str, name: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} in {metrics}")).parse().unwrap()
}

/// Publishes records of every fate to one partition; gives how many.
fn publish_every_fate(corner: &Corner, topic: &str) -> i64 {
    let mut writer = Writer::new(&corner.kafka).unwrap();
    let mut count = 0;
    let mut publish = |value: &str| {
        send(&mut writer, topic, 0, value);
        count += 1;
    };
    // More tills than are remembered, by turns.
    let till = |second: i64| format!("till-{}", second / 20 % 5);
    for second in 0..400 {
        if second > 0 && second % 60 == 5 {
            // Of the minute before, whose windows have closed and are not final.
            publish(&event(&till(second - 10), 1_000 + second, (second - 10) * 1_000, "sale"));
        }
        let till = till(second);
        publish(&event(&till, second, second * 1_000, "sale"));
        match second % 40 {
            3 => publish(&event(&till, second, second * 1_000, "sale")),
            5 => publish(&event(&till, 2_000 + second, second * 1_000, "refund")),
            7 => publish("no event"),
            9 if second > 200 => publish(&event(&till, 3_000 + second, second * 1_000 - 200_000, "sale")),
            _ => {}
        }
    }
    count
}

fn every_figure_is_there_and_is_the_ledgers(bootstrap_servers: &str) {
    let corner = Corner::new(bootstrap_servers, "figures");
    let topic = corner.topic("run", "in");
    corner.create(std::slice::from_ref(&topic), 1);
    let more = "event_id = \"id\"\nonly = { kind = [\"sale\"] }\nlateness = \"1m\"\nrevisions = \"on\"\nentities_max = 3\n\
                idle_timeout = \"0s\"\n";
    let settings = format!("{}{}", corner.outputs("run", 1), stream(&topic, more));
    let published = publish_every_fate(&corner, &topic);
    let (mut process, address) = corner.serve(&settings, &["process"]);
    let records = |metrics: &str, outcome: &str| {
        figure(metrics, &format!("tidewatch_processor_records_total{{outcome=\"{outcome}\"}}")) as i64
    };
    let outcomes = ["scored", "late", "dead_lettered", "duplicate", "filtered"];
    let metrics = loop {
        assert!(!process.has_ended(), "{}", process.log());
        let metrics = page(&address, "/metrics");
        let is_begun = metrics.contains("tidewatch_processor_records_total{");
        if is_begun && outcomes.iter().map(|outcome| records(&metrics, outcome)).sum::<i64>() == published {
            // Looked at twice a second, or when there is nothing to do: after the last commit, too. Before the first, all are 0.
            let of_stream = "tidewatch_processor_watermark_lag_seconds{stream=\"tills\"}";
            let has_looked = metrics.contains(of_stream)
                && [of_stream, "tidewatch_processor_entities"].iter().all(|name| figure(&metrics, name) > 0.0)
                && figure(&metrics, "tidewatch_processor_lag_records") == 0.0;
            if has_looked {
                break metrics;
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let balance = corner.ledger(&settings);
    let total = |key: &str| balance["total"][key].as_i64().unwrap();
    for outcome in outcomes {
        assert_eq!(records(&metrics, outcome), total(outcome), "{outcome}: {balance}");
        assert!(total(outcome) > 0, "{outcome}: {balance}");
    }
    for (name, key) in [("windows_closed", "windows"), ("revisions", "revisions")] {
        let value = figure(&metrics, &format!("tidewatch_processor_{name}_total")) as i64;
        assert!(value == total(key) && value > 0, "{key}: {value}, {balance}");
    }
    let evicted = figure(&metrics, "tidewatch_processor_entities_evicted_total");
    assert!(evicted > 0.0, "{metrics}");
    assert_eq!(figure(&metrics, "tidewatch_processor_entities"), 3.0);
    assert_eq!(figure(&metrics, "tidewatch_processor_ledger_residue"), 0.0);
    // The events are of 2025, and the clock is not.
    let lag = figure(&metrics, "tidewatch_processor_watermark_lag_seconds{stream=\"tills\"}");
    assert!(lag > 86_400.0, "{lag}");

    // Nobody has asked before, and yet it is known since when nothing moves.
    std::thread::sleep(Duration::from_secs(2));
    let explained = page(&address, "/watermarks");
    assert!(explained.contains("\ntills: ") && explained.contains("Z  "), "{explained}");
    assert!(explained.contains("  unmoved for ") && !explained.contains("unmoved for 0s"), "{explained}");

    process.signal("TERM");
    while !process.has_ended() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let (log, printed) = (process.log(), process.printed());
    let [scored, late, dead, duplicate, filtered] = outcomes.map(total);
    let ledger = format!(
        "process   {published} read = {scored} scored + {late} late + {dead} dead-lettered + {duplicate} duplicate + \
         {filtered} filtered ✓\n          {} windows, {} revisions, ",
        total("windows"),
        total("revisions")
    );
    assert!(printed.contains(&ledger), "{ledger}{printed}");
    assert!(printed.contains(&format!("{evicted} entities forgotten to make room: entities_max\n")), "{printed}");
    let live = format!(
        " · {} revisions · {late} late · {dead} dead letters · {duplicate} duplicates · {filtered} filtered\n",
        total("revisions")
    );
    assert!(log.lines().any(|line| format!("{line}\n").contains(&live)), "{live}{log}");
    println!("{printed}{log}");
}
