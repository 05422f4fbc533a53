//! How good scores are where rows are labelled: three measures, each between 0 and 1, of which none needs a threshold chosen by hand.

/// Thresholds at which a curve is looked at.
const THRESHOLDS: usize = 250;

/// The scores of a series' rows, and which of these are labelled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Labelled<'a> {
    pub(crate) scores: &'a [f64],
    pub(crate) labels: &'a [bool],
}

impl<'a> Labelled<'a> {
    /// Labelled rows in a row: the first one, and the one after the last.
    fn segments(self) -> Vec<(usize, usize)> {
        let mut segments: Vec<(usize, usize)> = Vec::new();
        for (at, _) in self.labels.iter().enumerate().filter(|(_, label)| **label) {
            match segments.last_mut() {
                Some((_, end)) if *end == at => *end += 1,
                _ => segments.push((at, at + 1)),
            }
        }
        segments
    }

    fn zip(self) -> impl Iterator<Item = (f64, bool)> + 'a {
        self.scores.iter().copied().zip(self.labels.iter().copied())
    }
}

/// An F1, and the threshold that gives it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct F1 {
    pub(crate) best: f64,
    pub(crate) threshold: f64,
    /// At the product's own threshold, 1.0.
    pub(crate) fixed: f64,
}

/// The best F1 of all rows of these series at one threshold: every row counts by itself.
pub(crate) fn f1(series: &[Labelled<'_>]) -> F1 {
    let hits = series.iter().flat_map(|series| series.zip()).filter(|(_, label)| *label).map(|(score, _)| (score, 1.0));
    best_of(hits.collect(), normal_scores(series))
}

/// The same by the rule of delay: a labelled segment counts whole if one of its first `delay` + 1 rows is found, else not at all (Ren et
/// al., "Time-Series Anomaly Detection Service at Microsoft", KDD 2019).
pub(crate) fn f1_with_delay(series: &[Labelled<'_>], delay: usize) -> F1 {
    let hit = |series: &Labelled<'_>, (start, end): (usize, usize)| {
        let early = &series.scores[start..end.min(start + delay + 1)];
        (early.iter().copied().fold(f64::NEG_INFINITY, f64::max), (end - start) as f64)
    };
    let hits = series.iter().flat_map(|series| series.segments().into_iter().map(move |segment| hit(series, segment)));
    best_of(hits.collect(), normal_scores(series))
}

fn normal_scores(series: &[Labelled<'_>]) -> Vec<f64> {
    series.iter().flat_map(|series| series.zip()).filter(|(_, label)| !label).map(|(score, _)| score).collect()
}

/// Of hits, each with its score and what it weighs, and the scores of normal rows. A score of 0 says nothing, so that it is no threshold.
fn best_of(mut hits: Vec<(f64, f64)>, mut normal: Vec<f64>) -> F1 {
    hits.sort_by(|a, b| b.0.total_cmp(&a.0));
    normal.sort_by(|a, b| b.total_cmp(a));
    let all: f64 = hits.iter().map(|(_, weight)| weight).sum();
    let f1 = |found: f64, threshold: f64| {
        let wrong = normal.partition_point(|score| *score >= threshold) as f64;
        if all > 0.0 { 2.0 * found / (found + all + wrong) } else { f64::NAN }
    };
    let mut best = F1 { best: f1(0.0, f64::INFINITY), threshold: f64::INFINITY, fixed: 0.0 };
    let mut found = 0.0;
    for tied in hits.chunk_by(|a, b| a.0 == b.0).take_while(|tied| tied[0].0 > 0.0) {
        found += tied.iter().map(|(_, weight)| weight).sum::<f64>();
        let here = f1(found, tied[0].0);
        if here > best.best {
            best = F1 { best: here, threshold: tied[0].0, ..best };
        }
    }
    let at_one = hits.iter().filter(|(score, _)| *score >= 1.0).fold(0.0, |sum, (_, weight)| sum + weight);
    best.fixed = f1(at_one, 1.0);
    best
}

/// VUS-PR, the volume under the surface of precision and recall: for each buffer from 0 to `buffer_max` rows, labels fade out over half
/// of it before and after a segment; the areas under the curves are averaged. `None` without labelled rows.
///
/// J. Paparrizos et al., "Volume Under the Surface: A New Accuracy Evaluation Measure for Time-Series Anomaly Detection", PVLDB 15(11),
/// 2022, as TSB-AD computes it. Cost: `buffer_max` passes over the rows.
pub(crate) fn vus_pr(series: Labelled<'_>, buffer_max: usize) -> Option<f64> {
    let segments = series.segments();
    if segments.is_empty() {
        return None;
    }
    let rows = series.scores.len();
    let mut order: Vec<usize> = (0..rows).collect();
    order.sort_by(|&a, &b| series.scores[b].total_cmp(&series.scores[a]));
    // How many rows are at or above each threshold.
    let above = |at: usize| {
        let threshold = series.scores[order[at * (rows - 1) / (THRESHOLDS - 1)]];
        order.partition_point(|&row| series.scores[row] >= threshold)
    };
    let cuts: Vec<usize> = (0..THRESHOLDS).map(above).collect();
    let labelled = series.labels.iter().filter(|label| **label).count() as f64;
    let area = |buffer: usize| {
        let soft = fading(series.labels, &segments, buffer);
        let reached = reach(&segments, buffer / 2, rows);
        let mut firsts: Vec<f64> = reached
            .iter()
            .map(|&(start, end)| series.scores[start..end].iter().copied().fold(f64::NEG_INFINITY, f64::max))
            .collect();
        firsts.sort_by(|a, b| b.total_cmp(a));
        let (mut caught, mut faded, mut done) = (0.0, 0.0, 0);
        let (mut recall_before, mut area) = (0.0, 0.0);
        for &cut in &cuts {
            for &row in &order[done..cut] {
                caught += soft[row];
                faded += if series.labels[row] { 0.0 } else { soft[row] };
            }
            done = cut;
            let threshold = series.scores[order[cut - 1]];
            let existing = firsts.partition_point(|score| *score >= threshold) as f64 / firsts.len() as f64;
            let positives = f64::midpoint(labelled, labelled + faded);
            let recall = f64::min(caught / positives, 1.0) * existing;
            area += (recall - recall_before) * caught / cut as f64;
            recall_before = recall;
        }
        area
    };
    Some((0..=buffer_max).map(area).sum::<f64>() / (buffer_max + 1) as f64)
}

/// 1 where a row is labelled, fading to 0 over half the buffer on both sides.
fn fading(labels: &[bool], segments: &[(usize, usize)], buffer: usize) -> Vec<f64> {
    let mut soft: Vec<f64> = labels.iter().map(|label| f64::from(u8::from(*label))).collect();
    let weight = |distance: usize| (1.0 - distance as f64 / buffer as f64).sqrt();
    for &(start, end) in segments {
        let after = &mut soft[end..(end + buffer / 2).min(labels.len())];
        after.iter_mut().zip(1..).for_each(|(soft, distance)| *soft += weight(distance));
        let before = &mut soft[start.saturating_sub(buffer / 2)..start];
        before.iter_mut().rev().zip(1..).for_each(|(soft, distance)| *soft += weight(distance));
    }
    soft.into_iter().map(|weight| weight.min(1.0)).collect()
}

/// The segments with so many rows more on both sides, those that overlap as one.
fn reach(segments: &[(usize, usize)], more: usize, rows: usize) -> Vec<(usize, usize)> {
    let mut reached: Vec<(usize, usize)> = Vec::new();
    for &(start, end) in segments {
        let (start, end) = (start.saturating_sub(more), (end + more).min(rows));
        match reached.last_mut() {
            // As its authors do: those that only touch are two, unless they share a row.
            Some((_, last)) if *last > start => *last = end,
            _ => reached.push((start, end)),
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABELS: [bool; 10] = [false, true, true, true, false, false, true, false, false, false];

    #[test]
    fn f1_counts_rows_and_with_delay_segments() {
        let scores = [0.1, 0.2, 3.0, 0.1, 2.0, 0.0, 1.5, 0.0, 0.0, 0.1];
        let series = [Labelled { scores: &scores, labels: &LABELS }];
        // At 1.5: two of four rows, one wrong. At 0.2: three, one wrong.
        assert_eq!(f1(&series), F1 { best: 6.0 / 8.0, threshold: 0.2, fixed: 4.0 / 7.0 });
        // Within one row of its beginning the first segment is found whole.
        assert_eq!(f1_with_delay(&series, 1), F1 { best: 8.0 / 9.0, threshold: 1.5, fixed: 8.0 / 9.0 });
        assert_eq!(f1_with_delay(&series, 0), F1 { best: 8.0 / 9.0, threshold: 0.2, fixed: 2.0 / 6.0 });
        let silent = [Labelled { scores: &[0.0; 10], labels: &LABELS }];
        assert_eq!((f1(&silent).best, f1(&silent).fixed.to_bits()), (0.0, 0));
        assert!(f1(&[Labelled { scores: &scores, labels: &[false; 10] }]).best.is_nan());
    }

    #[test]
    fn vus_is_what_its_authors_code_gives() {
        let (mut scores, mut labels) = (Vec::new(), vec![false; 400]);
        scores.extend((0..400_u32).map(|at| f64::from(at * 7_919 % 1_009) / 1_009.0));
        for (start, end) in [(0, 3), (50, 60), (66, 70), (300, 340), (395, 400)] {
            labels[start..end].fill(true);
            scores[start..end].iter_mut().for_each(|score| *score += 0.4);
        }
        // `RangeAUC_volume_opt` of TSB-AD (evaluation/basic_metrics.py), by NumPy.
        for (buffer, expected) in [
            (0, 0.643_670_893_163_551_4),
            (1, 0.643_670_893_163_551_4),
            (10, 0.666_235_325_926_530_5),
            (100, 0.811_738_008_086_506_5),
        ] {
            let found = vus_pr(Labelled { scores: &scores, labels: &labels }, buffer).unwrap();
            assert!((found - expected).abs() < 1e-9, "{found} with a buffer of {buffer}");
        }
    }

    #[test]
    fn vus_is_one_for_the_labels_themselves_without_a_buffer_and_little_for_their_opposite() {
        let exact = LABELS.map(|label| f64::from(u8::from(label)));
        let opposite = LABELS.map(|label| f64::from(u8::from(!label)));
        let vus = |scores: &[f64], buffer| vus_pr(Labelled { scores, labels: &LABELS }, buffer).unwrap();
        assert!((vus(&exact, 0) - 1.0).abs() < 1e-12);
        assert!(vus(&opposite, 0) < 0.5);
        assert_eq!(vus_pr(Labelled { scores: &exact, labels: &[false; 10] }, 4), None);
    }
}
