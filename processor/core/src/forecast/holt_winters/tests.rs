//! Series with a known future, the stated behaviours, and any input.

use proptest::prelude::*;

use super::*;

/// Uniform numbers in `[-1, 1)` from a fixed sequence.
fn noise(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

fn seasonal(seasons: &[u32]) -> HoltWinters {
    HoltWinters::new(HoltWintersParams { seasons: seasons.to_vec(), ..HoltWintersParams::default() }, 0)
}

/// A day of 24 windows: 100 with a bump of 40 at noon.
fn day(window: i64) -> f64 {
    let from_noon = (window.rem_euclid(24) - 12).abs() as f64;
    100.0 + (40.0 - 8.0 * from_noon).max(0.0)
}

/// Reference: statsmodels 0.15.0, `SimpleExpSmoothing(y, initialization_method="known", initial_level=10).fit(0.5, optimized=False).level`.
/// The values alternate, so that no remainder is carried over.
#[test]
fn the_level_is_exponential_smoothing() {
    let params = HoltWintersParams { level_rate_plain: 0.5, ..HoltWintersParams::default() };
    let mut forecaster = HoltWinters::new(params, 0);
    for (value, level) in
        [(10.0, 10.0), (12.0, 11.0), (9.0, 10.0), (11.0, 10.5), (10.5, 10.5), (13.0, 11.75), (8.0, 9.875)]
    {
        forecaster.learn(Some(value));
        assert!((forecaster.level - level).abs() < 1e-12, "after {value}: {} for {level}", forecaster.level);
    }
}

#[test]
fn a_season_is_learnt_in_one_pass_and_forecast() {
    let mut forecaster = seasonal(&[24]);
    for window in 0..72 {
        assert_eq!(forecaster.warming_up(), window < 24, "at {window}");
        assert_eq!(forecaster.expect().is_some(), window >= 12, "at {window}");
        forecaster.learn(Some(day(window)));
    }
    let path = forecaster.path(&[1, 12, 24, 36]);
    for (h, expected) in [1i64, 12, 24, 36].into_iter().zip(path) {
        assert!((expected.mean - day(71 + h)).abs() < 3.0, "{h} ahead: {} for {}", expected.mean, day(71 + h));
    }
}

#[test]
fn the_phase_is_the_windows_number() {
    let params = HoltWintersParams { seasons: vec![24], ..HoltWintersParams::default() };
    let mut forecaster = HoltWinters::new(params, -5);
    (-5..91).for_each(|window| forecaster.learn(Some(day(window))));
    let expected = forecaster.path(&[10])[0].mean;
    assert!((expected - day(100)).abs() < 3.0, "{expected} for {}", day(100));
}

#[test]
fn a_second_season_joins_after_its_first_pass() {
    let weekly = |window: i64| day(window) + if window.rem_euclid(168) >= 120 { -15.0 } else { 0.0 };
    let (mut both, mut one) = (seasonal(&[24, 168]), seasonal(&[24]));
    let mut random = noise(13);
    let mut errors = [0.0, 0.0];
    for window in 0..168 * 12 {
        let value = weekly(window) + 6.0 * random();
        for (forecaster, error) in [&mut both, &mut one].into_iter().zip(&mut errors) {
            if window >= 168 * 10 {
                *error += (forecaster.expect().unwrap().mean - weekly(window)).abs() / 336.0;
            }
            forecaster.learn(Some(value));
        }
    }
    assert!(errors[0] < 0.8 * errors[1], "with the week {}, without it {}", errors[0], errors[1]);
}

#[test]
fn the_interval_covers_95_percent() {
    let mut random = noise(7);
    let mut forecaster = seasonal(&[24]);
    let (mut inside, mut count) = (0, 0);
    for window in 0..24 * 400 {
        // The noise is larger around noon, and has a longer tail upwards.
        let (a, b) = (random(), random());
        let value = day(window) + (day(window) - 95.0) * 0.1 * (a + b.max(0.0) * b.max(0.0) * 3.0);
        if window > 24 * 20 {
            let expected = forecaster.expect().unwrap();
            count += 1;
            inside += u32::from(expected.lower <= value && value <= expected.upper);
        }
        forecaster.learn(Some(value));
    }
    let coverage = f64::from(inside) / f64::from(count);
    assert!((0.94..0.96).contains(&coverage), "{coverage}");
}

#[test]
fn the_interval_widens_with_the_horizon_and_with_a_gap() {
    let mut random = noise(3);
    let mut forecaster = seasonal(&[]);
    let mut value = 0.0;
    for _ in 0..2_000 {
        value += random();
        forecaster.learn(Some(value));
    }
    let path = forecaster.path(&[1, 2, 10, 100]);
    assert!(path.windows(2).all(|pair| pair[0].sd < pair[1].sd), "{path:?}");
    let before = forecaster.expect().unwrap();
    (0..5).for_each(|_| forecaster.learn(None));
    let after = forecaster.expect().unwrap();
    assert!(after.sd > before.sd);
    assert!((after.mean - path[1].mean).abs() < 5.0);
}

#[test]
fn missing_windows_do_not_move_the_season() {
    let mut forecaster = seasonal(&[24]);
    (0..240).for_each(|window| forecaster.learn((window % 24 < 20 || window < 24).then(|| day(window))));
    (240..253).for_each(|_| forecaster.learn(None));
    let expected = forecaster.expect().unwrap().mean;
    assert!((expected - day(253)).abs() < 4.0, "{expected} for {}", day(253));
}

#[test]
fn a_fault_does_not_poison_the_forecast_and_a_shift_is_believed() {
    let mut random = noise(5);
    let mut forecaster = seasonal(&[24]);
    for window in 0..240 {
        forecaster.learn(Some(day(window) + random()));
    }
    for window in 240..246 {
        forecaster.learn(Some(3.0 * day(window)));
    }
    let expected = forecaster.expect().unwrap().mean;
    assert!((expected - day(246)).abs() < 2.0, "after the fault {expected} for {}", day(246));
    for window in 246..270 {
        forecaster.learn(Some(day(window) + 60.0 + random()));
    }
    let expected = forecaster.expect().unwrap().mean;
    assert!((expected - day(270) - 60.0).abs() < 5.0, "after the shift {expected} for {}", day(270) + 60.0);
}

#[test]
fn a_constant_is_forecast_as_itself() {
    for constant in [0.0, 7.0, -0.25, 1e300, -1e308] {
        let mut forecaster = seasonal(&[24]);
        (0..100).for_each(|_| forecaster.learn(Some(constant)));
        let expected = forecaster.expect().unwrap();
        let constant = constant.clamp(-MAGNITUDE_MAX, MAGNITUDE_MAX);
        assert!((expected.mean - constant).abs() <= 1e-9 * constant.abs(), "{expected:?}");
        assert!(expected.sd > 0.0 && expected.lower < expected.upper, "{expected:?}");
    }
}

#[test]
fn a_damped_trend_follows_a_ramp() {
    let trend = Some(DampedTrend { beta: 0.2, phi: 0.98 });
    let mut error = [0.0, 0.0];
    for (trend, error) in [None, trend].into_iter().zip(&mut error) {
        let mut forecaster = HoltWinters::new(HoltWintersParams { trend, ..HoltWintersParams::default() }, 0);
        (0..300).for_each(|window| forecaster.learn(Some(f64::from(window))));
        *error = (forecaster.path(&[10])[0].mean - 309.0).abs();
    }
    assert!(error[1] < error[0], "{error:?}");
}

#[test]
fn the_future_does_not_reach_back() {
    let (mut one, mut other) = (seasonal(&[24]), seasonal(&[24]));
    let mut random = noise(11);
    for window in 0..200 {
        let value = day(window) + random();
        assert_eq!(one.expect(), other.expect());
        one.learn(Some(value));
        other.learn(Some(if window < 199 { value } else { 1e6 }));
    }
}

proptest! {
    #[test]
    fn any_input_has_finite_forecasts_and_a_copy_brought_back_goes_on_alike(
        values in prop::collection::vec(prop::option::of(prop_oneof![any::<f64>(), -1.0f64..1.0, Just(1e308), Just(-1e308)]), 60..200),
        cut in 0usize..60,
    ) {
        let mut forecaster = seasonal(&[6, 30]);
        let mut copy = None;
        for (i, &value) in values.iter().enumerate() {
            if i == cut {
                let bytes = postcard::to_stdvec(&forecaster).unwrap();
                copy = Some(postcard::from_bytes::<HoltWinters>(&bytes).unwrap());
            }
            for e in forecaster.expect().into_iter().chain(forecaster.path(&[1, 7, 1_000, u32::MAX])) {
                prop_assert!(e.mean.is_finite() && e.lower.is_finite() && e.upper.is_finite() && e.sd.is_finite() && e.sd > 0.0, "{:?}", e);
            }
            forecaster.learn(value);
            if let Some(copy) = &mut copy {
                copy.learn(value);
                prop_assert_eq!(&*copy, &forecaster);
            }
        }
    }
}
