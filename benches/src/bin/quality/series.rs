//! Any folder of recorded series: what is said of each row, and how good that is where rows are labelled.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::{Value, json};
use tidewatch_benches::report::Report;
use tidewatch_schemas::record::AnomalyKind;

use crate::feed::{self, Said};
use crate::measures::{F1, Labelled, f1, f1_with_delay, vus_pr};
use crate::rows::Series;

/// Rows of delay with which a segment still counts as found.
const DELAY: usize = 7;
/// The widest buffer of VUS-PR, rows.
const BUFFER_MAX: usize = 100;

/// The options of `quality series`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder of CSV files, each with `timestamp,value` and maybe `label`; subfolders are looked into
    #[arg(long, value_name = "DIR")]
    input: PathBuf,
    /// Write `timestamp,value,score,kind` of each row to a file of the same name in this folder
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

struct Scored {
    name: String,
    labels: Option<Vec<bool>>,
    scores: Vec<f64>,
    alerts: usize,
}

impl Scored {
    fn labelled(&self) -> Option<Labelled<'_>> {
        let labels = self.labels.as_deref().filter(|labels| labels.contains(&true))?;
        Some(Labelled { scores: &self.scores, labels })
    }
}

/// Feeds every file, and scores what is said of it.
pub(crate) fn run(args: &Args) -> anyhow::Result<Report> {
    let mut files = Vec::new();
    find(&args.input, &mut files)?;
    files.sort();
    anyhow::ensure!(!files.is_empty(), "--input: no CSV file in {}", args.input.display());
    let mut all = Vec::with_capacity(files.len());
    for file in &files {
        let series = Series::read(file)?;
        let said = feed::judge(&series)?;
        let name = file.strip_prefix(&args.input).unwrap_or(file).display().to_string();
        if let Some(folder) = &args.output {
            write(&folder.join(&name), &series, &said)?;
        }
        let labels = series.has_labels.then(|| series.rows.iter().map(|row| row.is_anomalous).collect());
        let alerts = said.iter().filter(|said| said.opens.is_some()).count();
        all.push(Scored { name, labels, scores: said.into_iter().map(|said| said.score).collect(), alerts });
    }
    Ok(report(&all))
}

fn find(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("--input: cannot read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv")) {
            files.push(path);
        }
    }
    Ok(())
}

fn write(file: &Path, series: &Series, said: &[Said]) -> anyhow::Result<()> {
    let mut text = String::from("timestamp,value,score,kind\n");
    for (row, said) in series.rows.iter().zip(said) {
        let time = jiff::Timestamp::from_millisecond(row.time_ms)?;
        // Writing to a String does not fail.
        let _ = writeln!(text, "{time},{},{},{}", row.value, said.score, said.opens.map_or("", AnomalyKind::as_str));
    }
    let write = || {
        file.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        std::fs::write(file, text)
    };
    write().with_context(|| format!("--output: cannot write {}", file.display()))
}

fn report(all: &[Scored]) -> Report {
    let mut table = format!(
        "{:48} {:>8} {:>7} {:>8} {:>9} {:>9} {:>7}\n",
        "series", "rows", "alerts", "F1", "F1, k = 7", "at 1.0", "VUS-PR"
    );
    let mut line = |name: &str, rows: usize, alerts: usize, figures: Option<[f64; 4]>| {
        let _ = write!(table, "{name:48} {rows:>8} {alerts:>7}");
        if let Some([rows, delayed, fixed, vus]) = figures {
            let _ = write!(table, " {rows:>8.3} {delayed:>9.3} {fixed:>9.3} {vus:>7.3}");
        }
        table.push('\n');
    };
    let mut each: Vec<Value> = Vec::new();
    let mut sums = [0.0; 4];
    let (mut labelled, mut rows, mut alerts) = (Vec::new(), 0, 0);
    for scored in all {
        rows += scored.scores.len();
        alerts += scored.alerts;
        let figures = scored.labelled().map(|series| {
            labelled.push(series);
            let F1 { best, fixed, .. } = f1_with_delay(&[series], DELAY);
            [f1(&[series]).best, best, fixed, vus_pr(series, BUFFER_MAX).unwrap_or(f64::NAN)]
        });
        line(&scored.name, scored.scores.len(), scored.alerts, figures);
        for (sum, figure) in sums.iter_mut().zip(figures.into_iter().flatten()) {
            *sum += figure;
        }
        each.push(
            json!({ "series": scored.name, "rows": scored.scores.len(), "alerts": scored.alerts, "figures": figures }),
        );
    }
    if labelled.is_empty() {
        line("all", rows, alerts, None);
        return Report::new(table, json!({ "series": each }));
    }
    let mean = sums.map(|sum| sum / labelled.len() as f64);
    line("all, mean of the labelled", rows, alerts, Some(mean));
    let (pooled, delayed) = (f1(&labelled), f1_with_delay(&labelled, DELAY));
    let _ = writeln!(
        table,
        "all labelled rows at one threshold: F1 {:.3} at {:.2}; with a delay of {DELAY} rows {:.3} at {:.2}, {:.3} at 1.0",
        pooled.best, pooled.threshold, delayed.best, delayed.threshold, delayed.fixed
    );
    let names = ["f1", "f1_delay", "f1_delay_fixed", "vus_pr"];
    let mean: serde_json::Map<String, Value> =
        names.iter().map(|&name| name.to_owned()).zip(mean.map(Value::from)).collect();
    let pooled = json!({ "f1": pooled.best, "f1_delay": delayed.best, "f1_delay_fixed": delayed.fixed });
    Report::new(table, json!({ "series": each, "mean": mean, "pooled": pooled }))
}
