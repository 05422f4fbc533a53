//! Which seasons a series has, found from its own autocorrelation.
//!
//! Of each span on a fixed grid (an hour to a week), the means of its 24ths (or of windows, where these are longer) are held against
//! those an eighth of the span before, and that difference correlated with those a whole span and half a span before, over the last
//! twelve spans or so:
//!
//! ```text
//!   x    = mean of a slot - mean of the slot an eighth of S before, clipped to four standard deviations
//!   r    = E[x(t) x(t-S)] / E[x^2]        h = E[x(t) x(t-S/2)] / E[x^2]
//! ```
//!
//! Differences have no level that wanders and no trend, which would be alike at every lag. A span is a season by the evidence of three of
//! it, `r >= .3` and six deviations of noise, and `r >= h + .3`. The first season is the shortest whose `r` is at least half of the
//! greatest, as every multiple of a season repeats too; the second is at least four times as long and explains more, `r` greater by .1.
//! What was found is given up for something else only when that has held for twice its longest span; that there is none is no reason to.
//!
//! Cost: 30 ns a window. Memory: 110 bytes for each of nine spans. Source: G. E. P. Box, G. M. Jenkins, "Time Series Analysis", 1970.

use serde::{Deserialize, Serialize};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
/// The spans that may be seasons.
const GRID: [i64; 9] =
    [HOUR_MS, 2 * HOUR_MS, 3 * HOUR_MS, 4 * HOUR_MS, 6 * HOUR_MS, 8 * HOUR_MS, 12 * HOUR_MS, DAY_MS, 7 * DAY_MS];
/// Slots that a span has at most and at least.
const SLOTS: i64 = 24;
const SLOTS_LEAST: i64 = 4;
/// Spans over which a correlation is averaged, and that are evidence.
const OVER: u32 = 12;
const EVIDENCE: u32 = 3;
/// See above.
const LEAST: f32 = 0.3;
const OVER_HALF: f32 = 0.3;
const DEVIATIONS: f32 = 6.0;
/// A slot is held against the one this share of a span before: at most `BEFORE_MAX` slots.
const BEFORE: usize = 8;
const BEFORE_MAX: usize = SLOTS as usize / BEFORE;
const FIRST_SHARE: f32 = 0.5;
const SECOND_TIMES: i64 = 4;
const SECOND_MORE: f32 = 0.1;
/// Standard deviations to which a slot is clipped.
const REACH: f32 = 4.0;

/// Finds the seasons of a series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Finder {
    spans: Vec<Span>,
    found: Vec<i64>,
    /// What would be found now, and since when.
    proposed: Vec<i64>,
    since_ms: i64,
}

/// A span that may be a season.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Span {
    span_ms: i64,
    /// The slot that is going on, and what it has.
    slot: Option<i64>,
    sum: f32,
    count: u32,
    /// The differences of a span's slots, by number.
    slots: Vec<f32>,
    /// The last slots' means, the latest the first.
    last: [f32; BEFORE_MAX],
    seen: u32,
    square: f32,
    whole: f32,
    half: f32,
}

impl Span {
    fn new(span_ms: i64, step_ms: i64) -> Option<Self> {
        let slots = (span_ms / step_ms).min(SLOTS) / 2 * 2;
        let is_whole = span_ms % step_ms == 0 && slots >= SLOTS_LEAST;
        is_whole.then(|| Self {
            span_ms,
            slot: None,
            sum: 0.0,
            count: 0,
            slots: vec![0.0; slots as usize],
            last: [0.0; BEFORE_MAX],
            seen: 0,
            square: 0.0,
            whole: 0.0,
            half: 0.0,
        })
    }

    /// Takes a value in; true if it ended a slot.
    fn learn(&mut self, local_ms: i64, z: f32) -> bool {
        let slot = (i128::from(local_ms) * self.slots.len() as i128 / i128::from(self.span_ms)) as i64;
        let from = *self.slot.get_or_insert(slot);
        if slot > from {
            self.end_slot(from);
            // Slots without a value say nothing.
            for missing in (from + 1..slot).take(self.slots.len()) {
                let at = missing.rem_euclid(self.slots.len() as i64) as usize;
                self.slots[at] = 0.0;
            }
            (self.slot, self.sum, self.count) = (Some(slot), 0.0, 0);
        }
        self.sum += z;
        self.count += 1;
        slot > from
    }

    fn end_slot(&mut self, slot: i64) {
        let length = self.slots.len();
        let value = self.sum / self.count.max(1) as f32;
        let before = self.last[(length / BEFORE).max(1) - 1];
        self.last.rotate_right(1);
        self.last[0] = value;
        let at = slot.rem_euclid(length as i64) as usize;
        let reach = if self.seen as usize > length { REACH * self.square.sqrt() } else { f32::INFINITY };
        let x = if self.seen as usize >= BEFORE_MAX { (value - before).clamp(-reach, reach) } else { 0.0 };
        if self.seen as usize >= length {
            let rate = (1.0 / (self.seen as usize - length + 1) as f32).max(1.0 / (OVER as usize * length) as f32);
            let (before, half) = (self.slots[at], self.slots[(at + length / 2) % length]);
            self.square += rate * (0.5 * (x * x + before * before) - self.square);
            self.whole += rate * (x * before - self.whole);
            self.half += rate * (x * half - self.half);
        }
        self.slots[at] = x;
        self.seen = self.seen.saturating_add(1);
    }

    /// The correlation a span apart, if it is evidence of a season.
    fn correlation(&self) -> Option<f32> {
        if (self.seen as usize) < EVIDENCE as usize * self.slots.len() || self.square <= 0.0 {
            return None;
        }
        let (whole, half) = (self.whole / self.square, self.half / self.square);
        // Of independent numbers, a correlation over n has the standard deviation 1/sqrt(n); differences are not quite that.
        let pairs = (self.seen as usize - self.slots.len()).min(OVER as usize * self.slots.len());
        let least = LEAST.max(DEVIATIONS / (pairs as f32).sqrt());
        (whole >= least && whole >= half + OVER_HALF).then_some(whole)
    }
}

impl Finder {
    /// Of a series with a window each `step_ms`.
    pub(super) fn new(step_ms: i64) -> Self {
        let spans = GRID.iter().filter_map(|&span_ms| Span::new(span_ms, step_ms)).collect();
        Self { spans, found: Vec::new(), proposed: Vec::new(), since_ms: 0 }
    }

    /// Takes in the value of the window that starts at `start_ms`, `local_ms` in local time; gives other seasons, if there is evidence.
    pub(super) fn learn(&mut self, start_ms: i64, local_ms: i64, z: f32) -> Option<&[i64]> {
        let mut ends = false;
        for span in &mut self.spans {
            ends |= span.learn(local_ms, z);
        }
        if !ends {
            return None;
        }
        let best = self.best();
        if best != self.proposed {
            (self.proposed, self.since_ms) = (best, start_ms);
        }
        if self.proposed.is_empty() || self.proposed == self.found {
            return None;
        }
        let longest = self.proposed.iter().chain(&self.found).copied().max().unwrap_or_default();
        let held_ms = if self.found.is_empty() { 0 } else { 2 * longest };
        if start_ms - self.since_ms < held_ms {
            return None;
        }
        self.found.clone_from(&self.proposed);
        Some(&self.found)
    }

    /// The seasons that there is evidence of.
    fn best(&self) -> Vec<i64> {
        let known = || self.spans.iter().filter_map(|span| Some((span.span_ms, span.correlation()?)));
        let most = known().map(|(_, r)| r).fold(0.0, f32::max);
        let Some(first) = known().find(|(_, r)| *r >= FIRST_SHARE * most) else { return Vec::new() };
        let mut found = vec![first.0];
        let explains_more =
            |(span_ms, r): &(i64, f32)| *span_ms >= SECOND_TIMES * first.0 && *r >= first.1 + SECOND_MORE;
        found.extend(known().filter(explains_more).max_by(|a, b| a.1.total_cmp(&b.1)).map(|(span_ms, _)| span_ms));
        found
    }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use super::*;

    fn noise(at: i64) -> f64 {
        let mut state = (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((state ^ (state >> 31)) >> 11) as f64 / (1u64 << 53) as f64 - 0.5
    }

    /// What is found in the end, and in which hour.
    fn found(days: i64, step_ms: i64, value: impl Fn(f64, i64) -> f64) -> (Vec<i64>, i64) {
        let (mut finder, mut last) = (Finder::new(step_ms), (Vec::new(), 0));
        for at in 0..days * DAY_MS / step_ms {
            let ms = at * step_ms;
            if let Some(seasons) = finder.learn(ms, ms, value(ms as f64 / HOUR_MS as f64, at) as f32) {
                last = (seasons.to_vec(), ms / HOUR_MS);
            }
        }
        last
    }

    #[test]
    fn a_day_is_found_and_a_week_that_explains_more() {
        for step_ms in [MINUTE_MS, 5 * MINUTE_MS, HOUR_MS] {
            let (seasons, hour) = found(12, step_ms, |hours, at| 3.0 * (TAU * hours / 24.0).sin() + 2.0 * noise(at));
            assert_eq!(seasons, [DAY_MS], "{step_ms}");
            assert!((70..130).contains(&hour), "{step_ms}: in hour {hour}");
        }
        let week = |hours: f64, at: i64| {
            let is_weekend = (hours / 24.0).rem_euclid(7.0) >= 5.0;
            if is_weekend { 0.3 * noise(at) } else { 2.0 + 2.0 * (TAU * hours / 24.0).sin() + 0.3 * noise(at) }
        };
        assert_eq!(found(60, HOUR_MS, week).0, [DAY_MS, 7 * DAY_MS]);
    }

    #[test]
    fn a_job_of_every_hour_is_found() {
        let job = |hours: f64, at: i64| if hours.fract() < 0.2 { 5.0 } else { 0.0 } + noise(at);
        assert_eq!(found(3, 5 * MINUTE_MS, job).0, [HOUR_MS]);
    }

    #[test]
    fn nothing_is_found_in_noise_a_trend_or_a_wandering_level() {
        let mut level = 0.0;
        let walk: Vec<f64> = (0..30 * 288)
            .map(|at| {
                level += noise(at);
                level
            })
            .collect();
        let step_ms = 5 * MINUTE_MS;
        assert_eq!(found(30, step_ms, |_, at| noise(at)).0, [0; 0]);
        assert_eq!(found(30, step_ms, |hours, at| 0.01 * hours + noise(at)).0, [0; 0]);
        assert_eq!(found(30, step_ms, |_, at| walk[at as usize]).0, [0; 0]);
    }

    #[test]
    fn another_season_takes_its_place_when_it_has_held() {
        let changed = |hours: f64, at: i64| {
            let period = if hours < 24.0 * 20.0 { 24.0 } else { 8.0 };
            3.0 * (TAU * hours / period).sin() + noise(at)
        };
        let (seasons, hour) = found(60, 5 * MINUTE_MS, changed);
        assert_eq!(seasons, [8 * HOUR_MS]);
        assert!(hour > 24 * 20 + 48, "in hour {hour}");
    }
}
