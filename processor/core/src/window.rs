//! Windows over event time, and what an entity keeps for them.
//!
//! A window `[start, end)` holds the events whose time is at or after its start and before its end. *Fixed* windows (tumbling,
//! hopping) start at multiples of their slide since 1970 and are kept as [`panes`]; a *session* lasts from an event until `gap`
//! after the last one that follows within `gap`, and is kept whole ([`sessions`]).

pub mod deadlines;
pub mod panes;
pub mod sessions;

use serde::{Deserialize, Serialize};

use crate::sketch::DdSketch;
use crate::summary::{Moments, Summary};

use panes::Panes;
use sessions::Sessions;

/// How event time is cut. All spans in ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Window {
    /// Windows of `size_ms`, one at every multiple of `slide_ms`, which divides the size.
    Fixed {
        /// Length of a window.
        size_ms: i64,
        /// Distance between the starts of two windows; the size itself for tumbling windows.
        slide_ms: i64,
    },
    /// A window from an event to `gap_ms` after the last one that follows within `gap_ms`.
    Session {
        /// The silence that ends a session.
        gap_ms: i64,
    },
}

impl Window {
    /// The time from one window to the next: the slide, or the gap of sessions.
    #[must_use]
    pub const fn step_ms(&self) -> i64 {
        match *self {
            Self::Fixed { slide_ms, .. } => slide_ms,
            Self::Session { gap_ms } => gap_ms,
        }
    }

    /// The last window that an event at this time belongs to, if no other event is near.
    #[must_use]
    pub const fn last_of(&self, event_time: i64) -> (i64, i64) {
        match *self {
            Self::Fixed { size_ms, slide_ms } => {
                let start = event_time - event_time.rem_euclid(slide_ms);
                (start, start + size_ms)
            }
            Self::Session { gap_ms } => (event_time, event_time + gap_ms),
        }
    }
}

/// All but the count of a measure's [`Moments`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Part {
    sum: f64,
    m2: f64,
    min: f64,
    max: f64,
}

/// What one entity's events in one span of time add up to: of a pane, a window or a session.
///
/// Memory: 80 bytes, 32 for the moments of each measure, a sketch ([`crate::sketch`]) for each measure with quantiles, and 4 bytes a
/// measure once an event lacks one: a measure's count is that of the events, less those without it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pane {
    /// Start, in ms since 1970: of the pane, or of the earliest one merged.
    pub start: i64,
    /// Events, with or without a value for some measure.
    pub events: u64,
    /// Input offset of the first event.
    pub first_offset: i64,
    /// Input offset of the last event.
    pub last_offset: i64,
    parts: Box<[Part]>,
    /// Events without each measure; empty if all had all.
    missing: Box<[u32]>,
    sketches: Box<[DdSketch]>,
}

/// An event as a pane takes it in.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// Its input offset.
    pub offset: i64,
    /// The value of each measure; NaN where it has none.
    pub values: &'a [f64],
    /// Which measures keep a sketch.
    pub quantiles: &'a [bool],
}

impl Pane {
    /// A pane that holds nothing yet.
    #[must_use]
    pub fn new(start: i64, sample: &Sample<'_>) -> Self {
        Self {
            start,
            events: 0,
            first_offset: sample.offset,
            last_offset: sample.offset,
            parts: vec![Part::default(); sample.values.len()].into(),
            missing: Box::default(),
            sketches: sample.quantiles.iter().filter(|&&wanted| wanted).map(|_| DdSketch::default()).collect(),
        }
    }

    /// Takes an event in.
    pub fn add(&mut self, sample: &Sample<'_>) {
        for (at, &value) in sample.values.iter().enumerate() {
            if value.is_finite() {
                let mut moments = self.moments(at);
                moments.add(value);
                self.set(at, &moments);
            } else {
                if self.missing.is_empty() {
                    self.missing = vec![0; self.parts.len()].into();
                }
                self.missing[at] += 1;
            }
        }
        let sketched = sample.values.iter().zip(sample.quantiles).filter(|&(_, &has_sketch)| has_sketch);
        for (sketch, (&value, _)) in self.sketches.iter_mut().zip(sketched) {
            sketch.add(value);
        }
        self.events += 1;
        self.first_offset = self.first_offset.min(sample.offset);
        self.last_offset = self.last_offset.max(sample.offset);
    }

    /// Takes in all that a pane of a later time has.
    pub fn merge(&mut self, later: &Self) {
        for at in 0..self.parts.len() {
            let mut moments = self.moments(at);
            moments.merge(&later.moments(at));
            self.set(at, &moments);
        }
        if !later.missing.is_empty() {
            if self.missing.is_empty() {
                self.missing = vec![0; self.parts.len()].into();
            }
            self.missing.iter_mut().zip(&later.missing).for_each(|(mine, theirs)| *mine += theirs);
        }
        self.sketches.iter_mut().zip(&later.sketches).for_each(|(mine, theirs)| mine.merge(theirs));
        self.events += later.events;
        self.start = self.start.min(later.start);
        self.first_offset = self.first_offset.min(later.first_offset);
        self.last_offset = self.last_offset.max(later.last_offset);
    }

    /// What is known of each measure, in their order.
    pub fn summaries<'a>(&'a self, quantiles: &'a [bool]) -> impl Iterator<Item = Summary<'a>> {
        let mut sketches = self.sketches.iter();
        quantiles.iter().enumerate().map(move |(at, &has_sketch)| Summary {
            moments: self.moments(at),
            sketch: if has_sketch { sketches.next() } else { None },
        })
    }

    fn moments(&self, at: usize) -> Moments {
        let Part { sum, m2, min, max } = self.parts[at];
        let missing = self.missing.get(at).copied().unwrap_or(0);
        Moments { count: self.events - u64::from(missing), sum, m2, min, max }
    }

    fn set(&mut self, at: usize, moments: &Moments) {
        let Moments { sum, m2, min, max, .. } = *moments;
        self.parts[at] = Part { sum, m2, min, max };
    }
}

/// What an event has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touched {
    /// End of the earliest window that it has changed, or that no longer is as it was.
    pub first_end: i64,
    /// Whether a window has come to be that was not there: the next deadline may be an earlier one.
    pub is_new: bool,
    /// Windows that the event belongs to and that were final before it came.
    pub missed: u64,
}

/// What one entity keeps for its windows that are not final.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Contents {
    /// Of fixed windows.
    Panes(Panes),
    /// Of session windows.
    Sessions(Sessions),
}

impl Contents {
    /// Nothing yet.
    #[must_use]
    pub fn new(window: Window) -> Self {
        match window {
            Window::Fixed { .. } => Self::Panes(Panes::default()),
            Window::Session { .. } => Self::Sessions(Sessions::default()),
        }
    }

    /// Takes an event in; `None` if all windows that it belongs to end by `final_until`.
    pub fn add(
        &mut self,
        window: Window,
        event_time: i64,
        sample: &Sample<'_>,
        final_until: Option<i64>,
    ) -> Option<Touched> {
        match (self, window) {
            (Self::Panes(panes), Window::Fixed { size_ms, slide_ms }) => {
                panes.add((size_ms, slide_ms), event_time, sample, final_until)
            }
            (Self::Sessions(sessions), Window::Session { gap_ms }) => {
                sessions.add(gap_ms, event_time, sample, final_until)
            }
            _ => unreachable!("contents are made for their window"),
        }
    }

    /// End of the earliest window with events that ends after `after`.
    #[must_use]
    pub fn next_end(&self, window: Window, after: i64) -> Option<i64> {
        match (self, window) {
            (Self::Panes(panes), Window::Fixed { size_ms, slide_ms }) => panes.next_end((size_ms, slide_ms), after),
            (Self::Sessions(sessions), Window::Session { gap_ms }) => sessions.next_end(gap_ms, after),
            _ => unreachable!("contents are made for their window"),
        }
    }

    /// The window that ends at `end`: its start and what it holds; `None` without events. Cost: see [`panes`].
    pub fn window(&mut self, window: Window, end: i64) -> Option<(i64, Pane)> {
        match (self, window) {
            (Self::Panes(panes), Window::Fixed { size_ms, slide_ms }) => {
                panes.window((size_ms, slide_ms), end).map(|pane| (end - size_ms, pane))
            }
            (Self::Sessions(sessions), Window::Session { gap_ms }) => sessions.window(gap_ms, end),
            _ => unreachable!("contents are made for their window"),
        }
    }

    /// Forgets what no window needs that ends after `final_until`.
    pub fn forget(&mut self, window: Window, final_until: i64) {
        match (self, window) {
            (Self::Panes(panes), Window::Fixed { size_ms, slide_ms }) => panes.forget((size_ms, slide_ms), final_until),
            (Self::Sessions(sessions), Window::Session { gap_ms }) => sessions.forget(gap_ms, final_until),
            _ => unreachable!("contents are made for their window"),
        }
    }

    /// Windows with events that end after `after`: those that are open. Cost: proportional to the panes or sessions.
    #[must_use]
    pub fn open_windows(&self, window: Window, after: i64) -> usize {
        match (self, window) {
            (Self::Panes(panes), Window::Fixed { size_ms, slide_ms }) => panes.open_windows((size_ms, slide_ms), after),
            (Self::Sessions(sessions), Window::Session { gap_ms }) => sessions.open_windows(gap_ms, after),
            _ => unreachable!("contents are made for their window"),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn sample(offset: i64, values: &[f64]) -> Sample<'_> {
        Sample { offset, values, quantiles: &[true, false][..values.len()] }
    }

    pub(crate) fn pane_of(start: i64, rows: &[[f64; 2]]) -> Pane {
        let mut pane = Pane::new(start, &sample(0, &[0.0; 2]));
        for (offset, row) in rows.iter().enumerate() {
            pane.add(&sample(offset as i64, row));
        }
        pane
    }

    #[test]
    fn the_moments_of_a_measure_take_32_bytes() {
        assert_eq!(size_of::<Part>(), 32);
        assert_eq!(size_of::<Pane>(), 80);
    }

    proptest! {
        #[test]
        fn a_pane_of_two_parts_merged_equals_the_whole(
            a in prop::collection::vec((-1e6f64..1e6, prop::option::of(-1e6f64..1e6)), 0..40),
            b in prop::collection::vec((-1e6f64..1e6, prop::option::of(-1e6f64..1e6)), 0..40),
        ) {
            let rows = |of: &[(f64, Option<f64>)]| of.iter().map(|&(x, y)| [x, y.unwrap_or(f64::NAN)]).collect::<Vec<_>>();
            let mut merged = pane_of(0, &rows(&a));
            merged.merge(&pane_of(10, &rows(&b)));
            let whole = pane_of(0, &rows(&[a.clone(), b.clone()].concat()));
            prop_assert_eq!(merged.events, whole.events);
            for (m, w) in merged.summaries(&[true, false]).zip(whole.summaries(&[true, false])) {
                prop_assert_eq!(m.sketch, w.sketch);
                let (m, w) = (m.moments, w.moments);
                prop_assert_eq!((m.count, m.min, m.max), (w.count, w.min, w.max));
                prop_assert!((m.sum - w.sum).abs() <= 1e-6);
                prop_assert!((m.m2 - w.m2).abs() <= 1e-9 * (1.0 + w.m2));
            }
            let second: Vec<f64> = a.iter().chain(&b).filter_map(|&(_, y)| y).collect();
            let moments = whole.summaries(&[true, false]).nth(1).unwrap().moments;
            prop_assert_eq!(moments.count, second.len() as u64);
            prop_assert_eq!(moments.min, second.iter().copied().reduce(f64::min).unwrap_or(0.0));
        }
    }
}
