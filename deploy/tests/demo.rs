//! The demo on a real Kafka, through the real binary: every event accounted for, files where the summary says, the same alerts
//! for the same seed, and records that `tap` can read.

#![allow(clippy::unwrap_used)] // The helpers are tests too.

use std::path::Path;
use std::process::Command;

use tidewatch_kafka::KafkaServer;

fn tidewatch(folder: &Path, args: &[&str]) -> String {
    let brokers = KafkaServer::shared().bootstrap_servers();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidewatch"));
    let output = command.current_dir(folder).args(args).args(["--brokers", brokers]).output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{args:?}: {out}\n{err}");
    out
}

/// What stands behind a word in the summary.
fn after<'a>(summary: &'a str, word: &str) -> &'a str {
    let rest = summary.split_once(word).unwrap_or_else(|| panic!("{word} in {summary}")).1;
    rest.split_whitespace().next().unwrap()
}

fn files(folder: &Path, extension: &str) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let count = |path: &Path| {
        if path.is_dir() {
            files(path, extension)
        } else {
            usize::from(path.extension().is_some_and(|e| e == extension))
        }
    };
    entries.map(|entry| count(&entry.unwrap().path())).sum()
}

#[test]
fn two_runs_of_a_seed_account_for_every_event_and_give_the_same_alerts() {
    let folder = tempfile::tempdir().unwrap();
    let first = tidewatch(folder.path(), &["demo", "--scenario", "smoke"]);
    assert!(first.contains("✓ every event is accounted for"), "{first}");
    assert_eq!(after(&first, "Events"), "20,000", "{first}");
    let results = folder.path().join("tidewatch-demo/1/results");
    assert!(files(&results, "parquet") > 0, "{first}");

    let second = tidewatch(folder.path(), &["demo", "--scenario", "smoke"]);
    assert_eq!(after(&first, "fingerprint"), after(&second, "fingerprint"), "{first}\n{second}");
    assert!(folder.path().join("tidewatch-demo/2/results").is_dir());

    let config = ["--config", "tidewatch-demo/1/tidewatch.toml"];
    let tap = |args: &[&str]| tidewatch(folder.path(), &[&["tap"], args, &config].concat());
    let truth = tap(&["truth"]);
    assert!(truth.lines().count() > 0 && truth.lines().all(|line| line.contains("\"fault_id\"")), "{truth}");
    assert_eq!(tap(&["metrics", "--limit", "3"]).lines().count(), 3);
    let opened = tap(&["alerts", "--filter", "state=opened"]);
    assert_eq!(opened.lines().count().to_string(), after(&first, "\nAlerts"), "{opened}\n{first}");
}
