//! Panes: slices of event time, one slide long, that all windows covering them share.
//!
//! An event is added to one pane, whatever the length of the windows (Li et al., "No Pane, No Gain", SIGMOD Record 2005), and a window
//! is the merge of its panes. Extremes and sketches have no inverse, so a pane cannot be taken out of a running aggregate; windows share
//! the merges of `blocks` instead. These are a cache and no part of the state, and a window's bits do not depend on it.

mod blocks;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{Pane, Sample, Touched};

use blocks::{Blocks, Numbered, merged, number};

/// The panes of one entity whose windows are not all final, by time.
///
/// Memory: a pane for each slide with events in `size + disorder + lateness`, and in the cache as many again at most, but for two
/// for each binary digit of `size / slide`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Panes {
    panes: VecDeque<Pane>,
    #[serde(skip)]
    blocks: Option<Box<Blocks>>,
}

impl PartialEq for Panes {
    fn eq(&self, other: &Self) -> bool {
        self.panes == other.panes
    }
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
        if let Some(blocks) = &mut self.blocks {
            blocks.change(Numbered { panes: &self.panes, slide_ms }, at, is_new);
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
        let panes = Numbered { panes: &self.panes, slide_ms };
        let [start, end] = [end - size_ms, end].map(|time| number(time, slide_ms));
        let [from, to] = [start, end].map(|number| panes.position(number));
        match to - from {
            0 => None,
            // As in all tumbling windows; of two there is one order.
            1 => Some(self.panes[from].clone()),
            2 => Some(merged(self.panes[from].clone(), &self.panes[from + 1])),
            _ => self.blocks.get_or_insert_with(|| Box::new(Blocks::new())).window(panes, start, end),
        }
    }

    pub(super) fn forget(&mut self, (size_ms, slide_ms): Spans, final_until: i64) {
        let next_end = final_until - final_until.rem_euclid(slide_ms) + slide_ms;
        while self.panes.front().is_some_and(|pane| pane.start < next_end - size_ms) {
            if let Some(blocks) = &mut self.blocks {
                blocks.forget_first(Numbered { panes: &self.panes, slide_ms });
            }
            self.panes.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;
    use proptest::prelude::*;

    /// What a block of `2^level` panes comes to, as its definition has it.
    fn block(panes: &Panes, slide: i64, level: u32, index: i64) -> Option<Pane> {
        if level == 0 {
            return panes.panes.iter().find(|pane| pane.start == index * slide).cloned();
        }
        both(block(panes, slide, level - 1, 2 * index), block(panes, slide, level - 1, 2 * index + 1))
    }

    fn both(earlier: Option<Pane>, later: Option<Pane>) -> Option<Pane> {
        match (earlier, later) {
            (Some(mut earlier), Some(later)) => {
                earlier.merge(&later);
                Some(earlier)
            }
            (earlier, later) => earlier.or(later),
        }
    }

    /// The window as its definition has it, in the order of additions that the text of [`blocks`] promises.
    fn by_definition(panes: &Panes, (size, slide): Spans, end: i64) -> Option<Pane> {
        let (start, end) = ((end - size) / slide, end / slide);
        let middle = (start + 1..=end).max_by_key(|number| number.trailing_zeros()).unwrap();
        let digits = |distance: i64| (0..32).rev().filter(move |level| distance >> level & 1 == 1);
        let (mut before, mut after, mut from, mut to) = (None, None, middle, middle);
        for level in digits(middle - start) {
            from -= 1 << level;
            before = both(block(panes, slide, level, from >> level), before);
        }
        for level in digits(end - middle) {
            after = both(after, block(panes, slide, level, to >> level));
            to += 1 << level;
        }
        both(before, after)
    }

    fn bits(pane: Option<Pane>) -> Vec<u8> {
        postcard::to_allocvec(&pane).unwrap()
    }

    /// A restart: the panes as they were stored.
    fn restored(panes: &Panes) -> Panes {
        let restored: Panes = postcard::from_bytes(&postcard::to_allocvec(panes).unwrap()).unwrap();
        assert!(restored.blocks.is_none());
        restored
    }

    /// Merges that closing windows takes, each a slide after the last: on average and at most, with an event in the newest pane before each
    /// and one at `old(slide)` panes before it, if any.
    fn merges(size: i64, old: impl Fn(i64) -> Option<i64>) -> (f64, usize) {
        let (spans, slides) = ((size, 1), 4 * size);
        let mut panes = Panes::default();
        let (mut sum, mut most) = (0, 0);
        for now in 0..slides {
            panes.add(spans, now, &sample(now, &[1.0]), Some(now));
            if let Some(ago) = old(now) {
                panes.add(spans, now - ago, &sample(now, &[1.0]), Some(now)).unwrap();
            }
            let before = blocks::MERGES.get();
            panes.window(spans, now + 1).unwrap();
            panes.forget(spans, now + 1);
            // The first windows fill up.
            if now >= size {
                let merges = blocks::MERGES.get() - before;
                (sum, most) = (sum + merges, most.max(merges));
            }
        }
        (sum as f64 / (slides - size) as f64, most)
    }

    #[test]
    fn a_window_takes_four_merges_whatever_its_length_and_an_old_event_two_for_each_level() {
        for (size, levels) in [(10, 4), (600, 10), (1_024, 10), (1_440, 11)] {
            let (average, most) = merges(size, |_| None);
            println!("{size} panes: {average:.2} merges a window, {most} at most");
            assert!(average <= 4.0 && most <= 2 * levels, "{size}: {average}, at most {most}");
            let (average, most) = merges(size, |now| Some((now * 7_919) % size));
            println!("{size} panes, an old event a slide: {average:.2} merges a window, {most} at most");
            assert!(average <= 4.0 + 2.0 * levels as f64 && most <= 4 * levels, "{size}: {average}, at most {most}");
        }
    }

    #[test]
    fn the_cache_holds_fewer_merges_than_there_are_panes_and_two_for_each_level() {
        let (spans, levels) = ((1_440, 1), 11);
        let mut panes = Panes::default();
        for now in 0..5_000 {
            panes.add(spans, now, &sample(now, &[1.0]), None).unwrap();
            panes.window(spans, now + 1);
            panes.forget(spans, now + 1);
            assert!(panes.panes.len() <= 1_440);
            assert!(panes.blocks.as_ref().is_none_or(|blocks| blocks.merges() < panes.panes.len() + 2 * levels));
        }
        panes.forget(spans, 10_000);
        assert_eq!(panes.blocks.unwrap().merges(), 0);
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// Time goes on by so many ms, and an event comes so many ms before it.
        Event(i64, i64, f64),
        /// The windows are closed that end so many ms ago.
        Close(i64),
        /// A window is asked for that ended so many slides before the last one.
        AskAgain(i64),
        /// What no window needs that is to be asked for is forgotten.
        Forget,
        Restart,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            12 => (0i64..4, prop_oneof![3 => 0i64..3, 1 => 0i64..60], -1e3f64..1e3)
                .prop_map(|(on, ago, value)| Step::Event(on, ago, value)),
            1 => (20i64..200).prop_map(|on| Step::Event(on, 0, 1.5)),
            4 => (0i64..10).prop_map(Step::Close),
            1 => (0i64..8).prop_map(Step::AskAgain),
            2 => Just(Step::Forget),
            1 => Just(Step::Restart),
        ]
    }

    proptest! {
        #[test]
        fn a_window_has_the_same_bits_however_its_merges_came_to_be(
            steps in prop::collection::vec(step(), 1..250),
            (size, slide) in (1i64..5, 1i64..40).prop_map(|(slide, panes)| (slide * panes, slide)),
            began in prop::sample::select(vec![0i64, 1_000, -150, 1 << 40]),
        ) {
            let spans = (size, slide);
            let mut panes = Panes::default();
            let (mut now, mut closed) = (began, began - began.rem_euclid(slide) - 60 * slide);
            let mut final_until = None;
            for (offset, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Event(on, ago, value) => {
                        now += on;
                        panes.add(spans, now - ago, &sample(offset as i64, &[value]), final_until);
                    }
                    Step::Close(ago) => {
                        while let Some(end) = panes.next_end(spans, closed).filter(|&end| end <= now - ago) {
                            prop_assert_eq!(bits(panes.window(spans, end)), bits(by_definition(&panes, spans, end)));
                            closed = end;
                        }
                    }
                    Step::AskAgain(slides) => {
                        let end = closed - slides * slide;
                        if final_until.is_none_or(|until| end > until) {
                            prop_assert_eq!(bits(panes.window(spans, end)), bits(by_definition(&panes, spans, end)));
                        }
                    }
                    Step::Forget => {
                        final_until = Some(closed);
                        panes.forget(spans, closed);
                    }
                    Step::Restart => panes = restored(&panes),
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
