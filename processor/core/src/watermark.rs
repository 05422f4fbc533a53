//! How far event time has come in one input partition, by bounded disorder.
//!
//! The watermark is the greatest event time seen, less the disorder that the stream declares: the promise that nothing older is
//! still to come. It never goes back. (Akidau et al., "The Dataflow Model", VLDB 2015; Flink's `BoundedOutOfOrdernessWatermarks`.)
//! A partition that falls silent keeps no window open for ever: the shell [advances](Watermark::advance) the watermark then, and
//! journals that it did, because the decision comes from a clock.

use serde::{Deserialize, Serialize};

/// The watermark of one input partition. All times in ms since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermark {
    disorder_ms: i64,
    event_time_max: Option<i64>,
    advanced_to: Option<i64>,
}

impl Watermark {
    /// A watermark that waits `disorder_ms` for events out of order.
    #[must_use]
    pub fn new(disorder_ms: i64) -> Self {
        Self { disorder_ms, event_time_max: None, advanced_to: None }
    }

    /// Takes an event's time into account; true when the watermark moved.
    pub fn observe(&mut self, event_time: i64) -> bool {
        let before = self.now();
        self.event_time_max = self.event_time_max.max(Some(event_time));
        self.now() > before
    }

    /// Where it would be if events had gone on for so long after the greatest event time, as the clock does.
    #[must_use]
    pub fn after_silence(&self, silence_ms: i64) -> Option<i64> {
        self.event_time_max.map(|max| max.saturating_add(silence_ms) - self.disorder_ms)
    }

    /// Moves on to `time` without an event; true when the watermark moved. Before the first event there is nothing to wait for.
    pub fn advance(&mut self, time: i64) -> bool {
        let moves = self.now().is_some_and(|now| time > now);
        if moves {
            self.advanced_to = Some(time);
        }
        moves
    }

    /// Every event with a smaller time has been seen, or is late. `None` before the first event.
    #[must_use]
    pub fn now(&self) -> Option<i64> {
        self.event_time_max.map(|max| max - self.disorder_ms).max(self.advanced_to)
    }

    /// The greatest event time seen.
    #[must_use]
    pub fn event_time_max(&self) -> Option<i64> {
        self.event_time_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn never_goes_back_and_trails_the_greatest_time_by_the_disorder(
            steps in prop::collection::vec((0i64..1_000_000, prop::bool::weighted(0.1)), 1..200),
            disorder_ms in 0i64..10_000,
        ) {
            let mut watermark = Watermark::new(disorder_ms);
            let (mut greatest, mut advanced) = (None, None);
            for (time, is_advance) in steps {
                let before = watermark.now();
                let moved = if is_advance { watermark.advance(time) } else { watermark.observe(time) };
                if !is_advance {
                    greatest = greatest.max(Some(time));
                } else if before.is_some() {
                    advanced = advanced.max(Some(time));
                }
                let expected = greatest.map(|max| max - disorder_ms).max(advanced);
                prop_assert_eq!(watermark.now(), expected);
                prop_assert_eq!(moved, expected > before);
            }
        }
    }
}
