//! The fault campaign, bounded: some minutes of seeded runs of small inputs, with faults drawn from all, come out equal. That meddled
//! outputs do not is told by the unit tests of its comparison.

#![allow(clippy::unwrap_used)] // The helpers are tests too.

mod program;

use std::process::{Command, Output};

fn faults(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_faults")).args(args).output().unwrap()
}

/// A campaign whose runs all have to come out equal.
fn campaign(broker: &str, seed: u64, runs: u64) {
    program::build();
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("report.json");
    let [file, seed, number] = [json.display().to_string(), seed.to_string(), runs.to_string()];
    // A run mostly waits, so that two carry each other; the other test is at work meanwhile.
    let output = faults(&[
        "--broker",
        broker,
        "--seed",
        &seed,
        "--runs",
        &number,
        "--jobs",
        "2",
        "--events",
        "12000",
        "--rate",
        "4000",
        "--patience",
        "120",
        "--json",
        &file,
    ]);
    let said = String::from_utf8_lossy(&output.stderr);
    let report = std::fs::read_to_string(json).unwrap_or_else(|error| panic!("{error}: {said}"));
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!((output.status.code(), &report["failed"]), (Some(0), &0.into()), "{said}");
    let sum = |what: &str| -> u64 {
        report["faults"].as_array().unwrap().iter().map(|line| line[what].as_u64().unwrap()).sum()
    };
    // Where a request does not come in time, a fault has nothing to strike; what needs none always does.
    assert!(sum("runs") >= runs, "a fault in each run: {report:#}\n{said}");
    assert!(
        2 * sum("struck") > sum("runs") && sum("struck") == sum("survived"),
        "faults have befallen something: {report:#}\n{said}"
    );
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(
        table.contains(&format!("{runs} of {runs} runs on the {broker} broker equal the undisturbed one, 0 do not")),
        "{table}"
    );
}

#[test]
fn runs_on_the_embedded_broker_equal_the_undisturbed_one() {
    campaign("embedded", 6, 24);
}

#[test]
fn runs_on_apache_kafka_equal_the_undisturbed_one() {
    campaign("kafka", 7, 6);
}

#[test]
fn what_cannot_be_is_told() {
    let list = faults(&["--list"]);
    let names = String::from_utf8(list.stdout).unwrap();
    assert!(list.status.success() && names.contains("late-end-txn") && names.lines().count() > 30, "{names}");
    program::build();
    for (args, what) in [(["--only", "kil"], "kil"), (["--events", "0"], "--events is 0"), (["--jobs", "0"], "--jobs")]
    {
        let wrong = faults(&args);
        let said = String::from_utf8(wrong.stderr).unwrap();
        assert_eq!((wrong.status.code(), said.lines().count(), wrong.stdout.len()), (Some(1), 1, 0), "{said}");
        assert!(said.starts_with("error: ") && said.contains(what), "{said}");
    }
}
