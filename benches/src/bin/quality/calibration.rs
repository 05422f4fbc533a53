//! Asked against measured rates of false alarms, on series in which nothing is wrong.

use std::f64::consts::TAU;
use std::fmt::Write as _;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rand_distr::{Distribution as _, Exp, Gamma, LogNormal, Poisson, StandardNormal, StudentT};
use serde_json::{Value, json};
use tidewatch_benches::report::{Goal, Report};
use tidewatch_processor_core::config::Rate;

use crate::feed::{self, Feed, Says};

/// 2026-01-05, a Monday.
const START_MS: i64 = 1_767_571_200_000;
const DAY_MS: i64 = 86_400_000;
const WEEK_MS: i64 = 7 * DAY_MS;
/// How far the measured rate may be from the one asked for, either way.
const FACTOR_MAX: f64 = 1.5;

/// The options of `quality calibration`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The rate that is asked for, of each series
    #[arg(long, default_value_t)]
    false_alarms: Rate,
    /// Series of each kind and cadence
    #[arg(long, default_value_t = 8)]
    series: u64,
    /// Cadences, seconds
    #[arg(long, value_delimiter = ',', default_values_t = [60, 300, 3_600])]
    steps: Vec<i64>,
    /// Weeks that are measured, after the first ones
    #[arg(long, default_value_t = 20)]
    weeks: i64,
    /// The first weeks of each series, told apart
    #[arg(long, default_value_t = 8)]
    first_weeks: i64,
}

/// What a series without anomalies is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    White,
    Autocorrelated,
    StronglyAutocorrelated,
    Seasonal,
    SeasonalSpread,
    HeavyTailed,
    LogNormal,
    Bursts,
    RareSteps,
}

impl Kind {
    const ALL: [(Self, &'static str); 9] = [
        (Self::White, "white noise"),
        (Self::Autocorrelated, "autocorrelated, .5"),
        (Self::StronglyAutocorrelated, "autocorrelated, .95"),
        (Self::Seasonal, "day and week"),
        (Self::SeasonalSpread, "day and week, and so the noise"),
        (Self::HeavyTailed, "Student's t, 3 degrees"),
        (Self::LogNormal, "log-normal, sigma 1"),
        (Self::Bursts, "bursty counts"),
        (Self::RareSteps, "constant with rare steps"),
    ];
}

/// A series without anomalies, value by value.
struct Calm {
    kind: Kind,
    random: StdRng,
    step_ms: i64,
    time_ms: i64,
    remainder: f64,
    level: f64,
    burst_left: f64,
}

impl Calm {
    fn new(kind: Kind, seed: u64, step_ms: i64) -> Self {
        let random = StdRng::seed_from_u64(seed);
        Self { kind, random, step_ms, time_ms: START_MS - step_ms, remainder: 0.0, level: 100.0, burst_left: 0.0 }
    }

    fn normal(&mut self) -> f64 {
        self.random.sample(StandardNormal)
    }

    fn autocorrelated(&mut self, rho: f64) -> f64 {
        self.remainder = rho * self.remainder + (1.0 - rho * rho).sqrt() * self.normal();
        self.remainder
    }

    fn is_drawn(&mut self, chance: f64) -> bool {
        self.random.random_bool(chance)
    }

    /// The next time and value.
    fn next(&mut self) -> (i64, f64) {
        self.time_ms += self.step_ms;
        let wave = |period_ms: i64| (TAU * self.time_ms.rem_euclid(period_ms) as f64 / period_ms as f64).sin();
        let season = wave(DAY_MS) + 0.4 * wave(WEEK_MS);
        let value = match self.kind {
            Kind::White => 100.0 + self.normal(),
            Kind::Autocorrelated => 100.0 + self.autocorrelated(0.5),
            Kind::StronglyAutocorrelated => 100.0 + self.autocorrelated(0.95),
            Kind::Seasonal => 100.0 + 10.0 * season + self.normal(),
            Kind::SeasonalSpread => 100.0 + 10.0 * season + self.normal() * (1.0 + 0.8 * season.clamp(-1.0, 1.0)),
            Kind::HeavyTailed => 100.0 + StudentT::new(3.0).expect("three degrees").sample(&mut self.random),
            Kind::LogNormal => 10.0 * LogNormal::new(0.0, 1.0).expect("a deviation").sample(&mut self.random),
            Kind::Bursts => {
                if self.burst_left > 0.0 {
                    self.burst_left -= 1.0;
                } else if self.is_drawn(1.0 / 600.0) {
                    self.burst_left = Exp::new(1.0 / 30.0).expect("a rate").sample(&mut self.random);
                }
                let mean = if self.burst_left > 0.0 { 40.0 } else { 4.0 };
                let rate = mean * Gamma::new(2.0, 0.5).expect("a shape").sample(&mut self.random);
                Poisson::new(f64::max(rate, 1e-9)).expect("a rate").sample(&mut self.random)
            }
            Kind::RareSteps => {
                // Eight a week: were they rarer than what is asked for, no threshold could give that many.
                if self.is_drawn(8.0 * self.step_ms as f64 / WEEK_MS as f64) {
                    let size = Exp::new(0.2).expect("a rate").sample(&mut self.random);
                    self.level += if self.random.random_bool(0.5) { size } else { -size };
                }
                self.level
            }
        };
        (self.time_ms, value)
    }
}

/// Alerts that opened in the first weeks, and later.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    first: u64,
    later: u64,
}

/// Feeds series of each kind and cadence, and counts what opens.
pub(crate) fn run(args: &Args) -> anyhow::Result<Report> {
    anyhow::ensure!(args.series > 0 && args.weeks > 0 && args.first_weeks >= 0, "--series and --weeks: at least 1");
    anyhow::ensure!(args.steps.iter().all(|step| *step > 0), "--steps: seconds, at least 1");
    let asked_a_week = args.false_alarms.within(WEEK_MS);
    let mut table = format!("{:34}", "got / asked (in the first weeks)");
    for step in &args.steps {
        let _ = write!(table, " {:>16}", format!("{step} s"));
    }
    table.push('\n');
    let mut figures: Vec<Value> = Vec::new();
    let mut worst = 1.0_f64;
    for (number, (kind, name)) in Kind::ALL.into_iter().enumerate() {
        let _ = write!(table, "{name:34}");
        for &step in &args.steps {
            let mut count = Count::default();
            for series in 0..args.series {
                let seed = ((number as u64 + 1) << 40) + ((step as u64) << 20) + series;
                let one = alerts(args, Calm::new(kind, seed, step * 1_000))?;
                count = Count { first: count.first + one.first, later: count.later + one.later };
            }
            let share = |alerts: u64, weeks: i64| alerts as f64 / (asked_a_week * weeks as f64 * args.series as f64);
            let (first, later) = (share(count.first, args.first_weeks), share(count.later, args.weeks));
            worst = worst.max(later).max(1.0 / later);
            let _ = write!(table, " {:>16}", format!("{later:.2} ({first:.1})"));
            figures.push(json!({ "series": name, "step_s": step, "got": later, "got_first": first }));
        }
        table.push('\n');
    }
    let figures = json!({ "asked": args.false_alarms, "series": figures });
    Ok(Report::new(table, figures).goal(
        "the farthest from what was asked, a factor of",
        worst,
        Goal::AtMost(FACTOR_MAX),
    ))
}

fn alerts(args: &Args, mut calm: Calm) -> anyhow::Result<Count> {
    let config = feed::stream(calm.step_ms, &["value".into()], json!({ "false_alarms": args.false_alarms }))?;
    let mut feed = Feed::new(config, calm.step_ms);
    let measured_from = START_MS + args.first_weeks * WEEK_MS;
    let end = measured_from + args.weeks * WEEK_MS;
    let mut count = Count::default();
    for row in 0.. {
        let (time_ms, value) = calm.next();
        if time_ms >= end {
            break;
        }
        // Of the row before, whose window closes with this one.
        let words = feed.take(row, time_ms, &[value]);
        let opened = words.iter().filter(|word| matches!(word.says, Says::Opens(_))).count() as u64;
        *(if time_ms <= measured_from { &mut count.first } else { &mut count.later }) += opened;
    }
    Ok(count)
}
