//! A number per time of a season, in a bounded number of buckets.

use serde::{Deserialize, Serialize};

/// A function of the phase within a season of `span` windows. With more windows than buckets it is read, and learnt, by linear
/// interpolation between the buckets' centres.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Cycle {
    span: u32,
    values: Vec<f64>,
}

/// The two buckets that a window lies between, and their shares in it, which add up to one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Place {
    pub(super) buckets: [usize; 2],
    pub(super) shares: [f64; 2],
}

impl Cycle {
    /// A cycle of `span` windows in at most `buckets_max` buckets, all `value`.
    pub(super) fn new(span: u32, buckets_max: u32, value: f64) -> Self {
        Self { span: span.max(1), values: vec![value; span.clamp(1, buckets_max.max(1)) as usize] }
    }

    pub(super) fn windows_per_bucket(&self) -> f64 {
        f64::from(self.span) / self.values.len() as f64
    }

    pub(super) fn place(&self, window: i64) -> Place {
        let phase = window.rem_euclid(i64::from(self.span)) as f64;
        let count = self.values.len();
        let at = (phase + 0.5) / self.windows_per_bucket() - 0.5;
        let share = at - at.floor();
        let first = (at.floor() as i64).rem_euclid(count as i64) as usize;
        Place { buckets: [first, (first + 1) % count], shares: [1.0 - share, share] }
    }

    pub(super) fn at(&self, window: i64) -> f64 {
        let place = self.place(window);
        self.values[place.buckets[0]] * place.shares[0] + self.values[place.buckets[1]] * place.shares[1]
    }

    /// Moves the value at a window by `delta`, spread over its buckets by their shares.
    pub(super) fn nudge(&mut self, window: i64, delta: f64) {
        let place = self.place(window);
        let squares = place.shares[0] * place.shares[0] + place.shares[1] * place.shares[1];
        for (bucket, share) in place.buckets.into_iter().zip(place.shares) {
            self.values[bucket] += delta * share / squares.max(0.5);
        }
    }

    pub(super) fn values_mut(&mut self) -> &mut [f64] {
        &mut self.values
    }

    /// Subtracts the mean from all values, and returns it.
    pub(super) fn centre(&mut self) -> f64 {
        let mean = self.values.iter().map(|v| v / self.values.len() as f64).sum();
        self.values.iter_mut().for_each(|v| *v -= mean);
        mean
    }

    /// Shrinks a centred cycle, learnt from one pass of values whose noise has the standard deviation `sd`, by the share of its variance
    /// that the noise explains (W. James, C. Stein, "Estimation with Quadratic Loss", 1961).
    pub(super) fn shrink(&mut self, sd: f64) {
        let variance: f64 = self.values.iter().map(|v| v * v / self.values.len() as f64).sum();
        let noise = sd * sd / self.windows_per_bucket();
        let keep = if variance > noise { 1.0 - noise / variance } else { 0.0 };
        self.values.iter_mut().for_each(|v| *v *= keep);
    }
}

/// A cycle being learnt for the first time: the mean of what fell near each bucket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct FirstCycle {
    sums: Cycle,
    weights: Vec<f64>,
    windows: u32,
}

impl FirstCycle {
    pub(super) fn new(span: u32, buckets_max: u32) -> Self {
        let sums = Cycle::new(span, buckets_max, 0.0);
        let weights = vec![0.0; sums.values.len()];
        Self { sums, weights, windows: 0 }
    }

    /// Takes a window in, or that it was missing.
    pub(super) fn add(&mut self, window: i64, value: Option<f64>) {
        self.windows += 1;
        let Some(value) = value else { return };
        let place = self.sums.place(window);
        for (bucket, share) in place.buckets.into_iter().zip(place.shares) {
            self.sums.values[bucket] += share * value;
            self.weights[bucket] += share;
        }
    }

    /// The cycle, once a whole one has been seen and most of its buckets have; `None` before. A bucket without values takes the mean.
    pub(super) fn finished(&self) -> Option<Cycle> {
        let known = self.weights.iter().filter(|&&weight| weight > 0.0).count();
        if self.windows < self.sums.span || known * 4 < self.weights.len() * 3 {
            return None;
        }
        let means = self.sums.values.iter().zip(&self.weights);
        let mean =
            means.clone().filter(|&(_, &w)| w > 0.0).map(|(sum, weight)| sum / weight / known as f64).sum::<f64>();
        let values = means.map(|(sum, &weight)| if weight > 0.0 { sum / weight } else { mean }).collect();
        Some(Cycle { span: self.sums.span, values })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_season_has_a_bucket_per_window() {
        let mut cycle = Cycle::new(4, 96, 0.0);
        cycle.values_mut().copy_from_slice(&[1.0, 2.0, 3.0, 4.0]);
        assert_eq!([-5, -1, 0, 1, 6].map(|t| cycle.at(t)), [4.0, 4.0, 1.0, 2.0, 3.0]);
        assert_eq!(cycle.centre(), 2.5);
    }

    #[test]
    fn a_long_season_is_interpolated() {
        let mut cycle = Cycle::new(8, 4, 0.0);
        cycle.values_mut().copy_from_slice(&[0.0, 1.0, 2.0, 1.0]);
        // Centres lie between windows 0 and 1, 2 and 3, and so on.
        assert_eq!([0, 1, 2, 3, 4, 7].map(|t| cycle.at(t)), [0.25, 0.25, 0.75, 1.25, 1.75, 0.75]);
    }

    #[test]
    fn what_noise_explains_is_not_kept() {
        let mut cycle = Cycle::new(2, 96, 0.0);
        for (sd, kept) in [(0.0, 4.0), (2.0, 3.0), (5.0, 0.0)] {
            cycle.values_mut().copy_from_slice(&[4.0, -4.0]);
            cycle.shrink(sd);
            assert_eq!(cycle.values, [kept, -kept], "noise of {sd}");
        }
    }

    #[test]
    fn the_first_cycle_is_the_mean_near_each_bucket() {
        let mut first = FirstCycle::new(3, 96);
        for (t, value) in [(0, Some(1.0)), (1, None), (2, Some(3.0)), (3, Some(3.0))] {
            assert_eq!(first.finished(), None);
            first.add(t, value);
        }
        assert_eq!(first.finished(), None, "a third of it is unknown");
        first.add(4, Some(5.0));
        assert_eq!(first.finished().unwrap().values, [2.0, 5.0, 3.0]);
    }
}
