use proptest::prelude::*;

use super::*;
use crate::config::{ForecastSettings, MeasureSettings, Seasons, Span, StreamSettings, Tier};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// 2026-01-05, a Monday.
const START: i64 = 1_767_571_200_000;

/// What a stream with windows of this length forecasts by.
fn params(window_ms: i64, change: impl FnOnce(&mut ForecastSettings)) -> ForecastParams {
    let json = format!(
        r#"{{"name": "s", "topic": "s", "format": "json", "entity": ["e"], "event_time": "at",
            "window": {{"tumbling": "{window_ms}ms"}}, "measure": [{{"name": "m", "field": "m"}}]}}"#
    );
    let mut settings: StreamSettings = serde_json::from_str(&json).unwrap();
    let mut forecast = ForecastSettings::default();
    change(&mut forecast);
    settings.measures = vec![MeasureSettings { forecast: Some(forecast), ..settings.measures[0].clone() }];
    settings.validate().unwrap().measures[0].forecast.clone().unwrap()
}

fn horizons(spans: &[i64]) -> impl FnOnce(&mut ForecastSettings) {
    let spans = spans.iter().map(|&ms| Span::from_millis(ms)).collect();
    |settings| settings.horizons = spans
}

/// A forecaster and what it forecasts by.
struct Fed {
    params: ForecastParams,
    step_ms: i64,
    forecaster: Forecaster,
    next: i64,
}

impl Fed {
    fn new(params: ForecastParams, step_ms: i64) -> Self {
        Self { forecaster: Forecaster::new(&params, step_ms), params, step_ms, next: 0 }
    }

    fn start_ms(&self) -> i64 {
        START + self.next * self.step_ms
    }

    /// What was expected of the next window, and then its value.
    fn push(&mut self, value: Option<f64>) -> Option<Expectation> {
        let expected = self.forecaster.expect(&self.params, self.start_ms(), self.step_ms);
        if let Some(value) = value {
            self.forecaster.learn(&self.params, self.start_ms(), self.step_ms, value);
        }
        self.next += 1;
        expected
    }

    fn feed(&mut self, windows: i64, value: impl Fn(i64) -> Option<f64>) {
        for at in 0..windows {
            self.push(value(at));
        }
    }

    fn path(&self) -> Vec<PathPoint> {
        self.forecaster.path(&self.params, self.start_ms() - self.step_ms, self.step_ms)
    }

    /// The mean absolute error of the next windows' forecasts, and the share of values in their bands.
    fn over(&mut self, windows: i64, value: impl Fn(i64) -> f64) -> (f64, f64) {
        let (mut error, mut inside) = (0.0, 0.0);
        for _ in 0..windows {
            let is = value(self.next);
            let expected = self.push(Some(is)).unwrap();
            error += (expected.mean - is).abs();
            inside += f64::from(u8::from((expected.lower..=expected.upper).contains(&is)));
        }
        (error / windows as f64, inside / windows as f64)
    }
}

/// The same noise for ever, of mean 0 and deviation 1.
fn noise(at: i64) -> f64 {
    let mut state = (at as u64).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut uniform = || {
        state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) ^ (state >> 31);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    (0..12).map(|_| uniform()).sum::<f64>() - 6.0
}

/// A day's wave in hours, and noise.
fn hourly(at: i64) -> f64 {
    100.0 + 40.0 * (std::f64::consts::TAU * at as f64 / 24.0).sin() + noise(at)
}

/// The engines: by slots, by windows and slots, by windows alone, without a season.
fn engines() -> [(ForecastParams, i64); 4] {
    [
        (params(HOUR, horizons(&[HOUR, 6 * HOUR, DAY])), HOUR),
        (params(5 * MINUTE, horizons(&[5 * MINUTE, HOUR, DAY])), 5 * MINUTE),
        (
            params(5 * MINUTE, |settings| {
                settings.tier = Tier::Light;
                settings.horizons = vec![Span::from_millis(HOUR)];
            }),
            5 * MINUTE,
        ),
        (params(MINUTE, |settings| settings.seasons = Some(Seasons::Named(Vec::new()))), MINUTE),
    ]
}

/// All that is forecast, bit by bit.
fn bits(fed: &Fed) -> Vec<u64> {
    let expected = fed.forecaster.expect(&fed.params, fed.start_ms(), fed.step_ms);
    let expected = expected.into_iter().flat_map(|is| [is.mean, is.lower, is.upper, is.sd]);
    let path = fed.path().into_iter().flat_map(|point| {
        let bands = point.bands.into_iter().flat_map(|(level, lower, upper)| [level, lower, upper]);
        std::iter::once(point.mean).chain(bands).collect::<Vec<_>>()
    });
    expected.chain(path).map(f64::to_bits).collect()
}

#[test]
fn another_future_leaves_every_earlier_forecast_bit_identical() {
    for (params, step_ms) in engines() {
        let day = DAY / step_ms;
        let value = |at: i64| (at % 37 != 5).then(|| hourly(at * step_ms / HOUR) + noise(at));
        let (mut one, mut other) = (Fed::new(params.clone(), step_ms), Fed::new(params, step_ms));
        let changed = (9 * day).min(2_000);
        for at in 0..changed {
            if at % 11 == 0 || at > changed - 30 {
                assert_eq!(bits(&one), bits(&other), "window {at} of {step_ms} ms");
            }
            one.push(value(at));
            other.push(value(at));
        }
        let before = bits(&one);
        one.push(Some(1e6));
        other.push(Some(-1e6));
        assert_ne!(before, bits(&one), "what is learnt changes what is forecast");
        assert_ne!(bits(&one), bits(&other));
    }
}

#[test]
fn a_forecaster_goes_on_from_its_state() {
    for (params, step_ms) in engines() {
        let (mut fed, mut other) = (Fed::new(params.clone(), step_ms), Fed::new(params, step_ms));
        for at in 0..700 {
            fed.push(Some(hourly(at)));
            other.push(Some(hourly(at)));
            assert!(at % 10 > 0 || bits(&fed) == bits(&other), "after {at}");
            if at % 50 == 7 {
                let state = postcard::to_stdvec(&other.forecaster).unwrap();
                other.forecaster = postcard::from_bytes(&state).unwrap();
            }
        }
    }
}

#[test]
fn a_daily_wave_is_forecast_within_its_noise_and_bands_hold_what_they_say() {
    for (params, step_ms) in engines().into_iter().take(3) {
        let mut fed = Fed::new(params, step_ms);
        let value = |at: i64| {
            let hours = (at * step_ms) as f64 / HOUR as f64;
            100.0 + 40.0 * (std::f64::consts::TAU * hours / 24.0).sin() + noise(at)
        };
        fed.feed(50 * DAY / step_ms, |at| Some(value(at)));
        let (error, inside) = fed.over(7 * DAY / step_ms, value);
        // The mean absolute value of the noise is .8.
        assert!(error < 1.1, "{step_ms} ms: {error}");
        assert!((0.9..0.99).contains(&inside), "{step_ms} ms: {inside}");
        for point in fed.path() {
            let is = value(fed.next - 1 + i64::from(point.steps));
            assert!((point.mean - is).abs() < 8.0, "{step_ms} ms, {} ahead: {} is {is}", point.steps, point.mean);
            let accuracy = point.accuracy.unwrap();
            assert!(accuracy.mase.unwrap() < 1.0 && accuracy.mape.unwrap() < 0.03, "{step_ms} ms: {accuracy:?}");
            // Of bands of 80 and 95 %.
            assert!((0.65..0.95).contains(&accuracy.coverage[0]), "{step_ms} ms: {accuracy:?}");
            assert!((0.85..=1.0).contains(&accuracy.coverage[1]), "{step_ms} ms: {accuracy:?}");
        }
    }
}

#[test]
fn what_is_told_of_forecasts_is_what_came_of_them() {
    // A slow wander around a daily wave, with noise in two of each three hours only, and weekends of their own.
    for (step_ms, spans) in [(HOUR, [HOUR, DAY]), (5 * MINUTE, [5 * MINUTE, HOUR])] {
        let day = DAY / step_ms;
        let mut wander = 0.0;
        let values: Vec<f64> = (0..45 * day)
            .map(|at| {
                let hours = at as f64 * step_ms as f64 / HOUR as f64;
                wander += 0.2 * noise(at) * (24.0 / day as f64).sqrt();
                let noisy = if (hours as i64) % 3 == 0 { 0.1 } else { 3.0 };
                1_000.0 + wander + 40.0 * (std::f64::consts::TAU * hours / 24.0).sin() + noisy * noise(at + 9)
            })
            .collect();
        let mut fed = Fed::new(params(step_ms, horizons(&spans)), step_ms);
        let learnt = 25 * day;
        fed.feed(learnt, |at| Some(values[at as usize]));
        let (mut errors, mut inside, mut naive, mut count) = ([0.0; 2], [0.0; 2], 0.0, 0.0);
        while fed.next + day < values.len() as i64 {
            for (at, point) in fed.path().iter().enumerate() {
                let is = values[(fed.next - 1) as usize + point.steps as usize];
                errors[at] += (point.mean - is).abs();
                let (_, lower, upper) = *point.bands.last().unwrap();
                inside[at] += f64::from(u8::from((lower..=upper).contains(&is)));
            }
            naive += (values[fed.next as usize] - values[(fed.next - day) as usize]).abs();
            count += 1.0;
            fed.push(Some(values[fed.next as usize]));
        }
        for (at, point) in fed.path().iter().enumerate() {
            let told = point.accuracy.as_ref().unwrap();
            let (mase, coverage) = (errors[at] / naive, inside[at] / count);
            let off = told.mase.unwrap() / mase;
            assert!((0.75..1.33).contains(&off), "{step_ms} ms, {}: {mase} is told as {told:?}", point.steps);
            let off = told.coverage.last().unwrap() - coverage;
            assert!(off.abs() < 0.05, "{step_ms} ms, {}: {coverage} is told as {told:?}", point.steps);
        }
    }
}

/// The first value of the second day is that of the first, by chance: by such an error nothing is told.
#[test]
fn errors_are_told_by_those_of_a_day_of_naive_forecasts() {
    for step_ms in [HOUR, 5 * MINUTE] {
        let day = DAY / step_ms;
        let mut fed = Fed::new(params(step_ms, horizons(&[step_ms])), step_ms);
        let value = |at: i64| 100.0 + if at == day { noise(0) } else { noise(at) };
        let few = 5 * HOUR / step_ms;
        fed.feed(day + few, |at| Some(value(at)));
        assert_eq!(fed.path()[0].accuracy.as_ref().unwrap().mase, None);
        fed.feed(2 * day, |at| Some(value(day + few + at)));
        let mase = fed.path()[0].accuracy.as_ref().unwrap().mase.unwrap();
        assert!((0.3..2.0).contains(&mase), "{step_ms} ms: {mase}");
    }
}

#[test]
fn beyond_a_week_the_week_comes_again() {
    let ahead = [DAY, 7 * DAY, 8 * DAY, 10 * DAY, 14 * DAY];
    let mut fed = Fed::new(params(HOUR, horizons(&ahead)), HOUR);
    let value = |at: i64| noise(at) + if at / 24 % 7 < 5 { hourly(at) } else { 10.0 };
    fed.feed(70 * 24, |at| Some(value(at)));
    let mut errors = [0.0; 5];
    for _ in 0..7 * 24 {
        for (error, point) in errors.iter_mut().zip(fed.path()) {
            *error += (point.mean - value(fed.next - 1 + i64::from(point.steps))).abs() / (7.0 * 24.0);
        }
        fed.push(Some(value(fed.next)));
    }
    assert!(errors.iter().all(|error| *error < 3.0), "{errors:?}");
}

/// The last value is the best there is to say of the same hour tomorrow, and the worst of some hours before.
#[test]
fn between_two_horizons_counts_who_is_good_at_both() {
    // Each hour of the day goes its own way, so that yesterday's value says all there is to know.
    let mut values: Vec<f64> = (0..24).map(|at| 60.0 + 2.0 * hourly(at)).collect();
    (24..60 * 24).for_each(|at| values.push((values[at - 24] + 10.0 * noise(at as i64)).max(1.0)));
    let value = |at: i64| values[at as usize];
    for tier in [Tier::Full, Tier::Light] {
        let mut fed = Fed::new(
            params(HOUR, |settings| {
                settings.tier = tier;
                settings.horizons = (1..=24).map(|hours| Span::from_millis(hours * HOUR)).collect();
            }),
            HOUR,
        );
        fed.feed(40 * 24, |at| Some(value(at)));
        let mut errors = [0.0; 24];
        for _ in 0..10 * 24 {
            fed.push(Some(value(fed.next)));
            for (error, point) in errors.iter_mut().zip(fed.path()) {
                *error += (point.mean - value(fed.next - 1 + i64::from(point.steps))).abs();
            }
        }
        let worst = errors.iter().copied().fold(0.0, f64::max);
        assert!(worst < 1.5 * errors[15], "{tier:?}: {errors:?}");
    }
}

#[test]
fn a_constant_is_forecast_as_itself_with_a_band_of_its_grain() {
    for (params, step_ms) in engines() {
        let mut fed = Fed::new(params, step_ms);
        fed.feed(400, |_| Some(7.0));
        let expected = fed.push(Some(7.0)).unwrap();
        assert!((expected.mean - 7.0).abs() < 1e-4, "{expected:?}");
        assert!(expected.lower < 7.0 && expected.upper > 7.0 && expected.upper - expected.lower < 4.0, "{expected:?}");
        assert!(expected.sd > 0.0);
    }
}

#[test]
fn counts_with_zeros_have_bands_that_do_not_reach_below() {
    for (params, step_ms) in engines() {
        let mut fed = Fed::new(params, step_ms);
        for at in 0..600 {
            let expected = fed.push(Some((2.0 + 2.0 * noise(at)).max(0.0).floor()));
            if let Some(expected) = expected.filter(|_| at > 30) {
                assert!(expected.lower >= 0.0 && expected.mean >= 0.0, "{at}: {expected:?}");
            }
        }
    }
}

#[test]
fn an_outlier_leaves_no_echo_and_a_level_shift_is_followed() {
    for (params, step_ms) in engines() {
        let mut fed = Fed::new(params, step_ms);
        let value = |at: i64| 500.0 + noise(at);
        fed.feed(600, |at| Some(value(at)));
        let usual = fed.over(24, value).0;
        fed.push(Some(1_500.0));
        // The last value is one of the experts.
        fed.push(Some(value(0)));
        let after = fed.over(24, value).0;
        assert!(after < 3.0 * usual + 2.0, "{step_ms} ms: {usual} before, {after} after");
        // Nor when a day has gone by.
        fed.feed(DAY / step_ms - 28, |at| Some(value(at)));
        let echo = fed.over(5, value).0;
        assert!(echo < 3.0 * usual + 2.0, "{step_ms} ms: {usual} before, {echo} a day after");
        let shifted = |at: i64| 560.0 + noise(at);
        fed.feed(4, |at| Some(shifted(at)));
        let (error, _) = fed.over(24, shifted);
        assert!(error < 12.0, "{step_ms} ms: {error}");
    }
}

#[test]
fn missing_windows_are_stepped_over_and_a_long_silence_begins_anew() {
    for (params, step_ms) in engines().into_iter().take(3) {
        let mut fed = Fed::new(params, step_ms);
        let value = |at: i64| {
            let hours = (at * step_ms) as f64 / HOUR as f64;
            100.0 + 40.0 * (std::f64::consts::TAU * hours / 24.0).sin() + noise(at)
        };
        fed.feed(14 * DAY / step_ms, |at| Some(value(at)));
        fed.feed(DAY / 2 / step_ms, |_| None);
        let (error, _) = fed.over(DAY / step_ms, value);
        assert!(error < 4.0, "{step_ms} ms: {error}");
        fed.next += 30 * DAY / step_ms;
        fed.push(Some(5.0));
        assert!(fed.forecaster.warming_up());
    }
}

#[test]
fn a_series_that_turns_negative_begins_anew_on_the_bare_scale() {
    for (params, step_ms) in engines() {
        let mut fed = Fed::new(params, step_ms);
        fed.feed(200, |at| Some(50.0 + noise(at)));
        fed.feed(100, |at| Some(-50.0 + noise(at)));
        let (error, _) = fed.over(50, |at| -50.0 + noise(at));
        assert!(error < 3.0, "{step_ms} ms: {error}");
    }
}

#[test]
fn seasons_that_nobody_named_are_found_and_used() {
    let params = params(5 * MINUTE, |settings| {
        settings.seasons = Some(Seasons::Auto);
        settings.horizons = vec![Span::from_millis(12 * HOUR)];
    });
    let mut fed = Fed::new(params, 5 * MINUTE);
    let value = |at: i64| 100.0 + 40.0 * (std::f64::consts::TAU * at as f64 / 288.0).sin() + noise(at);
    fed.feed(2 * 288, |at| Some(value(at)));
    assert_eq!(fed.forecaster.seasons_ms(), [0; 0]);
    for day in 2..20 {
        fed.feed(288, |at| Some(value(288 * day + at)));
    }
    assert_eq!(fed.forecaster.seasons_ms(), [DAY]);
    let point = &fed.path()[0];
    assert!((point.mean - value(20 * 288 + 143)).abs() < 5.0, "{point:?}");
}

#[test]
fn a_daily_season_survives_daylight_saving() {
    // Office hours in Berlin: from 08:00 to 18:00 local time. The clocks go forward on 2026-03-29.
    let value = |params: &ForecastParams, ms: i64| {
        let hour = params.local_ms(ms).rem_euclid(DAY) / HOUR;
        if (8..18).contains(&hour) { 100.0 } else { 10.0 }
    };
    let zoned = params(HOUR, |settings| settings.time_zone = Some("Europe/Berlin".into()));
    let error = |params: ForecastParams| {
        let mut fed = Fed::new(params, HOUR);
        let changes = (1_774_746_000_000 - START) / HOUR;
        let mut errors = 0.0;
        for at in 0..changes + 7 * 24 {
            let is = value(&zoned, fed.start_ms());
            let expected = fed.push(Some(is));
            if at >= changes {
                errors += (expected.unwrap().mean - is).abs() / (7.0 * 24.0);
            }
        }
        errors
    };
    let (local, utc) = (error(zoned.clone()), error(params(HOUR, |_| ())));
    assert!(local < 1.0 && local < 0.2 * utc, "local {local}, UTC {utc}");
}

#[test]
fn a_window_a_day_has_the_week_for_its_season() {
    let params = params(DAY, |_| ());
    assert_eq!(params.seasons_ms, [7 * DAY]);
    let mut fed = Fed::new(params, DAY);
    let value = |at: i64| if at % 7 < 5 { 100.0 } else { 30.0 } + 0.1 * noise(at);
    fed.feed(70, |at| Some(value(at)));
    let (error, _) = fed.over(28, value);
    assert!(error < 2.0, "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever comes, what is forecast is finite and in order.
    #[test]
    fn nothing_makes_a_forecast_that_is_no_number(
        values in prop::collection::vec(prop::option::weighted(0.8, prop_oneof![
            4 => -1e3..1e3f64,
            2 => Just(0.0),
            2 => 0.0..1.0f64,
            1 => -1e150..1e150f64,
            1 => prop::sample::select(vec![1e-300, -1e-300, 1e150, -1e150, 1e9]),
        ]), 30..400),
        engine in 0..4usize,
    ) {
        let (params, step_ms) = engines()[engine].clone();
        let mut fed = Fed::new(params, step_ms);
        for value in values {
            if let Some(is) = fed.push(value) {
                prop_assert!(is.mean.is_finite() && is.lower.is_finite() && is.upper.is_finite() && is.sd.is_finite());
                prop_assert!(is.lower <= is.mean && is.mean <= is.upper && is.sd > 0.0, "{is:?}");
            }
        }
        for point in fed.path() {
            for (_, lower, upper) in point.bands {
                prop_assert!(lower <= point.mean && point.mean <= upper);
            }
        }
    }
}
