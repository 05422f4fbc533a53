//! The real binary: exit codes, and the one line that a person reads when something is wrong. No broker is needed.

#![allow(clippy::unwrap_used)] // The helpers are tests too.

use std::path::Path;
use std::process::{Command, Output};

struct Run {
    code: Option<i32>,
    out: String,
    err: String,
}

fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidewatch"));
    command.current_dir(folder).args(args).env("NO_COLOR", "1");
    for (name, _) in std::env::vars() {
        if name.starts_with("TIDEWATCH_") || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command
}

fn finish(mut command: Command) -> Run {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Run { code: status.code(), out: text(stdout), err: text(stderr) }
}

/// Runs in a folder with this `tidewatch.toml`.
fn run_with(settings: &str, args: &[&str]) -> Run {
    let folder = tempfile::tempdir().unwrap();
    if !settings.is_empty() {
        std::fs::write(folder.path().join("tidewatch.toml"), settings).unwrap();
    }
    finish(command(folder.path(), args))
}

fn check_refused(settings: &str, args: &[&str], code: i32, parts: &[&str]) {
    let run = run_with(settings, args);
    assert_eq!(run.code, Some(code), "{args:?}: {}", run.err);
    assert!(run.err.starts_with("error: ") && run.err.trim_end().lines().count() == 1, "one line: {}", run.err);
    for part in parts {
        assert!(run.err.contains(part), "{part} in: {}", run.err);
    }
    assert!(!run.err.contains("panicked"));
}

#[test]
fn settings_that_cannot_be_are_named_and_end_with_78() {
    let check = ["config", "check"];
    let unknown = "tidewatch.toml:2: unknown setting `kafka.bootstrap_server`, did you mean `kafka.bootstrap_servers`?";
    check_refused("[kafka]\nbootstrap_server = \"x\"", &check, 78, &[unknown]);
    let number = "tidewatch.toml:2: `producer.threads` is the text \"two\", expected a whole number";
    check_refused("[producer]\nthreads = \"two\"", &check, 78, &[number]);
    check_refused("[sink.roll]\nrows = 0", &check, 78, &["`sink.roll.rows` = 0 is out of range"]);
    check_refused("[telemetry]\nlog = \"a=b=c\"", &check, 78, &["telemetry.log"]);
    check_refused("[telemetry]\nlisten = \"here\"", &check, 78, &["telemetry.listen = \"here\""]);
    check_refused("[kafka]\nsasl_mechanism = \"PLAIN\"", &check, 78, &["kafka.sasl_mechanism"]);
    check_refused("[topic_creation]\npartitions = 0", &check, 78, &["topic_creation.partitions = 0"]);
    let unknown = "unknown setting `score.publish`, did you mean `score.publish_every`?";
    check_refused("[score]\npublish = \"5s\"", &["score"], 78, &[unknown]);
    check_refused("[score]\npublish_every = \"0s\"", &check, 78, &["score.publish_every = \"0s\""]);
    check_refused("[score]\nrecords_max = 0", &check, 78, &["score.records_max = 0"]);
    check_refused("[producer]\nrate = 1.0\nspeed = 1.0", &check, 78, &["producer.rate and producer.speed"]);
    check_refused("[sink]\ntopics = [\"alert\"]", &check, 78, &["tidewatch.toml:2: `sink.topics[0]`", "`alerts`"]);
    check_refused("a = = 1", &check, 78, &["tidewatch.toml:1: "]);
    check_refused("", &["config", "check", "--config", "none.toml"], 78, &["settings file `none.toml`"]);
    check_refused(
        "",
        &["produce", "--scenario", "none.toml"],
        78,
        &["producer.scenario = \"none.toml\"", "demo, disorder, drift, smoke, steady"],
    );
    check_refused("", &["produce", "--rate=-1"], 78, &["rate of -1"]);
}

#[test]
fn an_impossible_fault_names_the_field() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.toml");
    std::fs::write(&file, "[scenario]\nname = \"bad\"\nduration = \"soon\"\n").unwrap();
    check_refused("", &["produce", "--scenario", file.to_str().unwrap()], 78, &["bad.toml"]);
}

#[test]
fn the_environment_names_itself() {
    let folder = tempfile::tempdir().unwrap();
    let mut wrong = command(folder.path(), &["config", "check"]);
    wrong.env("TIDEWATCH_KAFKA__CLIENTID", "x");
    let run = finish(wrong);
    assert_eq!(run.code, Some(78));
    assert_eq!(
        run.err,
        "error: environment TIDEWATCH_KAFKA__CLIENTID: unknown setting `kafka.clientid`, did you mean `kafka.client_id`?\n"
    );
}

#[test]
fn flags_win_over_environment_over_file_and_show_says_so() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("tidewatch.toml"),
        "[kafka]\nclient_id = \"file\"\nbootstrap_servers = \"file:1\"\n",
    )
    .unwrap();
    let mut show = command(folder.path(), &["config", "show", "--brokers", "flag:1"]);
    show.env("TIDEWATCH_KAFKA__BOOTSTRAP_SERVERS", "env:1").env("TIDEWATCH_KAFKA__SASL_PASSWORD", "hunter2");
    let run = finish(show);
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert!(run.out.contains("bootstrap_servers = \"flag:1\"   # --brokers\n"), "{}", run.out);
    assert!(run.out.contains("client_id = \"file\"   # tidewatch.toml:2\n"), "{}", run.out);
    assert!(!run.out.contains("hunter2") && run.out.contains("sasl_password = \"<redacted>\""), "{}", run.out);
}

#[test]
fn the_reference_is_a_settings_file() {
    let reference = run_with("", &["config", "reference"]);
    assert_eq!(reference.code, Some(0));
    let check = run_with(&reference.out, &["config", "check"]);
    assert_eq!((check.code, check.out.as_str()), (Some(0), "the settings are valid: 4 streams\n"), "{}", check.err);
}

#[test]
fn an_absent_broker_is_one_line() {
    let quick = "[kafka]\nconnect_timeout = \"1s\"";
    for args in [
        &["topics", "list"][..],
        &["process"],
        &["sink"],
        &["produce"],
        &["up"],
        &["tap", "alerts"],
        &["ledger"],
        &["dead-letters", "list"],
        &["dead-letters", "replay"],
        &["demo"],
    ] {
        let args: Vec<&str> = args.iter().copied().chain(["--brokers", "127.0.0.1:1"]).collect();
        let run = run_with(quick, &args);
        assert_eq!(run.code, Some(1), "{args:?}: {}", run.err);
        let errors: Vec<&str> = run.err.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "{args:?}: {}", run.err);
        assert!(errors[0].contains("kafka.bootstrap_servers = \"127.0.0.1:1\""), "{args:?}: {}", run.err);
        assert!(run.err.lines().count() <= 2, "{args:?}: {}", run.err);
    }
}

#[test]
fn an_output_folder_that_cannot_be_is_named_before_anything_starts() {
    check_refused("", &["demo", "--output", "/dev/null/run"], 1, &["cannot write to /dev/null/run", "--output"]);
}

#[test]
fn a_missing_recording_is_named_before_a_topic_is_made() {
    let args = ["replay", "none.csv", "--topic", "t", "--entity", "host=a", "--brokers", "127.0.0.1:1"];
    check_refused("", &args, 1, &["cannot read none.csv"]);
    check_refused("", &["replay", "none.csv", "--topic", "t", "--entity", "=a"], 78, &["--entity"]);
}

#[test]
fn a_wrong_command_line_ends_with_78_and_help_with_0() {
    let wrong = run_with("", &["demo", "--sead", "1"]);
    assert_eq!(wrong.code, Some(78));
    assert!(wrong.err.contains("--seed"), "{}", wrong.err);
    let filter = run_with("", &["tap", "alerts", "--filter", "severity"]);
    assert_eq!(filter.code, Some(78));
    assert!(filter.err.contains("write field=value"), "{}", filter.err);
    for (args, part) in [
        (&["dead-letters", "show", "17"][..], "for example 0:17"),
        (&["dead-letters", "list", "--since", "soon"], "how long ago: 2h"),
    ] {
        let wrong = run_with("", args);
        assert_eq!(wrong.code, Some(78), "{}", wrong.err);
        assert!(wrong.err.contains(part), "{}", wrong.err);
    }
    for args in [&["--help"][..], &["--version"], &["demo", "--help"], &["help", "tap"]] {
        assert_eq!(run_with("", args).code, Some(0), "{args:?}");
    }
}

#[test]
fn completions_are_not_empty() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let run = run_with("", &["completions", shell]);
        assert_eq!(run.code, Some(0));
        assert!(run.out.contains("tidewatch") && run.out.len() > 1_000, "{shell}");
    }
}
