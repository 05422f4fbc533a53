//! Alerts held against the truth about what went wrong. Pure.
//!
//! An alert is all records of one `alert_id`; of a record that was revised the last revision counts, and what was retracted was not said.
//! Times are event times. With `d` half an hour, or three windows where these are longer:
//!
//! - a fault is *found* by an alert of its stream and entity that opens or is updated in a window which overlaps the fault, or begins
//!   within `d` of its onset; on whichever measure. An alert finds one fault, the first that it can; of several the earliest finds it.
//! - a fault that was not found is *missed* once it and the `d` after its onset are over, by the windows of its input partition that
//!   were seen, and *pending* until then: it counts for nothing yet.
//! - an alert that finds none is *repeated* if it overlaps a fault of its entity, or the `d` after an onset, and *false* else.
//! - the *delay* is from onset to the end of the window in which the alert said so.
//! - *false alarms per entity and week* are the false alerts over the time in which an alert would have been false: of each entity of
//!   a stream from the start of its first window to the end of its last, less its faults and the `d` after their onsets.
//!
//! A *predicted breach* is no alert in this sense: it is found once the limit has been passed while it was open, with a negative delay,
//! the lead time; false if it was resolved before, and pending until then. It counts under [`Dimension::Prediction`] only: among `all`, and
//! where a drift or a change of trend of its entity was under way among `trend`. Of those recall and F1 are not known.
//!
//! What a fault causes elsewhere is a truth of its own, so an alert on a dependant is not false. The kind that an alert gives is compared
//! with its fault's, and is no condition. Precision is of the alerts that find and the false ones, recall of the faults.
//!
//! [`Evidence`] collects what is read, in any order and as often as it comes, and can be scored at any time, in linear time but for the
//! faults and alerts of one entity. It takes some 150 bytes for a fault, 400 for an alert of up to four records and 80 for each
//! further one, and 250 for an entity.

mod evidence;
mod tally;

#[cfg(test)]
mod tests;

use tidewatch_schemas::record::{Alert, Truth};

pub use evidence::{Evidence, Window};
pub use tally::{Figures, Score, Tally};
pub use tidewatch_schemas::record::Dimension;

/// How long after its onset a fault can be found at least, in ms and in windows.
const DELAY_MS_MIN: i64 = 30 * 60_000;
const DELAY_WINDOWS: i64 = 3;

/// How long after its onset a fault can be found, with windows of this length, in ms.
#[must_use]
pub fn delay_max_ms(window_ms: i64) -> i64 {
    DELAY_MS_MIN.max(DELAY_WINDOWS.saturating_mul(window_ms))
}

/// Compares the records of the alerts topic, in any order, with the truth about a time that is over: nothing is pending, and how long
/// was watched is not known.
#[must_use]
pub fn score(truth: &[Truth], alerts: &[Alert], delay_max_ms: i64) -> Score {
    let mut evidence = Evidence::default();
    truth.iter().for_each(|truth| evidence.add_fault(truth));
    alerts.iter().for_each(|alert| evidence.add_alert(alert));
    evidence.score_all(delay_max_ms)
}
