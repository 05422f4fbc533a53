//! Files of recorded series through the engine: what is said of each row, and how good that is where rows are labelled.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::feed::{self, Verdicts};
use crate::measures::{F1, Labelled, f1, f1_with_delay, vus_pr};
use crate::rows::{Series, Values};

/// Rows of delay with which a segment still counts as found.
const DELAY: usize = 7;
/// The widest buffer of VUS-PR, rows.
const BUFFER_MAX: usize = 100;

/// A file, and what is said of it.
pub(crate) struct Scored {
    /// Its path in the folder, or its name.
    pub(crate) name: String,
    pub(crate) series: Series,
    pub(crate) verdicts: Verdicts,
    /// That feeding it took.
    pub(crate) seconds: f64,
    labels: Vec<bool>,
    scores: Vec<f64>,
}

impl Scored {
    fn of(name: String, file: &Path, values: Values<'_>) -> anyhow::Result<Self> {
        let series = Series::read(file, values)?;
        let begun = Instant::now();
        let verdicts = feed::judge(&series).with_context(|| file.display().to_string())?;
        let seconds = begun.elapsed().as_secs_f64();
        let labels = series.rows.iter().map(|row| row.is_anomalous).collect();
        let scores = verdicts.rows.iter().map(|said| said.score).collect();
        Ok(Self { name, series, verdicts, seconds, labels, scores })
    }

    fn labelled(&self) -> Option<Labelled<'_>> {
        let Self { series, labels, scores, .. } = self;
        (series.has_labels && labels.contains(&true)).then_some(Labelled { scores, labels })
    }

    /// Alerts that open.
    pub(crate) fn alerts(&self) -> usize {
        self.verdicts.alerts.iter().sum()
    }
}

/// Feeds a file, or every file of a folder, and lets `write` have each as it is done.
pub(crate) fn score(
    input: &Path,
    values: Values<'_>,
    write: impl Fn(&Scored) -> anyhow::Result<()>,
) -> anyhow::Result<Vec<Scored>> {
    let mut files = Vec::new();
    if input.is_file() {
        files.push(input.to_owned());
    } else {
        find(input, &mut files)?;
    }
    files.sort();
    anyhow::ensure!(!files.is_empty(), "--input: no CSV file in {}", input.display());
    let one = |file: PathBuf| {
        let within = file.strip_prefix(input).ok().filter(|within| !within.as_os_str().is_empty());
        let name = within.unwrap_or(Path::new(file.file_name().unwrap_or_default())).display().to_string();
        let scored = Scored::of(name, &file, values)?;
        write(&scored)?;
        Ok(scored)
    };
    files.into_iter().map(one).collect()
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

/// Writes what `--output` asks for, in folders that come to be.
pub(crate) fn write(file: &Path, text: &[u8]) -> anyhow::Result<()> {
    let write = || {
        file.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        std::fs::write(file, text)
    };
    write().with_context(|| format!("--output: cannot write {}", file.display()))
}

/// A line for each file, and the labelled ones together: as a table, and for JSON.
pub(crate) fn table(all: &[Scored]) -> (String, Value) {
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
        alerts += scored.alerts();
        let figures = scored.labelled().map(|series| {
            labelled.push(series);
            let F1 { best, fixed, .. } = f1_with_delay(&[series], DELAY);
            [f1(&[series]).best, best, fixed, vus_pr(series, BUFFER_MAX).unwrap_or(f64::NAN)]
        });
        line(&scored.name, scored.scores.len(), scored.alerts(), figures);
        for (sum, figure) in sums.iter_mut().zip(figures.into_iter().flatten()) {
            *sum += figure;
        }
        each.push(
            json!({ "series": scored.name, "rows": scored.scores.len(), "alerts": scored.alerts(), "figures": figures }),
        );
    }
    if labelled.is_empty() {
        line("all", rows, alerts, None);
        return (table, json!({ "series": each }));
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
    (table, json!({ "series": each, "mean": mean, "pooled": pooled }))
}
