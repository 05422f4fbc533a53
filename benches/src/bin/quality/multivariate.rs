//! Series of several values, each a measure of one entity, so that the forest judges them together: what is said of each row.
//!
//! A row's score is the greatest of its columns', each of which has its own detectors' and its part in the forest's.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::json;
use tidewatch_benches::figures::number;
use tidewatch_benches::report::Report;
use tidewatch_processor_core::config::Span;
use tidewatch_schemas::record::AlertKind;

use crate::rows::Values;
use crate::scored::{self, Scored};

/// The options of `quality multivariate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A CSV file with a time, columns of numbers, and maybe `label`; or a folder of such files
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// Write `timestamp,score,kind` of each row and the score of each column to this file; of a folder, to files in this folder
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Feeds the file, and scores what is said of it.
pub(crate) fn run(args: &Args) -> anyhow::Result<Report> {
    let is_folder = args.input.is_dir();
    let all = scored::score(&args.input, Values::All, |scored| {
        let Some(output) = &args.output else { return Ok(()) };
        if is_folder { write(&output.join(&scored.name), scored) } else { write(output, scored) }
    })?;
    let (mut table, mut figures) = scored::table(&all);
    if let [only] = &all[..] {
        columns(&mut table, only);
    }
    let sum = |of: fn(&Scored) -> f64| all.iter().map(of).sum::<f64>();
    let seconds = sum(|scored| scored.seconds);
    let rows = sum(|scored| scored.series.rows.len() as f64);
    let values = sum(|scored| (scored.series.rows.len() * scored.series.columns.len()) as f64);
    let unsaid = sum(|scored| scored.unsaid() as f64);
    let (rows_a_second, values_a_second) = (rows / seconds, values / seconds);
    // Writing to a String does not fail.
    let _ = writeln!(
        table,
        "{} rows, {} of them without a score (without a value, or in the window of a later row); {} rows and {} values a second",
        rows,
        unsaid,
        number(rows_a_second),
        number(values_a_second)
    );
    figures["rows_without_score"] = unsaid.into();
    figures["rows_a_second"] = rows_a_second.into();
    figures["values_a_second"] = values_a_second.into();
    let by_column = |scored: &Scored| {
        let alerts = scored.series.columns.iter().zip(&scored.verdicts.alerts);
        alerts.map(|(column, alerts)| json!({ "column": column, "alerts": alerts })).collect()
    };
    for (figures, scored) in figures["series"].as_array_mut().into_iter().flatten().zip(&all) {
        figures["window_ms"] = scored.verdicts.window_ms.into();
        figures["columns"] = by_column(scored);
    }
    Ok(Report::new(table, figures))
}

impl Scored {
    /// Rows of which nothing is said.
    fn unsaid(&self) -> usize {
        let is_unsaid = |row: &usize| self.verdicts.scores(*row).iter().all(|score| score.is_nan());
        (0..self.series.rows.len()).filter(is_unsaid).count()
    }
}

/// A line for each column.
fn columns(table: &mut String, scored: &Scored) {
    let Scored { series, verdicts, .. } = scored;
    let title = format!("column, in windows of {}", Span::from_millis(verdicts.window_ms));
    let _ = writeln!(table, "\n{title:48} {:>8} {:>7} {:>8}", "values", "alerts", "at 1.0");
    for (at, (column, alerts)) in series.columns.iter().zip(&verdicts.alerts).enumerate() {
        let values = (0..series.rows.len()).filter(|row| series.values(*row)[at].is_finite()).count();
        let anomalous = (0..series.rows.len()).filter(|row| verdicts.scores(*row)[at] >= 1.0).count();
        let _ = writeln!(table, "{column:48} {values:>8} {alerts:>7} {anomalous:>8}");
    }
    table.push('\n');
}

fn write(file: &Path, scored: &Scored) -> anyhow::Result<()> {
    let Scored { series, verdicts, .. } = scored;
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["timestamp", "score", "kind"].into_iter().chain(series.columns.iter().map(String::as_str)))?;
    for (at, (row, said)) in series.rows.iter().zip(&verdicts.rows).enumerate() {
        let time = jiff::Timestamp::from_millisecond(row.time_ms)?.to_string();
        let kind = said.opens.map_or("", AlertKind::as_str).to_owned();
        let score = |score: &f64| if score.is_nan() { String::new() } else { score.to_string() };
        let scores = verdicts.scores(at).iter().map(score);
        writer.write_record([time, said.score.to_string(), kind].into_iter().chain(scores))?;
    }
    scored::write(file, &writer.into_inner()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_and_column_of_a_file_or_folder_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("in");
        std::fs::create_dir(&input).unwrap();
        let mut text = String::from("time,\"cpu, user\",mem,label\n");
        for at in 0..400 {
            let spike = if at == 390 { 500 } else { 0 };
            let mem = if at == 5 { String::new() } else { (at % 11).to_string() };
            text += &format!("{},{},{mem},{}\n", 1_767_690_000 + 60 * at, at % 7 + spike, u8::from(spike > 0));
        }
        let file = input.join("machine.csv");
        std::fs::write(&file, text).unwrap();
        let (one, many) = (folder.path().join("scores.csv"), folder.path().join("out"));
        let report = run(&Args { input: file, output: Some(one.clone()) }).unwrap();
        for words in ["machine.csv", "cpu, user", "400 rows, 0 of them", "windows of 1m", "F1, k = 7"] {
            assert!(report.text().contains(words), "{}", report.text());
        }
        let figures = report.json("");
        assert_eq!(figures["figures"]["mean"]["f1"], 1.0, "{figures:#}");
        let lines = |file: &Path| std::fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect::<Vec<_>>();
        let written = lines(&one);
        assert_eq!(written.len(), 401);
        assert_eq!(written[0], "timestamp,score,kind,\"cpu, user\",mem");
        assert_eq!(written[6], "2026-01-06T09:05:00Z,0,,0,");
        assert!(written[391].contains(",spike,"), "{}", written[391]);
        run(&Args { input, output: Some(many.clone()) }).unwrap();
        assert_eq!(lines(&many.join("machine.csv")), written);
    }

    #[test]
    fn what_a_stream_cannot_take_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("machine.csv");
        let wide: Vec<String> = (0..65).map(|at| format!("c{at}")).collect();
        let ones = "1,".repeat(64) + "1";
        for (text, words) in [
            ("time,a,a\n1,2,3\n".to_owned(), "machine.csv: stream `series`: `measure.name` `a` is declared twice"),
            (format!("time,{}\n1,{ones}\n", wide.join(",")), "machine.csv: stream `series`: `measure` has 65 entries"),
        ] {
            std::fs::write(&file, text).unwrap();
            let error = run(&Args { input: file.clone(), output: None }).err().unwrap();
            let error = format!("{error:#}");
            assert!(error.contains(words), "{error}");
        }
        let error = run(&Args { input: folder.path().join("none"), output: None }).err().unwrap();
        assert!(error.to_string().starts_with("--input: cannot read"), "{error}");
    }
}
