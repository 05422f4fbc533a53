//! The balance as a table for people, with colours that the writer may strip.

use std::fmt::Write as _;

use super::balance::{Balance, KindBalance, PartitionBalance, Totals};
use crate::live::{count, grouped};

const GREEN: anstyle::Style = anstyle::AnsiColor::Green.on_default().bold();
const RED: anstyle::Style = anstyle::AnsiColor::Red.on_default().bold();
const HEAD: anstyle::Style = anstyle::AnsiColor::Cyan.on_default().bold();

pub(super) fn render(balance: &Balance) -> String {
    let mut text = String::new();
    inputs(&mut text, balance);
    let Totals { read, scored, late, dead_lettered, duplicate, filtered, windows, revisions, .. } = balance.total;
    let mark = if balance.problems.is_empty() {
        format!("{GREEN}✓{GREEN:#}")
    } else {
        format!("{RED}✗ does not add up{RED:#}")
    };
    line(
        &mut text,
        &format!(
            "{} read = {} scored + {} late + {} dead-lettered + {} duplicate + {} filtered  {mark}",
            number(read),
            number(scored),
            number(late),
            number(dead_lettered),
            number(duplicate),
            number(filtered)
        ),
    );
    for problem in &balance.problems {
        line(&mut text, &format!("{RED}✗{RED:#} {problem}"));
    }
    line(&mut text, &format!("{} windows closed, {} revisions\n", number(windows), number(revisions)));
    results(&mut text, balance);
    text
}

fn inputs(text: &mut String, balance: &Balance) {
    let streams = balance.partitions.iter().map(|line| line.stream.len()).chain([6]).max().unwrap_or(6);
    let head = format!(
        "{:streams$} {:>4} {:>25} {:>13} {:>13} {:>9} {:>13} {:>9} {:>9} {:>11}",
        "stream", "part", "offsets", "read", "scored", "late", "dead-lettered", "duplicate", "filtered", "to go"
    );
    line(text, &format!("{HEAD}{head}{HEAD:#}"));
    for (place, partition) in balance.partitions.iter().enumerate() {
        line(text, &input(partition, streams));
        let is_last = balance.partitions.get(place + 1).is_none_or(|next| next.stream != partition.stream);
        if is_last {
            let totals = balance.streams.get(&partition.stream).copied().unwrap_or_default();
            let lines = balance.partitions.iter().filter(|line| line.stream == partition.stream);
            line(text, &row(&partition.stream, "all", "", totals, lines.map(|line| line.to_go).sum(), streams));
        }
    }
    let to_go = balance.partitions.iter().map(|line| line.to_go).sum();
    line(text, &row("total", "", "", balance.total, to_go, streams));
    text.push('\n');
}

fn input(line: &PartitionBalance, streams: usize) -> String {
    let offsets = match (line.begin_offset, line.to_offset) {
        (Some(begin), Some(to)) => format!("{} to {}", number(begin), number(to)),
        _ if line.end_offset.is_some() && line.to_go == 0 => "empty".to_owned(),
        _ => "not read yet".to_owned(),
    };
    let row = row(&line.stream, &line.partition.to_string(), &offsets, line.totals, line.to_go, streams);
    if line.end_offset.is_none() { format!("{row}  (the topic `{}` is gone)", line.topic) } else { row }
}

fn row(stream: &str, partition: &str, offsets: &str, totals: Totals, to_go: i64, streams: usize) -> String {
    format!(
        "{stream:streams$} {partition:>4} {offsets:>25} {:>13} {:>13} {:>9} {:>13} {:>9} {:>9} {:>11}",
        number(totals.read),
        number(totals.scored),
        number(totals.late),
        number(totals.dead_lettered),
        number(totals.duplicate),
        number(totals.filtered),
        number(to_go)
    )
}

fn results(text: &mut String, balance: &Balance) {
    if !balance.is_output_there {
        line(text, &format!("Delivery has stored nothing in {}, which is not there", balance.output));
        return;
    }
    let head = format!("{:13} {:>13} {:>13} {:>15}", "results", "written", "stored", "not stored yet");
    line(text, &format!("{HEAD}{head}{HEAD:#}"));
    for KindBalance { kind, written, stored, rejected, removed, not_stored_yet } in &balance.results {
        let mut row = format!(
            "{:13} {:>13} {:>13} {:>15}",
            kind.as_str(),
            number(*written),
            number(*stored),
            number((*not_stored_yet).max(0))
        );
        for (number, what) in [(*rejected, "kept raw"), (*removed, "in files that are gone or cut short")] {
            if number > 0 {
                let _ = write!(row, "  {} {what}", count(number.unsigned_abs(), "record"));
            }
        }
        line(text, &row);
    }
    line(text, &format!("stored in {}", balance.output));
}

fn number(number: i64) -> String {
    let digits = grouped(number.unsigned_abs());
    if number < 0 { format!("-{digits}") } else { digits }
}

fn line(text: &mut String, line: &str) {
    text.push_str(line.trim_end_matches(' '));
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use tidewatch_sink::TopicKind;

    use super::*;

    fn partition(stream: &str, partition: i32, totals: Totals) -> PartitionBalance {
        PartitionBalance {
            stream: stream.into(),
            topic: format!("in.{stream}"),
            partition,
            begin_offset: Some(0),
            from_offset: Some(0),
            to_offset: Some(1_200),
            end_offset: Some(1_210),
            lag: 11,
            to_go: 10,
            totals,
        }
    }

    #[test]
    fn a_person_reads_the_balance_in_lines() {
        let totals =
            Totals { read: 1_200, scored: 1_100, late: 60, dead_lettered: 40, windows: 9, ..Totals::default() };
        let gone = PartitionBalance {
            begin_offset: None,
            to_offset: None,
            end_offset: None,
            to_go: 0,
            ..partition("old", 0, Totals::default())
        };
        let kind = KindBalance {
            kind: TopicKind::Metrics,
            written: 90,
            stored: 70,
            rejected: 1,
            removed: 5,
            not_stored_yet: 15,
        };
        let mut balance = Balance {
            group: "g".into(),
            partitions: vec![partition("calls", 0, totals), gone],
            streams: [("calls".to_owned(), totals), ("old".to_owned(), Totals::default())].into(),
            total: totals,
            output: "out".into(),
            is_output_there: true,
            results: vec![kind],
            ..Balance::default()
        };
        let text = |balance: &Balance| anstream::adapter::strip_str(&render(balance)).to_string();
        let expected = "\
stream part                   offsets          read        scored      late dead-lettered duplicate  filtered       to go
calls     0                0 to 1,200         1,200         1,100        60            40         0         0          10
calls   all                                   1,200         1,100        60            40         0         0          10
old       0              not read yet             0             0         0             0         0         0           0  (the topic `in.old` is gone)
old     all                                       0             0         0             0         0         0           0
total                                         1,200         1,100        60            40         0         0          10

1,200 read = 1,100 scored + 60 late + 40 dead-lettered + 0 duplicate + 0 filtered  ✓
9 windows closed, 0 revisions

results             written        stored  not stored yet
metrics                  90            70              15  1 record kept raw  5 records in files that are gone or cut short
stored in out
";
        assert_eq!(text(&balance), expected);
        balance.problems = vec!["stream `calls` partition 0: a residue of 1".into()];
        balance.is_output_there = false;
        let broken = text(&balance);
        assert!(broken.contains("✗ does not add up\n✗ stream `calls` partition 0: a residue of 1\n"), "{broken}");
        assert!(broken.ends_with("Delivery has stored nothing in out, which is not there\n"), "{broken}");
    }
}
