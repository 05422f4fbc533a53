//! The demo through the real binary: every event accounted for, files where the summary says, the same alerts for the same seed
//! on the embedded broker and on a real Kafka, and records that `tap` can read when the demo is over.

#![allow(clippy::unwrap_used)] // The helpers are tests too.

use std::path::Path;
use std::process::Command;

fn tidewatch(folder: &Path, args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidewatch"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TIDEWATCH_")) {
        command.env_remove(name);
    }
    let output = command.current_dir(folder).args(args).output().unwrap();
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

    let kafka = ["--brokers", tidewatch_test_brokers::apache()];
    let second = tidewatch(folder.path(), &[&["demo", "--scenario", "smoke"][..], &kafka].concat());
    assert_eq!(after(&first, "fingerprint"), after(&second, "fingerprint"), "{first}\n{second}");
    assert!(folder.path().join("tidewatch-demo/2/results").is_dir());

    // The demos are over. The first one's records are in its folder, the second one's on the Kafka that it was given.
    check_records(folder.path(), "1", &first);
    check_records(folder.path(), "2", &second);
}

#[test]
fn disorder_is_injected_and_the_ledger_says_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let summary = tidewatch(folder.path(), &["demo", "--scenario", "disorder"]);
    assert!(summary.contains("✓ every event is accounted for"), "{summary}");
    assert!(summary.contains("✓ in every partition the ledger says the same"), "{summary}");
    assert!(summary.contains(" revisions after late events"), "{summary}");
    assert!(summary.contains("demo --seed 2 --scenario disorder"), "{summary}");
}

/// Reads a run's records by its settings, as its summary says.
fn check_records(folder: &Path, run: &str, summary: &str) {
    let settings = format!("tidewatch-demo/{run}/tidewatch.toml");
    let config = ["--config", &settings];
    let tap = |args: &[&str]| tidewatch(folder, &[&["tap"], args, &config].concat());
    let truth = tap(&["truth"]);
    assert!(truth.lines().count() > 0 && truth.lines().all(|line| line.contains("\"fault_id\"")), "{truth}");
    assert_eq!(tap(&["metrics", "--limit", "3"]).lines().count(), 3);
    let opened = tap(&["alerts", "--filter", "state=opened"]);
    let (predicted, found): (Vec<&str>, Vec<&str>) =
        opened.lines().partition(|line| line.contains("\"kind\":\"predicted_breach\""));
    assert_eq!(found.len().to_string(), after(summary, "\nAlerts"), "{opened}\n{summary}");
    assert_eq!(predicted.len().to_string(), after(summary, "\nPredicted"), "{opened}\n{summary}");
    let score: serde_json::Value = serde_json::from_str(&tap(&["score", "--filter", "dimension=total"])).unwrap();
    let of = |field: &str| score[field].as_i64().unwrap();
    let (found, faults) = (of("found"), of("faults"));
    assert!(
        summary.contains(&format!("{found} of {faults} injected faults found, {} missed", faults - found)),
        "{score}"
    );
    let rate = score["false_alarms_per_entity_week"].as_f64().unwrap();
    assert!(summary.contains(&format!("{rate:.3} false alarms per entity and week (8 entities")), "{score}\n{summary}");
    let balance = tidewatch(folder, &["ledger", "--json", "--config", &settings]);
    let balance: serde_json::Value = serde_json::from_str(&balance).unwrap();
    assert_eq!(balance["total"]["read"], 20_000, "{balance}");
    let results = balance["results"].as_array().unwrap();
    assert!(results.iter().all(|kind| kind["not_stored_yet"] == 0 && kind["written"] == kind["stored"]), "{balance}");
    assert!(results.iter().any(|kind| kind["stored"].as_i64() > Some(0)), "{balance}");
    let topics = tidewatch(folder, &["topics", "list", "--config", &settings]);
    assert!(topics.lines().any(|line| line.contains("tidewatch.alerts.v1") && line.ends_with("alert")), "{topics}");
}

#[test]
fn storage_that_takes_no_more_is_one_line_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let brokers = tidewatch_test_brokers::embedded();
    let summary = tidewatch(folder.path(), &["demo", "--scenario", "smoke", "--output", "run", "--brokers", brokers]);
    let sink = |shell: &str| {
        let mut command = Command::new("sh");
        command.current_dir(folder.path()).args(["-c", shell, env!("CARGO_BIN_EXE_tidewatch")]);
        command.env("TIDEWATCH_SINK__OUTPUT", "small").env("TIDEWATCH_SINK__GROUP_ID", "small");
        command.env("TIDEWATCH_SINK__RETRY__ATTEMPTS", "1").env("NO_COLOR", "1");
        command.output().unwrap()
    };
    // No file may grow beyond a few KB: what a full disk or a quota looks like to a program.
    let refused = sink("trap '' XFSZ; ulimit -f 8; exec \"$0\" sink --drain --config run/tidewatch.toml");
    let said = String::from_utf8(refused.stderr).unwrap();
    let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error:")).collect();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(errors.len() == 1 && errors[0].contains("sink.output"), "{said}");

    let resumed = sink("exec \"$0\" sink --drain --config run/tidewatch.toml");
    assert!(resumed.status.success(), "{}", String::from_utf8_lossy(&resumed.stderr));
    let stored = |results: &str| {
        let lines = folder.path().join(results).join("alerts-json");
        let mut rows = Vec::new();
        read_lines(&lines, &mut rows);
        rows.sort();
        rows
    };
    assert!(!stored("small").is_empty(), "{summary}");
    assert_eq!(stored("small"), stored("run/results"), "every alert once, as if nothing had been in the way");
}

fn read_lines(folder: &Path, rows: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            read_lines(&entry, rows);
        } else {
            rows.extend(std::fs::read_to_string(&entry).unwrap().lines().map(str::to_owned));
        }
    }
}
