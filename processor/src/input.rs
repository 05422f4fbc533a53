//! An input partition at work: its engine, how far it is read, and what is to be committed of it.

use std::time::Instant;

use tidewatch_processor_core::{Effects, Engine};
use tidewatch_topic_io::Committed;

use crate::input_topics::InputTopic;
use crate::ledger::Account;
use crate::restore::{Beginning, IdleAdvance};
use crate::rounds::Rounds;

/// A partition in which no event was scored for the time-out. It is silent once all that it held then is read, and still none was:
/// what is written meanwhile, and is no event, does not put that off.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Silent {
    /// Its end when that was noticed.
    pub(crate) end: i64,
    /// The event time that it had come to by then.
    pub(crate) time: i64,
}

/// An input partition at work.
pub(crate) struct Input {
    pub(crate) stream: usize,
    pub(crate) engine: Engine,
    /// The next offset to take in.
    pub(crate) next: i64,
    /// Effects of earlier offsets are committed already.
    pub(crate) write_from: i64,
    pub(crate) rounds: Rounds,
    pub(crate) topic: InputTopic,
    /// Whether something of it is to be committed: events, decisions, or a part of its state. Its offset goes along with all
    /// of these, as the group's word that it is still this member's goes with the offset.
    pub(crate) touched: bool,
    /// What was committed of it last.
    pub(crate) committed: Option<Committed>,
    /// When the last event came that was scored: what else comes closes no window.
    pub(crate) heard_at: Instant,
    /// What is waited for before event time goes on by the clock.
    pub(crate) silent: Option<Silent>,
    /// The watermark when it was last looked at, and since when it has not moved.
    pub(crate) watermark_seen: Option<i64>,
    pub(crate) moved_at: Instant,
    /// How many of the clock's decisions a replay has still to repeat.
    to_repeat: usize,
    /// Where its history ends, until that is reached.
    history_end: Option<i64>,
    /// What became of its records.
    pub(crate) account: Account,
}

impl Input {
    pub(crate) fn new(
        stream: usize,
        mut engine: Engine,
        begin: Beginning,
        topic: InputTopic,
        account: Account,
        committed: Option<Committed>,
    ) -> Self {
        if let Some(end) = begin.history_end {
            engine.learn_until(end);
        }
        let mut input = Self {
            stream,
            history_end: engine.history_end(),
            engine,
            next: begin.read_from,
            write_from: begin.write_from,
            topic,
            // What is history is decided by the first commit, which does not wait for a record.
            touched: committed.is_none() && begin.history_end.is_some(),
            committed,
            heard_at: Instant::now(),
            silent: None,
            watermark_seen: None,
            moved_at: Instant::now(),
            to_repeat: begin.idle.len(),
            rounds: Rounds::new(begin),
            account,
        };
        input.repeat_idle();
        input
    }

    /// Repeats what the clock decided before the next offset was read; what followed is committed already.
    pub(crate) fn repeat_idle(&mut self) {
        let decided = self.rounds.idle();
        for advance in
            decided[decided.len() - self.to_repeat..].iter().take_while(|advance| advance.offset <= self.next)
        {
            let mut committed = Effects::default();
            self.engine.advance(advance.time, &mut committed);
            while self.engine.has_more() {
                committed.clear();
                self.engine.go_on(&mut committed);
            }
            self.to_repeat -= 1;
        }
    }

    /// What the watermark has come to by a partition's silence, if that is longer than the time-out and anything is due by then.
    pub(crate) fn idle_time(&self, timeout_ms: i64) -> Option<i64> {
        let silence_ms = i64::try_from(self.heard_at.elapsed().as_millis()).unwrap_or(i64::MAX);
        let time = self.engine.watermark().after_silence(silence_ms)?;
        let may_decide = !self.is_replaying() && !self.rounds.is_full();
        (silence_ms >= timeout_ms && may_decide && self.engine.is_due(time)).then_some(time)
    }

    /// Lets event time go on, and takes note of it.
    pub(crate) fn advance(&mut self, time: i64, effects: &mut Effects) {
        self.engine.advance(time, effects);
        self.rounds.note_idle(IdleAdvance { offset: self.next, time });
        self.touched = true;
    }

    /// Counts what the engine has closed, corrected and forgotten since.
    pub(crate) fn count_closed(&mut self, before: tidewatch_processor_core::engine::Counts) {
        let now = self.engine.counts();
        self.account.open.windows += now.windows - before.windows;
        self.account.open.revisions += now.revisions - before.revisions;
        self.account.open.evicted += now.evicted - before.evicted;
        self.account.open.missed += now.missed - before.missed;
        self.account.open.quiet += now.quiet - before.quiet;
    }

    /// Takes note of when event time last moved.
    pub(crate) fn look(&mut self) {
        let watermark = self.engine.watermark().now();
        if watermark != self.watermark_seen {
            (self.watermark_seen, self.moved_at) = (watermark, Instant::now());
        }
    }

    /// Offsets of the history that are still to be read when reading has come to `position`, which may be behind the last record; 0 is
    /// told once.
    pub(crate) fn look_at_history(&mut self, position: i64) -> Option<i64> {
        let position = position.max(self.next).max(self.write_from);
        let left = (self.history_end? - position).max(0);
        if left == 0 {
            self.history_end = None;
        }
        Some(left)
    }

    /// Leaves out offsets that are gone for good.
    pub(crate) fn skip_to(&mut self, offset: i64) {
        self.next = self.next.max(offset);
        self.repeat_idle();
    }

    /// Whether earlier offsets are still being read again.
    pub(crate) fn is_replaying(&self) -> bool {
        self.next < self.write_from || self.to_repeat > 0
    }
}
