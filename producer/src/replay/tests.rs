//! Replaying into memory: what is sent, what is skipped, and what each error says.

use super::*;
use crate::outlet::memory::Memory;
use std::sync::LazyLock;

static KAFKA: LazyLock<KafkaConfig> = LazyLock::new(KafkaConfig::default);

fn job(folder: &tempfile::TempDir, csv: &[u8]) -> ReplayJob<'static> {
    let file = folder.path().join("recorded.csv");
    std::fs::write(&file, csv).unwrap();
    ReplayJob {
        file,
        topic: "recorded".to_owned(),
        partitions: 4,
        time_column: None,
        value_columns: Vec::new(),
        entity: EntitySource::Literal { field: "machine".to_owned(), value: "press/1".to_owned() },
        pace: Pace::Unlimited,
        strict: false,
        kafka: &KAFKA,
    }
}

/// Key, value, timestamp.
type Sent = (String, String, i64);

fn run(job: &ReplayJob<'_>) -> Result<(ReplaySummary, Vec<Sent>), ReplayError> {
    let (progress, stop) = (Progress::new(), AtomicBool::new(false));
    let mut memory = Memory::default();
    let reader = open(job)?;
    let summary = Replay { job, reader, progress: &progress, stop: &stop }.run(&mut memory)?;
    assert_eq!((progress.published(), progress.rows_broken()), (summary.published, summary.rows_broken));
    let log = memory.0.lock().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let messages = log.values().flatten().map(|m| (text(&m.key), text(&m.value), m.timestamp_ms.unwrap())).collect();
    Ok((summary, messages))
}

#[test]
fn a_recorded_series_becomes_json() {
    let folder = tempfile::tempdir().unwrap();
    let job = job(&folder, b"timestamp,value\n2014-01-01 12:00:00,21.5\n2014-01-01 12:05:00,1e3\n");
    let (summary, messages) = run(&job).unwrap();
    let key = "press%2F1".to_owned();
    assert_eq!(
        messages,
        [
            (
                key.clone(),
                r#"{"machine":"press/1","timestamp":1388577600000,"value":21.5}"#.to_owned(),
                1_388_577_600_000
            ),
            (key, r#"{"machine":"press/1","timestamp":1388577900000,"value":1000.0}"#.to_owned(), 1_388_577_900_000),
        ]
    );
    assert_eq!((summary.published, summary.rows_broken, summary.stopped), (2, 0, false));
    assert_eq!(summary.event_times, Some((1_388_577_600_000, 1_388_577_900_000)));
}

#[test]
fn columns_are_chosen_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let csv = b"site,when,cpu,load,note\neu,10,1,2,x\nus/1,11,,4,y\n";
    let job = ReplayJob {
        time_column: Some("when".to_owned()),
        value_columns: vec!["load".to_owned(), "cpu".to_owned()],
        entity: EntitySource::Columns(vec!["site".to_owned()]),
        ..job(&folder, csv)
    };
    let (_, mut messages) = run(&job).unwrap();
    messages.sort();
    assert_eq!(messages[0].1, r#"{"site":"eu","timestamp":10000,"load":2.0,"cpu":1.0}"#);
    assert_eq!(
        messages[1],
        ("us%2F1".to_owned(), r#"{"site":"us/1","timestamp":11000,"load":4.0}"#.to_owned(), 11_000)
    );
    for (_, json, _) in messages {
        serde_json::from_str::<serde_json::Value>(&json).unwrap();
    }
}

#[test]
fn broken_rows_are_named_skipped_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let csv = b"time,value\n1,1\nyesterday,2\n3\n4,much\n5,NaN\n6,\n9999999999999,7\n-5,8\n\xff\xfe,9\n10,1\xff\n11,\"11\"\n12,12,12\n13,13\n";
    let job = job(&folder, csv);
    let (summary, messages) = run(&job).unwrap();
    let broken: Vec<(u64, &str)> = summary.broken.iter().map(|row| (row.line, row.problem.as_str())).collect();
    let wanted = [
        (3, "\"yesterday\" is not a timestamp"),
        (4, "has 1 columns instead of 2"),
        (5, "\"much\" in column \"value\" is not a number"),
        (6, "\"NaN\" in column \"value\" is not a finite number"),
        (7, "has no value"),
        (8, "time \"9999999999999\" is not between 1970 and 2200"),
        (9, "time \"-5\" is not between 1970 and 2200"),
        (10, "column 1 is not UTF-8"),
        (11, "column 2 is not UTF-8"),
        (13, "has 3 columns instead of 2"),
    ];
    assert_eq!(broken, wanted);
    let sent: Vec<i64> = messages.iter().map(|(_, _, time)| *time / 1000).collect();
    assert_eq!(sent, [1, 11, 13]);
    assert_eq!((summary.published, summary.rows_broken), (3, 10));
}

#[test]
fn only_the_first_broken_rows_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let csv = format!("time,value\n{}", "x,1\n".repeat(50));
    let (summary, _) = run(&job(&folder, csv.as_bytes())).unwrap();
    assert_eq!((summary.rows_broken, summary.broken.len()), (50, BROKEN_KEPT_MAX));
}

#[test]
fn errors_name_the_file_and_what_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let check = |job: ReplayJob<'_>, wanted: &str| {
        let error = run(&job).unwrap_err().to_string();
        assert_eq!(error.replace(&folder.path().display().to_string(), "DIR"), wanted);
    };
    let csv: &[u8] = b"when,much\n1,2\n1,x\n";
    check(job(&folder, csv), "DIR/recorded.csv: there is no time column \"timestamp\"; columns are: when, much");
    let timed = || ReplayJob { time_column: Some("when".to_owned()), ..job(&folder, csv) };
    check(
        ReplayJob { value_columns: vec!["little".to_owned()], ..timed() },
        "DIR/recorded.csv: there is no value column \"little\"; columns are: when, much",
    );
    check(
        ReplayJob { entity: EntitySource::Columns(vec!["host".to_owned()]), ..timed() },
        "DIR/recorded.csv: there is no entity column \"host\"; columns are: when, much",
    );
    check(ReplayJob { strict: true, ..timed() }, "DIR/recorded.csv: line 3: \"x\" in column \"much\" is not a number");
    check(ReplayJob { file: folder.path().join("none.csv"), ..timed() }, "DIR/none.csv cannot be read");
    check(ReplayJob { pace: Pace::Speed(0.0), ..timed() }, "pace: a speed of 0 is not above 0");
    check(job(&folder, b""), "DIR/recorded.csv: there is no time column \"timestamp\"; columns are: ");
    check(job(&folder, b"time\n1\n"), "DIR/recorded.csv: there is no value column \"value\"; columns are: time");
}
