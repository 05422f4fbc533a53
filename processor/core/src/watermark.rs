//! How far event time has come in one input partition, by bounded disorder.
//!
//! The watermark is the greatest event time seen, less the disorder that the stream declares: the promise that nothing older is
//! still to come. It never goes back. (Akidau et al., "The Dataflow Model", VLDB 2015; Flink's `BoundedOutOfOrdernessWatermarks`.)

use serde::{Deserialize, Serialize};

/// The watermark of one input partition. All times in ms since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermark {
    disorder_ms: i64,
    event_time_max: Option<i64>,
}

impl Watermark {
    /// A watermark that waits `disorder_ms` for events out of order.
    #[must_use]
    pub fn new(disorder_ms: i64) -> Self {
        Self { disorder_ms, event_time_max: None }
    }

    /// Takes an event's time into account; true when the watermark moved.
    pub fn observe(&mut self, event_time: i64) -> bool {
        let moved = self.event_time_max.is_none_or(|max| event_time > max);
        if moved {
            self.event_time_max = Some(event_time);
        }
        moved
    }

    /// Every event with a smaller time has been seen, or is late. `None` before the first event.
    #[must_use]
    pub fn now(&self) -> Option<i64> {
        self.event_time_max.map(|max| max - self.disorder_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn never_goes_back_and_trails_the_greatest_time_by_the_disorder(
            times in prop::collection::vec(0i64..1_000_000, 1..200),
            disorder_ms in 0i64..10_000,
        ) {
            let mut watermark = Watermark::new(disorder_ms);
            let mut last = i64::MIN;
            for (seen, &time) in times.iter().enumerate() {
                watermark.observe(time);
                let now = watermark.now().unwrap();
                prop_assert!(now >= last);
                prop_assert_eq!(now, times[..=seen].iter().max().unwrap() - disorder_ms);
                last = now;
            }
        }
    }
}
