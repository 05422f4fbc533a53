//! When snapshot rounds begin, and how fast they are written: the shell's side of `tidewatch_processor_core::state::round`.
//!
//! A round begins every `snapshot_every` and is written a little in each transaction, at most `snapshot_kib_per_second`, so that a commit
//! never waits for the state. The metadata of the committed offset names the last *complete* round; with it goes what the clock has
//! decided since that one began, and until the first round what is history.

use std::time::{Duration, Instant};

use crate::input_topics::InputTopic;
use crate::restore::{Beginning, CommitNote, IdleAdvance};

/// Decisions of the clock that the metadata of an offset may name. At half of that a round is due; the clock waits for it before there are
/// more.
const IDLE_ADVANCES_MAX: usize = 64;

/// The rounds of one input partition.
#[derive(Debug)]
pub(crate) struct Rounds {
    /// Input offset of the last complete one; where it all began, before the first.
    complete: i64,
    is_snapshot: bool,
    /// Where the history ends, which a snapshot knows itself.
    history_end: Option<i64>,
    /// When the last one began.
    began_at: Instant,
    /// What the clock decided since the last complete one began.
    idle: Vec<IdleAdvance>,
    /// How many of them are older than the open one.
    idle_before: usize,
}

impl Rounds {
    pub(crate) fn new(begin: Beginning) -> Self {
        let Beginning { read_from: complete, is_snapshot, history_end, idle, .. } = begin;
        Self { complete, is_snapshot, history_end, began_at: Instant::now(), idle, idle_before: 0 }
    }

    /// When the last one began.
    pub(crate) fn began_at(&self) -> Instant {
        self.began_at
    }

    /// Whether it is time for the next one.
    pub(crate) fn is_due(&self, every: Duration) -> bool {
        self.began_at.elapsed() >= every || self.idle.len() >= IDLE_ADVANCES_MAX / 2
    }

    /// Whether the clock may decide no more before one is complete.
    pub(crate) fn is_full(&self) -> bool {
        self.idle.len() >= IDLE_ADVANCES_MAX
    }

    /// Whether anything was read since the last one: what the clock decided is in the metadata.
    pub(crate) fn has_news(&self, next_offset: i64) -> bool {
        next_offset > self.complete
    }

    /// A round begins.
    pub(crate) fn begin(&mut self) {
        (self.began_at, self.idle_before) = (Instant::now(), self.idle.len());
    }

    /// The round of this offset is complete; gives how long that took.
    pub(crate) fn complete(&mut self, input_offset: i64) -> Duration {
        (self.complete, self.is_snapshot, self.history_end) = (input_offset, true, None);
        self.idle.drain(..std::mem::take(&mut self.idle_before));
        self.began_at.elapsed()
    }

    /// Takes note of what the clock has decided. What it decided at the same offset before is part of it.
    pub(crate) fn note_idle(&mut self, advance: IdleAdvance) {
        match self.idle[self.idle_before..].last_mut() {
            Some(last) if last.offset == advance.offset => *last = advance,
            _ => self.idle.push(advance),
        }
    }

    /// What the clock decided since the last complete round began.
    pub(crate) fn idle(&self) -> &[IdleAdvance] {
        &self.idle
    }

    /// What the metadata of a committed offset says.
    pub(crate) fn note(&self, topic: InputTopic) -> CommitNote {
        let Self { complete, is_snapshot, history_end, ref idle, .. } = *self;
        CommitNote { read_from: complete, is_snapshot, topic, history_end, idle: idle.clone() }
    }
}

/// How much may be written, by how much time has passed.
#[derive(Debug)]
pub(crate) struct Pace {
    bytes_per_second: f64,
    /// Time that is not made up for later.
    span_max: Duration,
    taken_at: Instant,
}

impl Pace {
    pub(crate) fn new(bytes_per_second: u64, span_max: Duration) -> Self {
        Self { bytes_per_second: bytes_per_second as f64, span_max, taken_at: Instant::now() }
    }

    /// The bytes of the time since the last call; at least one, so that there is no standstill.
    pub(crate) fn take(&mut self) -> usize {
        let span = self.taken_at.elapsed().min(self.span_max);
        self.taken_at = Instant::now();
        ((self.bytes_per_second * span.as_secs_f64()) as usize).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_takes_the_decisions_along_that_were_made_before_it_began() {
        let begin =
            Beginning { read_from: 10, is_snapshot: false, write_from: 10, history_end: Some(20), idle: vec![] };
        let mut rounds = Rounds::new(begin);
        let advance = |offset, time| IdleAdvance { offset, time };
        rounds.note_idle(advance(12, 1_000));
        rounds.note_idle(advance(12, 2_000));
        assert_eq!(rounds.idle(), [advance(12, 2_000)]);
        assert!(rounds.has_news(12) && !rounds.has_news(10));
        rounds.begin();
        // At the same offset, but after it began: the round does not hold it.
        rounds.note_idle(advance(12, 3_000));
        let topic = InputTopic { partitions: 4, id: None };
        let note = rounds.note(topic.clone());
        assert_eq!((note.read_from, note.is_snapshot, note.idle.len()), (10, false, 2));
        assert_eq!(note.history_end, Some(20));
        rounds.complete(12);
        let idle = vec![advance(12, 3_000)];
        let expected = CommitNote { read_from: 12, is_snapshot: true, topic: topic.clone(), history_end: None, idle };
        assert_eq!(rounds.note(topic), expected);
        assert!(!rounds.has_news(12));
    }

    #[test]
    fn the_longest_note_fits_in_what_a_broker_keeps_with_an_offset() {
        let last = i64::MAX;
        let mut rounds = Rounds::new(Beginning {
            read_from: last,
            is_snapshot: true,
            write_from: last,
            history_end: Some(last),
            idle: vec![],
        });
        for offset in 0..IDLE_ADVANCES_MAX as i64 {
            rounds.note_idle(IdleAdvance { offset: i64::MAX - offset, time: i64::MIN });
        }
        let topic = InputTopic { partitions: i32::MAX, id: Some("sM5qhaYeRSWbY6pHkbBM_w".into()) };
        let metadata = rounds.note(topic).to_metadata();
        // `offset.metadata.max.bytes`, by default.
        assert!(metadata.len() <= 4_096, "{}", metadata.len());
    }
}
