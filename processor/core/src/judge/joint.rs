//! What is odd of an entity's series together, and which of its measures that is by.

use super::{in_forest, numbered_series_of};
use crate::cohort::Row;
use crate::config::StreamConfig;
use crate::detect::forest::Forest;
use crate::detect::isolation_forest::ForestScore;
use crate::detect::{DetectorKind, score_from};
use crate::series::Verdict;

/// Oddness of a row, in normal deviations, that makes a score of 1.0; and the score from which it is asked which series it is by.
const ODDNESS: f64 = 3.5;
const ODDNESS_OF_NOTE: f64 = 0.5;
/// The share of what is odd that makes a second measure a part of it.
const PART_LEAST: f64 = 0.15;
/// The score beyond which none weighs more in an alert's attribution.
const WEIGHTY: f64 = 10.0;

/// What a forest makes of a window.
#[derive(Clone, Debug, Default)]
pub(super) struct Joint {
    /// Whether it warms up, where there is one.
    warming_up: Option<bool>,
    score: f64,
    /// Of each of its series, at least 0 and 1 in all; empty where nothing is odd.
    shares: Vec<f64>,
    /// The two measures that do not go together, if that is what is odd.
    pub(super) combination: Option<[usize; 2]>,
}

impl Joint {
    /// By the entity's own forest.
    pub(super) fn by_entity(forest: &ForestScore, row: Option<&Row>) -> Self {
        let score = row.map_or(0.0, |row| forest.score(&row.numbers));
        Self { warming_up: Some(forest.warming_up()), score, ..Self::default() }
    }

    /// By its cohort's.
    pub(super) fn by_cohort(config: &StreamConfig, forest: Option<&Forest>, row: Option<&Row>) -> Self {
        let forest = forest.filter(|forest| forest.knows_tail());
        let Some((forest, row, oddness)) = forest.zip(row).and_then(|(forest, row)| Some((forest, row, row.oddness?)))
        else {
            return Self { warming_up: Some(true), ..Self::default() };
        };
        let score = score_from(oddness.score / ODDNESS);
        if score < ODDNESS_OF_NOTE {
            return Self { warming_up: Some(false), score, ..Self::default() };
        }
        let shares = forest.attribute(&row.numbers, oddness);
        let combination = combination(config, forest, row, &shares);
        Self { warming_up: Some(false), score, shares, combination }
    }

    /// The score that the `at`-th of its series has a part in, and whether the forest warms up: whole for the one with the greatest share.
    pub(super) fn of(&self, at: usize) -> Option<(f64, bool)> {
        let greatest = self.shares.iter().copied().fold(0.0, f64::max);
        let part = self.shares.get(at).map_or(1.0, |share| if greatest > 0.0 { share / greatest } else { 0.0 });
        self.warming_up.map(|warming_up| (self.score * part, warming_up))
    }
}

/// The two measures that have the greatest parts in what is odd of a row, if they are out in ways that do not go together.
fn combination(config: &StreamConfig, forest: &Forest, row: &Row, shares: &[f64]) -> Option<[usize; 2]> {
    let mut of_measures: Vec<(f64, usize, usize)> = Vec::new();
    let measures = numbered_series_of(config).filter(|(_, measure, _)| in_forest(measure)).map(|(at, ..)| at);
    for (feature, (at, &share)) in measures.zip(shares).enumerate() {
        match of_measures.last_mut() {
            Some((sum, measure, leading)) if *measure == at => {
                *leading = if share > shares[*leading] { feature } else { *leading };
                *sum += share;
            }
            _ => of_measures.push((share, at, feature)),
        }
    }
    of_measures.sort_by(|a, b| b.0.total_cmp(&a.0));
    let &[(_, first, of_first), (share, second, of_second), ..] = &of_measures[..] else { return None };
    (share >= PART_LEAST && forest.opposes(&row.numbers, of_first, of_second)).then_some([first, second])
}

/// Each measure's share of what is unusual in a window: of the squares of what scores have beyond a half, the forest's by its own shares.
/// Where no score has, all is of the series at `told`.
pub(super) fn attribution(config: &StreamConfig, verdicts: &[Option<Verdict>], told: usize) -> Vec<f64> {
    let weight = |score: f64| {
        let beyond = (score.min(WEIGHTY) - 0.5).max(0.0);
        beyond * beyond
    };
    let split = |verdict: &Option<Verdict>| {
        let scores = verdict.as_ref().map_or(&[][..], |verdict| &verdict.scores);
        let greatest = |is_joint: bool| {
            let of = |&(kind, score): &(DetectorKind, f64)| {
                ((kind == DetectorKind::IsolationForest) == is_joint).then_some(score)
            };
            scores.iter().filter_map(of).fold(0.0, f64::max)
        };
        (greatest(false), greatest(true))
    };
    let split: Vec<(f64, f64)> = verdicts.iter().map(split).collect();
    let joint = weight(split.iter().map(|&(_, joint)| joint).fold(0.0, f64::max));
    let joint_sum: f64 = split.iter().map(|&(_, joint)| joint).sum();
    let mut shares = vec![0.0; config.measures.len()];
    for ((at, ..), (own, of_joint)) in numbered_series_of(config).zip(&split) {
        shares[at] += weight(*own) + if joint_sum > 0.0 { joint * of_joint / joint_sum } else { 0.0 };
    }
    let sum: f64 = shares.iter().sum();
    if sum > 0.0 {
        shares.iter_mut().for_each(|share| *share /= sum);
    } else if let Some((at, ..)) = numbered_series_of(config).nth(told) {
        shares[at] = 1.0;
    }
    shares
}
