use super::breach::{BreachState, ForecastWindow};
use super::*;
use crate::config::{Aggregate, Limit};
use crate::forecast::{Accuracy, PathPoint};

const PACE: Pace = Pace { asked: 0.0, repeat_ms: 10 };

fn verdict(scores: Vec<(DetectorKind, f64)>, strength: f64, evidence: f64, score: f64) -> Verdict {
    let deviation = strength;
    Verdict {
        value: 100.0 + deviation,
        expected: None,
        held_against: None,
        deviation,
        standing: None,
        scores,
        strength,
        evidence,
        score,
        probability: 1.0,
        confidence: 1.0,
        is_combination: false,
        warming_up: false,
    }
}

/// Feeds strengths (the deviation is as great) and writes what is heard, `.` for nothing.
#[track_caller]
fn check(settings: &AlertSettings, strengths: &[f64], expected: &str) {
    let mut state = AlertState::default();
    let heard: Vec<String> = strengths
        .iter()
        .enumerate()
        .map(|(at, &strength)| {
            let start = at as i64;
            let Weight { evidence, score } = state.weigh(
                PACE,
                1,
                start,
                Strength { own: strength, joint: 0.0, is_above: true, is_certain: false },
                None,
            );
            let scores = vec![(DetectorKind::ZScore, evidence)];
            let verdict = verdict(scores, strength, evidence, score);
            let window = JudgedWindow { start, first_offset: 0, verdict: &verdict };
            state.judge(settings, PACE, window).map_or(".".into(), |(change, open)| {
                format!("{}:{}:{}@{}", change.as_str(), open.severity.as_str(), open.kind.as_str(), open.opened_at)
            })
        })
        .collect();
    assert_eq!(heard.join(" "), expected);
}

fn settings(open_after: u32) -> AlertSettings {
    AlertSettings { open_after, sustained_after: 4, ..AlertSettings::default() }
}

#[test]
fn opens_after_so_many_windows_or_at_once() {
    check(&settings(1), &[0.9, 1.0, 0.1], ". opened:low:spike@1 .");
    check(&settings(2), &[0.9, 1.0, 0.9, 1.0, 1.1], ". . . . opened:low:spike@3");
    check(&settings(2), &[0.0, 2.0, 0.0], ". opened:medium:spike@1 .");
}

#[test]
fn does_not_repeat_and_resolves_with_hysteresis() {
    check(
        &settings(2),
        &[3.0, 3.0, 0.9, 0.1, 0.1, 0.9, 0.1, 0.1, 0.1, 0.1],
        "opened:high:spike@0 . . . . updated:critical:level_shift@0 . . resolved:critical:level_shift@0 .",
    );
}

#[test]
fn what_was_told_is_news_again_if_it_is_twice_as_bad_or_long_ago() {
    let quiet = [0.0; 3];
    let told = [&[3.0][..], &quiet, &[4.0, 5.9], &quiet, &[7.0], &quiet].concat();
    check(
        &settings(1),
        &told,
        "opened:high:spike@0 . . resolved:high:spike@0 . . . . . opened:critical:spike@9 . . resolved:critical:spike@9",
    );
    let later = [&[3.0][..], &quiet, &[0.0; 11], &[4.0]].concat();
    let expected = format!("opened:high:spike@0 . . resolved:high:spike@0 {}opened:high:spike@15", ". ".repeat(11));
    check(&settings(1), &later, &expected);
}

#[test]
fn says_so_when_it_gets_worse_or_its_kind_is_clear() {
    check(&settings(1), &[2.0, 2.6, 2.6, 2.6], "opened:medium:spike@0 . . updated:high:level_shift@0");
    check(&settings(1), &[2.0, 3.0, 4.0, 5.0], "opened:medium:spike@0 updated:high:spike@0 . updated:critical:drift@0");
}

#[test]
fn as_many_alerts_open_as_were_asked_for() {
    // Strengths of an exponential distribution: without a threshold of its own one in e^3 would open an alert; asked is one in 1,000.
    let pace = Pace { asked: 0.001, repeat_ms: 0 };
    let (mut state, settings) = (AlertState::default(), settings(1));
    let mut random = 1_u64;
    let mut opened = 0;
    for start in 0..600_000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let strength = -((random >> 11) as f64 / 9_007_199_254_740_992.0).ln() / 3.0;
        let Weight { evidence, score } = state.weigh(
            pace,
            1,
            start,
            Strength { own: strength, joint: 0.0, is_above: true, is_certain: false },
            None,
        );
        let scores = vec![(DetectorKind::ZScore, evidence)];
        let verdict = verdict(scores, strength, evidence, score);
        let window = JudgedWindow { start, first_offset: 0, verdict: &verdict };
        let step = state.judge(&settings, pace, window);
        opened += usize::from(start >= 100_000 && matches!(step, Some((Change::Opened, _))));
    }
    assert!((350..750).contains(&opened), "{opened} in 500 that were asked for");
}

/// What is told of windows within a limit of 100 whose forecast is as far above it, with an 80 % band of 20 to each side.
fn foretold(above: &[f64]) -> Vec<Change> {
    let limit = Limit { aggregate: Aggregate::Mean, value: 100.0, is_above: true, chance: 0.1 };
    let mut state = BreachState::default();
    let told = above.iter().zip(0..).filter_map(|(above, at)| {
        let mean = 100.0 + above;
        let bands = vec![(0.8, mean - 20.0, mean + 20.0), (0.95, mean - 30.0, mean + 30.0)];
        let accuracy = Accuracy { judged: 100, mase: None, mape: None, pinball: None, coverage: vec![] };
        let path = [PathPoint { steps: 4, mean, bands, accuracy: Some(accuracy) }];
        let window = ForecastWindow { start: at, end: at + 1, step_ms: 1, first_offset: at, value: 50.0, path: &path };
        state.judge(&settings(2), &limit, window).map(|(change, ..)| change)
    });
    told.collect()
}

#[test]
fn a_chance_that_falls_is_not_told() {
    assert_eq!(foretold(&[-25.0, -25.0, -25.0]), [], "less than the chance that is asked for");
    assert_eq!(foretold(&[-19.0, -18.0]), [Change::Opened]);
    assert_eq!(foretold(&[10.0, 0.0, -5.0, -10.0, -15.0]), [], "as after a spike");
    assert_eq!(foretold(&[10.0, 0.0, 5.0]), [Change::Opened], "it rises again");
}
