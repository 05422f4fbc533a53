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
use tidewatch_benches::report::{Goal, Report};
use tidewatch_processor_core::StreamSettings;
use tidewatch_processor_core::config::ForecastParams;
use tidewatch_processor_core::forecast::{Forecaster, PathPoint};

use self::judge::{Judge, LEVELS, SIMPLE, Sums, season_error};
use crate::rows::{Series, Values, stem};

mod judge;

/// Where series without times begin: 2026-01-05, a Monday.
const START_MS: i64 = 1_767_571_200_000;
const HOUR_MS: i64 = 3_600_000;
/// A path of up to so many steps is looked at step by step.
const PATH_MAX: u32 = 48;
/// A series whose error is above so many times that of the last value is told of.
const WORSE: f64 = 1.1;
/// The goals of coverage, and of us and bytes by tier.
const COVERAGE: [f64; 2] = [0.94, 0.96];
const FULL_MAX: [f64; 2] = [2.5, 9_216.0];
const LIGHT_MAX: [f64; 2] = [0.6, 2_048.0];

/// The options of `quality forecast`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Series as rows of a CSV file: a name and values an hour apart; with --value, CSV files (or folders) of a series each
    #[arg(long, value_name = "PATH", required = true)]
    data: Vec<PathBuf>,
    /// The column of the values, of files with a row for each time
    #[arg(long, value_name = "COLUMN")]
    value: Option<String>,
    /// The column that names the series, where a file has several below each other
    #[arg(long, value_name = "COLUMN", requires = "value")]
    by: Option<String>,
    /// One season or two, the shorter first: a number of steps, or a span such as 24h, which any cadence understands
    #[arg(long, value_name = "STEPS|SPAN", default_values = ["24", "168"])]
    season: Vec<Length>,
    /// Have the seasons found; those that are named are for the scale and the simple methods
    #[arg(long)]
    auto: bool,
    /// How far ahead; once: the path up to there, several times: these
    #[arg(long, value_name = "STEPS|SPAN", default_values = ["24"])]
    horizon: Vec<Length>,
    /// How much of the end of each series is forecast
    #[arg(long, value_name = "STEPS|SPAN", default_value = "48")]
    holdout: Length,
    /// Which forecaster
    #[arg(long, value_parser = ["full", "light"], default_value = "full")]
    tier: String,
    /// Only the K-th of every N series
    #[arg(long, value_name = "K/N", default_value = "1/1")]
    series: Chosen,
    /// From one origin to the next
    #[arg(long, value_name = "STEPS|SPAN", default_value = "1")]
    every: Length,
}

/// Which series are looked at: the first and then every so many.
#[derive(Clone, Copy, Debug)]
struct Chosen {
    first: usize,
    every: usize,
}

impl std::str::FromStr for Chosen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/').and_then(|(first, every)| Some((first.parse().ok()?, every.parse().ok()?)));
        match numbers {
            Some((first, every)) if (1..=every).contains(&first) => Ok(Self { first, every }),
            _ => Err(format!("`{text}` is not K/N, such as 1/2 for the first, third, fifth …")),
        }
    }
}

impl Chosen {
    const fn has(self, at: usize) -> bool {
        at % self.every == self.first - 1
    }
}

/// A number of steps.
#[derive(Clone, Copy, Debug)]
enum Length {
    Steps(u32),
    Ms(i64),
}

impl std::str::FromStr for Length {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is neither a number of steps, from 1 on, nor a span such as 24h");
        let length = match (text.parse(), humantime::parse_duration(text)) {
            (Ok(steps), _) => Self::Steps(steps),
            (_, Ok(span)) => Self::Ms(i64::try_from(span.as_millis()).map_err(|_| wrong())?),
            _ => return Err(wrong()),
        };
        if matches!(length, Self::Steps(0) | Self::Ms(0)) { Err(wrong()) } else { Ok(length) }
    }
}

impl std::fmt::Display for Length {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Steps(steps) => write!(f, "{steps}"),
            Self::Ms(ms) => write!(f, "{}", humantime::format_duration(Duration::from_millis(ms.unsigned_abs()))),
        }
    }
}

impl Length {
    /// In steps of this length; those of a span at least 1.
    fn steps(self, step_ms: i64) -> u32 {
        match self {
            Self::Steps(steps) => steps,
            Self::Ms(ms) => ((ms + step_ms / 2) / step_ms).max(1) as u32,
        }
    }
}

/// What is asked, in steps of a series.
struct Asked {
    seasons: Vec<u32>,
    horizons: Vec<u32>,
    holdout: usize,
    every: usize,
}

impl Asked {
    fn new(args: &Args, step_ms: i64) -> anyhow::Result<Self> {
        let steps = |lengths: &[Length]| lengths.iter().map(|length| length.steps(step_ms)).collect::<Vec<u32>>();
        let (mut seasons, mut horizons) = (steps(&args.season), steps(&args.horizon));
        seasons.retain(|season| *season > 1);
        anyhow::ensure!(!seasons.is_empty(), "--season: shorter than two steps");
        anyhow::ensure!(seasons.len() <= 2, "--season: one or two can be named");
        anyhow::ensure!(seasons.is_sorted_by(|a, b| a < b), "--season: name the shorter one first");
        if let [last] = horizons[..] {
            let many = "a path has up to 48 steps; name those further ahead one by one";
            anyhow::ensure!(last <= PATH_MAX, "--horizon {last}: {many}");
            horizons = (1..=last).collect();
        }
        anyhow::ensure!(horizons.is_sorted_by(|a, b| a < b), "--horizon: name them in ascending order");
        let holdout = args.holdout.steps(step_ms) as usize;
        let last = horizons[horizons.len() - 1] as usize;
        anyhow::ensure!(last <= holdout, "--horizon: {last} steps are beyond --holdout, so that nothing can be judged");
        let every = args.every.steps(step_ms) as usize;
        Ok(Self { seasons, horizons, holdout, every })
    }
}

/// A series at equal steps; not a number where a value is missing.
struct Recorded {
    name: String,
    start_ms: i64,
    step_ms: i64,
    values: Vec<f64>,
}

/// What is found on the series of one path.
struct Group {
    name: String,
    /// What horizons are called, the path the last.
    horizons: Vec<String>,
    /// By horizon.
    sums: Vec<Sums>,
    /// The errors by those of the last value, by horizon, and of which series.
    by_naive: Vec<Vec<(f64, String)>>,
    /// Series too short, or without a seasonal error to scale others by.
    left_out: u64,
    took: Duration,
    updates: u64,
    bytes: f64,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<Report> {
    let groups = args.data.iter().map(|path| Group::measure(path, args)).collect::<anyhow::Result<Vec<_>>>()?;
    let table = groups.iter().map(|group| group.table(args)).collect();
    let figures = groups.iter().map(Group::figures).collect::<Vec<_>>();
    let report = Report::new(table, figures.into());
    Ok(groups.iter().fold(report, |report, group| group.goals(report, &args.tier)))
}

/// What the product forecasts by, for steps of this length.
fn params(args: &Args, asked: &Asked, step_ms: i64) -> anyhow::Result<ForecastParams> {
    let span = |steps: &u32| format!("{}ms", i64::from(*steps) * step_ms);
    let named = || asked.seasons.iter().map(span).collect::<Vec<_>>();
    let seasons = if args.auto { json!("auto") } else { json!(named()) };
    let forecast = json!({
        "tier": args.tier, "levels": LEVELS, "seasons": seasons,
        "horizons": asked.horizons.iter().map(span).collect::<Vec<_>>(),
    });
    let stream = json!({
        "name": "forecast", "topic": "forecast", "format": "json", "entity": ["entity"], "event_time": "at",
        "window": { "tumbling": format!("{step_ms}ms") },
        "measure": [{ "name": "value", "field": "value", "forecast": forecast }],
    });
    let config = serde_json::from_value::<StreamSettings>(stream)?;
    let config = config.validate().context("these --season and --horizon are not ones to forecast by")?;
    config.measures[0].forecast.clone().context("--tier: full or light")
}

impl Group {
    fn measure(path: &Path, args: &Args) -> anyhow::Result<Self> {
        let mut group = Self {
            name: stem(path),
            horizons: Vec::new(),
            sums: Vec::new(),
            by_naive: Vec::new(),
            left_out: 0,
            took: Duration::ZERO,
            updates: 0,
            bytes: 0.0,
        };
        let all = match &args.value {
            Some(column) => read_long(path, column, args.by.as_deref())?,
            None => read_rows(path)?,
        };
        for (at, recorded) in all.iter().enumerate() {
            if args.series.has(at) {
                group.add(recorded, args)?;
            }
        }
        let problem = "no series has two seasons before what is held out, and varies there";
        anyhow::ensure!(!group.sums.is_empty(), "--data: {}: {problem}", path.display());
        Ok(group)
    }

    /// Forecasts a series, and adds what comes of it.
    fn add(&mut self, recorded: &Recorded, args: &Args) -> anyhow::Result<()> {
        let Recorded { name, step_ms, values, .. } = recorded;
        let asked = Asked::new(args, *step_ms)?;
        let shortest = asked.seasons[0] as usize;
        if values.len() <= asked.holdout + 2 * shortest {
            return self.leave_out();
        }
        let known = &values[..values.len() - asked.holdout];
        let Some(scale) = season_error(known, shortest).filter(|scale| *scale > 0.0) else { return self.leave_out() };
        let params = params(args, &asked, *step_ms)?;
        let mut judged = Judge::new(values, &asked, scale);
        let (forecaster, took) = pass(recorded, &asked, &params, |at, path| judged.origin(at, path));
        let Some(found) = judged.found() else { return self.leave_out() };
        self.took += took;
        self.updates += values.iter().filter(|value| value.is_finite()).count() as u64;
        if self.sums.is_empty() {
            self.horizons = match args.horizon[..] {
                [_] => asked.horizons.iter().map(u32::to_string).collect(),
                _ => args.horizon.iter().map(Length::to_string).collect(),
            };
            self.horizons.push("path".into());
            (self.sums, self.by_naive) = (vec![Sums::default(); found.len()], vec![Vec::new(); found.len()]);
        }
        anyhow::ensure!(
            found.len() == self.sums.len(),
            "--horizon: series have steps of different lengths; name spans, such as 1h"
        );
        for ((sums, by_naive), found) in self.sums.iter_mut().zip(&mut self.by_naive).zip(&found) {
            sums.add(found);
            if found.simple[0] > 0.0 {
                by_naive.push((found.mase / found.simple[0], name.clone()));
            }
        }
        self.bytes += postcard::to_stdvec(&forecaster)?.len() as f64;
        Ok(())
    }

    fn leave_out(&mut self) -> anyhow::Result<()> {
        self.left_out += 1;
        Ok(())
    }

    /// The places of the horizons that a table shows.
    fn shown(&self) -> impl Iterator<Item = usize> {
        let is_shown = |at: &usize| {
            self.horizons.len() <= 9 || ["1", "3", "6", "12", "24", "48", "path"].contains(&&*self.horizons[*at])
        };
        (0..self.horizons.len()).filter(is_shown)
    }

    fn goals(&self, report: Report, tier: &str) -> Report {
        let name = &self.name;
        let coverages = || self.sums[..self.sums.len() - 1].iter().map(|sums| sums.mean().inside[1]);
        let (least, most) = (coverages().fold(1.0, f64::min), coverages().fold(0.0, f64::max));
        let ((us, bytes), (_, worst)) = (self.cost(), self.by_naive(self.by_naive.len() - 1));
        let [us_max, bytes_max] = if tier == "light" { LIGHT_MAX } else { FULL_MAX };
        report
            .goal(format!("{name}: in the 95 % band, the horizon with the fewest"), least, Goal::AtLeast(COVERAGE[0]))
            .goal(format!("{name}: the one with the most"), most, Goal::AtMost(COVERAGE[1]))
            .goal(format!("{name}: path's error by the last value's, the worst series"), worst, Goal::AtMost(WORSE))
            .goal(format!("{name}: us an update"), us, Goal::AtMost(us_max))
            .goal(format!("{name}: bytes a series"), bytes, Goal::AtMost(bytes_max))
    }

    fn table(&self, args: &Args) -> String {
        let (name, series, holdout, tier) = (&self.name, self.sums[0].series, args.holdout, &args.tier);
        let found = if args.auto { ", seasons found" } else { "" };
        let mut text = format!("{name}: {series} series, the last {holdout} held out, {tier}{found}\n");
        if self.left_out > 0 {
            let _ = writeln!(
                text,
                "{} left out: shorter than two seasons and what is held out, or nothing to scale by",
                self.left_out
            );
        }
        let _ = write!(text, "{:>7}", "ahead");
        for column in ["MASE", "sMAPE", "OWA", "MSIS", "in 80", "in 95", "wide 80", "wide 95", "by naive", "worst"] {
            let _ = write!(text, " {column:>8}");
        }
        for simple in SIMPLE {
            let _ = write!(text, " {simple:>8}");
        }
        text.push('\n');
        for at in self.shown() {
            let is = self.sums[at].mean();
            let owa = is.owa().map_or("-".to_owned(), |owa| format!("{owa:.3}"));
            let (by_naive, worst) = self.by_naive(at);
            let _ =
                write!(text, "{:>7} {:>8.3} {:>8.2} {owa:>8} {:>8.2}", self.horizons[at], is.mase, is.smape, is.msis);
            let figures =
                [is.inside[0], is.inside[1], is.width[0], is.width[1], by_naive, worst].into_iter().chain(is.simple);
            figures.for_each(|figure| text += &format!(" {figure:>8.3}"));
            text.push('\n');
        }
        let (us, bytes) = self.cost();
        let mut above: Vec<&(f64, String)> =
            self.by_naive.last().into_iter().flatten().filter(|(by, _)| *by > WORSE).collect();
        above.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        let shown: Vec<_> = above.iter().take(6).map(|(by, name)| format!("{name} {by:.2}")).collect();
        let more = if above.len() > shown.len() { ", …" } else { "" };
        let _ = writeln!(text, "path above {WORSE} by naive: {} {}{more}", above.len(), shown.join(", "));
        text += &format!("{us:.2} us an update, {bytes:.0} bytes a series\n\n");
        text
    }

    /// The geometric mean of errors by the last value's, and the greatest.
    fn by_naive(&self, horizon: usize) -> (f64, f64) {
        let by = &self.by_naive[horizon];
        let mean = by.iter().map(|(by, _)| by.ln()).sum::<f64>() / by.len().max(1) as f64;
        (mean.exp(), by.iter().map(|(by, _)| *by).fold(0.0, f64::max))
    }

    /// Of an update in us, and of a series in bytes.
    fn cost(&self) -> (f64, f64) {
        (self.took.as_secs_f64() * 1e6 / self.updates.max(1) as f64, self.bytes / self.sums[0].series)
    }

    fn figures(&self) -> Value {
        let of = |(at, sums): (usize, &Sums)| {
            let (is, (by_naive, worst)) = (sums.mean(), self.by_naive(at));
            let simple: serde_json::Map<_, _> =
                SIMPLE.iter().zip(is.simple).map(|(name, mase)| ((*name).to_owned(), mase.into())).collect();
            json!({
                "ahead": self.horizons[at], "mase": is.mase, "smape": is.smape, "owa": is.owa(), "msis": is.msis,
                "coverage_80": is.inside[0], "coverage_95": is.inside[1], "width_80": is.width[0], "width_95": is.width[1],
                "error_by_naive": by_naive, "error_by_naive_worst": worst, "mase_simple": simple,
            })
        };
        let (us, bytes) = self.cost();
        json!({
            "data": self.name, "series": self.sums[0].series, "us_an_update": us, "bytes_a_series": bytes,
            "horizons": self.sums.iter().enumerate().map(of).collect::<Vec<_>>(),
        })
    }
}

/// Forecasts from each origin in what is held out, and learns value by value; gives the forecaster, and the time that learning took.
fn pass(
    recorded: &Recorded,
    asked: &Asked,
    params: &ForecastParams,
    mut origin: impl FnMut(usize, &[PathPoint]),
) -> (Forecaster, Duration) {
    let &Recorded { start_ms, step_ms, ref values, .. } = recorded;
    let from = values.len() - asked.holdout;
    let (mut forecaster, mut took) = (Forecaster::new(params, step_ms), Duration::ZERO);
    for (at, value) in values.iter().enumerate() {
        let time_ms = start_ms + at as i64 * step_ms;
        if at >= from && (at - from).is_multiple_of(asked.every) {
            origin(at, &forecaster.path_at(params, time_ms - step_ms, step_ms, &asked.horizons));
        }
        if value.is_finite() {
            let begun = Instant::now();
            forecaster.learn(params, time_ms, step_ms, *value);
            took += begun.elapsed();
        }
    }
    (forecaster, took)
}

/// A series a row: a name, values, and blanks behind them.
fn read_rows(path: &Path) -> anyhow::Result<Vec<Recorded>> {
    anyhow::ensure!(!path.is_dir(), "--data: {} is a folder; name the column of the values by --value", path.display());
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

/// Files with a row for each time, each series at its own cadence.
fn read_long(path: &Path, column: &str, by: Option<&str>) -> anyhow::Result<Vec<Recorded>> {
    let mut files = vec![path.to_owned()];
    if path.is_dir() {
        let entries = std::fs::read_dir(path).with_context(|| format!("--data: cannot read {}", path.display()))?;
        files = entries.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<_>>()?;
        files.retain(|file| file.extension().is_some_and(|extension| extension == "csv"));
        files.sort();
    }
    let mut all = Vec::new();
    for file in &files {
        for (name, series) in Series::read_by(file, Values::Named(column), by)? {
            all.push(at_equal_steps(name, &series).with_context(|| file.display().to_string())?);
        }
    }
    Ok(all)
}

/// A value for each step: the last of those that fall into it.
fn at_equal_steps(name: String, series: &Series) -> anyhow::Result<Recorded> {
    let (order, step_ms) = (series.in_order(), series.step_ms());
    let start_ms = series.rows[order[0]].time_ms.div_euclid(step_ms) * step_ms;
    let mut values = Vec::new();
    for row in order {
        let place = ((series.rows[row].time_ms - start_ms) / step_ms) as usize;
        // A gap of more than this is not one, but a wrong time.
        anyhow::ensure!(place < 10 * (series.rows.len() + 1_000), "{name}: times are far apart");
        values.resize(values.len().max(place + 1), f64::NAN);
        values[place] = series.values(row)[0];
    }
    Ok(Recorded { name, start_ms, step_ms, values })
}

#[cfg(test)]
mod tests;
