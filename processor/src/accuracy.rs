//! How good the forecasts of a stream are, horizon by horizon: rolling means of what their records say of the series they are of.

use std::collections::BTreeMap;

use tidewatch_schemas::record::{Forecast, ForecastPoint};

/// Rate of the rolling means: the last 1,000 points or so.
const RATE: f64 = 1.0 / 1_000.0;

/// How good the forecasts of one horizon of a stream are, over its series.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HorizonAccuracy {
    /// Points that were written with a word on how good they are.
    pub points: u64,
    /// Mean absolute error by that of the value a season before.
    pub mase: Mean,
    /// Mean absolute error as a share of the value.
    pub mape: Mean,
    /// Mean pinball loss, by the same as the MASE.
    pub pinball: Mean,
    /// Share of the values in the record's band.
    pub coverage: Mean,
}

/// A rolling mean of numbers that may be missing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mean {
    count: u64,
    mean: f64,
}

impl Mean {
    /// The mean; `None` of nothing.
    #[must_use]
    pub fn get(&self) -> Option<f64> {
        (self.count > 0).then_some(self.mean)
    }

    fn add(&mut self, number: Option<f64>) {
        let Some(number) = number.filter(|number| number.is_finite()) else { return };
        self.count += 1;
        self.mean += RATE.max(1.0 / self.count as f64) * (number - self.mean);
    }

    /// Takes another mean in, by how much both are of.
    fn join(&mut self, other: &Self) {
        let count = self.count + other.count;
        if count > 0 {
            self.mean += (other.mean - self.mean) * other.count as f64 / count as f64;
            self.count = count;
        }
    }
}

/// By stream and horizon, in ms.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Accuracies(BTreeMap<String, BTreeMap<i64, HorizonAccuracy>>);

impl Accuracies {
    /// Takes in what a record says.
    pub(crate) fn learn(&mut self, forecast: &Forecast) {
        for point in forecast.path.iter().filter(|point| point.judged > 0) {
            let stream = match self.0.get_mut(&forecast.stream) {
                Some(stream) => stream,
                None => self.0.entry(forecast.stream.clone()).or_default(),
            };
            let ForecastPoint { horizon_ms, mase, mape, pinball, .. } = *point;
            let is = stream.entry(horizon_ms).or_default();
            is.points += 1;
            is.mase.add(mase);
            is.mape.add(mape);
            is.pinball.add(pinball);
            let band = point.bands.iter().find(|band| band.level == forecast.level);
            is.coverage.add(band.and_then(|band| band.coverage));
        }
    }

    /// Takes in what another worker has learnt.
    pub(crate) fn join(&mut self, other: &Self) {
        for (stream, horizons) in &other.0 {
            for (horizon_ms, other) in horizons {
                let is = self.0.entry(stream.clone()).or_default().entry(*horizon_ms).or_default();
                is.points += other.points;
                is.mase.join(&other.mase);
                is.mape.join(&other.mape);
                is.pinball.join(&other.pinball);
                is.coverage.join(&other.coverage);
            }
        }
    }

    /// Stream, horizon in ms, and how good it is.
    pub(crate) fn all(&self) -> Vec<(String, i64, HorizonAccuracy)> {
        let of = |(stream, horizons): (&String, &BTreeMap<i64, HorizonAccuracy>)| {
            let stream = stream.clone();
            horizons.iter().map(move |(horizon_ms, is)| (stream.clone(), *horizon_ms, *is)).collect::<Vec<_>>()
        };
        self.0.iter().flat_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use tidewatch_schemas::record::ForecastBand;

    use super::*;

    fn forecast(stream: &str, judged: i32, mape: Option<f64>) -> Forecast {
        let band = ForecastBand { level: 0.95, lower: 0.0, upper: 1.0, coverage: Some(0.9) };
        let point = ForecastPoint {
            target_time: 0,
            horizon_ms: 60_000,
            expected: 0.5,
            lower: 0.0,
            upper: 1.0,
            bands: vec![band],
            judged,
            mase: Some(0.8),
            mape,
            pinball: Some(0.2),
        };
        Forecast {
            stream: stream.into(),
            entity: "a".into(),
            measure: "m".into(),
            aggregate: "mean".into(),
            issued_at: 0,
            level: 0.95,
            path: vec![point],
            revision: 0,
        }
    }

    #[test]
    fn what_workers_have_learnt_is_one_mean_by_stream_and_horizon() {
        let (mut one, mut other) = (Accuracies::default(), Accuracies::default());
        one.learn(&forecast("calls", 0, Some(9.0)));
        one.learn(&forecast("calls", 5, Some(0.1)));
        other.learn(&forecast("calls", 5, Some(0.3)));
        other.learn(&forecast("calls", 5, None));
        other.learn(&forecast("hosts", 5, None));
        one.join(&other);
        let all = one.all();
        assert_eq!(
            all.iter().map(|(stream, ms, _)| (&**stream, *ms)).collect::<Vec<_>>(),
            [("calls", 60_000), ("hosts", 60_000)]
        );
        let calls = all[0].2;
        assert_eq!((calls.points, calls.mape.get(), calls.coverage.get()), (3, Some(0.2), Some(0.9)));
        assert_eq!(all[1].2.mape.get(), None);
    }
}
