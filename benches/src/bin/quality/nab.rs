//! NAB, the Numenta Anomaly Benchmark, scored as its own scorer does.
//!
//! A detector gives each row a score; one threshold serves the whole corpus. Of a labelled window the best-placed row at or above the
//! threshold pays, the earlier the more; a window without one costs; each row at or above it outside of all windows costs, little behind a
//! window, all far from any. The first rows of each series (15 %, 750 at most) do not count. 100 is a detector that says all and nothing
//! else, 0 one that says nothing. Source: A. Lavin and S. Ahmad, "Evaluating Real-time Anomaly Detection Algorithms: the Numenta Anomaly
//! Benchmark", ICMLA 2015 (arXiv 1510.03336), and the sweep of NAB's own scorer (`nab/sweeper.py`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::json;
use tidewatch_benches::report::{Goal, Report};

use crate::feed;
use crate::rows::{self, Series, Values};

/// The options of `quality nab`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder that holds NAB's `data` and `labels`
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Write each row's score to this folder in NAB's own format, as tidewatch/CATEGORY/tidewatch_SERIES.csv and as CATEGORY/SERIES.csv
    #[arg(long, value_name = "DIR")]
    results: Option<PathBuf>,
}

/// What a profile pays for a window, and what false rows and missed windows cost.
#[derive(Clone, Copy, Debug)]
struct Profile {
    name: &'static str,
    goal: f64,
    found: f64,
    false_row: f64,
    missed: f64,
}

/// NAB's three profiles.
const PROFILES: [Profile; 3] = [
    Profile { name: "standard", goal: 76.0, found: 1.0, false_row: 0.11, missed: 1.0 },
    Profile { name: "reward low FP", goal: 67.0, found: 1.0, false_row: 0.22, missed: 1.0 },
    Profile { name: "reward low FN", goal: 81.0, found: 1.0, false_row: 0.11, missed: 2.0 },
];

/// Share of a series that does not count, and the most rows of it that do not.
const PROBATION: f64 = 0.15;
const PROBATION_OF_MAX: f64 = 5_000.0;
/// Goals of the standard profile: where a threshold comes from other series, and where it is the product's own.
const HALVES_MIN: f64 = 74.0;
const FIXED_MIN: f64 = 71.0;

/// A row as the scorer sees it.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// What saying it is worth in units of the profile: within (0, 1] in a window, [-1, 0] outside of all.
    worth: f64,
    window: Option<u32>,
}

/// The series with their labelled windows.
struct Corpus {
    /// `category/series.csv`.
    names: Vec<String>,
    series: Vec<Series>,
    places: Vec<Vec<Place>>,
    probation: Vec<usize>,
    /// The series of each window.
    windows: Vec<usize>,
}

/// What a threshold comes to.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Outcome {
    score: f64,
    threshold: f64,
    found: usize,
    windows: usize,
    false_rows: usize,
}

fn sigmoid(position: f64) -> f64 {
    if position > 3.0 { -1.0 } else { 2.0 / (1.0 + (5.0 * position).exp()) - 1.0 }
}

impl Corpus {
    /// Reads `data/<category>/<series>.csv` and `labels/combined_windows.json` of a folder.
    fn read(folder: &Path) -> anyhow::Result<Self> {
        let file = folder.join("labels/combined_windows.json");
        let text = std::fs::read_to_string(&file).with_context(|| format!("--data: cannot read {}", file.display()))?;
        let labels: BTreeMap<String, Vec<[String; 2]>> =
            serde_json::from_str(&text).with_context(|| format!("{} holds no labelled windows", file.display()))?;
        anyhow::ensure!(!labels.is_empty(), "{} names no series", file.display());
        let mut corpus = Self {
            names: Vec::new(),
            series: Vec::new(),
            places: Vec::new(),
            probation: Vec::new(),
            windows: Vec::new(),
        };
        for (name, windows) in labels {
            corpus.add(folder, &name, &windows).with_context(|| format!("series {name}"))?;
        }
        Ok(corpus)
    }

    fn add(&mut self, folder: &Path, name: &str, windows: &[[String; 2]]) -> anyhow::Result<()> {
        let series = Series::read(&folder.join("data").join(name), Values::One)?;
        let rows = series.rows.len();
        let mut places = vec![Place { worth: -1.0, window: None }; rows];
        let mut last: Option<(usize, f64)> = None;
        let behind = |places: &mut [Place], from: usize, to: usize, last: Option<(usize, f64)>| {
            let Some((end, width)) = last else { return };
            for (row, place) in places.iter_mut().enumerate().take(to).skip(from) {
                place.worth = sigmoid((row - end) as f64 / (width - 1.0));
            }
        };
        for window in windows {
            let [first, end] = [&window[0], &window[1]].map(|time| {
                let time = rows::time_ms(time)?;
                let found = series.rows.iter().position(|row| row.time_ms == time);
                found.with_context(|| format!("no row at {time} ms since 1970, where a window begins or ends"))
            });
            let (first, end) = (first?, end?);
            anyhow::ensure!(first <= end, "a window ends before it begins");
            behind(&mut places, last.map_or(0, |(end, _)| end + 1), first, last);
            let width = (end - first + 1) as f64;
            let number = u32::try_from(self.windows.len())?;
            for (row, place) in places.iter_mut().enumerate().take(end + 1).skip(first) {
                let worth = sigmoid(-((end - row + 1) as f64) / width) / sigmoid(-1.0);
                *place = Place { worth, window: Some(number) };
            }
            self.windows.push(self.series.len());
            last = Some((end, width));
        }
        behind(&mut places, last.map_or(0, |(end, _)| end + 1), rows, last);
        let rows = rows as f64;
        self.probation.push((PROBATION * rows).floor().min(PROBATION * PROBATION_OF_MAX).ceil() as usize);
        self.places.push(places);
        self.series.push(series);
        self.names.push(name.to_owned());
        Ok(())
    }

    /// Every other series, from the first or from the second one, by name.
    fn half(&self, odd: bool) -> Vec<usize> {
        (usize::from(!odd)..self.series.len()).step_by(2).collect()
    }

    /// The score at the best threshold for these series, or at a given one.
    fn score(&self, scores: &[Vec<f64>], of: &[usize], profile: Profile, at: Option<f64>) -> Outcome {
        let of: BTreeSet<usize> = of.iter().copied().collect();
        let mut rows: Vec<(f64, Place)> = of
            .iter()
            .flat_map(|&series| {
                let rows = scores[series].iter().copied().zip(self.places[series].iter().copied());
                rows.skip(self.probation[series])
            })
            .collect();
        rows.sort_by(|a, b| b.0.total_cmp(&a.0));
        let windows = self.windows.iter().filter(|series| of.contains(series)).count();
        let in_reach: BTreeSet<u32> = rows.iter().filter_map(|(_, place)| place.window).collect();
        // As its scorer does, a window that lies in the probation is one of all, and neither found nor missed.
        let mut raw = -profile.missed * in_reach.len() as f64;
        let silent = Outcome { score: raw, threshold: f64::INFINITY, found: 0, windows, false_rows: 0 };
        let mut best = silent;
        let mut found = BTreeMap::<u32, f64>::new();
        let mut false_rows = 0;
        for tied in rows.chunk_by(|a, b| a.0 == b.0) {
            let threshold = tied[0].0;
            if at.is_some_and(|at| threshold < at) {
                break;
            }
            for (_, place) in tied {
                match place.window {
                    None => {
                        raw += place.worth * profile.false_row;
                        false_rows += 1;
                    }
                    Some(window) => {
                        let paid = found.entry(window).or_insert(-profile.missed);
                        let pays = (place.worth * profile.found).max(*paid);
                        raw += pays - *paid;
                        *paid = pays;
                    }
                }
            }
            if at.is_some() || raw > best.score {
                best = Outcome { score: raw, threshold, found: found.len(), windows, false_rows };
            }
        }
        let (silent, perfect) = (-profile.missed * windows as f64, profile.found * windows as f64);
        Outcome { score: 100.0 * (best.score - silent) / (perfect - silent), ..best }
    }
}

/// Feeds all series, and scores what is said of them.
pub(crate) fn run(args: &Args) -> anyhow::Result<Report> {
    let corpus = Corpus::read(&args.data)?;
    let mut scores = Vec::with_capacity(corpus.series.len());
    for series in &corpus.series {
        scores.push(feed::judge(series)?.rows.into_iter().map(|said| said.score).collect::<Vec<_>>());
    }
    if let Some(folder) = &args.results {
        write_results(folder, &corpus, &scores)?;
    }
    Ok(report(&corpus, &scores))
}

fn report(corpus: &Corpus, scores: &[Vec<f64>]) -> Report {
    let all: Vec<usize> = (0..corpus.series.len()).collect();
    let mut table = format!("{:54} {:>7} {:>9} {:>11}\n", "series, at score 1.0", "rows", "windows", "false rows");
    for (at, name) in corpus.names.iter().enumerate() {
        let Outcome { found, windows, false_rows, .. } = corpus.score(scores, &[at], PROFILES[0], Some(1.0));
        let rows = corpus.series[at].rows.len();
        // Writing to a String does not fail.
        let _ = writeln!(table, "{name:54} {rows:>7} {:>9} {false_rows:>11}", format!("{found} of {windows}"));
    }
    let best = PROFILES.map(|profile| (profile, corpus.score(scores, &all, profile, None)));
    let _ = writeln!(table, "\n{:38} {:>6} {:>10} {:>11} {:>11}", "", "score", "threshold", "windows", "false rows");
    let mut line = |what: &str, outcome: &Outcome| {
        let Outcome { score, threshold, found, windows, false_rows } = *outcome;
        let found = format!("{found} of {windows}");
        let _ = writeln!(table, "{what:38} {score:>6.2} {threshold:>10.3} {found:>11} {false_rows:>11}");
    };
    for (profile, outcome) in &best {
        line(profile.name, outcome);
    }
    let standard = PROFILES[0];
    let halves = [true, false].map(|odd| {
        let frozen = corpus.score(scores, &corpus.half(!odd), standard, None).threshold;
        corpus.score(scores, &corpus.half(odd), standard, Some(frozen))
    });
    line("standard, 1st half, threshold of the 2nd", &halves[0]);
    line("standard, 2nd half, threshold of the 1st", &halves[1]);
    let fixed = corpus.score(scores, &all, standard, Some(1.0));
    line("standard, at the product's threshold", &fixed);
    let mean = f64::midpoint(halves[0].score, halves[1].score);
    let figures = json!({
        "profiles": best.iter().map(|(profile, outcome)| (profile.name, outcome.score)).collect::<BTreeMap<_, _>>(),
        "threshold": best[0].1.threshold, "halves": halves.map(|half| half.score), "fixed": fixed.score,
    });
    let report = best.iter().fold(Report::new(table, figures), |report, (profile, outcome)| {
        report.goal(profile.name, outcome.score, Goal::AtLeast(profile.goal))
    });
    report.goal("standard, mean of the halves", mean, Goal::AtLeast(HALVES_MIN)).goal(
        "standard, at the product's threshold",
        fixed.score,
        Goal::AtLeast(FIXED_MIN),
    )
}

/// As NAB's own scorer reads it. All digits: rows that are equal here are equal there.
fn write_results(folder: &Path, corpus: &Corpus, scores: &[Vec<f64>]) -> anyhow::Result<()> {
    for ((name, series), scores) in corpus.names.iter().zip(&corpus.series).zip(scores) {
        let (category, file) = name.split_once('/').with_context(|| format!("`{name}` is in no category"))?;
        let mut text = String::from("timestamp,value,anomaly_score,label\n");
        for (at, (row, score)) in series.rows.iter().zip(scores).enumerate() {
            let time = jiff::Timestamp::from_millisecond(row.time_ms)?.strftime("%Y-%m-%d %H:%M:%S");
            let (value, label) = (series.values(at)[0], u8::from(row.is_anomalous));
            let _ = writeln!(text, "{time},{value},{},{label}", score / (1.0 + score));
        }
        let official = folder.join("tidewatch").join(category).join(format!("tidewatch_{file}"));
        for path in [official, folder.join(name)] {
            let write = || {
                path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
                std::fs::write(&path, &text)
            };
            write().with_context(|| format!("--results: cannot write {}", path.display()))?;
        }
    }
    Ok(())
}
