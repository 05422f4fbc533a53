//! Figures on synthetic clusters, and what the forest promises for any input.

use proptest::prelude::*;

use super::*;

fn normal(random: &mut SplitMix64) -> f64 {
    // Irwin-Hall: twelve uniform numbers less six.
    (0..12).map(|_| random.unit()).sum::<f64>() - 6.0
}

/// Two clusters, and one row in fifty anywhere in the box around them: rows, and which are strays.
fn clusters(rows: usize, seed: u64) -> Vec<(Vec<f64>, bool)> {
    let mut random = SplitMix64(seed);
    (0..rows)
        .map(|i| {
            if i % 50 == 49 {
                return ((0..3).map(|_| 20.0 * random.unit() - 10.0).collect(), true);
            }
            let centre = if random.unit() < 0.5 { -5.0 } else { 5.0 };
            ((0..3).map(|_| centre + 0.5 * normal(&mut random)).collect(), false)
        })
        .collect()
}

/// The chance that an anomaly scores above a usual row.
fn roc_auc(mut scored: Vec<(f64, bool)>) -> f64 {
    scored.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut usual, mut pairs, mut anomalies) = (0.0, 0.0, 0.0);
    for &(_, anomaly) in &scored {
        if anomaly {
            anomalies += 1.0;
            pairs += usual;
        } else {
            usual += 1.0;
        }
    }
    pairs / (usual * anomalies)
}

#[test]
fn strays_between_clusters_are_told_apart() {
    for seed in 1..=3 {
        let mut forest = OnlineIsolationForest::new(ForestParams { seed, ..ForestParams::default() }, 3);
        let scored = clusters(4_000, seed)
            .into_iter()
            .map(|(row, stray)| {
                let score = forest.score_raw(&row);
                forest.learn(&row);
                (score, stray)
            })
            .collect();
        let auc = roc_auc(scored);
        assert!(auc > 0.95, "ROC AUC {auc} with seed {seed}");
    }
}

#[test]
fn the_window_is_forgotten() {
    let params = ForestParams { window: 128, ..ForestParams::default() };
    let mut forest = OnlineIsolationForest::new(params, 1);
    let mut random = SplitMix64(5);
    for centre in [0.0, 100.0] {
        for _ in 0..1_000 {
            forest.learn(&[centre + normal(&mut random)]);
        }
        let (here, there) = (forest.score_outside(&[centre]), forest.score_outside(&[100.0 - centre]));
        assert!(here < there, "at {centre}: {here} here, {there} where nothing is any more");
    }
    assert_eq!(forest.len(), 128);
    assert!(forest.trees.iter().all(|tree| tree.bin_count() <= 4 * 128 / 16), "bins are bounded");
}

#[test]
fn a_row_far_outside_is_anomalous_and_not_learnt() {
    let mut forest = ForestScore::new(ForestParams::default(), 2);
    let mut random = SplitMix64(9);
    let mut row = || [normal(&mut random), normal(&mut random)];
    let mut false_alarms = 0;
    for i in 0..3_000 {
        let row = row();
        assert_eq!(forest.warming_up(), i < 256, "after {i} rows");
        false_alarms += u32::from(forest.score(&row) >= 1.0);
        forest.learn(&row);
    }
    assert!(false_alarms <= 1, "{false_alarms} false alarms");
    assert!(forest.score(&[30.0, 0.0]) >= 1.0);
    let before = forest.forest.clone();
    (0..BELIEVE_AFTER - 1).for_each(|_| forest.learn(&[30.0, 0.0]));
    assert_eq!(forest.forest, before);
    forest.learn(&[30.0, 0.0]);
    assert_ne!(forest.forest, before, "what lasts is believed");
}

#[test]
fn what_is_not_a_number_is_scored_as_if_inside_and_not_learnt() {
    let mut forest = OnlineIsolationForest::new(ForestParams::default(), 2);
    clusters(600, 2).iter().for_each(|(row, _)| forest.learn(&row[..2]));
    let before = forest.clone();
    forest.learn(&[f64::NAN, 0.0]);
    forest.learn(&[0.0, f64::INFINITY]);
    assert_eq!(forest, before);
    assert!(forest.score_raw(&[f64::NAN, 5.0]) <= forest.score_raw(&[0.0, 5.0]));
}

#[test]
fn a_constant_stays_one_bin() {
    let mut forest = ForestScore::new(ForestParams::default(), 1);
    for _ in 0..1_000 {
        assert!(forest.score(&[7.0]) < 1.0);
        forest.learn(&[7.0]);
    }
    assert!(forest.forest.trees.iter().all(|tree| tree.bin_count() == 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_rows_have_finite_scores_and_a_copy_brought_back_goes_on_alike(
        rows in prop::collection::vec(prop::array::uniform2(prop_oneof![any::<f64>(), -1.0f64..1.0, Just(1e308)]), 150..400),
        cut in 0usize..150,
    ) {
        let params = ForestParams { trees: 4, window: 64, leaf: 4, seed: 3 };
        let mut forest = ForestScore::new(params, 2);
        let mut copy = None;
        for (i, row) in rows.iter().enumerate() {
            if i == cut {
                let bytes = postcard::to_stdvec(&forest).unwrap();
                copy = Some(postcard::from_bytes::<ForestScore>(&bytes).unwrap());
            }
            let score = forest.score(row);
            prop_assert!(score.is_finite() && score >= 0.0);
            let raw = forest.forest.score_raw(row);
            prop_assert!((0.0..=1.0).contains(&raw));
            forest.learn(row);
            if let Some(copy) = &mut copy {
                prop_assert_eq!(copy.score(row), score);
                copy.learn(row);
            }
        }
        prop_assert_eq!(copy.as_ref(), Some(&forest));
    }
}
