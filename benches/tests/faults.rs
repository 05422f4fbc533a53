//! The fault campaign, bounded: a few seeded runs of small inputs come out equal. That meddled outputs do not is told by the unit tests of
//! its comparison.

#![allow(clippy::unwrap_used)] // The helpers are tests too.

mod program;

use std::path::Path;
use std::process::{Command, Output};

fn faults(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_faults")).args(args).output().unwrap()
}

/// The report of a campaign in which every run has one of these faults.
fn campaign(only: &[&str], runs: u32, json: &Path) -> (serde_json::Value, Output) {
    let (file, runs) = (json.display().to_string(), runs.to_string());
    let mut args =
        vec!["--events", "12000", "--rate", "4000", "--seed", "6", "--jobs", "2", "--runs", &runs, "--json", &file];
    args.extend(only.iter().flat_map(|name| ["--only", *name]));
    let output = faults(&args);
    let report = std::fs::read_to_string(json).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (serde_json::from_str(&report).unwrap(), output)
}

#[test]
fn runs_with_faults_equal_the_undisturbed_one() {
    program::build();
    let folder = tempfile::tempdir().unwrap();
    let only = ["kill", "kill-before-end", "kill-after-end", "terminate", "kill-sink"];
    let (report, output) = campaign(&only, 4, &folder.path().join("report.json"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &report["failed"]), (Some(0), &0.into()), "{said}");
    let sum = |what: &str| -> u64 {
        report["faults"].as_array().unwrap().iter().map(|line| line[what].as_u64().unwrap()).sum()
    };
    // Where a request does not come in time, a fault has nothing to strike; what needs none always does.
    assert_eq!(sum("runs"), 4, "a fault in each run: {report:#}\n{said}");
    assert!(
        sum("struck") > 0 && sum("struck") == sum("survived"),
        "faults have befallen something: {report:#}\n{said}"
    );
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("4 of 4 runs on the embedded broker equal the undisturbed one, 0 do not"), "{table}");
}

#[test]
fn what_cannot_be_is_told() {
    let list = faults(&["--list"]);
    let names = String::from_utf8(list.stdout).unwrap();
    assert!(list.status.success() && names.contains("late-end-txn") && names.lines().count() > 30, "{names}");
    let wrong = faults(&["--only", "kil"]);
    let said = String::from_utf8(wrong.stderr).unwrap();
    assert_eq!((wrong.status.code(), said.lines().count()), (Some(1), 1), "{said}");
}
