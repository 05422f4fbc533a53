use super::*;
use crate::detect::isolation_forest::SplitMix64;

/// Rows of three numbers: the first two lie along a line, the third is noise.
fn row(random: &mut SplitMix64) -> Vec<f64> {
    let mut normal = || (0..12).map(|_| random.unit()).sum::<f64>() - 6.0;
    let along = normal();
    vec![100.0 + 10.0 * along, 5.0 + along + 0.1 * normal(), normal()]
}

fn learnt(rows: usize) -> Forest {
    let (mut forest, mut random) = (Forest::new(1, 3), SplitMix64::new(7));
    for _ in 0..rows {
        let row = row(&mut random);
        let oddness = forest.score(&row);
        forest.learn(&row, oddness);
    }
    forest
}

#[test]
fn usual_rows_are_not_odd_and_each_way_of_being_odd_is() {
    let forest = learnt(4_000);
    assert!(forest.score(&[100.0, 5.0, 0.0]).score < 1.0);
    for (odd, what) in [
        ([180.0, 5.0, 0.0], "far in one feature"),
        ([100.0, 5.0, 9.0], "far in another"),
        ([110.0, 4.0, 0.0], "off the line, each number usual by itself"),
    ] {
        let score = forest.score(&odd).score;
        assert!(score > 2.5, "{what}: {score}");
    }
}

#[test]
fn shares_say_which_feature_it_is_and_sum_to_one() {
    let forest = learnt(4_000);
    for (odd, feature) in [([100.0, 5.0, 9.0], 2), ([190.0, 14.0, 0.0], 0)] {
        let shares = forest.attribute(&odd, forest.score(&odd));
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{shares:?}");
        let greatest = (0..3).max_by(|&a, &b| shares[a].total_cmp(&shares[b])).unwrap();
        assert!(greatest == feature || (feature == 0 && greatest == 1), "{odd:?}: {shares:?}");
    }
    let off_line = [110.0, 4.0, 0.0];
    let shares = forest.attribute(&off_line, forest.score(&off_line));
    assert!(shares[2] < 0.2, "the two that do not fit together share it: {shares:?}");
}

#[test]
fn one_row_in_a_thousand_has_a_score_of_three() {
    let (mut forest, mut random) = (Forest::new(1, 3), SplitMix64::new(7));
    let mut above = 0;
    for at in 0..30_000 {
        let row = row(&mut random);
        let oddness = forest.score(&row);
        above += usize::from(at >= 4_000 && oddness.score > 3.09);
        forest.learn(&row, oddness);
    }
    // One of each member's thousand, less what both say of the same row and the handicap takes.
    assert!((15..=60).contains(&above), "{above} of 26,000");
}

#[test]
fn what_was_usual_is_forgotten() {
    let mut forest = learnt(4_000);
    let mut random = SplitMix64::new(9);
    let shifted = |random: &mut SplitMix64| row(random).into_iter().map(|x| x + 500.0).collect::<Vec<_>>();
    let first = shifted(&mut random);
    assert!(forest.score(&first).score > 3.0);
    for _ in 0..6_000 {
        let row = shifted(&mut random);
        let oddness = forest.score(&row);
        forest.learn(&row, oddness);
    }
    assert!(forest.score(&first).score < 2.0);
    let before = forest.score(&[100.0, 5.0, 0.0]).score;
    assert!(before > 2.5, "and where it was before is odd now: {before}");
}

#[test]
fn odd_numbers_and_constants_leave_finite_scores() {
    let (mut forest, mut random) = (Forest::new(1, 3), SplitMix64::new(7));
    for at in 0..3_000 {
        let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e308, -1e308, 0.0][at % 6];
        let row = [random.unit(), 42.0, if at % 10 == 0 { odd } else { random.unit() }];
        let oddness = forest.score(&row);
        assert!(oddness.score.is_finite(), "{row:?}");
        let shares = forest.attribute(&row, oddness);
        assert!(shares.iter().all(|share| share.is_finite()), "{row:?}: {shares:?}");
        forest.learn(&row, oddness);
    }
    assert!(forest.score(&[0.5, 43.0, 0.5]).score > 3.0, "a constant that changes is odd");
    assert!(forest.score(&[0.5, 42.0, f64::NAN]).score < 2.0, "what is missing is not");
}

#[test]
fn a_saved_forest_goes_on_as_the_one_that_was_not() {
    let mut forest = learnt(3_000);
    let bytes = postcard::to_stdvec(&forest).unwrap();
    assert!(bytes.len() < 150_000, "{} bytes", bytes.len());
    let mut other: Forest = postcard::from_bytes(&bytes).unwrap();
    let mut random = SplitMix64::new(3);
    for _ in 0..500 {
        let row = row(&mut random);
        let oddness = forest.score(&row);
        assert_eq!(oddness, other.score(&row));
        forest.learn(&row, oddness);
        other.learn(&row, oddness);
    }
    assert_eq!(forest, other);
}

#[test]
fn the_further_off_the_line_the_further_apart() {
    let forest = learnt(4_000);
    let apart = |row: [f64; 3]| forest.score(&row).apart;
    assert!(apart([100.0, 5.0, 0.0]) < 1.0);
    let (near, far) = (apart([105.0, 4.6, 0.0]), apart([110.0, 4.0, 0.0]));
    assert!(near > 3.0 && far > 1.8 * near, "{near} and {far}");
    assert!(forest.none_is_out(&[110.0, 4.0, 0.0]) && !forest.none_is_out(&[190.0, 14.0, 0.0]));
    let shares = forest.attribute_apart(&[110.0, 4.0, 0.0]);
    assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9 && shares[2] < 0.1, "{shares:?}");
    assert_eq!(forest.score(&[110.0, f64::NAN, 0.0]).apart, 0.0, "what is missing is held against nothing");
    assert_eq!(learnt(500).score(&[110.0, 4.0, 0.0]).apart, 0.0, "too little is known");
}
