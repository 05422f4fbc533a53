//! What a partition held before anybody watched it: learnt from like all that comes after, but nobody hears of its alerts.
//!
//! In offsets its end is given: that of the partition when it was first seen. In event time it ends with the greatest time of its
//! events, so that a replay comes to the same end, wherever it begins and however it is cut. An alert that opened by then is of the
//! history for good: it is never told, nor corrected or taken back, also where it goes on long after.

use serde::{Deserialize, Serialize};

/// The history of one input partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct History {
    /// The first offset that is not of it.
    end: i64,
    /// The greatest event time of it so far, in ms since 1970.
    event_time_max: Option<i64>,
}

impl History {
    /// A history of which nothing is read yet.
    pub(crate) const fn until(end: i64) -> Self {
        Self { end, event_time_max: None }
    }

    /// The first offset that is not of it.
    pub(crate) const fn end(&self) -> i64 {
        self.end
    }

    /// Takes an event's time into account, if the event is of it.
    pub(crate) fn observe(&mut self, offset: i64, event_time: i64) {
        if offset < self.end {
            self.event_time_max = self.event_time_max.max(Some(event_time));
        }
    }

    /// Whether an alert that opened at this event time is of it. Of what it holds itself nothing opens later than what was observed.
    pub(crate) fn covers(&self, opened_at: i64) -> bool {
        self.event_time_max.is_some_and(|last| opened_at <= last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_with_the_greatest_event_time_before_its_last_offset() {
        let mut history = History::until(3);
        assert!(!history.covers(0));
        for (offset, event_time, last) in [(0, 10, 10), (1, 30, 30), (2, 20, 30), (3, 50, 30), (4, 25, 30)] {
            history.observe(offset, event_time);
            assert!(history.covers(last) && !history.covers(last + 1), "{history:?}");
        }
    }
}
