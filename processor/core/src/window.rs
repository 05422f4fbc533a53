//! Windows over event time, kept as panes.
//!
//! A *pane* is a slice of event time, one slide long, that all windows covering it share (Li et al., "No Pane, No Gain", SIGMOD
//! Record 2005): an event is added to one pane whatever the length of the windows, and a window is the merge of its panes. A window
//! `[start, end)` starts at a multiple of the slide since 1970.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::summary::Summary;

/// How event time is cut: windows of `size_ms`, one at every multiple of `slide_ms`, which divides the size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Length of a window, in ms.
    pub size_ms: i64,
    /// Distance between the starts of two windows, in ms; the size itself for tumbling windows.
    pub slide_ms: i64,
}

impl Window {
    /// Start of the pane that holds a time.
    #[must_use]
    pub const fn pane_of(&self, event_time: i64) -> i64 {
        event_time - event_time.rem_euclid(self.slide_ms)
    }

    /// Ends of the windows that cover a pane, ascending.
    pub fn ends_of(&self, pane_start: i64) -> impl Iterator<Item = i64> + use<> {
        let slide_ms = self.slide_ms;
        (1..=self.size_ms / slide_ms).map(move |n| pane_start + n * slide_ms)
    }

    /// End of the last window that covers a pane.
    #[must_use]
    pub const fn last_end_of(&self, pane_start: i64) -> i64 {
        pane_start + self.size_ms
    }
}

/// What one entity's events in one slide of time add up to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pane {
    /// Start of the pane, in ms since 1970.
    pub start: i64,
    /// Events, with or without a value for some measure.
    pub events: u64,
    /// Input offset of the first event.
    pub first_offset: i64,
    /// Input offset of the last event.
    pub last_offset: i64,
    /// A summary per measure of the stream.
    pub summaries: Vec<Summary>,
}

impl Pane {
    fn merge(&mut self, other: &Self) {
        self.events += other.events;
        self.first_offset = self.first_offset.min(other.first_offset);
        self.last_offset = self.last_offset.max(other.last_offset);
        for (mine, theirs) in self.summaries.iter_mut().zip(&other.summaries) {
            mine.merge(theirs);
        }
    }
}

/// The panes of one entity whose windows have not all closed, by time.
///
/// Memory: at most `(size + disorder + lateness) / slide + 2` panes while events come in order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Panes(VecDeque<Pane>);

impl Panes {
    /// The pane that starts at `start`; made by `new` if it is not there, and then the flag is true. Cost: constant for events
    /// near the end, a binary search otherwise.
    pub fn get_or_insert(&mut self, start: i64, new: impl FnOnce() -> Pane) -> (&mut Pane, bool) {
        let at = match self.0.back() {
            Some(last) if last.start == start => return (self.0.back_mut().expect("just seen"), false),
            Some(last) if last.start < start => self.0.len(),
            None => 0,
            Some(_) => match self.0.binary_search_by_key(&start, |pane| pane.start) {
                Ok(at) => return (&mut self.0[at], false),
                Err(at) => at,
            },
        };
        self.0.insert(at, new());
        (&mut self.0[at], true)
    }

    /// The merge of the panes in `[start, end)`, in order of time; `None` when there are none.
    #[must_use]
    pub fn merged(&self, start: i64, end: i64) -> Option<Pane> {
        let mut inside = self.0.iter().filter(|pane| start <= pane.start && pane.start < end);
        let mut merged = inside.next()?.clone();
        for pane in inside {
            merged.merge(pane);
        }
        Some(merged)
    }

    /// Forgets the panes that start before `start`.
    pub fn forget_before(&mut self, start: i64) {
        while self.0.front().is_some_and(|pane| pane.start < start) {
            self.0.pop_front();
        }
    }

    /// Starts of the panes, ascending.
    pub fn starts(&self) -> impl Iterator<Item = i64> + '_ {
        self.0.iter().map(|pane| pane.start)
    }
}

/// Which entities have a window that ends when: the order in which windows close.
///
/// Keys are slots of the engine's entity table. Memory: one set entry for each open window of each entity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deadlines(BTreeMap<i64, BTreeSet<u32>>);

impl Deadlines {
    /// Notes that the entity in `slot` has a window that ends at `end`. A second note of the same pair does no harm.
    pub fn note(&mut self, end: i64, slot: u32) {
        self.0.entry(end).or_default().insert(slot);
    }

    /// Takes the earliest end that is not after `until`, with its entities.
    pub fn take_due(&mut self, until: i64) -> Option<(i64, BTreeSet<u32>)> {
        let entry = self.0.first_entry()?;
        (*entry.key() <= until).then(|| entry.remove_entry())
    }

    /// Strikes a note out; true if it was there.
    pub fn strike(&mut self, end: i64, slot: u32) -> bool {
        let Some(slots) = self.0.get_mut(&end) else { return false };
        let struck = slots.remove(&slot);
        if slots.is_empty() {
            self.0.remove(&end);
        }
        struck
    }

    /// Open windows of all entities together.
    #[must_use]
    pub fn open_windows(&self) -> usize {
        self.0.values().map(BTreeSet::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pane(start: i64) -> Pane {
        Pane { start, events: 1, first_offset: start, last_offset: start, summaries: vec![] }
    }

    #[test]
    fn a_window_includes_its_start_and_excludes_its_end() {
        let window = Window { size_ms: 60, slide_ms: 20 };
        for (time, pane, ends) in
            [(0, 0, [20, 40, 60]), (19, 0, [20, 40, 60]), (20, 20, [40, 60, 80]), (-1, -20, [0, 20, 40])]
        {
            assert_eq!(window.pane_of(time), pane, "pane of {time}");
            assert_eq!(window.ends_of(pane).collect::<Vec<_>>(), ends, "windows of {time}");
            assert_eq!(window.last_end_of(pane), ends[2]);
        }
    }

    #[test]
    fn deadlines_come_in_order_and_an_entity_can_leave() {
        let mut deadlines = Deadlines::default();
        for (end, slot) in [(30, 1), (10, 2), (30, 2), (20, 1)] {
            deadlines.note(end, slot);
        }
        assert!(deadlines.strike(20, 1) && deadlines.strike(30, 1) && !deadlines.strike(30, 1));
        assert_eq!(deadlines.take_due(9), None);
        assert_eq!(deadlines.take_due(30), Some((10, [2].into())));
        assert_eq!(deadlines.take_due(30), Some((30, [2].into())));
        assert_eq!(deadlines.open_windows(), 0);
    }

    proptest! {
        #[test]
        fn panes_stay_sorted_and_whole_in_any_order(starts in prop::collection::vec(0i64..50, 1..100), cut in 0i64..50) {
            let mut panes = Panes::default();
            for &start in &starts {
                let (pane, new) = panes.get_or_insert(start, || pane(start));
                if !new { pane.events += 1; }
            }
            let mut distinct = starts.clone();
            distinct.sort_unstable();
            distinct.dedup();
            prop_assert_eq!(panes.starts().collect::<Vec<_>>(), distinct);
            let inside = starts.iter().filter(|&&s| s >= cut).count() as u64;
            prop_assert_eq!(panes.merged(cut, 50).map_or(0, |p| p.events), inside);
            panes.forget_before(cut);
            prop_assert!(panes.starts().all(|s| s >= cut));
        }
    }
}
