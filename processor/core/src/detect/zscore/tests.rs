//! Reference values, faults that must be seen, calm that must not be disturbed, and any input.

use proptest::prelude::*;

use super::*;
use crate::detect::SCORE_MAX;
use crate::forecast::Expectation;

fn plain(value: f64) -> Observation {
    Observation { start_ms: 0, value, expected: None, usual: None }
}

fn residual(value: f64) -> Observation {
    let expected = Some(Expectation { mean: 0.0, lower: -2.0, upper: 2.0, sd: 1.0 });
    Observation { start_ms: 0, value, expected, usual: None }
}

/// Scores each observation before learning it.
fn scores(detector: &mut ZScore, observations: impl IntoIterator<Item = Observation>) -> Vec<f64> {
    observations
        .into_iter()
        .map(|o| {
            let score = detector.score(&o);
            detector.learn(&o);
            score
        })
        .collect()
}

/// Numbers that look normal, from a fixed sequence.
fn noise(n: usize) -> Vec<f64> {
    let mut state = 42u64;
    let mut unit = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    (0..n).map(|_| (0..12).map(|_| unit()).sum::<f64>() - 6.0).collect()
}

/// Reference: numpy 2.4.6, `x.mean()` and `x.var()`; until the half-life counts, the decayed moments are the plain ones.
#[test]
fn young_moments_are_the_plain_ones() {
    let mut detector = ZScore::new(ZScoreParams::default());
    scores(&mut detector, [3.0, 5.0, 4.0, 8.0, 1.0, 6.0, 2.5, 7.5].map(plain));
    assert!((detector.mean - 4.625).abs() < 1e-12, "{}", detector.mean);
    assert!((detector.above + detector.below - 5.296_875).abs() < 1e-12);
}

#[test]
fn a_calm_series_is_left_alone() {
    let mut detector = ZScore::new(ZScoreParams::default());
    let scores = scores(&mut detector, noise(50_000).into_iter().map(|x| plain(100.0 + 10.0 * x)));
    assert_eq!(scores.iter().filter(|&&s| s >= 1.0).count(), 0);
}

#[test]
fn a_value_scores_by_its_distance() {
    let mut detector = ZScore::new(ZScoreParams::default());
    scores(&mut detector, noise(2_000).into_iter().map(residual));
    for (value, low, high) in [(11.0, 1.7, 2.3), (-11.0, 1.7, 2.3), (3.0, 0.4, 0.75)] {
        let score = detector.score(&residual(value));
        assert!(low < score && score < high, "{value}: {score}");
    }
}

#[test]
fn a_small_shift_is_seen_by_the_run_and_believed_in_the_end() {
    let mut detector = ZScore::new(ZScoreParams::default());
    scores(&mut detector, noise(2_000).into_iter().map(residual));
    let shifted = scores(&mut detector, noise(100).into_iter().map(|x| residual(x + 2.5)));
    let first = shifted.iter().position(|&s| s >= 1.0).expect("a shift by 2.5 deviations is seen");
    assert!(first < 10, "after {first} windows");
    assert!(shifted[60..].iter().all(|&s| s < 1.0), "it is the new normal");
}

#[test]
fn a_wild_value_does_not_change_what_is_usual() {
    let mut detector = ZScore::new(ZScoreParams::default());
    scores(&mut detector, noise(1_000).into_iter().map(residual));
    let before = detector.score(&residual(6.0));
    scores(&mut detector, [residual(1e9), residual(-1e300), residual(1e308)]);
    let after = detector.score(&residual(6.0));
    assert!((after / before - 1.0).abs() < 0.15, "{before} became {after}");
}

#[test]
fn a_constant_has_the_least_deviation_of_its_grain() {
    let mut detector = ZScore::new(ZScoreParams::default());
    scores(&mut detector, [plain(0.0); 100]);
    assert!(detector.score(&plain(1.0)) < 1.0, "a first event is not an anomaly");
    assert!(detector.score(&plain(3.0)) > 1.0);
    assert_eq!(detector.score(&plain(0.5)), SCORE_MAX);
    assert_eq!(detector.score(&plain(0.0)), 0.0);
}

#[test]
fn it_warms_up_again_when_a_forecast_comes() {
    let mut detector = ZScore::new(ZScoreParams::default());
    scores(&mut detector, noise(48).into_iter().map(|x| plain(500.0 + x)));
    assert!(!detector.warming_up());
    assert_eq!(detector.score(&residual(9.0)), 0.0);
    detector.learn(&residual(0.0));
    assert!(detector.warming_up());
}

proptest! {
    #[test]
    fn any_input_has_a_finite_score_and_a_copy_brought_back_goes_on_alike(
        values in prop::collection::vec(prop_oneof![any::<f64>(), -1.0f64..1.0, Just(1e308), Just(-1e308)], 80..200),
        cut in 0usize..80,
    ) {
        let mut detector = ZScore::new(ZScoreParams::default());
        let mut copy = None;
        for (i, &value) in values.iter().enumerate() {
            if i == cut {
                let bytes = postcard::to_stdvec(&detector).unwrap();
                copy = Some(postcard::from_bytes::<ZScore>(&bytes).unwrap());
            }
            let score = detector.score(&plain(value));
            prop_assert!((0.0..=SCORE_MAX).contains(&score));
            detector.learn(&plain(value));
            if let Some(copy) = &mut copy {
                copy.learn(&plain(value));
                prop_assert_eq!(&*copy, &detector);
            }
        }
    }
}
