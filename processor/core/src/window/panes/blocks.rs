//! Merges of panes that one window after the other uses again.
//!
//! Panes are numbered, and a *block* of level `j` is `2^j` of them from a multiple of `2^j` on: the nodes of a binary tree over all of
//! time (dyadic intervals: Bentley, "Solutions to Klee's Rectangle Problems", 1977; the segment tree of de Berg et al.,
//! "Computational Geometry", section 10.3). What a block comes to is what its first half comes to, merged with its second half.
//!
//! A window `[s, e)` is cut at its *middle*, the number in `(s, e]` that the highest power of two divides. On either side lie the
//! blocks that the binary digits of the distance to the middle spell, the largest next to it, and are merged going outwards:
//!
//! ```text
//!   s = 3                middle = 8                     e = 15
//!     [3][4 ........ 7] | [8 ........ 11][12 . 13][14]          before = [3] + [4..8)
//!                                                               after  = ([8..12) + [12..14)) + [14]
//!   window = before + after
//! ```
//!
//! So the order of all additions is a function of `s` and `e`: a window has the same bits whether these merges were carried along,
//! made anew after a restart, or mended after a late event. A pane that is missing is as if it were not there.
//!
//! Cost of a window that follows on the last: four merges on average, whatever its length, and two for each level of its length at most.
//! The middle stays for at least half as many slides as a window has; meanwhile the distances count up and down in binary, where a step
//! changes two digits on average, and all blocks together are a merge for each pane. A change to a pane undoes the blocks above it
//! and the merges from it outwards: two for each level of a window's length at most, as in the trees of Tangwongsan, Hirzel, Schneider,
//! "Optimal and General Out-of-Order Sliding-Window Aggregation", VLDB 2019. (Two stacks, and DABA by the same authors, DEBS 2017, take
//! three merges a window in order, but all panes anew after each event that is not.)
//!
//! Memory: of the blocks only those that merge panes in both halves, one fewer than there are panes; and two merges for each level of
//! a window's length.

use std::collections::VecDeque;
use std::ops::Range;

use crate::window::Pane;

/// Panes in the order of time, with their numbers.
#[derive(Clone, Copy)]
pub(super) struct Numbered<'a> {
    pub(super) panes: &'a VecDeque<Pane>,
    pub(super) slide_ms: i64,
}

/// The number of the pane that starts at `start`, a multiple of the slide: counted from so early that it is never negative.
pub(super) fn number(start: i64, slide_ms: i64) -> u64 {
    (start.div_euclid(slide_ms) as u64) ^ (1 << 63)
}

/// The number in `(before, last]` that the highest power of two divides.
fn middle_of(before: u64, last: u64) -> u64 {
    let level = (before ^ last).ilog2();
    (last >> level) << level
}

impl<'a> Numbered<'a> {
    fn number(&self, at: usize) -> u64 {
        number(self.panes[at].start, self.slide_ms)
    }

    /// Where the first pane is of this number or a later one. Cost: constant without gaps, the logarithm of the missing panes with.
    pub(super) fn position(&self, number: u64) -> usize {
        self.position_within(0..self.panes.len(), number)
    }

    fn position_within(&self, Range { start, end }: Range<usize>, number: u64) -> usize {
        if start == end {
            return start;
        }
        let count = |numbers: u64| usize::try_from(numbers).unwrap_or(usize::MAX);
        // At most as many panes lie on either side as there are numbers.
        let not_before = count(self.number(end - 1).saturating_add(1).saturating_sub(number));
        let before = count(number.saturating_sub(self.number(start)));
        let (mut least, mut most) = (end.saturating_sub(not_before).max(start), start.saturating_add(before).min(end));
        while least < most {
            let at = least.midpoint(most);
            if self.number(at) < number {
                least = at + 1;
            } else {
                most = at;
            }
        }
        least
    }

    /// Where the second half begins of the smallest block with all of these panes, of which there are two or more: both halves have some.
    fn second_half(&self, panes: Range<usize>) -> usize {
        let middle = middle_of(self.number(panes.start), self.number(panes.end - 1));
        self.position_within(panes, middle)
    }

    /// Where the first pane is after the smallest block with the panes `at - 1` and `at`.
    fn end_of_block(&self, at: usize) -> usize {
        let (before, last) = (self.number(at - 1), self.number(at));
        self.position((last | (u64::MAX >> (before ^ last).leading_zeros())).saturating_add(1))
    }
}

#[cfg(test)]
thread_local! {
    /// Merges made by this thread's tests.
    pub(super) static MERGES: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// One pane of two.
pub(super) fn merged(mut earlier: Pane, later: &Pane) -> Pane {
    #[cfg(test)]
    MERGES.set(MERGES.get() + 1);
    earlier.merge(later);
    earlier
}

/// Which side of the middle.
#[derive(Clone, Copy)]
enum Side {
    Before,
    After,
}

/// Merges of the blocks on one side of the middle, each with all that lie nearer: how far it reaches from the middle, and what it comes to.
/// Blocks without panes are left out.
#[derive(Clone, Debug, Default)]
struct Fold(Vec<(u64, Pane)>);

impl Fold {
    /// Keeps what reaches no farther than `distance`.
    fn keep_within(&mut self, distance: u64) {
        while self.0.last().is_some_and(|&(reach, _)| reach > distance) {
            self.0.pop();
        }
    }

    /// Keeps what is on the way to `distance`: what reaches as far as the first of its binary digits do.
    fn keep_towards(&mut self, distance: u64) {
        let is_on_the_way = |reach: u64| (distance >> reach.trailing_zeros()) << reach.trailing_zeros() == reach;
        while self.0.last().is_some_and(|&(reach, _)| !is_on_the_way(reach)) {
            self.0.pop();
        }
    }
}

/// What is kept of the merges for one entity's windows: a cache of what its panes say.
#[derive(Clone, Debug)]
pub(super) struct Blocks {
    /// At `at`, what the smallest block with the panes `at - 1` and `at` comes to, if it was asked for since they last changed; one that
    /// is there has all those within it there. For the panes before `until`.
    by_second_half: VecDeque<Option<Pane>>,
    /// The panes from this number on are in none of the merges.
    until: u64,
    middle: u64,
    before: Fold,
    after: Fold,
}

impl Blocks {
    /// No merges yet.
    pub(super) fn new() -> Self {
        let (before, after) = (Fold::default(), Fold::default());
        Self { by_second_half: VecDeque::new(), until: 0, middle: 0, before, after }
    }

    /// What the panes from number `start` to before `end` come to.
    pub(super) fn window(&mut self, panes: Numbered<'_>, start: u64, end: u64) -> Option<Pane> {
        if end > self.until {
            self.until = end;
            self.by_second_half.resize_with(panes.position(end), || None);
        }
        let middle = middle_of(start, end);
        if middle != self.middle {
            self.middle = middle;
            self.before.0.clear();
            self.after.0.clear();
        }
        self.reach(panes, Side::Before, middle - start);
        self.reach(panes, Side::After, end - middle);
        match (self.before.0.last(), self.after.0.last()) {
            (Some((_, before)), Some((_, after))) => Some(merged(before.clone(), after)),
            (before, after) => before.or(after).map(|(_, pane)| pane.clone()),
        }
    }

    /// Makes the last merge of a side the one that reaches to `distance` from the middle.
    fn reach(&mut self, panes: Numbered<'_>, side: Side, distance: u64) {
        let Self { by_second_half, middle, before, after, .. } = self;
        let fold = match side {
            Side::Before => before,
            Side::After => after,
        };
        fold.keep_towards(distance);
        let mut reached = fold.0.last().map_or(0, |&(reach, _)| reach);
        while reached < distance {
            let near = reached;
            reached += 1 << (distance - near).ilog2();
            let (from, to) = match side {
                Side::Before => (*middle - reached, *middle - near),
                Side::After => (*middle + near, *middle + reached),
            };
            let within = panes.position(from)..panes.position(to);
            if within.is_empty() {
                continue;
            }
            let block = block(by_second_half, panes, within);
            let pane = match (side, fold.0.last()) {
                (_, None) => block.clone(),
                (Side::Before, Some((_, nearer))) => merged(block.clone(), nearer),
                (Side::After, Some((_, nearer))) => merged(nearer.clone(), block),
            };
            fold.0.push((reached, pane));
        }
    }

    /// The pane at `at` has changed, or has come to be there: undoes the merges that have it. Cost: a step for each level.
    pub(super) fn change(&mut self, panes: Numbered<'_>, at: usize, is_new: bool) {
        let number = panes.number(at);
        if number >= self.until {
            return;
        }
        if is_new {
            self.by_second_half.insert(at, None);
        }
        let mut block = 0..self.by_second_half.len();
        while block.len() > 1 {
            let second_half = panes.second_half(block.clone());
            self.by_second_half[second_half] = None;
            block = if at < second_half { block.start..second_half } else { second_half..block.end };
        }
        self.undo_folds(number);
    }

    /// The first pane is about to go: undoes the merges that have it. Cost: constant on average.
    pub(super) fn forget_first(&mut self, panes: Numbered<'_>) {
        if self.by_second_half.is_empty() {
            return;
        }
        // From the smallest block upwards, as far as they were asked for.
        let mut at = 1;
        while self.by_second_half.get_mut(at).is_some_and(|block| block.take().is_some()) {
            at = panes.end_of_block(at);
        }
        self.by_second_half.pop_front();
        self.undo_folds(panes.number(0));
    }

    /// Merges that are kept.
    #[cfg(test)]
    pub(super) fn merges(&self) -> usize {
        self.by_second_half.iter().flatten().count() + self.before.0.len() + self.after.0.len()
    }

    fn undo_folds(&mut self, number: u64) {
        if number < self.middle {
            self.before.keep_within(self.middle - 1 - number);
        } else {
            self.after.keep_within(number - self.middle);
        }
    }
}

/// What the smallest block with all of these panes comes to. Cost: a merge for each of them the first time.
fn block<'a>(by_second_half: &'a mut VecDeque<Option<Pane>>, panes: Numbered<'a>, within: Range<usize>) -> &'a Pane {
    if within.len() == 1 {
        return &panes.panes[within.start];
    }
    let second_half = panes.second_half(within.clone());
    let known = by_second_half[second_half].take();
    let pane = known.unwrap_or_else(|| {
        let first = block(by_second_half, panes, within.start..second_half).clone();
        merged(first, block(by_second_half, panes, second_half..within.end))
    });
    by_second_half[second_half].insert(pane)
}
