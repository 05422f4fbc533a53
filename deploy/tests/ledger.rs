//! The ledger holds: what was published of each kind is what `tidewatch ledger` says, after any number of deaths of the processor;
//! a ledger that somebody has changed is an error, for the command and for the processor.

#![allow(clippy::unwrap_used)] // The helpers are tests too.

#[allow(dead_code)] // Nothing is compared byte for byte here.
mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use support::{Corner, PATIENCE, Running};
use tidewatch_schemas::record::Ledger;
use tidewatch_schemas::wire::{self, Framing};
use tidewatch_topic_io::{Outgoing, TransactionOptions, TransactionalWriter, Writer};

tidewatch_test_brokers::on_both_brokers!(
    every_record_is_accounted_for_over_the_processors_deaths,
    a_ledger_that_was_changed_is_an_error,
    results_that_were_stored_and_are_gone_are_an_error,
    the_end_of_a_transaction_is_nothing_to_go,
    a_foreign_record_in_the_ledger_is_passed_over,
);

const PARTITIONS: i32 = 2;
const START_MS: i64 = 1_736_121_600_000; // 2025-01-06T00:00:00Z
/// Small transactions and snapshots, and a restart that has its partitions back at once.
const SMALL: &str = "processor.batch_max = 300\nprocessor.commit_interval = \"50ms\"\nprocessor.snapshot_every = \"200ms\"\n\
                     processor.static_membership = true\n";

fn settings(corner: &Corner, run: &str) -> String {
    let (outputs, topic) = (corner.outputs(run, PARTITIONS), corner.topic(run, "in"));
    format!(
        "{SMALL}sink.group_id = \"{topic}.sink\"\nsink.output = \"{run}\"\n{outputs}\
         [[stream]]\nname = \"tills\"\ntopic = \"{topic}\"\nformat = \"json\"\nentity = [\"till\"]\nevent_time = \"at\"\n\
         event_id = \"id\"\nonly = {{ kind = [\"sale\"] }}\nwindow = {{ tumbling = \"1m\" }}\ndisorder = \"5s\"\n\
         [[stream.measure]]\nname = \"amount\"\nfield = \"amount\"\n\
         forecast = {{ seasons = [\"1h\"], horizons = [\"1m\"], emit_every = \"10m\" }}\n"
    )
}

/// What was published to a partition, by what must become of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Published {
    scored: i64,
    late: i64,
    dead_lettered: i64,
    duplicate: i64,
    filtered: i64,
}

impl Published {
    fn read(&self) -> i64 {
        self.scored + self.late + self.dead_lettered + self.duplicate + self.filtered
    }
}

/// The input of a test, written a part at a time.
struct Source {
    writer: Writer,
    topic: String,
    /// Seconds of event time that were published.
    seconds: i64,
    published: [Published; PARTITIONS as usize],
}

impl Source {
    fn new(corner: &Corner, run: &str) -> Self {
        let topic = corner.topic(run, "in");
        corner.create(std::slice::from_ref(&topic), PARTITIONS);
        Self { writer: Writer::new(&corner.kafka).unwrap(), topic, seconds: 0, published: Default::default() }
    }

    /// An event each second, and among them records of every other kind, more of them in the second partition.
    fn publish(&mut self, seconds: i64) {
        for second in self.seconds..self.seconds + seconds {
            for partition in 0..PARTITIONS {
                let id = format!("{partition}-{second}");
                self.event(partition, &id, second, "sale");
                let mut published = self.published[partition as usize];
                published.scored += 1;
                let every = 20 - 3 * i64::from(partition);
                if second % every == 3 {
                    self.event(partition, &id, second, "sale");
                    published.duplicate += 1;
                }
                if second % every == 5 {
                    self.event(partition, &format!("{id}-other"), second, "refund");
                    published.filtered += 1;
                }
                // Its window is final: the watermark is at least 10 minutes later.
                if second % every == 7 && second > 900 {
                    self.event(partition, &format!("{id}-late"), second - 700, "sale");
                    published.late += 1;
                }
                if second % every == 11 {
                    self.send(partition, b"no event");
                    published.dead_lettered += 1;
                }
                self.published[partition as usize] = published;
            }
        }
        self.seconds += seconds;
        self.writer.flush(Duration::from_secs(30)).unwrap();
    }

    fn event(&mut self, partition: i32, id: &str, second: i64, kind: &str) {
        let at = START_MS + second * 1_000;
        let event = serde_json::json!({
            "till": format!("till-{partition}-{}", second % 3), "id": id, "at": at, "kind": kind, "amount": 10 + second % 7,
        });
        self.send(partition, event.to_string().as_bytes());
    }

    fn send(&mut self, partition: i32, value: &[u8]) {
        let record = Outgoing { partition: Some(partition), ..Outgoing::new(&self.topic, b"till", value) };
        self.writer.send(record).unwrap();
    }
}

/// What `tidewatch ledger --json` says, its exit code, and its errors.
fn ledger(corner: &Corner, settings: &str) -> (Value, i32, Vec<String>) {
    let output = corner.command(settings, &["ledger", "--json"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let balance = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    let errors = said.lines().filter(|line| line.starts_with("error: ")).map(str::to_owned).collect();
    (balance, output.status.code().unwrap(), errors)
}

fn number(value: &Value, key: &str) -> i64 {
    value[key].as_i64().unwrap_or_else(|| panic!("{key} in {value}"))
}

/// The balance of a pipeline that may be at work: whatever has been read is accounted for.
fn check_adds_up(corner: &Corner, settings: &str) -> Value {
    let (balance, code, errors) = ledger(corner, settings);
    assert_eq!((code, errors), (0, vec![]), "{balance}");
    assert_eq!(balance["problems"], serde_json::json!([]));
    for line in balance["partitions"].as_array().unwrap() {
        let [read, scored, late] = ["read", "scored", "late"].map(|key| number(line, key));
        let [dead, duplicate, filtered] = ["dead_lettered", "duplicate", "filtered"].map(|key| number(line, key));
        assert_eq!(read, scored + late + dead + duplicate + filtered, "{line}");
        if !line["to_offset"].is_null() {
            // The input is not transactional: its offsets are its records.
            assert_eq!(number(line, "to_offset") - number(line, "begin_offset"), read, "{line}");
        }
    }
    balance
}

/// Waits until so many records are in the committed ledger; the processor must be at work all the while.
fn wait_until_read(corner: &Corner, run: &str, wanted: i64, process: &mut Running) {
    let mut reader = corner.reader(&corner.topic(run, "ledger"));
    let mut read = [0; PARTITIONS as usize];
    while read.iter().sum::<i64>() < wanted {
        assert!(!process.has_ended(), "ended by itself: {}", process.log());
        for message in reader.read(1_000, PATIENCE).unwrap().iter() {
            let ledger: Ledger = wire::decode(message.value().unwrap()).unwrap();
            assert_eq!((ledger.residue(), ledger.partition), (0, message.partition()));
            read[message.partition() as usize] = ledger.read;
        }
    }
}

fn every_record_is_accounted_for_over_the_processors_deaths(bootstrap_servers: &str) {
    let corner = Corner::new(bootstrap_servers, "ledger");
    let settings = settings(&corner, "deaths");
    let mut source = Source::new(&corner, "deaths");
    let before = check_adds_up(&corner, &settings);
    assert_eq!((number(&before["total"], "read"), before["partitions"].as_array().unwrap().len()), (0, 2));

    for _ in 0..3 {
        let in_all: i64 = source.published.iter().map(Published::read).sum();
        source.publish(1_500);
        let mut process = corner.start(&settings, &["process"]);
        wait_until_read(&corner, "deaths", in_all + 500, &mut process);
        check_adds_up(&corner, &settings);
        process.kill();
        check_adds_up(&corner, &settings);
    }
    source.publish(100);
    corner.run(&settings, &["process", "--drain"]);

    let balance = check_adds_up(&corner, &settings);
    for (line, expected) in balance["partitions"].as_array().unwrap().iter().zip(source.published) {
        let [scored, late, dead_lettered, duplicate, filtered] =
            ["scored", "late", "dead_lettered", "duplicate", "filtered"].map(|key| number(line, key));
        assert_eq!(Published { scored, late, dead_lettered, duplicate, filtered }, expected, "{line}");
        assert_eq!((number(line, "read"), number(line, "lag")), (expected.read(), 0));
        assert_eq!((number(line, "begin_offset"), number(line, "to_offset")), (0, expected.read()));
        assert!([late, dead_lettered, duplicate, filtered].iter().all(|&count| count > 10), "{expected:?}");
    }
    // What the ledger says was written is what a consumer finds.
    let rows = |what: &str| i64::try_from(corner.read(&corner.topic("deaths", what)).len()).unwrap();
    let total = &balance["total"];
    for (what, key) in [("metrics", "metrics"), ("forecasts", "forecasts"), ("alerts", "alerts"), ("late", "late")] {
        assert_eq!(number(total, key), rows(what), "{what}");
    }
    assert_eq!(number(total, "dead_lettered"), rows("dead_letters"));
    assert_eq!(number(total, "windows"), number(total, "metrics"), "one measure, no revisions");
    assert!(number(total, "windows") > 100 && number(total, "forecasts") > 0, "{total}");
    check_storage(&corner, &settings, &balance);
}

/// Nothing is stored, then all.
fn check_storage(corner: &Corner, settings: &str, balance: &Value) {
    let results = |balance: &Value, key: &str| -> Vec<(String, i64)> {
        let kinds = balance["results"].as_array().unwrap();
        kinds.iter().map(|kind| (kind["kind"].as_str().unwrap().to_owned(), number(kind, key))).collect()
    };
    let written = results(balance, "written");
    assert_eq!(
        (&balance["is_output_there"], results(balance, "not_stored_yet")),
        (&Value::Bool(false), written.clone())
    );
    corner.run(settings, &["sink", "--drain"]);
    let stored = check_adds_up(corner, settings);
    assert_eq!(results(&stored, "written"), written);
    assert_eq!(results(&stored, "stored"), written);
    assert!(results(&stored, "not_stored_yet").iter().all(|&(_, left)| left == 0), "{stored}");

    let text = corner.command(settings, &["ledger"]).output().unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains(" filtered  ✓\n") && text.contains("\nstored in "), "{text}");
}

/// Writes a record in place of the ledger's last one of partition 0.
fn tamper(corner: &Corner, run: &str, change: impl FnOnce(&mut Ledger)) {
    let topic = corner.topic(run, "ledger");
    let last = corner.read(&topic).into_iter().rfind(|row| row.partition == 0).unwrap();
    let mut ledger: Ledger = wire::decode(last.value.as_ref().unwrap()).unwrap();
    ledger.from_offset = ledger.to_offset;
    change(&mut ledger);
    let mut value = Vec::new();
    wire::encode(&ledger, Framing::SingleObject, &mut value);
    let mut writer = Writer::new(&corner.kafka).unwrap();
    let key = last.key.unwrap();
    writer.send(Outgoing { partition: Some(0), ..Outgoing::new(&topic, &key, &value) }).unwrap();
    writer.flush(Duration::from_secs(30)).unwrap();
}

fn check_refused(corner: &Corner, settings: &str, part: &str) {
    let (balance, code, errors) = ledger(corner, settings);
    assert_eq!((code, errors.len()), (1, 1), "{errors:?} {balance}");
    assert!(errors[0].contains(part) && errors[0].contains("does not add up"), "{part} in: {errors:?}");
    assert_ne!(balance["problems"], serde_json::json!([]));
}

fn a_ledger_that_was_changed_is_an_error(bootstrap_servers: &str) {
    let corner = Corner::new(bootstrap_servers, "tampered");
    for run in ["residue", "hole", "stored"] {
        let settings = settings(&corner, run);
        Source::new(&corner, run).publish(1_000);
        corner.run(&settings, &["process", "--drain"]);
        check_adds_up(&corner, &settings);
        match run {
            "residue" => {
                tamper(&corner, run, |ledger| ledger.scored -= 3);
                check_refused(&corner, &settings, "stream `tills` partition 0: ");
                check_refused(&corner, &settings, "a residue of 3");
                // The processor says so too, and goes on: no record is lost by it.
                Source::new(&corner, run).publish(10);
                let (status, log) = corner.start(&settings, &["process", "--drain"]).finish();
                assert!(status.success(), "{log}");
                assert!(log.contains("ERROR") && log.contains("the ledger does not add up"), "{log}");
            }
            "hole" => {
                tamper(&corner, run, |ledger| {
                    ledger.from_offset += 5;
                    ledger.to_offset += 5;
                });
                check_refused(&corner, &settings, "are in no transaction");
                let (status, log) = corner.start(&settings, &["process", "--drain"]).finish();
                let errors: Vec<&str> = log.lines().filter(|line| line.starts_with("error: ")).collect();
                assert_eq!((status.code(), errors.len()), (Some(1), 1), "{log}");
                assert!(errors[0].contains("ledger topic") && errors[0].contains("processor.group_id"), "{log}");
            }
            _ => {
                corner.run(&settings, &["sink", "--drain"]);
                check_adds_up(&corner, &settings);
                tamper(&corner, run, |ledger| ledger.metrics -= 1);
                check_refused(&corner, &settings, "are less than those");
                check_refused(&corner, &settings, "and 1 more");
                let (balance, _, _) = ledger(&corner, &settings);
                let problems = balance["problems"].to_string();
                assert!(problems.contains("metrics records are stored in stored, but"), "{problems}");
            }
        }
    }
}

/// The Parquet files of a kind, by their paths.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() { files.extend(self::files(&entry)) } else { files.push(entry) }
    }
    files.sort();
    files
}

fn results_that_were_stored_and_are_gone_are_an_error(bootstrap_servers: &str) {
    let corner = Corner::new(bootstrap_servers, "gone");
    let settings = settings(&corner, "run");
    Source::new(&corner, "run").publish(1_000);
    corner.run(&settings, &["process", "--drain"]);
    corner.run(&settings, &["sink", "--drain"]);
    let metrics = |balance: &Value, key: &str| {
        let kinds = balance["results"].as_array().unwrap();
        number(kinds.iter().find(|kind| kind["kind"] == "metrics").unwrap(), key)
    };
    let stored = metrics(&check_adds_up(&corner, &settings), "stored");

    let output = corner.folder.path().join("run");
    let file = files(&output.join("metrics")).remove(0);
    let whole = std::fs::read(&file).unwrap();
    let copy = file.with_file_name("copy.parquet");
    std::fs::write(&copy, &whole).unwrap();
    check_refused(&corner, &settings, "1 file in run that Delivery did not store");
    std::fs::remove_file(copy).unwrap();
    std::fs::write(&file, "").unwrap();
    check_refused(&corner, &settings, "metrics: 1 file in run not as large as stored: metrics/date=2025-01-06/");
    std::fs::remove_file(&file).unwrap();
    check_refused(&corner, &settings, "metrics: 1 file gone from run: metrics/date=2025-01-06/");

    let (balance, code, _) = ledger(&corner, &settings);
    let removed = metrics(&balance, "removed");
    assert_eq!((code, metrics(&balance, "stored") + removed, metrics(&balance, "not_stored_yet")), (1, stored, 0));
    assert!(removed > 0, "{balance}");
    let (code, told, said) = corner.ask(&settings, &["ledger", "--allow-removed"]);
    assert_eq!(code, Some(0), "{told}{said}");
    assert!(told.contains("records in files that are gone or cut short\n"), "{told}");

    std::fs::write(&file, whole).unwrap();
    check_adds_up(&corner, &settings);
    std::fs::remove_dir_all(&output).unwrap();
    check_refused(&corner, &settings, "are committed as stored, but nothing in run claims them");
}

fn the_end_of_a_transaction_is_nothing_to_go(bootstrap_servers: &str) {
    let corner = Corner::new(bootstrap_servers, "marker");
    let settings = settings(&corner, "run");
    let source = Source::new(&corner, "run");
    let options = TransactionOptions::default();
    let mut writer = TransactionalWriter::new(&corner.kafka, "marker.writer", options).unwrap();
    writer.begin().unwrap();
    let record = Outgoing { partition: Some(0), ..Outgoing::new(&source.topic, b"till", b"no event") };
    writer.send(record).unwrap();
    let left = || {
        let balance = check_adds_up(&corner, &settings);
        let lines = balance["partitions"].as_array().unwrap().iter();
        lines.map(|line| (number(line, "lag"), number(line, "to_go"))).collect::<Vec<_>>()
    };
    writer.commit(&[], &corner.admin.group_metadata("marker.none").unwrap()).unwrap();
    // The commit is answered before the partition knows of it.
    let mut reader = corner.reader(&source.topic);
    while reader.read(1, PATIENCE).unwrap().is_empty() {}
    corner.run(&settings, &["process", "--drain"]);
    assert_eq!(left(), [(1, 0), (0, 0)]);
    let text = corner.command(&settings, &["ledger"]).output().unwrap().stdout;
    let text = String::from_utf8(text).unwrap();
    assert!(text.lines().filter(|line| line.starts_with("tills")).all(|line| line.ends_with(" 0")), "{text}");
}

fn a_foreign_record_in_the_ledger_is_passed_over(bootstrap_servers: &str) {
    let corner = Corner::new(bootstrap_servers, "foreign");
    let settings = settings(&corner, "run");
    let mut source = Source::new(&corner, "run");
    source.publish(100);
    corner.run(&settings, &["process", "--drain"]);
    let before = check_adds_up(&corner, &settings);
    let topic = corner.topic("run", "ledger");
    let rows = corner.read(&topic);
    let own = rows.last().unwrap();
    let mut writer = Writer::new(&corner.kafka).unwrap();
    let mut write = |key: Option<&[u8]>, value: Option<&[u8]>| {
        writer.send(Outgoing { key, value, partition: Some(0), ..Outgoing::new(&topic, b"", b"") }).unwrap();
        writer.flush(Duration::from_secs(30)).unwrap();
    };
    for key in [None, Some(&b"other/tills/0"[..]), Some(b"\xff"), Some(b"foreign.run2/tills/0")] {
        write(key, Some(b"no ledger record"));
        write(key, own.value.as_deref());
    }
    assert_eq!(check_adds_up(&corner, &settings), before);

    // Under a key of this group it is one clear error, for the command too, until a tombstone takes it out.
    let key = Some(&b"foreign.run/tills/7"[..]);
    write(key, Some(b"no ledger record"));
    let (code, _, said) = corner.ask(&settings, &["ledger"]);
    let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!((code, errors.len()), (Some(1), 1), "{said}");
    assert!(errors[0].contains("holds no ledger record") && errors[0].contains("foreign.run/tills/7"), "{said}");
    write(key, None);
    // A processor reads that of its own partitions, and goes on once what was there is there again.
    let key = Some(&b"foreign.run/tills/0"[..]);
    let last = rows.iter().rfind(|row| row.key.as_deref() == key).unwrap();
    write(key, Some(b"no ledger record"));
    let (status, log) = corner.start(&settings, &["process", "--drain"]).finish();
    assert!(!status.success() && log.contains("holds no ledger record"), "{log}");
    write(key, last.value.as_deref());
    assert_eq!(check_adds_up(&corner, &settings), before);
    source.publish(10);
    corner.run(&settings, &["process", "--drain"]);
    check_adds_up(&corner, &settings);
}
