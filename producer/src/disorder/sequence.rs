//! A partition's events become the sequence of its records: see the [module](super) for why the outcomes are certain.
//!
//! Invariant: records come by moment; a late one comes right after the scored record that made it late.
//!
//! ```text
//!   events ──draw──▶ due  (by moment)                   ──▶ record, which may move `greatest`
//!              └───▶ held (by the time that must pass)  ──▶ record, as soon as `greatest` is there
//! ```

use super::poison::Poison;
use super::{ChangeKind, Counts, Disorder, Outcome};
use crate::generator::{Anchor, GeneratedEvent, PartitionEvents, Slot, StreamPartition};
use crate::stream::StreamKind;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::ops::Range;
use std::sync::Arc;
use tidewatch_schemas::dead_letter::Reason;

// Channels of an entity's disorder.
const FATE: u64 = 0;
const KIND: u64 = 1;
const LATE_BY: u64 = 2;
const DUPLICATE_AFTER: u64 = 3;
const REORDER: u64 = 4;
const REORDER_BY: u64 = 5;

/// How an event is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// With the stream's schema.
    Plain,
    /// With a field added.
    Added,
    /// With fields of another type.
    Changed,
    /// As no event, or as a strange one.
    Poisoned(Poison),
}

/// A record that is to be published.
#[derive(Clone, Copy, Debug)]
struct Pending {
    /// When it may come: a moment, or for a late one the event time that must have been seen.
    at: i64,
    /// Distinguishes those of the same time.
    order: u64,
    slot: Slot,
    /// What it says is its event time.
    stated: i64,
    form: Form,
    outcome: Outcome,
}

impl PartialEq for Pending {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Pending {}
impl PartialOrd for Pending {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Pending {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// A record whose turn it is.
#[derive(Debug)]
pub(crate) struct Emitted<'a> {
    pub(crate) event: GeneratedEvent<'a>,
    pub(crate) moment: i64,
    pub(crate) stated: i64,
    pub(crate) form: Form,
    pub(crate) outcome: Outcome,
}

/// The records of one partition.
#[derive(Debug)]
pub(crate) struct Sequence {
    events: PartitionEvents,
    rules: Arc<Disorder>,
    place: StreamPartition,
    start_ms: i64,
    gaps: Gaps,
    anchor: Option<Anchor>,
    due: BinaryHeap<Reverse<Pending>>,
    held: BinaryHeap<Reverse<Pending>>,
    /// The greatest event time of a scored record.
    greatest: Option<i64>,
    drawn: u64,
    /// The next record and its moment.
    next: Option<(Pending, i64)>,
    counts: Counts,
}

/// When a partition is not as it always is. Offsets from the scenario's start.
#[derive(Debug)]
struct Gaps {
    idle: Vec<Range<i64>>,
    added: Vec<Range<i64>>,
    changed: Vec<Range<i64>>,
}

impl Gaps {
    fn new(rules: &Disorder, place: StreamPartition) -> Self {
        let changes = |kind: ChangeKind| {
            let changes =
                rules.schema_changes.iter().filter(|change| (change.stream, change.kind) == (place.stream, kind));
            changes.map(|change| change.offsets_ms.clone()).collect()
        };
        let idle = rules.idle.iter().filter(|idle| (idle.stream, idle.partition) == (place.stream, place.partition));
        Self {
            idle: idle.map(|idle| idle.offsets_ms.clone()).collect(),
            added: changes(ChangeKind::Compatible),
            changed: changes(ChangeKind::Incompatible),
        }
    }
}

fn is_in(ranges: &[Range<i64>], offset_ms: i64) -> bool {
    ranges.iter().any(|range| range.contains(&offset_ms))
}

impl Sequence {
    pub(crate) fn new(
        events: PartitionEvents,
        rules: Arc<Disorder>,
        place: StreamPartition,
        start_ms: i64,
        anchor: Option<Anchor>,
    ) -> Self {
        let gaps = Gaps::new(&rules, place);
        let mut sequence = Self {
            events,
            rules,
            place,
            start_ms,
            gaps,
            anchor,
            due: BinaryHeap::new(),
            held: BinaryHeap::new(),
            greatest: None,
            drawn: 0,
            next: None,
            counts: Counts::default(),
        };
        sequence.prepare();
        sequence
    }

    /// When the next record is to be published, epoch ms of event time.
    pub(crate) fn next_moment(&self) -> Option<i64> {
        self.next.map(|(_, moment)| moment)
    }

    /// The next record.
    pub(crate) fn next_record(&mut self) -> Option<Emitted<'_>> {
        let (pending, moment) = self.next?;
        self.prepare();
        let Pending { slot, stated, form, outcome, .. } = pending;
        Some(Emitted { event: self.events.make(slot), moment, stated, form, outcome })
    }

    /// Goes on by so many records without making them; false if there are not as many.
    pub(crate) fn skip(&mut self, records: u64) -> bool {
        for _ in 0..records {
            if self.next.is_none() {
                return false;
            }
            self.prepare();
        }
        true
    }

    /// Counts of all records; the sequence is at its end then.
    pub(crate) fn count(mut self) -> Counts {
        while self.next.is_some() {
            self.prepare();
        }
        self.counts
    }

    /// Decides which record is next, and counts it.
    fn prepare(&mut self) {
        let before = self.next.map(|(_, moment)| moment);
        self.next = self.choose(before);
        let Some((Pending { slot, stated, form, outcome, .. }, _)) = self.next else { return };
        *self.counts.outcomes.entry(outcome).or_default() += 1;
        self.counts.evolved += i64::from(matches!(form, Form::Added | Form::Changed));
        self.counts.skewed += i64::from(stated != slot.event_time);
        if outcome == Outcome::Scored {
            self.counts.reordered += i64::from(self.greatest.is_some_and(|greatest| stated < greatest));
            self.greatest = self.greatest.max(Some(stated));
        }
    }

    fn choose(&mut self, before: Option<i64>) -> Option<(Pending, i64)> {
        if let Some(late) = self.release(before) {
            return Some(late);
        }
        // Whatever is drawn from here on is due at the next event's time at the earliest.
        while self.events.next_time().is_some_and(|time| self.due.peek().is_none_or(|Reverse(first)| first.at > time)) {
            if let Some(slot) = self.events.next_slot() {
                self.draw(slot);
            }
        }
        // The last that were drawn may all be of a clock so slow that they are late already.
        let next = self.due.pop().map(|Reverse(pending)| (pending, pending.at)).or_else(|| self.release(before));
        debug_assert!(next.is_some() || self.held.is_empty(), "the anchor lets every late record go");
        next
    }

    /// The first late record, if what makes it late has come.
    fn release(&mut self, before: Option<i64>) -> Option<(Pending, i64)> {
        let greatest = self.greatest?;
        let Reverse(late) = self.held.peek().copied().filter(|Reverse(first)| first.at <= greatest)?;
        self.held.pop();
        Some((late, late.slot.event_time.max(before?)))
    }

    /// Decides what becomes of an event.
    fn draw(&mut self, slot: Slot) {
        let Slot { index, event_time, .. } = slot;
        let offset_ms = event_time - self.start_ms;
        self.counts.events += 1;
        if is_in(&self.gaps.idle, offset_ms) {
            self.counts.idle += 1;
            return;
        }
        let form = if is_in(&self.gaps.added, offset_ms) { Form::Added } else { Form::Plain };
        if self.anchor.is_some_and(|anchor| (anchor.source, anchor.index) == (slot.source, index)) {
            return self.on_time(slot, event_time, form, Outcome::Scored);
        }
        if is_in(&self.gaps.changed, offset_ms) {
            return self.on_time(slot, event_time, Form::Changed, Outcome::DeadLetter(Reason::WrongType));
        }
        let random = slot.random;
        let Disorder { assumes, duplicates, late, drops, ref poison, ref skews, .. } = *self.rules;
        let fate = random.uniform(index, FATE);
        if fate < drops {
            self.counts.dropped += 1;
            return;
        }
        if fate < drops + poison.share {
            let kind = poison.kinds[random.below(poison.kinds.len() as u64, index, KIND) as usize];
            return match kind.outcome() {
                Outcome::Late => self.hold(slot, 0, event_time, form),
                outcome => self.on_time(slot, event_time, Form::Poisoned(kind), outcome),
            };
        }
        let skew_ms = skews.get(&slot.source).copied().unwrap_or(0);
        if skew_ms > assumes.future_max_ms {
            let outcome = Outcome::DeadLetter(Reason::EventTimeInFuture);
            return self.on_time(slot, event_time + skew_ms, form, outcome);
        }
        if skew_ms <= -assumes.final_after_ms {
            return self.hold(slot, event_time + skew_ms, assumes.final_after_ms, form);
        }
        let stated = event_time + skew_ms;
        if fate < drops + poison.share + late.share {
            let [from, to] = late.by_ms;
            let by_ms = from + random.below((to - from + 1) as u64, index, LATE_BY) as i64;
            return self.hold(slot, stated, by_ms, form);
        }
        if fate < drops + poison.share + late.share + duplicates.share && has_id(self.place.stream) {
            let after_ms = 1 + random.below(duplicates.within_ms as u64, index, DUPLICATE_AFTER) as i64;
            let moment = self.moment(slot);
            self.push(slot, moment, stated, form, Outcome::Scored);
            return self.push(slot, moment + after_ms, stated, form, Outcome::Duplicate);
        }
        self.on_time(slot, stated, form, Outcome::Scored);
    }

    fn on_time(&mut self, slot: Slot, stated: i64, form: Form, outcome: Outcome) {
        let moment = self.moment(slot);
        self.push(slot, moment, stated, form, outcome);
    }

    /// When an event's record comes that is neither late nor a repetition.
    fn moment(&self, slot: Slot) -> i64 {
        let reorder = self.rules.reorder;
        if slot.random.uniform(slot.index, REORDER) >= reorder.share {
            return slot.event_time;
        }
        slot.event_time + slot.random.below(reorder.within_ms as u64 + 1, slot.index, REORDER_BY) as i64
    }

    fn push(&mut self, slot: Slot, at: i64, stated: i64, form: Form, outcome: Outcome) {
        self.drawn += 1;
        self.due.push(Reverse(Pending { at, order: self.drawn, slot, stated, form, outcome }));
    }

    /// Keeps a record until it is late by `by_ms`; if that will not be for certain, its clock is right and it is on time.
    fn hold(&mut self, slot: Slot, stated: i64, by_ms: i64, form: Form) {
        if self.anchor.is_none_or(|anchor| stated + by_ms > anchor.event_time) {
            return self.on_time(slot, slot.event_time, form, Outcome::Scored);
        }
        self.drawn += 1;
        let order = self.drawn;
        self.held.push(Reverse(Pending { at: stated + by_ms, order, slot, stated, form, outcome: Outcome::Late }));
    }
}

/// Whether the stream's events have an id of their own.
pub(crate) fn has_id(stream: StreamKind) -> bool {
    matches!(stream, StreamKind::ServiceCalls | StreamKind::Beacons)
}
