//! `tidewatch dead-letters`: what could not be read is listed, shown, repaired and put back, once.

#![allow(clippy::unwrap_used)] // The helpers are tests too.

#[allow(dead_code)] // Nothing is cut off in the middle or compared byte for byte here.
mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::{Corner, Row};
use tidewatch_schemas::dead_letter::REPLAYED_FROM;
use tidewatch_topic_io::{Outgoing, Writer};

tidewatch_test_brokers::on_both_brokers!(dead_letters_are_listed_shown_repaired_and_put_back_once);

const PARTITIONS: i32 = 2;
const START_MS: i64 = 1_736_121_600_000; // 2025-01-06T00:00:00Z

/// Partition, key, value, and the reason why it is no event.
type BadRecord = (i32, Option<&'static [u8]>, &'static [u8], &'static str);

/// What the input holds: three records without a field in one partition, two that are no JSON and no UTF-8 in the other.
const BAD: [BadRecord; 5] = [
    (0, Some(b"a"), br#"{"at": 1736121600000, "ms": 1.0}"#, "missing-field"),
    (0, None, br#"{"at": 1736121600000, "ms": 2.0}"#, "missing-field"),
    (1, Some(b"b"), b"{", "undecodable"),
    (0, Some(b""), br#"{"at": 1736121600000, "ms": 3.0}"#, "missing-field"),
    (1, Some(&[0xff]), &[0xc3, 0x01, 0xff, 0x00], "undecodable"),
];

struct Test {
    corner: Corner,
    settings: String,
    input: String,
}

impl Test {
    fn new(bootstrap_servers: &str) -> Self {
        let corner = Corner::new(bootstrap_servers, "dead-letters");
        let input = corner.topic("run", "in");
        corner.create(std::slice::from_ref(&input), PARTITIONS);
        let settings = format!(
            "{}[[stream]]\nname = \"calls\"\ntopic = \"{input}\"\nformat = \"json\"\nentity = [\"service\"]\nevent_time = \"at\"\n\
             window = {{ tumbling = \"1m\" }}\n[[stream.measure]]\nname = \"latency\"\nfield = \"ms\"\n",
            corner.outputs("run", PARTITIONS)
        );
        Self { corner, settings, input }
    }

    fn publish(&self) {
        let mut writer = Writer::new(&self.corner.kafka).unwrap();
        for (partition, key, value, _) in BAD {
            let record = Outgoing {
                partition: Some(partition),
                key,
                timestamp_ms: Some(START_MS),
                headers: &[("trace", b"7")],
                ..Outgoing::new(&self.input, b"", value)
            };
            writer.send(record).unwrap();
        }
        writer.flush(Duration::from_secs(30)).unwrap();
    }

    fn process(&self) {
        self.corner.run(&self.settings, &["process", "--drain"]);
    }

    /// What a command that succeeds prints.
    fn told(&self, words: &str) -> String {
        let args: Vec<&str> = words.split(' ').collect();
        let (code, out, err) = self.corner.ask(&self.settings, &args);
        assert_eq!(code, Some(0), "{words}: {err}");
        out
    }

    fn check_refused(&self, words: &str, part: &str) {
        let args: Vec<&str> = words.split(' ').collect();
        let (code, _, err) = self.corner.ask(&self.settings, &args);
        let errors: Vec<&str> = err.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!((code, errors.len()), (Some(1), 1), "{words}: {err}");
        assert!(errors[0].contains(part), "{part} in: {err}");
    }

    fn letters(&self) -> Vec<Value> {
        self.told("dead-letters list --json").lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The records that were put back, without the header that says so.
    fn replayed(&self) -> Vec<Row> {
        let mut rows = self.corner.read(&self.input);
        rows.retain(|row| row.headers.iter().any(|(name, _)| name == REPLAYED_FROM));
        let topic = self.corner.topic("run", "dead_letters");
        for row in &mut rows {
            let (name, from) = row.headers.pop().unwrap();
            let from = String::from_utf8(from.unwrap()).unwrap();
            assert!(name == REPLAYED_FROM && from.starts_with(&format!("{topic}-")) && from.contains('@'), "{from}");
        }
        rows
    }

    /// Writes the lines of some letters, each changed, to a file of the test's folder.
    fn write_lines(&self, file: &str, reason: &str, change: impl Fn(&mut Value)) {
        let mut letters = self.letters();
        letters.retain(|letter| letter["reason"] == reason);
        letters.iter_mut().for_each(change);
        let text: String = letters.iter().map(|letter| format!("{letter}\n")).collect();
        std::fs::write(self.corner.folder.path().join(file), text).unwrap();
    }
}

fn dead_letters_are_listed_shown_repaired_and_put_back_once(bootstrap_servers: &str) {
    let test = Test::new(bootstrap_servers);
    assert_eq!(test.told("dead-letters list"), "0 dead letters\n");
    test.publish();
    test.process();
    check_looks(&test);

    let plan = format!("5 records would be put back: 5 on {}\n", test.input);
    assert_eq!(test.told("dead-letters replay --dry-run"), plan);
    assert_eq!(test.replayed().len(), 0);

    let all = test.told("dead-letters replay --reason undecodable --stream calls");
    assert_eq!(all, format!("2 records put back: 2 on {}\n", test.input));
    let again = test.told("dead-letters replay --reason undecodable");
    assert_eq!(again, "0 records put back\n2 left out: put back before; --again repeats them\n");
    check_same(&test.replayed(), "undecodable");

    test.write_lines("elsewhere.jsonl", "missing-field", |letter| letter["partition"] = json!(1));
    test.check_refused(
        "dead-letters replay --file elsewhere.jsonl",
        "change only timestamp_ms, key, value and headers",
    );
    test.write_lines("nowhere.jsonl", "missing-field", |letter| letter["letter"] = json!("0:999"));
    test.check_refused("dead-letters replay --file nowhere.jsonl", "nowhere.jsonl:2: letter 0:999 is there twice");
    test.write_lines("repaired.jsonl", "missing-field", |letter| {
        let value = letter["value"].as_str().unwrap().replace('{', r#"{"service": "web", "#);
        letter["value"] = value.into();
    });
    let repaired = test.told("dead-letters replay --file repaired.jsonl");
    assert_eq!(repaired, format!("3 records put back: 3 on {}\n", test.input));
    let twice = test.told("dead-letters replay --file repaired.jsonl");
    assert_eq!(twice, "0 records put back\n3 left out: put back before; --again repeats them\n");

    // The repaired ones are events now; the others fail again, and tell where they have been.
    test.process();
    let letters = test.letters();
    assert_eq!(letters.len(), BAD.len() + 2);
    let second =
        |letter: &&Value| letter["headers"].as_array().unwrap().iter().any(|header| header["key"] == REPLAYED_FROM);
    let second: Vec<&Value> = letters.iter().filter(second).collect();
    assert!(second.len() == 2 && second.iter().all(|letter| letter["reason"] == "undecodable"), "{second:?}");

    // Whatever is processed and put back from now on without a repair, no record goes round for ever.
    let left_out = "5 left out: put back before; --again repeats them\n\
         2 left out: failed again after they were put back; --failed-again puts them back once more\n";
    for _ in 0..2 {
        assert_eq!(test.told("dead-letters replay"), format!("0 records put back\n{left_out}"));
        test.process();
        assert_eq!(test.letters().len(), BAD.len() + 2);
    }
    // Another group's processor has the same letters before it, and the same notes.
    let other = test.settings.replace("processor.group_id = \"", "processor.group_id = \"other.");
    let (code, told, said) = test.corner.ask(&other, &["dead-letters", "replay", "--dry-run"]);
    assert_eq!((code, told), (Some(0), format!("0 records would be put back\n{left_out}")), "{said}");

    assert!(test.told("dead-letters replay --failed-again").starts_with("2 records put back"));
    assert!(test.told("dead-letters replay --failed-again").starts_with("0 records put back"));
    test.process();
    // Now as a file says: they are repaired, once.
    test.write_lines("again.jsonl", "undecodable", |_| {});
    let last = test.letters().split_off(BAD.len() + 2);
    let of_last = |row: &Row| row.headers.iter().filter(|(name, _)| name == REPLAYED_FROM).count();
    let rows = test.corner.read(&test.input);
    assert!(last.len() == 2 && rows.iter().all(|row| of_last(row) <= 1), "{last:?}");
    let repaired = test.told("dead-letters replay --file again.jsonl");
    assert!(
        repaired.starts_with("2 records put back: 2 on ") && repaired.contains("4 left out: put back before"),
        "{repaired}"
    );
    assert!(test.told("dead-letters replay --again").starts_with("9 records put back"));
    assert_eq!(
        test.told("dead-letters replay"),
        "0 records put back\n9 left out: put back before; --again repeats them\n"
    );
}

fn check_looks(test: &Test) {
    let list = test.told("dead-letters list");
    assert!(list.ends_with("5 dead letters: 3 missing-field, 2 undecodable\n"), "{list}");
    assert_eq!(list.lines().count(), 6);
    let some = test.told("dead-letters list --reason missing-field --limit 2 --since 2025-01-06T00:00:00Z");
    assert!(
        some.ends_with("2 dead letters: 2 missing-field\n") && some.contains("field `service` is missing"),
        "{some}"
    );
    assert_eq!(test.told("dead-letters list --since 2025-01-06T00:00:01Z"), "0 dead letters\n");

    let letters = test.letters();
    let binary = letters.iter().find(|letter| letter["value_base64"] == "wwH/AA==").unwrap();
    assert_eq!(
        (&binary["key_base64"], &binary["topic"], &binary["partition"], &binary["offset"]),
        (&json!("/w=="), &json!(test.input), &json!(1), &json!(1))
    );
    assert_eq!(binary["headers"], json!([{ "key": "trace", "value": "7" }]));
    let shown = test.told(&format!("dead-letters show {}", binary["letter"].as_str().unwrap()));
    assert!(shown.contains("reason     undecodable\n") && shown.contains("00000000  c3 01 ff 00"), "{shown}");
    assert!(shown.contains(&format!("record     {}-1@1\n", test.input)), "{shown}");
    test.check_refused("dead-letters show 0:999", "there is no record at");
    for words in ["dead-letters list --stream nosuch", "dead-letters replay --stream nosuch"] {
        let (code, out, said) = test.corner.ask(&test.settings, &words.split(' ').collect::<Vec<_>>());
        assert_eq!((code, out.as_str()), (Some(78), ""), "{said}");
        assert!(said.contains("error: --stream: no stream `nosuch` is declared"), "{said}");
    }
    // Its letters outlive a stream's declaration.
    let gone = test.settings.replace("name = \"calls\"", "name = \"other\"");
    let (code, out, said) = test.corner.ask(&gone, &["dead-letters", "list", "--stream", "calls"]);
    assert!(code == Some(0) && out.ends_with("5 dead letters: 3 missing-field, 2 undecodable\n"), "{out}{said}");

    let tapped = test.told(&format!("tap {} --filter reason=undecodable", test.corner.topic("run", "dead_letters")));
    let tapped: Vec<Value> = tapped.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(tapped.len(), 2);
    assert!(tapped.iter().any(|letter| letter["value"] == "{" && letter["_key"] == "b"), "{tapped:?}");
}

/// Records of this kind came back as they were: partition, key, value, headers and timestamp.
fn check_same(rows: &[Row], reason: &str) {
    let wanted: Vec<_> = BAD.iter().filter(|(_, _, _, why)| *why == reason).collect();
    assert_eq!(rows.len(), wanted.len());
    for (row, (partition, key, value, _)) in rows.iter().zip(wanted) {
        assert_eq!((row.partition, row.key.as_deref(), row.value.as_deref()), (*partition, *key, Some(*value)));
        assert_eq!(
            (&row.headers, row.timestamp_ms),
            (&vec![("trace".to_owned(), Some(b"7".to_vec()))], Some(START_MS))
        );
    }
}
