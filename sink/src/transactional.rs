//! The result topics of one processor worker, inside Kafka transactions: alerts, metrics, forecasts,
//! late records, dead letters, state, ledger and the input offsets they came from commit together or not at all
//! (under the other [guarantee](ProcessingGuarantee), one after the other).
//!
//! Invariant: the bytes, key, partition, timestamp and headers of a record are functions of the record
//! and the intended send time given with it; nothing here looks at a clock.

mod writer;

use std::collections::BTreeMap;
use std::time::Instant;

use tidewatch_schemas::catalogue::Topics;
use tidewatch_schemas::dead_letter::{Draft, OMITTED};
use tidewatch_schemas::record::{Alert, DeadLetter, Forecast, Late, Ledger, State, WindowMetric};
use tidewatch_schemas::wire::{self, Framing};
use tidewatch_schemas::{Record, Schema};
use tidewatch_topic_io::partitioner::partition_for;
use tidewatch_topic_io::{GroupReader, KafkaError, OffsetCommit, Outgoing};

use crate::metrics;

pub use writer::{CycleWriter, IdempotentWriter, ProcessingGuarantee};

/// Header that carries the intended send time of the event behind a record: epoch ms, decimal ASCII.
pub const INTENDED_HEADER: &str = "tidewatch-intended-ms";

/// What a late record takes at most besides the original, its names and its entity: the other fields, headers, and the frames of the
/// record and its batch.
const LATE_REST_BYTES_MAX: usize = 1_024;
/// The client takes 0 and what is below for "now".
const TIMESTAMP_MIN_MS: i64 = 1;

/// How values are framed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ValueFraming {
    /// Avro single-object encoding: the schema's fingerprint in front. Needs no registry.
    #[default]
    SingleObject,
    /// Confluent wire format: the registry's id of each schema, by the schema's name (`alert`).
    Confluent(BTreeMap<String, u32>),
}

impl ValueFraming {
    /// A schema without a registered id is framed by its fingerprint: still readable by us.
    fn of(&self, schema: &Schema) -> Framing {
        match self {
            Self::SingleObject => Framing::SingleObject,
            Self::Confluent(ids) => {
                ids.get(schema.name()).map_or(Framing::SingleObject, |&schema_id| Framing::Confluent { schema_id })
            }
        }
    }
}

/// The kinds of record that a cycle writes: the `kind` label of the metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OutputKind {
    /// Alerts.
    Alert,
    /// Enriched windows.
    Metric,
    /// Forecast paths.
    Forecast,
    /// Late events.
    Late,
    /// Dead letters.
    DeadLetter,
    /// State records and their tombstones.
    State,
    /// What became of the input.
    Ledger,
}

impl OutputKind {
    /// All kinds, in the order of their discriminants.
    pub const ALL: [Self; 7] =
        [Self::Alert, Self::Metric, Self::Forecast, Self::Late, Self::DeadLetter, Self::State, Self::Ledger];

    /// Spelling in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Alert => "alerts",
            Self::Metric => "metrics",
            Self::Forecast => "forecasts",
            Self::Late => "late",
            Self::DeadLetter => "dead-letters",
            Self::State => "state",
            Self::Ledger => "ledger",
        }
    }
}

/// Records per kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([u64; OutputKind::ALL.len()]);

impl Counts {
    /// Records of one kind.
    pub fn of(&self, kind: OutputKind) -> u64 {
        self.0[kind as usize]
    }

    fn add(&mut self, other: Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }
}

/// Where one kind of record goes.
#[derive(Clone, Debug)]
struct Destination {
    topic: String,
    framing: Framing,
}

/// What a cycle writes to.
#[derive(Debug)]
pub struct ResultTopics {
    writer: CycleWriter,
    destinations: [Destination; OutputKind::ALL.len()],
    source: String,
    value: Vec<u8>,
    text: String,
    open: Counts,
    committed: Counts,
    letter_partitions: Option<i32>,
    letter_bytes_max: Option<usize>,
    late_bytes_max: Option<usize>,
}

impl ResultTopics {
    /// Over a writer of its own transactional id; `role` becomes the `ce_source` header `tidewatch/<role>`.
    pub fn new(writer: CycleWriter, topics: &Topics, framing: &ValueFraming, role: &str) -> Self {
        let destination =
            |topic: &str, schema: &Schema| Destination { topic: topic.to_owned(), framing: framing.of(schema) };
        let destinations = [
            destination(&topics.alerts, Alert::schema()),
            destination(&topics.metrics, WindowMetric::schema()),
            destination(&topics.forecasts, Forecast::schema()),
            destination(&topics.late, Late::schema()),
            destination(&topics.dead_letters, DeadLetter::schema()),
            destination(&topics.state, State::schema()),
            destination(&topics.ledger, Ledger::schema()),
        ];
        let source = format!("tidewatch/{role}");
        Self {
            writer,
            destinations,
            source,
            value: Vec::new(),
            text: String::new(),
            open: Counts::default(),
            committed: Counts::default(),
            letter_partitions: None,
            letter_bytes_max: None,
            late_bytes_max: None,
        }
    }

    /// Tells what the dead-letter topic and the late topic take at most, in bytes, so that what is larger is left out of their
    /// records: a topic would refuse it only after it was sent, which voids the transaction.
    #[must_use]
    pub fn with_bytes_max(self, dead_letters: Option<usize>, late: Option<usize>) -> Self {
        Self { letter_bytes_max: dead_letters, late_bytes_max: late, ..self }
    }

    /// From now on nothing is waited for beyond this moment, but an abort, which has a second.
    pub fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.writer.set_deadline(deadline);
    }

    /// Opens a transaction.
    ///
    /// # Errors
    /// The client cannot go on: [`KafkaError::needs_new_writer`] tells.
    pub fn begin(&mut self) -> Result<(), KafkaError> {
        self.open = Counts::default();
        self.writer.begin()
    }

    /// Sends a step of an alert; `intended_ms` is that of the event that closed its window.
    ///
    /// # Errors
    /// A record that the client refuses, or a transaction that has failed already: abort it. So for all senders below.
    pub fn alert(&mut self, alert: &Alert, intended_ms: Option<i64>) -> Result<(), KafkaError> {
        let id = format!("{}:{}:{}", alert.alert_id, alert.sequence, alert.revision);
        let envelope =
            Envelope { timestamp_ms: Some(alert.window_start), intended_ms, id: Some(&id), ..Envelope::default() };
        self.keyed(OutputKind::Alert, alert, &alert.entity, envelope)
    }

    /// Sends an enriched window.
    pub fn metric(&mut self, metric: &WindowMetric, intended_ms: Option<i64>) -> Result<(), KafkaError> {
        let envelope = Envelope { timestamp_ms: Some(metric.window_start), intended_ms, ..Envelope::default() };
        self.keyed(OutputKind::Metric, metric, &metric.entity, envelope)
    }

    /// Sends a forecast.
    pub fn forecast(&mut self, forecast: &Forecast, intended_ms: Option<i64>) -> Result<(), KafkaError> {
        let envelope = Envelope { timestamp_ms: Some(forecast.issued_at), intended_ms, ..Envelope::default() };
        self.keyed(OutputKind::Forecast, forecast, &forecast.entity, envelope)
    }

    /// Sends an event that came too late.
    ///
    /// Where the topic does not take so large a record, the original's key and value are left out and a header says how many bytes
    /// they are ([`OMITTED`]): the record says where the original stands.
    pub fn late(&mut self, mut late: Late) -> Result<(), KafkaError> {
        let size = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        let original = size(&late.key) + size(&late.value);
        // The entity is the record's key, too.
        let rest = 2 * late.entity.len() + late.stream.len() + late.topic.len() + LATE_REST_BYTES_MAX;
        if self.late_bytes_max.is_none_or(|most| original + rest <= most) {
            match self.send_late(&late, None) {
                Err(KafkaError::RecordTooLarge { .. }) => {}
                sent => return sent,
            }
        }
        (late.key, late.value) = (None, None);
        self.send_late(&late, Some(original))
    }

    fn send_late(&mut self, late: &Late, omitted: Option<usize>) -> Result<(), KafkaError> {
        let timestamp_ms = Some(late.event_time);
        self.keyed(OutputKind::Late, late, &late.entity, Envelope { timestamp_ms, omitted, ..Envelope::default() })
    }

    /// Sends a record that could not be read, as it was, with the headers of a [letter](tidewatch_schemas::dead_letter) behind
    /// its own. Its key says which partition it goes to; letters without one stay together by their input partition. The attributes
    /// that other records have in their headers are not put on it: its value is not of our types.
    ///
    /// A value that is larger than a record may be (`kafka.properties."message.max.bytes"`, the topic's `max.message.bytes`) is left
    /// out, and if that is not enough the key and the headers are, too: one record never stops a stream, and the letter says how much
    /// it lacks and where the original stands.
    pub fn dead_letter(&mut self, letter: &Draft<'_>) -> Result<(), KafkaError> {
        for smaller in [*letter, letter.without_value()] {
            if self.letter_bytes_max.is_none_or(|most| smaller.bytes_max() <= most) {
                match self.send_letter(&smaller) {
                    Err(KafkaError::RecordTooLarge { .. }) => {}
                    sent => return sent,
                }
            }
        }
        self.send_letter(&letter.without_original())
    }

    fn send_letter(&mut self, letter: &Draft<'_>) -> Result<(), KafkaError> {
        let partition = match letter.key {
            Some(_) => None,
            None => Some(self.partition_of_input(letter.topic, letter.partition)?),
        };
        let outgoing = Outgoing {
            topic: &self.destinations[OutputKind::DeadLetter as usize].topic,
            partition,
            key: letter.key,
            value: letter.value,
            headers: &[],
            timestamp_ms: Some(letter.record_timestamp_ms()),
        };
        self.writer.send_with(outgoing, letter.all_headers(&mut self.text))?;
        self.open.0[OutputKind::DeadLetter as usize] += 1;
        Ok(())
    }

    /// The dead-letter topic's partition for what an input partition holds without a key.
    fn partition_of_input(&mut self, topic: &str, partition: i32) -> Result<i32, KafkaError> {
        use std::fmt::Write as _;
        let partitions = self.letter_partitions()?;
        self.text.clear();
        write!(self.text, "{topic}-{partition}").expect("a string takes whatever is written");
        Ok(partition_for(self.text.as_bytes(), partitions))
    }

    /// Asked once: a topic's number of partitions decides where keys live, so it does not change.
    fn letter_partitions(&mut self) -> Result<i32, KafkaError> {
        if let Some(partitions) = self.letter_partitions {
            return Ok(partitions);
        }
        let partitions = self.writer.partitions(&self.destinations[OutputKind::DeadLetter as usize].topic)?;
        self.letter_partitions = Some(partitions);
        Ok(partitions)
    }

    /// Sends a state record to the state topic's partition of the same number as the input's, or a
    /// tombstone for `None`. The key is the processor's: it decides what replaces what.
    pub fn state(&mut self, partition: i32, key: &[u8], state: Option<&State>) -> Result<(), KafkaError> {
        self.value.clear();
        if let Some(state) = state {
            wire::encode(state, self.destinations[OutputKind::State as usize].framing, &mut self.value);
        }
        let envelope = Envelope { key, partition: Some(partition), tombstone: state.is_none(), ..Envelope::default() };
        self.send(OutputKind::State, State::TYPE, envelope)
    }

    /// Sends what became of an input partition to the ledger topic's partition of the same number. The key is the processor's: the
    /// last record of a key holds the totals.
    pub fn ledger(&mut self, key: &[u8], ledger: &Ledger) -> Result<(), KafkaError> {
        self.value.clear();
        wire::encode(ledger, self.destinations[OutputKind::Ledger as usize].framing, &mut self.value);
        let envelope = Envelope { key, partition: Some(ledger.partition), ..Envelope::default() };
        self.send(OutputKind::Ledger, Ledger::TYPE, envelope)
    }

    /// Commits what was sent together with the input offsets it came from.
    ///
    /// # Errors
    /// The error's disposition says whether to abort or to start over; if it [`needs_new_writer`](KafkaError::needs_new_writer), nobody
    /// knows what became of it.
    pub fn commit(&mut self, offsets: &[OffsetCommit<'_>], group: &GroupReader) -> Result<(), KafkaError> {
        self.writer.commit(offsets, group)?;
        self.count_committed();
        Ok(())
    }

    /// Commits what was sent; no input offsets belong to it.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn commit_records(&mut self) -> Result<(), KafkaError> {
        self.writer.commit_records()?;
        self.count_committed();
        Ok(())
    }

    fn count_committed(&mut self) {
        for kind in OutputKind::ALL {
            metrics::records_sent(kind.as_str(), self.open.of(kind));
        }
        self.committed.add(std::mem::take(&mut self.open));
    }

    /// Takes back what was sent since [`begin`](Self::begin).
    ///
    /// # Errors
    /// The client cannot go on: [`reopen`](Self::reopen) has the same effect.
    pub fn abort(&mut self) -> Result<(), KafkaError> {
        self.open = Counts::default();
        self.writer.abort()
    }

    /// Replaces the Kafka client after an error that [`needs_new_writer`](KafkaError::needs_new_writer);
    /// what was sent since [`begin`](Self::begin) is lost or committed: read the committed offsets.
    ///
    /// # Errors
    /// As [`CycleWriter::new`].
    pub fn reopen(&mut self) -> Result<(), KafkaError> {
        self.open = Counts::default();
        self.writer.reopen()
    }

    /// Whether the client was ready to write at some time.
    pub fn has_opened(&self) -> bool {
        self.writer.has_opened()
    }

    /// Whether a transaction is open.
    pub fn is_open(&self) -> bool {
        self.writer.is_open()
    }

    /// Records sent in the open transaction.
    pub fn open_counts(&self) -> Counts {
        self.open
    }

    /// Records of all transactions committed here.
    pub fn committed_counts(&self) -> Counts {
        self.committed
    }

    /// Sends a record with the timestamp that belongs to it, or the least that a client can write: 0 would be the time of sending.
    fn keyed<R: Record>(
        &mut self,
        kind: OutputKind,
        record: &R,
        entity: &str,
        envelope: Envelope<'_>,
    ) -> Result<(), KafkaError> {
        self.value.clear();
        wire::encode(record, self.destinations[kind as usize].framing, &mut self.value);
        let timestamp_ms = envelope.timestamp_ms.map(|ms| ms.max(TIMESTAMP_MIN_MS));
        self.send(kind, R::TYPE, Envelope { key: entity.as_bytes(), timestamp_ms, ..envelope })
    }

    /// Sends the value in the buffer; a partition that is not given is that of the key.
    fn send(&mut self, kind: OutputKind, ce_type: &str, envelope: Envelope<'_>) -> Result<(), KafkaError> {
        let intended = envelope.intended_ms.map(|ms| ms.to_string());
        let omitted = envelope.omitted.map(|bytes| bytes.to_string());
        let mut headers: Vec<(&str, &[u8])> = Vec::with_capacity(6);
        headers.push(("ce_specversion", b"1.0"));
        headers.push(("ce_type", ce_type.as_bytes()));
        headers.push(("ce_source", self.source.as_bytes()));
        headers.extend(envelope.id.map(|id| ("ce_id", id.as_bytes())));
        headers.extend(intended.as_deref().map(|ms| (INTENDED_HEADER, ms.as_bytes())));
        headers.extend(omitted.as_deref().map(|bytes| (OMITTED, bytes.as_bytes())));
        self.writer.send(Outgoing {
            topic: &self.destinations[kind as usize].topic,
            partition: envelope.partition,
            key: Some(envelope.key),
            value: (!envelope.tombstone).then_some(self.value.as_slice()),
            headers: &headers,
            timestamp_ms: envelope.timestamp_ms,
        })?;
        self.open.0[kind as usize] += 1;
        Ok(())
    }
}

/// What surrounds a value.
#[derive(Clone, Copy, Debug, Default)]
struct Envelope<'a> {
    key: &'a [u8],
    partition: Option<i32>,
    tombstone: bool,
    timestamp_ms: Option<i64>,
    intended_ms: Option<i64>,
    id: Option<&'a str>,
    /// Bytes of an original that were left out.
    omitted: Option<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn framing_follows_the_registry_where_it_knows_the_schema() {
        let ids = BTreeMap::from([("alert".to_owned(), 7)]);
        let framing = ValueFraming::Confluent(ids);
        assert_eq!(framing.of(Alert::schema()), Framing::Confluent { schema_id: 7 });
        assert_eq!(framing.of(Late::schema()), Framing::SingleObject);
        assert_eq!(ValueFraming::default().of(Alert::schema()), Framing::SingleObject);
    }

    #[test]
    fn counts_add_up_by_kind() {
        let mut total = Counts::default();
        let mut cycle = Counts::default();
        for (place, kind) in OutputKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, place);
            cycle.0[kind as usize] = place as u64;
        }
        total.add(cycle);
        total.add(cycle);
        assert_eq!(total.of(OutputKind::State), 10);
        assert_eq!(total.of(OutputKind::Alert), 0);
    }
}
