use super::*;
use crate::forecast::usual::Usual;

const STEP_MS: i64 = 300_000;
const START_MS: i64 = 1_767_571_200_000;
const DAYS: i64 = 5;

/// Noise with a deviation of about 1.
fn noise(window: i64) -> f64 {
    let mixed = (window as u64).wrapping_add(3).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    ((mixed ^ (mixed >> 27)) >> 11) as f64 / 9_007_199_254_740_992.0 * 3.46 - 1.73
}

/// The scores of this series' windows.
fn scores(windows: i64, value: impl Fn(i64) -> f64) -> Vec<f64> {
    let (mut usual, mut shift) = (Usual::new(STEP_MS), Shift::default());
    let score = |window| {
        let (start_ms, value) = (START_MS + window * STEP_MS, value(window));
        let observation = Observation { start_ms, value, expected: None, usual: Some(usual.compare(start_ms, value)) };
        let score = shift.score(&observation);
        shift.learn(&observation);
        usual.learn(start_ms, STEP_MS, value);
        score
    };
    (0..windows).map(score).collect()
}

fn first_above(scores: &[f64]) -> Option<usize> {
    scores.iter().position(|score| *score >= 1.0)
}

#[test]
fn noise_says_nothing_nor_does_a_season() {
    assert_eq!(first_above(&scores(20 * 288, noise)), None);
    let season = |window: i64| 20.0 * (std::f64::consts::TAU * (window % 288) as f64 / 288.0).sin();
    assert_eq!(first_above(&scores(20 * 288, |window| noise(window) + season(window))), None);
}

#[test]
fn a_small_shift_is_seen_within_an_hour_and_not_for_ever() {
    let from = DAYS * 288;
    let found = scores(from + 14 * 288, |window| noise(window) + if window >= from { 4.0 } else { 0.0 });
    let delay = first_above(&found[from as usize..]).unwrap();
    assert!(delay <= 12, "{delay} windows");
    let last = found.iter().rposition(|score| *score >= 1.0).unwrap() as i64;
    assert!(last < from + 7 * 288, "after a week it is usual: {} days", (last - from) / 288);
}

#[test]
fn a_slow_drift_is_seen() {
    let from = DAYS * 288;
    let found = scores(from + 288, |window| noise(window) + (window - from).max(0) as f64 * 0.1);
    let delay = first_above(&found[from as usize..]).unwrap();
    assert!(delay <= 72, "{delay} windows, of a deviation in ten");
}

#[test]
fn one_wild_value_is_no_shift() {
    let found = scores(DAYS * 288, |window| noise(window) + if window == 1_000 { 1e6 } else { 0.0 });
    let above = found.iter().filter(|score| **score >= 1.0).count();
    assert!(above <= 8, "{above} windows: it is forgotten");
    assert_eq!(first_above(&found), Some(1_000));
}

#[test]
fn the_first_two_days_are_silent() {
    let found = scores(2 * 288, |window| noise(window) + if window > 300 { 50.0 } else { 0.0 });
    assert_eq!(found.iter().copied().fold(0.0, f64::max), 0.0);
}

#[test]
fn a_fault_of_the_second_day_does_not_blind_it() {
    let (second, from) = (288 + 100, 15 * 288);
    let fault = |window: i64| (second..second + 72).contains(&window) || window >= from;
    let found = scores(from + 288, |window| noise(window) + if fault(window) { 5.0 } else { 0.0 });
    let delay = first_above(&found[from as usize..]).unwrap();
    assert!(delay <= 24, "{delay} windows");
}
