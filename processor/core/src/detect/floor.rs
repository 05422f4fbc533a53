//! The least spread that a series is believed to have, so that a constant does not make every change infinitely unusual.

use serde::{Deserialize, Serialize};

/// Share of the typical magnitude below which a deviation is of no interest.
const RELATIVE: f64 = 0.005;
/// Standard deviation of a series of whole numbers is taken as at least this: half a step.
const WHOLE: f64 = 0.5;
/// Against division by zero, for a constant zero.
const TINY: f64 = 1e-12;

/// The grain of a series: what its numbers can resolve.
///
/// A series that has only ever held whole numbers (counts, bytes) resolves steps of one: a first error after a thousand windows
/// without any is two floors away from the mean, not infinitely many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Grain {
    whole: bool,
}

impl Default for Grain {
    fn default() -> Self {
        Self { whole: true }
    }
}

impl Grain {
    /// The grain once `value` belongs to the series too.
    pub(crate) fn with(self, value: f64) -> Self {
        Self { whole: self.whole && value.fract() == 0.0 }
    }

    /// Least standard deviation around a value of magnitude `typical`, in units of the series.
    pub(crate) fn least_sd(self, typical: f64) -> f64 {
        let whole = if self.whole { WHOLE } else { 0.0 };
        (RELATIVE * typical.abs()).max(whole).max(TINY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_follows_magnitude_and_grain() {
        let grain = Grain::default();
        assert_eq!(grain.with(3.0).least_sd(0.0), 0.5);
        assert_eq!(grain.with(3.0).least_sd(1_000.0), 5.0);
        assert_eq!(grain.with(3.0).with(0.25).least_sd(100.0), 0.5);
        assert_eq!(grain.with(0.25).with(2.0).least_sd(0.0), 1e-12);
    }
}
