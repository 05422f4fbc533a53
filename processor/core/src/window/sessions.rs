//! Sessions: windows that events make themselves.
//!
//! An event at `t` is a session `[t, t + gap)`; sessions of an entity that overlap are one, from the first event to `gap` after the
//! last (Akidau et al., "The Dataflow Model", VLDB 2015, section 2.2.2). An event exactly `gap` after the last one begins another. A
//! session that is final merges with nothing any more: an event near it that is not late begins a session of its own.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{Pane, Sample, Touched};

/// The sessions of one entity that are not final, by time; no two overlap.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sessions(VecDeque<Session>);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Session {
    /// Time of the last event.
    last: i64,
    pane: Pane,
}

impl Sessions {
    pub(super) fn add(
        &mut self,
        gap_ms: i64,
        event_time: i64,
        sample: &Sample<'_>,
        final_until: Option<i64>,
    ) -> Option<Touched> {
        // Sessions that are over for good merge with nothing, also before they are forgotten.
        let is_open = |session: &Session| final_until.is_none_or(|until| session.last + gap_ms > until);
        let first = self.0.partition_point(|session| session.last + gap_ms <= event_time || !is_open(session));
        let after = self.0.partition_point(|session| session.pane.start < event_time + gap_ms).max(first);
        if first == after && final_until.is_some_and(|until| event_time + gap_ms <= until) {
            return None;
        }
        if first == after {
            let mut pane = Pane::new(event_time, sample);
            pane.add(sample);
            self.0.insert(first, Session { last: event_time, pane });
            return Some(Touched { first_end: event_time + gap_ms, is_new: true, missed: 0 });
        }
        let first_end = self.0[first].last + gap_ms;
        let merged: Vec<Session> = self.0.drain(first + 1..after).collect();
        let session = &mut self.0[first];
        for later in merged {
            session.pane.merge(&later.pane);
            session.last = later.last;
        }
        session.pane.add(sample);
        session.pane.start = session.pane.start.min(event_time);
        session.last = session.last.max(event_time);
        // It ends when it did or later.
        Some(Touched { first_end, is_new: false, missed: 0 })
    }

    pub(super) fn next_end(&self, gap_ms: i64, after: i64) -> Option<i64> {
        let at = self.0.partition_point(|session| session.last + gap_ms <= after);
        self.0.get(at).map(|session| session.last + gap_ms)
    }

    pub(super) fn open_windows(&self, gap_ms: i64, after: i64) -> usize {
        self.0.iter().filter(|session| session.last + gap_ms > after).count()
    }

    pub(super) fn window(&self, gap_ms: i64, end: i64) -> Option<(i64, Pane)> {
        let at = self.0.binary_search_by_key(&end, |session| session.last + gap_ms).ok()?;
        Some((self.0[at].pane.start, self.0[at].pane.clone()))
    }

    pub(super) fn forget(&mut self, gap_ms: i64, final_until: i64) {
        while self.0.front().is_some_and(|session| session.last + gap_ms <= final_until) {
            self.0.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sessions_are_the_runs_of_events_less_than_a_gap_apart(times in prop::collection::vec(0i64..300, 1..40)) {
            const GAP: i64 = 10;
            let mut sessions = Sessions::default();
            for (offset, &time) in times.iter().enumerate() {
                sessions.add(GAP, time, &sample(offset as i64, &[time as f64]), None).unwrap();
            }
            let mut sorted = times.clone();
            sorted.sort_unstable();
            let runs: Vec<(i64, i64, u64)> = sorted
                .chunk_by(|a, b| b - a < GAP)
                .map(|run| (run[0], run[run.len() - 1] + GAP, run.len() as u64))
                .collect();
            let mut found = Vec::new();
            let mut after = i64::MIN;
            while let Some(end) = sessions.next_end(GAP, after) {
                let (start, pane) = sessions.window(GAP, end).unwrap();
                found.push((start, end, pane.events));
                after = end;
            }
            prop_assert_eq!(&found, &runs);
            let after = found[found.len() / 2].1;
            prop_assert_eq!(sessions.open_windows(GAP, after), runs.iter().filter(|run| run.1 > after).count());
        }
    }
}
