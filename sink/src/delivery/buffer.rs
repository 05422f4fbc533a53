//! The rows of one topic partition that wait for their files, and the rule that cuts them into rolls.
//!
//! Invariant: rows are held in rising offset order, each offset at most once; a roll is always a
//! prefix of them; rows leave only when their roll is visible.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::kind::TopicKind;
use crate::config::RollSettings;

/// One record as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Kafka offset.
    pub(crate) offset: i64,
    /// Kafka record timestamp: event time in ms since the epoch.
    pub(crate) timestamp_ms: Option<i64>,
    /// The intended send time of the event behind an alert, ms since the epoch.
    pub(crate) intended_ms: Option<i64>,
    /// Why the value could not be read; such a row is kept raw.
    pub(crate) rejected: Option<String>,
    value: Option<Range<usize>>,
}

/// A record on its way into a buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival<'a> {
    /// Kafka offset.
    pub(crate) offset: i64,
    /// Kafka record timestamp.
    pub(crate) timestamp_ms: Option<i64>,
    /// The framed value.
    pub(crate) value: Option<&'a [u8]>,
    /// The intended send time header, when it matters.
    pub(crate) intended_ms: Option<i64>,
    /// Why it cannot be read, where that was seen before its value was looked at.
    pub(crate) unreadable: Option<&'a str>,
}

/// Waiting rows of one partition.
#[derive(Debug)]
pub(crate) struct PartitionBuffer {
    /// What the records are.
    pub(crate) kind: TopicKind,
    /// Kafka topic.
    pub(crate) topic: String,
    /// Its partition.
    pub(crate) partition: i32,
    rows: Vec<Row>,
    values: Vec<u8>,
    /// Offset below which everything is visible or waits here.
    next_offset: i64,
    /// First and last offset of a roll that is claimed and not finished.
    claimed: Option<(i64, i64)>,
    oldest: Option<Instant>,
}

/// A prefix of a buffer's rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Roll<'a> {
    /// Whose rows.
    pub(crate) kind: TopicKind,
    /// Kafka topic.
    pub(crate) topic: &'a str,
    /// Its partition.
    pub(crate) partition: i32,
    /// The rows, at least one.
    pub(crate) rows: &'a [Row],
    values: &'a [u8],
}

impl<'a> Roll<'a> {
    /// The framed value of a row.
    pub(crate) fn value(&self, row: &Row) -> Option<&'a [u8]> {
        row.value.clone().map(|range| &self.values[range])
    }

    /// First and last offset.
    pub(crate) fn offsets(&self) -> (i64, i64) {
        (self.rows[0].offset, self.rows[self.rows.len() - 1].offset)
    }
}

/// What the cutting rule says now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Nothing to write yet.
    Wait,
    /// Write the first `n` rows.
    Rows(usize),
    /// The claimed roll's first or last record is not in the topic any more; so many others are.
    ClaimContradicted(usize),
}

impl PartitionBuffer {
    /// Empty, at a position; `claimed_last` is the end of an unfinished claim that starts there.
    pub(crate) fn new(
        kind: TopicKind,
        topic: String,
        partition: i32,
        next_offset: i64,
        claimed_last: Option<i64>,
    ) -> Self {
        let claimed = claimed_last.map(|last| (next_offset, last));
        Self { kind, topic, partition, rows: Vec::new(), values: Vec::new(), next_offset, claimed, oldest: None }
    }

    /// Takes a record, unless it was taken before; says whether it was new.
    pub(crate) fn push(&mut self, arrival: Arrival<'_>, rejected: Option<String>, now: Instant) -> bool {
        if arrival.offset < self.next_offset {
            return false;
        }
        let start = self.values.len();
        self.values.extend_from_slice(arrival.value.unwrap_or_default());
        self.rows.push(Row {
            offset: arrival.offset,
            timestamp_ms: arrival.timestamp_ms,
            intended_ms: arrival.intended_ms,
            rejected,
            value: arrival.value.map(|_| start..self.values.len()),
        });
        self.next_offset = arrival.offset + 1;
        self.oldest.get_or_insert(now);
        true
    }

    /// Bytes held, rows' own size included.
    pub(crate) fn bytes(&self) -> usize {
        self.values.len() + self.rows.len() * size_of::<Row>()
    }

    /// Rows held.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether the cut was decided by a claim: then memory pressure and time cannot change it.
    pub(crate) fn is_claimed(&self) -> bool {
        self.claimed.is_some()
    }

    /// The rule: a claim decides alone; else rows, bytes, age or `flush`, whichever comes first.
    pub(crate) fn cut(&self, limits: &RollSettings, now: Instant, flush: bool) -> Cut {
        let Some(newest) = self.rows.last() else { return Cut::Wait };
        if let Some((first, last)) = self.claimed {
            if newest.offset < last {
                return Cut::Wait;
            }
            let rows = self.rows.partition_point(|row| row.offset <= last);
            let whole = rows > 0 && self.rows[0].offset == first && self.rows[rows - 1].offset == last;
            return if whole { Cut::Rows(rows) } else { Cut::ClaimContradicted(rows) };
        }
        let age = self.oldest.map_or(Duration::ZERO, |oldest| now.saturating_duration_since(oldest));
        let due = flush
            || self.rows.len() as u64 >= limits.rows
            || self.values.len() as u64 >= limits.bytes
            || age >= limits.interval;
        if due { Cut::Rows(self.rows.len().min(limits.rows as usize)) } else { Cut::Wait }
    }

    /// The first `rows` rows.
    pub(crate) fn roll(&self, rows: usize) -> Roll<'_> {
        Roll {
            kind: self.kind,
            topic: &self.topic,
            partition: self.partition,
            rows: &self.rows[..rows],
            values: &self.values,
        }
    }

    /// Another writer claimed the roll that starts with our first row until `last`.
    pub(crate) fn follow_claim(&mut self, last: i64) {
        self.claimed = self.rows.first().map(|row| (row.offset, last));
    }

    /// Lets go of the first `rows` rows, now visible.
    pub(crate) fn discard(&mut self, rows: usize, now: Instant) -> Vec<Row> {
        let kept_from = match self.rows.get(rows..) {
            Some([]) | None => self.values.len(),
            Some(rest) => rest.iter().find_map(|row| row.value.as_ref().map(|v| v.start)).unwrap_or(self.values.len()),
        };
        let gone: Vec<Row> = self.rows.drain(..rows).collect();
        self.values.drain(..kept_from);
        for row in &mut self.rows {
            row.value = row.value.take().map(|v| v.start - kept_from..v.end - kept_from);
        }
        self.claimed = None;
        self.oldest = (!self.rows.is_empty()).then_some(now);
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: RollSettings = RollSettings { rows: 3, bytes: 100, interval: Duration::from_secs(60) };

    fn buffer(offsets: &[i64], value_len: usize, claimed_last: Option<i64>, now: Instant) -> PartitionBuffer {
        let mut buffer = PartitionBuffer::new(TopicKind::Late, "t".to_owned(), 0, 1, claimed_last);
        for &offset in offsets {
            let value = vec![offset as u8; value_len];
            buffer.push(
                Arrival { offset, timestamp_ms: None, value: Some(&value), intended_ms: None, unreadable: None },
                None,
                now,
            );
        }
        buffer
    }

    fn check_cut(offsets: &[i64], value_len: usize, claimed_last: Option<i64>, age_s: u64, flush: bool, expected: Cut) {
        let start = Instant::now();
        let buffer = buffer(offsets, value_len, claimed_last, start);
        let found = buffer.cut(&LIMITS, start + Duration::from_secs(age_s), flush);
        assert_eq!(
            found, expected,
            "{offsets:?} of {value_len} bytes, claimed {claimed_last:?}, {age_s} s, flush {flush}"
        );
    }

    #[test]
    fn cuts() {
        check_cut(&[], 1, None, 99, true, Cut::Wait);
        check_cut(&[1, 2], 1, None, 0, false, Cut::Wait);
        check_cut(&[1, 2], 1, None, 0, true, Cut::Rows(2));
        check_cut(&[1, 2], 50, None, 0, false, Cut::Rows(2));
        check_cut(&[1, 2], 1, None, 60, false, Cut::Rows(2));
        check_cut(&[1, 2, 5, 7], 1, None, 0, false, Cut::Rows(3));
        check_cut(&[1, 2, 5, 7], 1, Some(8), 99, true, Cut::Wait);
        check_cut(&[1, 2, 5, 7], 1, Some(7), 0, false, Cut::Rows(4));
        check_cut(&[1, 2, 5, 7], 1, Some(5), 0, false, Cut::Rows(3));
        check_cut(&[7], 1, Some(5), 0, false, Cut::ClaimContradicted(0));
        check_cut(&[1, 2, 7], 1, Some(5), 0, false, Cut::ClaimContradicted(2));
        check_cut(&[2, 5, 7], 1, Some(5), 0, false, Cut::ClaimContradicted(2));
    }

    #[test]
    fn what_stays_after_a_cut_keeps_its_values() {
        let now = Instant::now();
        let mut buffer = buffer(&[1, 2, 5], 4, None, now);
        assert!(!buffer.push(
            Arrival { offset: 5, timestamp_ms: None, value: None, intended_ms: None, unreadable: None },
            None,
            now
        ));
        assert!(buffer.push(
            Arrival { offset: 6, timestamp_ms: None, value: None, intended_ms: None, unreadable: None },
            None,
            now
        ));
        let gone = buffer.discard(2, now);
        assert_eq!(gone.iter().map(|row| row.offset).collect::<Vec<_>>(), [1, 2]);
        let roll = buffer.roll(2);
        assert_eq!(roll.offsets(), (5, 6));
        assert_eq!(roll.value(&roll.rows[0]), Some(&[5, 5, 5, 5][..]));
        assert_eq!(roll.value(&roll.rows[1]), None);
        buffer.discard(2, now);
        assert_eq!((buffer.len(), buffer.bytes(), buffer.next_offset), (0, 0, 7));
    }
}
