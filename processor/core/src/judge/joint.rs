//! What is odd of an entity's series together, and which of its measures that is by.

use super::{in_forest, numbered_series_of};
use crate::cohort::Row;
use crate::config::StreamConfig;
use crate::detect::forest::Forest;
use crate::detect::isolation_forest::ForestScore;
use crate::detect::{DetectorKind, score_from};
use crate::series::Verdict;

/// What makes a score of 1.0: oddness of a row, in normal deviations, or deviations by which it is apart.
const ODDNESS: f64 = 3.5;
const APART: f64 = 7.0;
/// The score from which it is asked which series it is by.
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
    /// The two measures that are out in ways that do not go together, or that are most of a row that is odd though none of its numbers is.
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
        let (sparse, apart) = (score_from(oddness.score / ODDNESS), score_from(oddness.apart / APART));
        let score = sparse.max(apart);
        if score < ODDNESS_OF_NOTE {
            return Self { warming_up: Some(false), score, ..Self::default() };
        }
        let shares = forest.attribute(&row.numbers, oddness);
        let two = two_measures(config, &shares).filter(|two| two.iter().all(|of| of.share >= PART_LEAST));
        let opposed = two.filter(|[a, b]| forest.opposes(&row.numbers, a.leading, b.leading));
        let (shares, two) = if apart > sparse {
            let shares = forest.attribute_apart(&row.numbers);
            let two = if forest.none_is_out(&row.numbers) { two_measures(config, &shares) } else { opposed };
            (shares, two)
        } else {
            (shares, opposed)
        };
        Self { warming_up: Some(false), score, shares, combination: two.map(|two| two.map(|of| of.measure)) }
    }

    /// The score that the `at`-th of its series has a part in, and whether the forest warms up: whole for the one with the greatest share.
    pub(super) fn of(&self, at: usize) -> Option<(f64, bool)> {
        let greatest = self.shares.iter().copied().fold(0.0, f64::max);
        let part = self.shares.get(at).map_or(1.0, |share| if greatest > 0.0 { share / greatest } else { 0.0 });
        self.warming_up.map(|warming_up| (self.score * part, warming_up))
    }
}

/// A measure's part in what is odd.
#[derive(Clone, Copy, Debug)]
struct Part {
    measure: usize,
    share: f64,
    /// Its feature with the greatest share.
    leading: usize,
}

/// The two measures that have the greatest parts in what is odd of a row, the greatest first.
fn two_measures(config: &StreamConfig, shares: &[f64]) -> Option<[Part; 2]> {
    let mut parts: Vec<Part> = Vec::new();
    let measures = numbered_series_of(config).filter(|(_, measure, _)| in_forest(measure)).map(|(at, ..)| at);
    for (feature, (measure, &share)) in measures.zip(shares).enumerate() {
        match parts.last_mut() {
            Some(part) if part.measure == measure => {
                part.leading = if share > shares[part.leading] { feature } else { part.leading };
                part.share += share;
            }
            _ => parts.push(Part { measure, share, leading: feature }),
        }
    }
    parts.sort_by(|a, b| b.share.total_cmp(&a.share));
    let &[first, second, ..] = &parts[..] else { return None };
    Some([first, second])
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
