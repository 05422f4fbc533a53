//! How good forecasts have been, by what came afterwards.
//!
//! Each forecast that is judged moves rolling means, of the last 200 or so: of the absolute error, of its share in the value (where the
//! value is not 0), of the pinball loss at the ends of the bands, and of how often values fell into each band. The MASE is the mean
//! absolute error by that of the naive forecast, the value one season before (R. J. Hyndman, A. B. Koehler, "Another look at measures
//! of forecast accuracy", Int. J. Forecasting 22, 2006); the pinball loss is told by the same, as the M5 competition did.

use serde::{Deserialize, Serialize};

/// Rate of the rolling means.
const RATE: f32 = 1.0 / 200.0;

/// How good the forecasts of one horizon have been.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Forecasts that were judged.
    pub judged: u32,
    /// Mean absolute error by that of the naive forecast; `None` where that has none.
    pub mase: Option<f64>,
    /// Mean absolute error as a share of the value; `None` where all values are 0.
    pub mape: Option<f64>,
    /// Mean pinball loss over the ends of all bands, by the same as the MASE.
    pub pinball: Option<f64>,
    /// Share of the values that fell into the band, by level.
    pub coverage: Vec<f64>,
}

/// A forecast and what came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome<'a> {
    pub(super) value: f64,
    pub(super) expected: f64,
    /// Level, lower and upper end.
    pub(super) bands: &'a [(f64, f64, f64)],
}

/// The rolling means.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Rolling {
    judged: u32,
    /// How many of them count.
    count: u32,
    absolute: f64,
    /// Of the values that are not 0.
    shares: u32,
    share: f32,
    pinball: f64,
    inside: Vec<f32>,
}

impl Rolling {
    pub(super) fn learn(&mut self, outcome: &Outcome<'_>) {
        let Outcome { value, expected, bands } = *outcome;
        self.judged = self.judged.saturating_add(1);
        self.count = self.count.saturating_add(1);
        let rate = RATE.max(1.0 / self.count as f32);
        let error = (value - expected).abs();
        self.absolute += f64::from(rate) * (error - self.absolute);
        if value != 0.0 {
            self.shares = self.shares.saturating_add(1);
            let share = (error / value.abs()).min(f64::from(f32::MAX)) as f32;
            self.share += RATE.max(1.0 / self.shares as f32) * (share - self.share);
        }
        let mut pinball = 0.0;
        self.inside.resize(bands.len(), 0.0);
        for (&(level, lower, upper), inside) in bands.iter().zip(&mut self.inside) {
            let tail = (1.0 - level) / 2.0;
            pinball += loss(value - lower, tail) + loss(value - upper, 1.0 - tail);
            let is_inside = f32::from(u8::from((lower..=upper).contains(&value)));
            *inside += rate * (is_inside - *inside);
        }
        let pinball = pinball / (2 * bands.len().max(1)) as f64;
        self.pinball += f64::from(rate) * (pinball - self.pinball);
    }

    /// Lets what was count as so many forecasts at most, as they are made in a better way now.
    pub(super) fn fade(&mut self, most: u32) {
        (self.count, self.shares) = (self.count.min(most), self.shares.min(most));
    }

    /// What is told of it; `naive` is the mean absolute error of the naive forecast.
    pub(super) fn accuracy(&self, naive: f64) -> Option<Accuracy> {
        (self.judged > 0).then(|| Accuracy {
            judged: self.judged,
            mase: (naive > 0.0).then(|| self.absolute / naive),
            mape: (self.shares > 0).then(|| f64::from(self.share)),
            pinball: (naive > 0.0).then(|| self.pinball / naive),
            coverage: self.inside.iter().map(|&inside| f64::from(inside)).collect(),
        })
    }
}

/// Pinball loss of a quantile that a value missed by `error` (R. Koenker, G. Bassett, Econometrica 46, 1978).
fn loss(error: f64, quantile: f64) -> f64 {
    if error >= 0.0 { quantile * error } else { (quantile - 1.0) * error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_as_they_are_defined() {
        let mut rolling = Rolling::default();
        assert_eq!(rolling.accuracy(1.0), None);
        for (value, expected) in [(10.0, 8.0), (0.0, 4.0), (20.0, 20.0)] {
            let bands = [(0.8, expected - 3.0, expected + 3.0)];
            rolling.learn(&Outcome { value, expected, bands: &bands });
        }
        let is = rolling.accuracy(4.0).unwrap();
        assert_eq!(is.judged, 3);
        assert!((is.mase.unwrap() - 0.5).abs() < 1e-6, "{is:?}");
        assert!((is.mape.unwrap() - 0.1).abs() < 1e-6, "{is:?}");
        assert!((is.coverage[0] - 2.0 / 3.0).abs() < 1e-6, "{is:?}");
        // By hand: (.1 x 5 + .1 x 1, .9 x 1 + .1 x 7, .1 x 3 twice), halved.
        let by_hand = [0.6 / 2.0, 1.6 / 2.0, 0.6 / 2.0];
        assert!((is.pinball.unwrap() - by_hand.iter().sum::<f64>() / 3.0 / 4.0).abs() < 1e-6, "{is:?}");
        assert_eq!(rolling.accuracy(0.0).unwrap().mase, None);
    }
}
