//! A partition's events: those of its entities, merged by time.
//!
//! Invariant: the order is (event time, entity, index); each entity has one event waiting in the heap.

use super::{Plan, values};
use crate::generator::values::EventRecord;
use crate::random::Random;
use crate::stream::StreamKind;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use tidewatch_schemas::wire::Framing;

/// The events of one partition, in order. Not an `Iterator`: an event borrows the buffers that the next one reuses.
#[derive(Debug)]
pub struct PartitionEvents {
    plan: Arc<Plan>,
    cursors: Vec<Cursor>,
    /// Offset of the next event, cursor.
    waiting: BinaryHeap<Reverse<(i64, usize)>>,
    left: u64,
}

/// Where an entity stands.
#[derive(Debug)]
struct Cursor {
    source: usize,
    index: u64,
    end: u64,
    slot: usize,
    record: EventRecord,
}

/// Which event: all but its contents.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    cursor: usize,
    /// Its entity's number.
    pub(crate) source: usize,
    pub(crate) index: u64,
    pub(crate) event_time: i64,
    /// What its disorder is drawn from.
    pub(crate) random: Random,
}

/// An event, made.
#[derive(Debug)]
pub struct GeneratedEvent<'a> {
    /// Its stream.
    pub stream: StreamKind,
    /// Its partition.
    pub partition: i32,
    /// Its entity: the key of its message.
    pub entity: &'a str,
    /// Its place among its entity's events.
    pub index: u64,
    /// Epoch ms.
    pub event_time: i64,
    /// All of its fields.
    pub record: &'a EventRecord,
}

impl GeneratedEvent<'_> {
    /// Appends the message's value.
    pub fn encode(&self, framing: Framing, out: &mut Vec<u8>) {
        self.record.encode(framing, out);
    }
}

impl PartitionEvents {
    pub(super) fn new(plan: Arc<Plan>, chosen: &[usize], begins: &[u64], ends: &[u64]) -> Self {
        let mut cursors = Vec::with_capacity(chosen.len());
        let mut waiting = BinaryHeap::with_capacity(chosen.len());
        for &source in chosen {
            let (index, end) = (begins[source], ends[source]);
            if index < end {
                let mut slot = 0;
                waiting.push(Reverse((plan.sources[source].offset_ms(index, &mut slot), cursors.len())));
                let record = EventRecord::of(&plan.sources[source].entity);
                cursors.push(Cursor { source, index, end, slot, record });
            }
        }
        let left = cursors.iter().map(|cursor| cursor.end - cursor.index).sum();
        Self { plan, cursors, waiting, left }
    }

    /// Events that are still to come.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Event time of the next event, epoch ms.
    pub fn next_time(&self) -> Option<i64> {
        self.waiting.peek().map(|Reverse((offset_ms, _))| self.plan.start_ms + offset_ms)
    }

    /// The next event.
    pub fn next_event(&mut self) -> Option<GeneratedEvent<'_>> {
        let slot = self.next_slot()?;
        Some(self.make(slot))
    }

    /// The next event, to be made later.
    pub(crate) fn next_slot(&mut self) -> Option<Slot> {
        let mut top = self.waiting.peek_mut()?;
        let Reverse((offset_ms, at)) = *top;
        let cursor = &mut self.cursors[at];
        let source = &self.plan.sources[cursor.source];
        let index = cursor.index;
        cursor.index += 1;
        self.left -= 1;
        if cursor.index < cursor.end {
            // Replaced in place: one sift instead of a pop and a push.
            *top = Reverse((source.offset_ms(cursor.index, &mut cursor.slot), at));
            drop(top);
        } else {
            std::collections::binary_heap::PeekMut::pop(top);
        }
        let event_time = self.plan.start_ms + offset_ms;
        Some(Slot { cursor: at, source: cursor.source, index, event_time, random: source.disorder })
    }

    /// Makes an event that was next before.
    pub(crate) fn make(&mut self, slot: Slot) -> GeneratedEvent<'_> {
        let Slot { cursor, source, index, event_time, .. } = slot;
        let (source, record) = (&self.plan.sources[source], &mut self.cursors[cursor].record);
        values::fill(source, index, event_time, record);
        GeneratedEvent {
            stream: source.entity.stream,
            partition: source.partition,
            entity: &source.entity.key,
            index,
            event_time,
            record,
        }
    }
}
