//! What the instruments of exactly once measure is there, on small states and for seconds; how large the figures are is the machine's.

#![allow(clippy::unwrap_used)] // The helpers are tests too.

mod program;

use std::process::{Command, Output};

use serde_json::Value;

fn exactly_once(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_exactly-once")).args(args).output().unwrap()
}

/// The report of an instrument, and the table that it prints.
fn measure(args: &[&str]) -> (Value, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.json");
    let output = exactly_once(&[args, &["--json", file.to_str().unwrap()]].concat());
    assert!(output.status.success(), "{output:?}");
    (serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap(), String::from_utf8(output.stdout).unwrap())
}

/// A figure, which must be above 0.
fn positive(of: &Value, name: &str) -> f64 {
    let figure = of[name].as_f64().unwrap_or_else(|| panic!("no figure {name}: {of:#}"));
    assert!(figure > 0.0, "{name}: {of:#}");
    figure
}

#[test]
fn restores_and_recoveries_have_their_figures() {
    program::build();
    let (report, table) = measure(&["restore", "--entities", "20000", "--rounds", "2"]);
    let figures = report["figures"].as_array().unwrap();
    let about = |figure: &Value| (figure["detectors"].clone(), positive(figure, "entities"));
    assert_eq!(figures.iter().map(about).collect::<Vec<_>>(), [("z-score".into(), 20_000.0), ("all".into(), 2_000.0)]);
    for figure in figures {
        for name in ["record_bytes", "wall_s", "empty_wall_s", "process_cpu_s", "entities_per_second"] {
            positive(figure, name);
        }
    }
    positive(&figures[0], "entities_per_second_and_core");
    assert_eq!(report["goals"].as_array().unwrap().len(), 1, "{report:#}");
    assert!(table.contains("z-score") && table.contains("at least 500,000"), "{table}");

    let (report, table) = measure(&["recover", "--entities", "3000", "--rate", "2000", "--calm", "1", "--kills", "2"]);
    let figures = &report["figures"];
    let (median, worst) = (positive(figures, "median_s"), positive(figures, "worst_s"));
    assert!(median <= worst, "{figures:#}");
    let kills = figures["kills"].as_array().unwrap();
    assert_eq!(kills.len(), 2, "{figures:#}");
    for kill in kills {
        assert!(positive(kill, "whole_s") > positive(kill, "start_s"), "{kill:#}");
    }
    assert!(table.contains("median") && table.contains("at most 3.00"), "{table}");
}

#[test]
fn what_cannot_be_is_told() {
    for (args, what) in [
        (&["restore", "--windows", "1"][..], "--windows is at least 4"),
        (&["restore", "--entities", "3"], "--entities is at least ten times --partitions"),
        (&["recover", "--kills", "0"], "--kills"),
        (&["overhead", "--rate", "0"], "--rate"),
        (&["commits", "--seconds", "0"], "--seconds"),
    ] {
        let output = exactly_once(args);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(what), "{args:?}: {said}");
        // The one line but for that of a debug build.
        let said: Vec<_> = said.lines().filter(|line| !line.starts_with("a debug build")).collect();
        assert!(said.len() == 1 && said[0].starts_with("error: "), "{args:?}: {said:?}");
    }
    let unknown = exactly_once(&["restore", "--brokr", "kafka"]);
    assert!(String::from_utf8(unknown.stderr).unwrap().contains("--brokr"));
}
