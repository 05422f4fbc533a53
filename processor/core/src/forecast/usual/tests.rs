use super::*;

const STEP_MS: i64 = 300_000;
const START_MS: i64 = 1_767_571_200_000;

/// Noise between -1 and 1.
fn noise(at: i64) -> f64 {
    let mixed = (at as u64).wrapping_add(7).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 31)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (mixed >> 11) as f64 / 4_503_599_627_370_496.0 - 1.0
}

fn daily(at: i64) -> f64 {
    100.0 + 30.0 * (std::f64::consts::TAU * (at % 288) as f64 / 288.0).sin() + noise(at)
}

/// What is usual after windows 0 to `to`, and what each of these was held against.
fn learnt(to: i64, value: impl Fn(i64) -> f64) -> (Usual, Vec<Comparison>) {
    let mut usual = Usual::new(STEP_MS);
    let mut seen = Vec::new();
    for at in 0..to {
        seen.push(usual.compare(START_MS + at * STEP_MS, value(at)));
        usual.learn(START_MS + at * STEP_MS, STEP_MS, value(at));
    }
    (usual, seen)
}

fn at(usual: &Usual, window: i64, value: f64) -> Comparison {
    usual.compare(START_MS + window * STEP_MS, value)
}

#[test]
fn the_shape_of_the_day_is_learnt() {
    let (usual, seen) = learnt(5 * 288, daily);
    let errors = |day: usize| seen[day * 288..(day + 1) * 288].iter().map(|is| is.residual.abs()).sum::<f64>() / 288.0;
    assert!(errors(4) < 1.2, "the noise is all that is left: {}", errors(4));
    let is = at(&usual, 5 * 288 + 72, 130.0);
    assert!((is.expected - 130.0).abs() < 2.0, "{is:?}");
    assert!(is.skill > 0.8, "{is:?}");
    assert!(at(&usual, 5 * 288 + 72, 70.0).excess > 20.0, "what is usual at another time is not now");
}

#[test]
fn a_spike_leaves_no_echo_in_the_next_window_or_a_day_later() {
    let spike = 4 * 288 + 100;
    let (usual, seen) = learnt(5 * 288 + 101, |at| daily(at) + if at == spike { 1_000.0 } else { 0.0 });
    assert!(seen[spike as usize].excess > 50.0);
    assert!(seen[spike as usize + 1].excess < 3.0, "{:?}", seen[spike as usize + 1]);
    assert!(seen[spike as usize + 288].excess < 3.0, "{:?}", seen[spike as usize + 288]);
    assert!(at(&usual, spike + 288, daily(spike + 288)).excess < 3.0);
}

#[test]
fn the_third_value_far_away_in_a_row_is_believed() {
    let shift = 4 * 288;
    let (_, seen) = learnt(shift + 20, |at| daily(at) + if at >= shift { 200.0 } else { 0.0 });
    let excesses: Vec<bool> = seen[shift as usize..].iter().map(|is| is.excess > 6.0).collect();
    assert_eq!(excesses[..5], [true, true, true, false, false]);
    // The slow residual still says that something is different.
    assert!(seen[shift as usize + 19].slow > 150.0);
}

#[test]
fn a_week_has_its_shape_too() {
    let weekend = |at: i64| matches!(at / 288 % 7, 5 | 6);
    let value = |at: i64| daily(at) - if weekend(at) { 40.0 } else { 0.0 };
    let (_, seen) = learnt(6 * 7 * 288, value);
    let error = |is: &[Comparison]| is.iter().map(|is| is.slow.abs()).sum::<f64>() / is.len() as f64;
    let saturday = 7 * 288 * 5 + 5 * 288;
    let (first, last) = (error(&seen[5 * 288 + 36..6 * 288]), error(&seen[saturday + 36..saturday + 288]));
    assert!(last < first / 2.0, "{first} on the first Saturday, {last} on the sixth");
}

#[test]
fn a_constant_is_usual_and_its_first_step_is_not() {
    let (usual, seen) = learnt(1_000, |_| 5.0);
    assert!(seen.iter().all(|is| is.excess == 0.0 && is.residual == 0.0));
    let step = at(&usual, 1_000, 9.0);
    assert!((step.excess - 8.0).abs() < 1e-9, "half a step is the grain of whole numbers: {step:?}");
    assert_eq!(step.least, 0.5);
}

#[test]
fn memory_is_bounded_whatever_the_window() {
    for (step_ms, slots) in [(1_000, 288), (STEP_MS, 288), (3_600_000, 24), (DAY_MS, 1), (30 * DAY_MS, 1)] {
        let usual = Usual::new(step_ms);
        assert_eq!(usual.day.len(), slots);
        assert!(postcard::to_stdvec(&usual).unwrap().len() <= 8 * (slots + 56) + slots + 200);
    }
}

#[test]
fn excess_is_in_deviations_of_what_was_learnt() {
    let mut excess = Excess::default();
    for at in 0..10_000 {
        excess.learn(f64::from(at % 2) * 2.0, 1.0 / f64::from(at + 1));
    }
    // Zeros and twos: mean 1, deviation 1.
    assert!((excess.of(5.0, 0.0) - 4.0).abs() < 1e-3, "{excess:?}");
    assert_eq!(excess.of(0.5, 0.0), 0.0);
    assert!((excess.of(5.0, 2.0) - 2.0).abs() < 1e-3);
    assert!((excess.at(3.0) - 4.0).abs() < 1e-3);
    assert_eq!(Excess::default().of(3.0, 0.0), 0.0);
}
