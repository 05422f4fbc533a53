//! A partition's records as they are published: its events, or what the scenario's disorder makes of them.
//!
//! Invariant: without `[disorder]` a record is an event, at the moment of its event time.

use crate::disorder::evolution;
use crate::disorder::sequence::{Form, Sequence};
use crate::disorder::{Disorder, Outcome};
use crate::generator::{EventRecord, GeneratedEvent, PartitionEvents};
use std::sync::Arc;
use tidewatch_schemas::wire::Framing;

/// The records of one partition, in the order in which they are published. Not an `Iterator`: a record borrows the buffers that the
/// next one reuses.
#[derive(Debug)]
pub struct PartitionRecords(Kind);

#[derive(Debug)]
enum Kind {
    Ordered(PartitionEvents),
    Disordered(Box<Sequence>, Arc<Disorder>),
}

/// A record that is about to be published.
#[derive(Debug)]
pub struct PublishedRecord<'a> {
    /// The event that it tells of. Its event time is when it happened, and Kafka's timestamp.
    pub event: GeneratedEvent<'a>,
    /// When it is published, epoch ms of event time.
    pub moment: i64,
    /// What it says is its event time, epoch ms, where it is an event.
    pub stated_time: i64,
    /// What becomes of it.
    pub outcome: Outcome,
    form: Form,
    future_max_ms: i64,
}

impl PublishedRecord<'_> {
    /// The message's key: the entity, but for a record that is to have none.
    pub fn key(&self) -> Option<&[u8]> {
        let has_key = !matches!(self.form, Form::Poisoned(kind) if !kind.has_key());
        has_key.then_some(self.event.entity.as_bytes())
    }

    /// How many headers the message has that say nothing.
    pub fn more_headers(&self) -> usize {
        if let Form::Poisoned(kind) = self.form { kind.headers() } else { 0 }
    }

    /// Appends the message's value; false: it has none.
    pub fn encode(&self, framing: Framing, out: &mut Vec<u8>) -> bool {
        let stated: EventRecord;
        let record = if self.stated_time == self.event.event_time {
            self.event.record
        } else {
            stated = self.event.record.at(self.stated_time);
            &stated
        };
        match self.form {
            Form::Plain => record.encode(framing, out),
            Form::Added => evolution::encode_added(record, framing, out),
            Form::Changed => evolution::encode_changed(record, true, framing, out),
            Form::Poisoned(kind) => return kind.encode(record, self.future_max_ms, framing, out),
        }
        true
    }
}

impl PartitionRecords {
    pub(super) fn ordered(events: PartitionEvents) -> Self {
        Self(Kind::Ordered(events))
    }

    pub(super) fn disordered(sequence: Sequence, rules: Arc<Disorder>) -> Self {
        Self(Kind::Disordered(Box::new(sequence), rules))
    }

    /// When the next record is published, epoch ms of event time.
    pub fn next_moment(&self) -> Option<i64> {
        match &self.0 {
            Kind::Ordered(events) => events.next_time(),
            Kind::Disordered(sequence, _) => sequence.next_moment(),
        }
    }

    /// The next record.
    pub fn next_record(&mut self) -> Option<PublishedRecord<'_>> {
        match &mut self.0 {
            Kind::Ordered(events) => {
                let event = events.next_event()?;
                let time = event.event_time;
                let outcome = Outcome::Scored;
                Some(PublishedRecord {
                    event,
                    moment: time,
                    stated_time: time,
                    outcome,
                    form: Form::Plain,
                    future_max_ms: 0,
                })
            }
            Kind::Disordered(sequence, rules) => {
                let emitted = sequence.next_record()?;
                Some(PublishedRecord {
                    event: emitted.event,
                    moment: emitted.moment,
                    stated_time: emitted.stated,
                    outcome: emitted.outcome,
                    form: emitted.form,
                    future_max_ms: rules.assumes.future_max_ms,
                })
            }
        }
    }
}
