//! Panes: slices of event time, one slide long, that all windows covering them share.
//!
//! An event is added to one pane, whatever the length of the windows (Li et al., "No Pane, No Gain", SIGMOD Record 2005), and a window
//! is the merge of its panes. Extremes and sketches have no inverse, so a pane cannot be taken out of a running aggregate; closing
//! windows one after the other uses *two stacks* (Tangwongsan, Hirzel, Schneider, "Low-Latency Sliding-Window Aggregation in
//! Worst-Case Constant Time", DEBS 2017, section 3), which turn over at multiples of the windows' size (van Herk 1992, Gil and
//! Werman 1993):
//!
//! ```text
//!            boundary (a multiple of the size)
//!   front       |  back           front: for each pane before the boundary, the merge of it and all up to the boundary
//!   [s ........ | ........ e)     back:  the merge of the panes from the boundary to the last end asked for
//!   window(e) = front(s) + back
//! ```
//!
//! Turning over takes `n` merges for every `n` windows, each window two more: three merges a window, whatever its length. Because the
//! boundary is a function of the window alone, so is the order of all additions: a window has the same bits whether its stacks were
//! carried along, or made anew after a restart or a late event. The stacks are a cache and no part of the state.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{Pane, Sample, Touched};

/// The panes of one entity whose windows are not all final, by time.
///
/// Memory: a pane for each slide with events in `size + disorder + lateness`, and in the cache as many again at most.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Panes {
    panes: VecDeque<Pane>,
    #[serde(skip)]
    stacks: Option<Box<Stacks>>,
}

impl PartialEq for Panes {
    fn eq(&self, other: &Self) -> bool {
        self.panes == other.panes
    }
}

#[derive(Clone, Debug)]
struct Stacks {
    boundary: i64,
    /// The merge of each pane before the boundary with all up to it, the earliest last.
    front: Vec<Pane>,
    /// The merge of the panes in `[boundary, until)`.
    back: Option<Pane>,
    until: i64,
}

/// Size and slide.
type Spans = (i64, i64);

impl Panes {
    pub(super) fn add(
        &mut self,
        (size_ms, slide_ms): Spans,
        event_time: i64,
        sample: &Sample<'_>,
        final_until: Option<i64>,
    ) -> Option<Touched> {
        let start = event_time - event_time.rem_euclid(slide_ms);
        if final_until.is_some_and(|until| start + size_ms <= until) {
            return None;
        }
        let (at, is_new) = self.place(start, sample);
        self.panes[at].add(sample);
        if self.stacks.as_ref().is_some_and(|stacks| start < stacks.until) {
            self.stacks = None;
        }
        let first_open = final_until.map_or(i64::MIN, |until| until - until.rem_euclid(slide_ms) + slide_ms);
        let missed = (first_open.saturating_sub(start + slide_ms) / slide_ms).max(0).unsigned_abs();
        Some(Touched { first_end: (start + slide_ms).max(first_open), is_new, missed })
    }

    /// Where the pane is that starts at `start`, and whether it was made. Cost: constant near the end, else a binary search.
    fn place(&mut self, start: i64, sample: &Sample<'_>) -> (usize, bool) {
        let at = match self.panes.back() {
            Some(last) if last.start == start => return (self.panes.len() - 1, false),
            Some(last) if last.start < start => self.panes.len(),
            None => 0,
            Some(_) => match self.panes.binary_search_by_key(&start, |pane| pane.start) {
                Ok(at) => return (at, false),
                Err(at) => at,
            },
        };
        self.panes.insert(at, Pane::new(start, sample));
        (at, true)
    }

    pub(super) fn next_end(&self, (size_ms, slide_ms): Spans, after: i64) -> Option<i64> {
        let end = after - after.rem_euclid(slide_ms) + slide_ms;
        let first = self.panes.front().filter(|pane| pane.start >= end - size_ms);
        let pane = first.or_else(|| self.panes.get(self.panes.partition_point(|pane| pane.start < end - size_ms)));
        pane.map(|pane| end.max(pane.start + slide_ms))
    }

    pub(super) fn open_windows(&self, (size_ms, slide_ms): Spans, after: i64) -> usize {
        // A pane is in the windows that end from `start + slide` to `start + size`: each counts by the first pane that it has.
        let mut counted_to = after - after.rem_euclid(slide_ms);
        let mut windows = 0;
        for pane in &self.panes {
            let (first, last) = (pane.start + slide_ms, pane.start + size_ms);
            windows += (last - (first - slide_ms).max(counted_to)).max(0) / slide_ms;
            counted_to = counted_to.max(last);
        }
        usize::try_from(windows).unwrap_or(usize::MAX)
    }

    pub(super) fn window(&mut self, (size_ms, slide_ms): Spans, end: i64) -> Option<Pane> {
        let start = end - size_ms;
        if size_ms == slide_ms {
            let at = self.panes.binary_search_by_key(&start, |pane| pane.start).ok()?;
            return Some(self.panes[at].clone());
        }
        let boundary = end - 1 - (end - 1).rem_euclid(size_ms);
        let kept = self.stacks.take().filter(|stacks| stacks.boundary == boundary && stacks.until <= end);
        let mut stacks = kept.unwrap_or_else(|| Box::new(self.turn_over(start, boundary)));
        while stacks.front.last().is_some_and(|merged| merged.start < start) {
            stacks.front.pop();
        }
        // Counted from the end, where the fresh panes are: as many steps as there are merges, and a few for the windows still open.
        let fresh = self.panes.iter().rev().take_while(|pane| pane.start >= stacks.until).count();
        for pane in self.panes.range(self.panes.len() - fresh..).take_while(|pane| pane.start < end) {
            match &mut stacks.back {
                Some(back) => back.merge(pane),
                None => stacks.back = Some(pane.clone()),
            }
        }
        stacks.until = end;
        let merged = match (stacks.front.last(), &stacks.back) {
            (Some(front), Some(back)) => {
                let mut merged = front.clone();
                merged.merge(back);
                Some(merged)
            }
            (front, back) => front.or(back.as_ref()).cloned(),
        };
        self.stacks = Some(stacks);
        merged
    }

    fn turn_over(&self, start: i64, boundary: i64) -> Stacks {
        let [from, to] = [start, boundary].map(|time| self.panes.partition_point(|pane| pane.start < time));
        let mut front: Vec<Pane> = Vec::with_capacity(to - from);
        for pane in self.panes.range(from..to).rev() {
            let mut merged = pane.clone();
            if let Some(later) = front.last() {
                merged.merge(later);
            }
            front.push(merged);
        }
        Stacks { boundary, front, back: None, until: boundary }
    }

    pub(super) fn forget(&mut self, (size_ms, slide_ms): Spans, final_until: i64) {
        let next_end = final_until - final_until.rem_euclid(slide_ms) + slide_ms;
        while self.panes.front().is_some_and(|pane| pane.start < next_end - size_ms) {
            self.panes.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;
    use proptest::prelude::*;

    /// The window as its definition has it, in the order of additions that the module's text promises.
    fn by_definition(panes: &Panes, (size_ms, _): Spans, end: i64) -> Option<Pane> {
        let (start, boundary) = (end - size_ms, (end - 1).div_euclid(size_ms) * size_ms);
        let of = |from: i64, to: i64| panes.panes.iter().filter(move |pane| from <= pane.start && pane.start < to);
        let front = of(start, boundary).rev().cloned().reduce(|later, mut pane| {
            pane.merge(&later);
            pane
        });
        let back = of(boundary, end).cloned().reduce(|mut back, pane| {
            back.merge(&pane);
            back
        });
        match (front, back) {
            (Some(mut front), Some(back)) => {
                front.merge(&back);
                Some(front)
            }
            (front, back) => front.or(back),
        }
    }

    proptest! {
        #[test]
        fn a_window_has_the_same_bits_however_its_stacks_came_to_be(
            steps in prop::collection::vec((0i64..3, -40i64..1, -1e3f64..1e3, prop::bool::weighted(0.1)), 1..120),
            (size, slide) in prop::sample::select(vec![(1, 1), (4, 1), (6, 2), (10, 5), (30, 1), (7, 7)]),
        ) {
            let spans = (size, slide);
            let mut panes = Panes::default();
            let (mut now, mut closed) = (1_000, 1_000 - 41);
            for (offset, &(step, jitter, value, ask_again)) in steps.iter().enumerate() {
                now += step;
                panes.add(spans, now + jitter, &sample(offset as i64, &[value]), None).unwrap();
                while let Some(end) = panes.next_end(spans, closed).filter(|&end| end <= now - 20) {
                    prop_assert_eq!(panes.window(spans, end), by_definition(&panes, spans, end));
                    closed = end;
                }
                if ask_again {
                    panes.stacks = None;
                    prop_assert_eq!(panes.window(spans, closed), by_definition(&panes, spans, closed));
                }
            }
        }

        #[test]
        fn the_open_windows_are_those_with_events_that_end_later(
            times in prop::collection::vec(0i64..60, 0..8), after in -5i64..70,
            (size, slide) in prop::sample::select(vec![(1, 1), (4, 1), (6, 2), (10, 5)]),
        ) {
            let mut panes = Panes::default();
            for &time in &times {
                panes.add((size, slide), time, &sample(0, &[1.0]), None).unwrap();
            }
            let holds = |end: i64| times.iter().any(|time| end - size <= *time && *time < end);
            let open: Vec<i64> = (after + 1..=80).filter(|&end| end % slide == 0 && holds(end)).collect();
            prop_assert_eq!(panes.next_end((size, slide), after), open.first().copied());
            prop_assert_eq!(panes.open_windows((size, slide), after), open.len());
        }

        #[test]
        fn forgetting_takes_nothing_that_a_window_needs(
            times in prop::collection::vec(0i64..60, 1..20), until in 0i64..70,
            (size, slide) in prop::sample::select(vec![(1, 1), (4, 1), (6, 2), (10, 5)]),
        ) {
            let mut panes = Panes::default();
            for &time in &times {
                panes.add((size, slide), time, &sample(0, &[time as f64]), None).unwrap();
            }
            let mut whole = panes.clone();
            panes.forget((size, slide), until);
            let (mut kept, mut all) = (until, until);
            while let Some(end) = whole.next_end((size, slide), all) {
                all = end;
                kept = panes.next_end((size, slide), kept).unwrap();
                prop_assert_eq!(kept, end);
                prop_assert_eq!(panes.window((size, slide), end), whole.window((size, slide), end));
            }
            prop_assert_eq!(panes.next_end((size, slide), kept), None);
        }
    }
}
