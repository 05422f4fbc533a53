//! Reference values, exactness of the sliding quartiles, and any input.

use proptest::prelude::*;

use super::*;
use crate::detect::SCORE_MAX;

fn plain(value: f64) -> Observation {
    Observation { start_ms: 0, value, expected: None, usual: None }
}

fn learnt(values: impl IntoIterator<Item = f64>) -> Iqr {
    let mut detector = Iqr::new(IqrParams::default());
    values.into_iter().for_each(|v| detector.learn(&plain(v)));
    detector
}

/// Reference: numpy 2.4.6, `np.percentile([7.5, 1, 3, 12, 4.25, 9, 2], [25, 50, 75])`.
#[test]
fn quartiles_agree_with_numpy() {
    let detector = learnt([7.5, 1.0, 3.0, 12.0, 4.25, 9.0, 2.0]);
    assert_eq!([0.25, 0.5, 0.75].map(|p| detector.points.quantile(p)), [2.5, 4.25, 8.25]);
}

#[test]
fn one_is_on_the_fence() {
    // 0, 1, ..., 100: the quartiles are 25 and 75, so the upper fence is at 75 + 3 * 50.
    let detector = learnt((0..=100).map(|i| f64::from(i * 37 % 101)));
    for (value, score) in [(225.0, 1.0), (375.0, 2.0), (-125.0, 1.0), (75.0, 0.0), (50.0, 0.0)] {
        let signal = plain(value).signal().unwrap();
        assert!((detector.point_score(signal) - score).abs() < 1e-9, "{value}: {}", detector.point_score(signal));
    }
}

#[test]
fn a_constant_has_the_least_spread_of_its_grain() {
    let detector = learnt([0.0; 100]);
    assert!(detector.score(&plain(1.0)) < 1.0, "a first event is not an anomaly");
    assert!(detector.score(&plain(5.0)) > 1.0);
    assert_eq!(detector.score(&plain(0.5)), SCORE_MAX);
}

#[test]
fn a_lasting_small_shift_is_seen() {
    let mut detector = learnt((0..400).map(|i| f64::from(i * 7919 % 101) + 0.5));
    let shifted: Vec<f64> = (0..30)
        .map(|i| {
            let observation = plain(f64::from(i * 7919 % 101) + 60.5);
            let score = detector.score(&observation);
            detector.learn(&observation);
            score
        })
        .collect();
    assert!(shifted[0] < 1.0, "no single value is beyond the fences");
    assert!(shifted.iter().any(|&score| score >= 1.0), "{shifted:?}");
}

proptest! {
    #[test]
    fn the_window_slides_exactly(values in prop::collection::vec(-1e3f64..1e3, 1..80)) {
        let mut recent = Recent::new(16);
        values.iter().for_each(|&v| recent.push(v));
        let mut last = values[values.len().saturating_sub(16)..].to_vec();
        last.sort_by(f64::total_cmp);
        prop_assert_eq!(&recent.sorted, &last);
    }

    #[test]
    fn any_input_has_a_finite_score_and_a_copy_brought_back_goes_on_alike(
        values in prop::collection::vec(prop_oneof![any::<f64>(), -1.0f64..1.0, Just(1e308), Just(-1e308)], 80..200),
        cut in 0usize..80,
    ) {
        let mut detector = Iqr::new(IqrParams { window: 60, ..IqrParams::default() });
        let mut copy = None;
        for (i, &value) in values.iter().enumerate() {
            if i == cut {
                let bytes = postcard::to_stdvec(&detector).unwrap();
                copy = Some(postcard::from_bytes::<Iqr>(&bytes).unwrap());
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
