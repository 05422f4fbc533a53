//! What comes of a path when its values come: errors, bands and simple methods, summed up over origins and then over series.

use tidewatch_processor_core::forecast::PathPoint;

use super::Asked;

/// Level of the bands that MSIS is of, and the other one.
pub(super) const LEVELS: [f64; 2] = [0.8, 0.95];
/// Simple methods to compare with.
pub(super) const SIMPLE: [&str; 4] = ["naive", "season", "longest", "average"];
const AVERAGE_RATE: f64 = 0.1;

/// Sums over series of what is told of a horizon.
#[derive(Clone, Default)]
pub(super) struct Sums {
    pub(super) series: f64,
    pub(super) mase: f64,
    pub(super) smape: f64,
    pub(super) msis: f64,
    /// By level.
    pub(super) inside: [f64; 2],
    pub(super) width: [f64; 2],
    /// By simple method.
    pub(super) simple: [f64; 4],
    pub(super) naive2: [f64; 2],
}

impl Sums {
    pub(super) fn add(&mut self, other: &Self) {
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

    pub(super) fn mean(&self) -> Self {
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
    pub(super) fn owa(&self) -> Option<f64> {
        let [mase, smape] = self.naive2;
        (mase > 0.0 && smape > 0.0).then(|| 0.5 * (self.mase / mase + self.smape / smape))
    }
}

/// Sums over origins, of one series.
pub(super) struct Judge<'a> {
    values: &'a [f64],
    seasons: [usize; 2],
    scale: f64,
    /// Of the values before the next one: how many there are, the last one and their average.
    known: usize,
    last: f64,
    average: Option<f64>,
    /// By horizon, and in the end of whole paths: the sums, `series` how many there are.
    sums: Vec<Sums>,
}

impl<'a> Judge<'a> {
    pub(super) fn new(values: &'a [f64], asked: &Asked, scale: f64) -> Self {
        let seasons = [asked.seasons[0] as usize, asked.seasons[asked.seasons.len() - 1] as usize];
        let sums = vec![Sums::default(); asked.horizons.len() + 1];
        Self { values, seasons, scale, known: 0, last: f64::NAN, average: None, sums }
    }

    /// Judges a path that was forecast of the values from `at` on.
    pub(super) fn origin(&mut self, at: usize, path: &[PathPoint]) {
        for &value in self.values[self.known..at].iter().filter(|value| value.is_finite()) {
            self.last = value;
            let average = self.average.get_or_insert(value);
            *average += AVERAGE_RATE * (value - *average);
        }
        self.known = at;
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
    pub(super) fn found(&self) -> Option<Vec<Sums>> {
        let all_judged = self.sums.iter().all(|sums| sums.series > 0.0);
        all_judged.then(|| self.sums.iter().map(Sums::mean).collect())
    }
}

/// In percent, 0 where both are.
pub(super) fn smape(value: f64, expected: f64) -> f64 {
    let size = value.abs() + expected.abs();
    if size > 0.0 { 200.0 * (value - expected).abs() / size } else { 0.0 }
}

/// The mean absolute difference from the value a season before.
pub(super) fn season_error(values: &[f64], season: usize) -> Option<f64> {
    let pairs = values.iter().skip(season).zip(values).map(|(now, before)| (now - before).abs());
    let known: Vec<f64> = pairs.filter(|error| error.is_finite()).collect();
    (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
}

/// The seasonal factors of Naive2 by position in the season, as in the M4 competition: where the autocorrelation at the season is
/// significant at 90 %, those of the classical multiplicative decomposition; `None` where it is not, or a value is missing or not
/// above 0.
pub(super) fn naive2(values: &[f64], season: usize) -> Option<Vec<f64>> {
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
