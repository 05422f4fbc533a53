//! How good forecasts are: every series by itself, in one pass, each forecast before its values.
//!
//! Of each series the last values are held out. From the last value before them on, each value is an origin: a path is forecast there;
//! then the value is learnt. A horizon is judged from each origin from which it ends within what is held out, the path from those from
//! which all of it does. Errors are scaled by the mean absolute difference
//! from the value a season before, over what is not held out (MASE: R. J. Hyndman, A. B. Koehler, Int. J. Forecasting 22, 2006). sMAPE,
//! MSIS and OWA are those of the M4 competition (S. Makridakis et al., Int. J. Forecasting 36, 2020). Beside them: the last value
//! (naive), the value a season before, for the shortest and the longest season, and an average at .1.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value, json};
use tidewatch_benches::report::Report;
use tidewatch_processor_core::StreamSettings;
use tidewatch_processor_core::config::ForecastParams;
use tidewatch_processor_core::forecast::{Forecaster, PathPoint};

use crate::rows::{Series, Values};

/// Where series without times begin: 2026-01-05, a Monday.
const START_MS: i64 = 1_767_571_200_000;
const HOUR_MS: i64 = 3_600_000;
/// A path of up to so many steps is looked at step by step.
const PATH_MAX: u32 = 48;
/// Level of the bands that MSIS is of, and the other one.
const LEVELS: [f64; 2] = [0.8, 0.95];
/// Simple methods to compare with.
const SIMPLE: [&str; 4] = ["naive", "season", "longest", "average"];
const AVERAGE_RATE: f64 = 0.1;

/// The options of `quality forecast`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Series as rows of a CSV file: a name and values an hour apart; with --value, CSV files (or folders) of a series each
    #[arg(long, value_name = "PATH", required = true)]
    data: Vec<PathBuf>,
    /// The column of the values, of files with a row for each time
    #[arg(long, value_name = "COLUMN")]
    value: Option<String>,
    /// Seasons in steps, the shortest first
    #[arg(long, value_name = "STEPS", default_values_t = [24, 168])]
    season: Vec<u32>,
    /// Steps ahead; once: the path up to there, several times: these
    #[arg(long, value_name = "STEPS", default_values_t = [24])]
    horizon: Vec<u32>,
    /// Values at the end of each series that are forecast
    #[arg(long, value_name = "STEPS", default_value_t = 48)]
    holdout: usize,
    /// full or light
    #[arg(long, default_value = "full")]
    tier: String,
    /// Only each second series, from the first (odd) or second (even) on
    #[arg(long, value_name = "odd|even")]
    half: Option<String>,
}

/// A series at equal steps; not a number where a value is missing.
struct Recorded {
    name: String,
    start_ms: i64,
    step_ms: i64,
    values: Vec<f64>,
}

/// Sums over series of what is told of a horizon.
#[derive(Clone, Default)]
struct Sums {
    series: f64,
    mase: f64,
    smape: f64,
    msis: f64,
    /// By level.
    inside: [f64; 2],
    width: [f64; 2],
    /// By simple method.
    simple: [f64; 4],
    naive2: [f64; 2],
}

/// What is found on the series of one path.
struct Group {
    name: String,
    horizons: Vec<u32>,
    /// By horizon, and in the end of the whole path.
    sums: Vec<Sums>,
    worst: Vec<(f64, String)>,
    took: Duration,
    updates: u64,
    bytes: f64,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<Report> {
    anyhow::ensure!(args.holdout > 0, "--holdout: at least 1");
    anyhow::ensure!(!args.horizon.contains(&0), "--horizon: at least 1");
    anyhow::ensure!(!args.season.contains(&0), "--season: at least 1; leave it out for a day and a week of hours");
    let horizons: Vec<u32> = match args.horizon[..] {
        [last] if last <= PATH_MAX => (1..=last).collect(),
        [last] => {
            anyhow::bail!("--horizon {last}: a path has up to {PATH_MAX} steps; name those further ahead one by one")
        }
        _ => args.horizon.clone(),
    };
    let (mut table, mut figures) = (String::new(), Vec::new());
    for path in &args.data {
        let group = Group::measure(path, args, &horizons)?;
        table += &group.table(args);
        figures.push(group.figures());
    }
    Ok(Report::new(table, figures.into()))
}

/// What the product forecasts by, for steps of this length.
fn params(args: &Args, step_ms: i64, horizons: &[u32]) -> anyhow::Result<ForecastParams> {
    let span = |steps: &u32| format!("{}ms", i64::from(*steps) * step_ms);
    let forecast = json!({
        "tier": args.tier, "levels": LEVELS,
        "seasons": args.season.iter().map(span).collect::<Vec<_>>(),
        "horizons": horizons.iter().map(span).collect::<Vec<_>>(),
    });
    let stream = json!({
        "name": "forecast", "topic": "forecast", "format": "json", "entity": ["entity"], "event_time": "at",
        "window": { "tumbling": format!("{step_ms}ms") },
        "measure": [{ "name": "value", "field": "value", "forecast": forecast }],
    });
    let config = serde_json::from_value::<StreamSettings>(stream)?.validate()?;
    config.measures[0].forecast.clone().context("--tier: full or light")
}

impl Group {
    fn measure(path: &Path, args: &Args, horizons: &[u32]) -> anyhow::Result<Self> {
        let mut group = Self {
            name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            horizons: horizons.to_vec(),
            sums: vec![Sums::default(); horizons.len() + 1],
            worst: Vec::new(),
            took: Duration::ZERO,
            updates: 0,
            bytes: 0.0,
        };
        let all = match &args.value {
            Some(column) => read_long(path, column)?,
            None => read_rows(path)?,
        };
        for (at, recorded) in all.iter().enumerate() {
            let is_wanted = match args.half.as_deref() {
                None => true,
                Some("odd") => at % 2 == 0,
                Some("even") => at % 2 == 1,
                Some(other) => anyhow::bail!("--half: {other} is neither odd nor even"),
            };
            if is_wanted {
                group.add(recorded, args)?;
            }
        }
        anyhow::ensure!(group.sums[0].series > 0.0, "{}: no series of more than --holdout values", path.display());
        Ok(group)
    }

    /// Forecasts a series, and adds what comes of it.
    fn add(&mut self, recorded: &Recorded, args: &Args) -> anyhow::Result<()> {
        let Recorded { name, start_ms, step_ms, values } = recorded;
        let shortest = args.season[0] as usize;
        let last = self.horizons[self.horizons.len() - 1] as usize;
        anyhow::ensure!(last <= args.holdout, "--horizon: {last} is beyond --holdout, so that nothing can be judged");
        if values.len() <= args.holdout + 2 * shortest {
            return Ok(());
        }
        let from = values.len() - args.holdout;
        let Some(scale) = season_error(&values[..from], shortest).filter(|scale| *scale > 0.0) else { return Ok(()) };
        let params = params(args, *step_ms, &self.horizons)?;
        let mut forecaster = Forecaster::new(&params, *step_ms);
        let mut judged = Judge::new(values, args, &self.horizons, scale);
        for (at, value) in values.iter().enumerate() {
            if at >= from {
                judged.origin(at, &forecaster.path_at(&params, *step_ms, &self.horizons));
            }
            judged.learn(*value);
            if value.is_finite() {
                let begun = Instant::now();
                forecaster.learn(&params, start_ms + at as i64 * step_ms, *step_ms, *value);
                self.took += begun.elapsed();
                self.updates += 1;
            }
        }
        let bytes = postcard::to_stdvec(&forecaster)?.len() as f64;
        if let Some(found) = judged.found() {
            for (sum, found) in self.sums.iter_mut().zip(&found) {
                sum.add(found);
            }
            let path = &found[self.horizons.len()];
            if path.simple[0] > 0.0 {
                self.worst.push((path.mase / path.simple[0], name.clone()));
            }
            self.bytes += bytes;
        }
        Ok(())
    }

    fn table(&self, args: &Args) -> String {
        let mut text = format!(
            "{}: {} series, the last {} values held out, {}\n{:>7} {:>7} {:>7} {:>7} {:>6} {:>6} {:>7} {:>7}",
            self.name,
            self.sums[0].series,
            args.holdout,
            args.tier,
            "ahead",
            "MASE",
            "sMAPE",
            "MSIS",
            "in 80",
            "in 95",
            "wide 80",
            "wide 95"
        );
        for simple in SIMPLE {
            let _ = write!(text, " {simple:>8}");
        }
        text += "      OWA\n";
        let shown: Vec<usize> = (0..self.horizons.len())
            .filter(|&at| self.horizons.len() <= 8 || [1, 3, 6, 12, 24, 48].contains(&self.horizons[at]))
            .collect();
        for at in shown.into_iter().chain([self.horizons.len()]) {
            let name = self.horizons.get(at).map_or("path".to_owned(), u32::to_string);
            let is = self.sums[at].mean();
            let _ = write!(
                text,
                "{name:>7} {:>7.3} {:>7.2} {:>7.2} {:>6.3} {:>6.3} {:>7.2} {:>7.2}",
                is.mase, is.smape, is.msis, is.inside[0], is.inside[1], is.width[0], is.width[1]
            );
            for simple in is.simple {
                let _ = write!(text, " {simple:>8.3}");
            }
            let _ = writeln!(text, " {:>8}", is.owa().map_or("-".to_owned(), |owa| format!("{owa:.3}")));
        }
        let mut worst = self.worst.clone();
        worst.sort_by(|a, b| b.0.total_cmp(&a.0));
        let above = worst.iter().filter(|(ratio, _)| *ratio > 1.1).count();
        let named: Vec<_> = worst.iter().take(3).map(|(ratio, name)| format!("{name} {ratio:.2}")).collect();
        let _ = writeln!(
            text,
            "path by naive: worst {}; above 1.1: {above}\n{:.2} us an update, {:.0} bytes a series\n",
            named.join(", "),
            self.took.as_secs_f64() * 1e6 / self.updates.max(1) as f64,
            self.bytes / self.sums[0].series
        );
        text
    }

    fn figures(&self) -> Value {
        let of = |(at, sums): (usize, &Sums)| {
            let is = sums.mean();
            json!({
                "ahead": self.horizons.get(at), "mase": is.mase, "smape": is.smape, "msis": is.msis, "owa": is.owa(),
                "coverage_80": is.inside[0], "coverage_95": is.inside[1], "width_80": is.width[0], "width_95": is.width[1],
                "mase_simple": SIMPLE.iter().zip(is.simple).map(|(name, mase)| (*name, mase)).collect::<std::collections::BTreeMap<_, _>>(),
            })
        };
        json!({
            "data": self.name, "series": self.sums[0].series,
            "horizons": self.sums.iter().enumerate().map(of).collect::<Vec<_>>(),
            "us_an_update": self.took.as_secs_f64() * 1e6 / self.updates.max(1) as f64,
            "bytes_a_series": self.bytes / self.sums[0].series,
            "worst_by_naive": self.worst.iter().map(|(ratio, _)| *ratio).fold(0.0, f64::max),
        })
    }
}

impl Sums {
    fn add(&mut self, other: &Self) {
        self.series += 1.0;
        self.mase += other.mase;
        self.smape += other.smape;
        self.msis += other.msis;
        for at in 0..LEVELS.len() {
            self.inside[at] += other.inside[at];
            self.width[at] += other.width[at];
            self.naive2[at] += other.naive2[at];
        }
        self.simple.iter_mut().zip(other.simple).for_each(|(sum, other)| *sum += other);
    }

    fn mean(&self) -> Self {
        let n = self.series;
        Self {
            series: n,
            mase: self.mase / n,
            smape: self.smape / n,
            msis: self.msis / n,
            inside: self.inside.map(|sum| sum / n),
            width: self.width.map(|sum| sum / n),
            simple: self.simple.map(|sum| sum / n),
            naive2: self.naive2.map(|sum| sum / n),
        }
    }

    /// Half of MASE and sMAPE each, by those of Naive2.
    fn owa(&self) -> Option<f64> {
        let [mase, smape] = self.naive2;
        (mase > 0.0 && smape > 0.0).then(|| 0.5 * (self.mase / mase + self.smape / smape))
    }
}

/// Sums over origins, of one series.
struct Judge<'a> {
    values: &'a [f64],
    seasons: [usize; 2],
    scale: f64,
    average: Option<f64>,
    last: f64,
    /// By horizon, and in the end of whole paths: the sums, `series` how many there are.
    sums: Vec<Sums>,
}

impl<'a> Judge<'a> {
    fn new(values: &'a [f64], args: &Args, horizons: &[u32], scale: f64) -> Self {
        let seasons = [args.season[0] as usize, args.season[args.season.len() - 1] as usize];
        let sums = vec![Sums::default(); horizons.len() + 1];
        Self { values, seasons, scale, average: None, last: f64::NAN, sums }
    }

    fn learn(&mut self, value: f64) {
        if value.is_finite() {
            self.last = value;
            let average = self.average.get_or_insert(value);
            *average += AVERAGE_RATE * (value - *average);
        }
    }

    /// Judges a path that was forecast of the values from `at` on.
    fn origin(&mut self, at: usize, path: &[PathPoint]) {
        let naive2 = naive2(&self.values[..at], self.seasons[0]);
        let is_whole = path.last().is_some_and(|last| at + last.steps as usize <= self.values.len());
        for (horizon, point) in path.iter().enumerate() {
            let ahead = point.steps as usize - 1;
            let Some(&value) = self.values.get(at + ahead).filter(|value| value.is_finite()) else { continue };
            let judged = self.judged(at, value, point, naive2.as_deref());
            self.sums[horizon].add(&judged);
            if is_whole {
                self.sums[path.len()].add(&judged);
            }
        }
    }

    /// What comes of one forecast.
    fn judged(&self, at: usize, value: f64, point: &PathPoint, naive2: Option<&[f64]>) -> Sums {
        let ahead = point.steps as usize - 1;
        let season = |season: usize| {
            let back = (ahead / season + 1) * season;
            let before = (at + ahead).checked_sub(back).map_or(f64::NAN, |at| self.values[at]);
            if before.is_finite() { before } else { self.last }
        };
        let simple = [self.last, season(self.seasons[0]), season(self.seasons[1]), self.average.unwrap_or(self.last)];
        let place = |at: usize| at % self.seasons[0];
        let adjusted =
            naive2.map_or(self.last, |factors| factors[place(at + ahead)] / factors[place(at - 1)] * self.last);
        let scaled = |expected: f64| (value - expected).abs() / self.scale;
        let mut sums = Sums {
            mase: scaled(point.mean),
            smape: smape(value, point.mean),
            simple: simple.map(scaled),
            naive2: [scaled(adjusted), smape(value, adjusted)],
            ..Sums::default()
        };
        for &(level, lower, upper) in &point.bands {
            let Some(kind) = LEVELS.iter().position(|of| *of == level) else { continue };
            sums.inside[kind] = f64::from(u8::from((lower..=upper).contains(&value)));
            sums.width[kind] = (upper - lower) / self.scale;
            if level == LEVELS[1] {
                let missed = (lower - value).max(0.0) + (value - upper).max(0.0);
                sums.msis = sums.width[kind] + 2.0 / (1.0 - level) * missed / self.scale;
            }
        }
        sums
    }

    /// The means by horizon, and of the path; `None` if nothing could be judged.
    fn found(&self) -> Option<Vec<Sums>> {
        let all_judged = self.sums.iter().all(|sums| sums.series > 0.0);
        all_judged.then(|| self.sums.iter().map(Sums::mean).collect())
    }
}

/// In percent, 0 where both are.
fn smape(value: f64, expected: f64) -> f64 {
    let size = value.abs() + expected.abs();
    if size > 0.0 { 200.0 * (value - expected).abs() / size } else { 0.0 }
}

/// The mean absolute difference from the value a season before.
fn season_error(values: &[f64], season: usize) -> Option<f64> {
    let pairs = values.iter().skip(season).zip(values).map(|(now, before)| (now - before).abs());
    let known: Vec<f64> = pairs.filter(|error| error.is_finite()).collect();
    (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
}

/// The seasonal factors of Naive2 by position in the season, as in the M4 competition: where the autocorrelation at the season is
/// significant at 90 %, those of the classical multiplicative decomposition; `None` where it is not, or a value is missing or not
/// above 0.
fn naive2(values: &[f64], season: usize) -> Option<Vec<f64>> {
    let n = values.len();
    if season < 2 || n < 3 * season || values.iter().any(|value| value.is_nan() || *value <= 0.0) {
        return None;
    }
    let mean = values.iter().sum::<f64>() / n as f64;
    let variance: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let correlation =
        |lag: usize| values.iter().skip(lag).zip(values).map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>() / variance;
    let squares: f64 = (1..season).map(|lag| correlation(lag).powi(2)).sum();
    if correlation(season).abs() <= 1.645 * ((1.0 + 2.0 * squares) / n as f64).sqrt() {
        return None;
    }
    // Centred moving average over a season.
    let half = season / 2;
    let trend = |at: usize| {
        let (from, to) = (at.checked_sub(half)?, at + half);
        let window = values.get(from..=to)?;
        let ends = if season.is_multiple_of(2) { 0.5 * (window[0] + window[window.len() - 1]) } else { 0.0 };
        Some((window.iter().sum::<f64>() - ends) / season as f64)
    };
    let (mut sums, mut counts) = (vec![0.0; season], vec![0.0; season]);
    for (at, value) in values.iter().enumerate() {
        if let Some(trend) = trend(at) {
            sums[at % season] += value / trend;
            counts[at % season] += 1.0;
        }
    }
    let factors: Vec<f64> = sums.iter().zip(&counts).map(|(sum, count)| sum / count).collect();
    let all = factors.iter().sum::<f64>() / season as f64;
    factors.iter().all(|factor| factor.is_finite() && *factor > 0.0).then(|| factors.iter().map(|f| f / all).collect())
}

/// A series a row: a name, values, and blanks behind them.
fn read_rows(path: &Path) -> anyhow::Result<Vec<Recorded>> {
    let at = || format!("--data: cannot read {}", path.display());
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_path(path).with_context(at)?;
    let mut all = Vec::new();
    for record in reader.records() {
        let record = record.with_context(at)?;
        let line = record.position().map_or(0, csv::Position::line);
        let value = |text: &str| match text.trim() {
            "" | "NA" => Ok(f64::NAN),
            text => text.parse().map_err(|_| {
                let hint = "of rows with a time each, name the column of the values by --value";
                anyhow::anyhow!("{}:{line}: `{text}` is no number; {hint}", path.display())
            }),
        };
        let mut values = record.iter().skip(1).map(value).collect::<anyhow::Result<Vec<f64>>>()?;
        values.truncate(values.iter().rposition(|value| value.is_finite()).map_or(0, |last| last + 1));
        let name = record.get(0).unwrap_or_default().to_owned();
        all.push(Recorded { name, start_ms: START_MS, step_ms: HOUR_MS, values });
    }
    Ok(all)
}

/// Files with a row for each time, at their own cadence.
fn read_long(path: &Path, column: &str) -> anyhow::Result<Vec<Recorded>> {
    let mut files = vec![path.to_owned()];
    if path.is_dir() {
        let entries = std::fs::read_dir(path).with_context(|| format!("--data: cannot read {}", path.display()))?;
        files = entries.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<_>>()?;
        files.retain(|file| file.extension().is_some_and(|extension| extension == "csv"));
        files.sort();
    }
    files.iter().map(|file| read_one(file, column)).collect()
}

fn read_one(file: &Path, column: &str) -> anyhow::Result<Recorded> {
    let series = Series::read(file, Values::All)?;
    let at = series.columns.iter().position(|name| name == column).with_context(|| {
        format!("--value: {} has no column `{column}`, but {}", file.display(), series.columns.join(", "))
    })?;
    let (order, step_ms) = (series.in_order(), series.step_ms());
    let start_ms = series.rows[order[0]].time_ms.div_euclid(step_ms) * step_ms;
    let mut values = Vec::new();
    for row in order {
        let place = ((series.rows[row].time_ms - start_ms) / step_ms) as usize;
        // A gap of more than this is not one, but a wrong time.
        anyhow::ensure!(place < 10 * (series.rows.len() + 1_000), "{}: times are far apart", file.display());
        values.resize(values.len().max(place + 1), f64::NAN);
        values[place] = series.values(row)[at];
    }
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Recorded { name, start_ms, step_ms, values })
}
