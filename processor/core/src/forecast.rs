//! Forecasters: what will the next windows bring, and how sure is that?
//!
//! A forecaster is updated once per window, also for a window without a value, and its forecast is always made before the value is
//! known. Time is the number of the window: season phases follow from it alone.

use serde::{Deserialize, Serialize};

pub mod holt_winters;
pub mod usual;

/// A forecast of one window's value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Expectation {
    /// Expected value, in units of the series.
    pub mean: f64,
    /// Lower end of the 95 % prediction interval.
    pub lower: f64,
    /// Upper end of the 95 % prediction interval.
    pub upper: f64,
    /// Standard deviation of the error that is usual for such a forecast; always positive.
    pub sd: f64,
}

/// A forecaster of one series. Its state is bounded, serialisable, and all that its answers depend on.
pub trait Forecaster {
    /// The forecast of the next window; `None` until there is one. All its numbers are finite.
    fn expect(&self) -> Option<Expectation>;

    /// The forecasts of the windows `steps` ahead (1 is the next one); empty until there is one.
    fn path(&self, steps: &[u32]) -> Vec<Expectation>;

    /// Learns the next window's value; `None` (or a value that is not finite) is a window without one. Call it for every window, after
    /// [`Self::expect`].
    fn learn(&mut self, value: Option<f64>);

    /// Whether it still learns what is needed for a good forecast, such as the first season.
    fn warming_up(&self) -> bool;
}
