//! The forest by itself, on labelled sets of rows without times: each row is scored before it is learnt.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use flate2::read::GzDecoder;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rcf3::OnlineIForest;
use serde_json::{Value, json};
use tidewatch_benches::figures::median;
use tidewatch_benches::report::{Goal, Report};
use tidewatch_processor_core::detect::forest::Forest;

/// Goals: the mean over sets, how far below the plain online forest a set may be, and the cost of a row.
const MEAN_MIN: f64 = 0.905;
const BELOW_MAX: f64 = 0.01;
const MICROS_MAX: f64 = 4.0;
const KILOBYTES_MAX: f64 = 150.0;
/// Features up to which the cost has a goal.
const COSTED_FEATURES: usize = 9;

/// The options of `quality forest`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder of sets: NAME.csv.gz or NAME.csv, the last column the label
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Orders of the rows, of which the median counts
    #[arg(long, default_value_t = 3)]
    seeds: u64,
}

struct Set {
    name: String,
    rows: Vec<Vec<f64>>,
    labels: Vec<bool>,
}

impl Set {
    fn read(file: &Path) -> anyhow::Result<Self> {
        let at = || format!("--data: cannot read {}", file.display());
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let opened = std::fs::File::open(file).with_context(at)?;
        let plain: Box<dyn std::io::Read> =
            if name.ends_with(".gz") { Box::new(GzDecoder::new(opened)) } else { Box::new(opened) };
        let mut reader = csv::Reader::from_reader(plain);
        let (mut rows, mut labels) = (Vec::new(), Vec::new());
        for (number, record) in (2..).zip(reader.records()) {
            let at = || format!("{}:{number}", file.display());
            let record = record.with_context(at)?;
            let numbers: Result<Vec<f64>, _> = record.iter().map(|field| field.trim().parse()).collect();
            let mut numbers = numbers.with_context(at)?;
            let label = numbers.pop().with_context(at)?;
            anyhow::ensure!(!numbers.is_empty(), "{}: one column; features and a label are wanted", at());
            labels.push(label != 0.0);
            rows.push(numbers);
        }
        anyhow::ensure!(
            labels.contains(&true) && labels.contains(&false),
            "{}: labels of one kind only",
            file.display()
        );
        let name = name.split('.').next().unwrap_or_default().to_owned();
        Ok(Self { name, rows, labels })
    }

    fn features(&self) -> usize {
        self.rows[0].len()
    }
}

/// Scores a set in three orders with the forest and with the plain one.
pub(crate) fn run(args: &Args) -> anyhow::Result<Report> {
    anyhow::ensure!(args.seeds > 0, "--seeds: at least 1");
    let entries =
        std::fs::read_dir(&args.data).with_context(|| format!("--data: cannot read {}", args.data.display()))?;
    let mut files: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<_>>()?;
    files.retain(|file| [".csv", ".csv.gz"].iter().any(|end| file.to_string_lossy().ends_with(end)));
    files.sort();
    anyhow::ensure!(!files.is_empty(), "--data: no CSV file in {}", args.data.display());
    let mut table = format!(
        "{:20} {:>8} {:>9} {:>9} {:>9} {:>9} {:>8}\n",
        "set", "rows", "features", "forest", "plain", "us a row", "kB"
    );
    let (mut figures, mut sum, mut below, mut micros, mut kilobytes) =
        (Vec::<Value>::new(), 0.0, 0.0_f64, 0.0_f64, 0.0_f64);
    for file in &files {
        let set = Set::read(file)?;
        let runs = (1..=args.seeds).map(|seed| Run::of(&set, seed)).collect::<anyhow::Result<Vec<_>>>()?;
        let of = |figure: fn(&Run) -> f64| median(&runs.iter().map(figure).collect::<Vec<_>>());
        let (ours, plain) = (of(|run| run.ours), of(|run| run.plain));
        let (us, kb) = (of(|run| run.micros), of(|run| run.kilobytes));
        sum += ours;
        below = below.max(plain - ours);
        if set.features() <= COSTED_FEATURES {
            (micros, kilobytes) = (micros.max(us), kilobytes.max(kb));
        }
        let (name, rows, features) = (&set.name, set.rows.len(), set.features());
        // Writing to a String does not fail.
        let _ = writeln!(table, "{name:20} {rows:>8} {features:>9} {ours:>9.4} {plain:>9.4} {us:>9.2} {kb:>8.0}");
        figures.push(json!({ "set": name, "roc_auc": ours, "roc_auc_plain": plain, "us_a_row": us, "kB": kb }));
    }
    Ok(Report::new(table, figures.into())
        .goal("ROC AUC, mean of the sets", sum / files.len() as f64, Goal::AtLeast(MEAN_MIN))
        .goal("farthest below the plain online forest", below, Goal::AtMost(BELOW_MAX))
        .goal("us a row of up to 9 features, scored and learnt", micros, Goal::AtMost(MICROS_MAX))
        .goal("kB of state", kilobytes, Goal::AtMost(KILOBYTES_MAX)))
}

struct Run {
    ours: f64,
    plain: f64,
    micros: f64,
    kilobytes: f64,
}

impl Run {
    fn of(set: &Set, seed: u64) -> anyhow::Result<Self> {
        let mut order: Vec<usize> = (0..set.rows.len()).collect();
        order.shuffle(&mut StdRng::seed_from_u64(seed));
        let labels: Vec<bool> = order.iter().map(|&row| set.labels[row]).collect();
        let mut forest = Forest::new(seed, set.features());
        let begun = Instant::now();
        let ours: Vec<f64> = order
            .iter()
            .map(|&row| {
                let oddness = forest.score(&set.rows[row]);
                forest.learn(&set.rows[row], oddness);
                oddness.score
            })
            .collect();
        let micros = begun.elapsed().as_secs_f64() * 1e6 / order.len() as f64;
        let plain = plain(set, &order, seed)?;
        let kilobytes = forest.state_bytes() as f64 / 1e3;
        Ok(Self { ours: roc_auc(&ours, &labels), plain: roc_auc(&plain, &labels), micros, kilobytes })
    }
}

/// Scores of the online forest of F. Leveni et al. (ICML 2024) as rcf3 has it, with its authors' parameters.
fn plain(set: &Set, order: &[usize], seed: u64) -> anyhow::Result<Vec<f64>> {
    let error = |error| anyhow::anyhow!("rcf3, {}: {error:?}", set.name);
    let mut forest = OnlineIForest::builder(set.features()).seed(seed).build().map_err(error)?;
    let score = |&row: &usize| {
        let row: Vec<f32> = set.rows[row].iter().map(|x| *x as f32).collect();
        // None of its first rows has a score.
        let score = forest.score(&row).unwrap_or(0.0);
        forest.update(&row).map_err(error)?;
        Ok(score)
    };
    order.iter().map(score).collect()
}

/// The chance that a labelled row scores higher than another one, half of it where both are equal.
fn roc_auc(scores: &[f64], labels: &[bool]) -> f64 {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    let labelled = labels.iter().filter(|label| **label).count() as f64;
    let (mut ranks, mut before) = (0.0, 0.0);
    for tied in order.chunk_by(|&a, &b| scores[a] == scores[b]) {
        let rank = before + (tied.len() as f64 + 1.0) / 2.0;
        ranks += rank * tied.iter().filter(|&&row| labels[row]).count() as f64;
        before += tied.len() as f64;
    }
    (ranks - labelled * (labelled + 1.0) / 2.0) / (labelled * (labels.len() as f64 - labelled))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_area_counts_pairs() {
        let labels = [false, true, false, true];
        assert_eq!(roc_auc(&[1.0, 2.0, 3.0, 4.0], &labels), 0.75);
        assert_eq!(roc_auc(&[0.0, 1.0, 0.0, 1.0], &labels), 1.0);
        assert_eq!(roc_auc(&[5.0; 4], &labels), 0.5);
    }
}
