//! The ledger: what became of every record of an input partition since the group began, as offset intervals.
//!
//! Each transaction writes a record for each input partition that it touched: its interval of offsets, which begins where the one
//! before ended, and the totals since the beginning. It commits with what it speaks of, so that the last record is exact after any
//! death, and a restart goes on from it. Invariant: `read = scored + late + dead_lettered + duplicate + filtered`; whatever is left,
//! the residue, is a defect that is told at once.

use tidewatch_schemas::record::Ledger;
use tidewatch_sink::ProcessingGuarantee;

use crate::{Counts, ProcessorError};

/// The ledger of one input partition.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Account {
    /// As it is committed.
    committed: Ledger,
    /// What the transaction at hand adds.
    pub(crate) open: Counts,
}

impl Account {
    /// A ledger without a record: the group begins at this offset.
    pub(crate) fn begin(group: &str, stream: &str, topic: &str, partition: i32, offset: i64) -> Self {
        let committed = Ledger {
            group: group.into(),
            stream: stream.into(),
            topic: topic.into(),
            partition,
            begin_offset: offset,
            from_offset: offset,
            to_offset: offset,
            read: 0,
            scored: 0,
            late: 0,
            dead_lettered: 0,
            duplicate: 0,
            filtered: 0,
            windows: 0,
            revisions: 0,
            metrics: 0,
            forecasts: 0,
            alerts: 0,
        };
        Self { committed, open: Counts::default() }
    }

    /// Goes on from the group's last record, which must end where the group's offset is: they were committed together. At least once
    /// the record comes first, and may be ahead.
    pub(crate) fn resume(
        self,
        last: Option<Ledger>,
        committed: Option<i64>,
        guarantee: ProcessingGuarantee,
        ledger_topic: &str,
    ) -> Result<Self, ProcessorError> {
        let Ledger { topic, partition, .. } = &self.committed;
        let ends = last.as_ref().map(|last| last.to_offset);
        let fits = match guarantee {
            ProcessingGuarantee::ExactlyOnce => ends == committed,
            ProcessingGuarantee::AtLeastOnce => ends >= committed,
        };
        if fits && last.as_ref().is_none_or(|last| last.topic == *topic) {
            return Ok(Self { committed: last.unwrap_or(self.committed), open: self.open });
        }
        Err(ProcessorError::OffsetsAndLedger {
            topic: topic.clone(),
            partition: *partition,
            committed: committed.map_or("none".into(), |offset| offset.to_string()),
            ledger: ledger_topic.into(),
            found: last
                .map_or("no record".into(), |last| format!("a record of `{}` up to {}", last.topic, last.to_offset)),
        })
    }

    /// The record of the transaction at hand, whose offsets end at `to_offset`.
    pub(crate) fn record(&self, to_offset: i64) -> Ledger {
        let Counts {
            read,
            scored,
            late,
            dead_lettered,
            duplicate,
            filtered,
            windows,
            revisions,
            // Of no record that was read or written.
            evicted: _,
            missed: _,
            quiet: _,
            metrics,
            forecasts,
            alerts,
        } = self.open;
        let total = |before: i64, more: u64| before.saturating_add(i64::try_from(more).unwrap_or(i64::MAX));
        let before = &self.committed;
        Ledger {
            group: before.group.clone(),
            stream: before.stream.clone(),
            topic: before.topic.clone(),
            partition: before.partition,
            begin_offset: before.begin_offset,
            from_offset: before.to_offset,
            to_offset: to_offset.max(before.to_offset),
            read: total(before.read, read),
            scored: total(before.scored, scored),
            late: total(before.late, late),
            dead_lettered: total(before.dead_lettered, dead_lettered),
            duplicate: total(before.duplicate, duplicate),
            filtered: total(before.filtered, filtered),
            windows: total(before.windows, windows),
            revisions: total(before.revisions, revisions),
            metrics: total(before.metrics, metrics),
            forecasts: total(before.forecasts, forecasts),
            alerts: total(before.alerts, alerts),
        }
    }

    /// Takes note that the record is committed; gives what it added.
    pub(crate) fn commit(&mut self, record: Ledger) -> Counts {
        self.committed = record;
        std::mem::take(&mut self.open)
    }

    /// Takes note that a record was read again that the ledger has: it is not counted twice.
    pub(crate) fn forget_if_counted(&mut self, offset: i64) {
        if offset < self.committed.to_offset {
            self.open = Counts::default();
        }
    }

    /// The last committed record.
    pub(crate) fn committed(&self) -> &Ledger {
        &self.committed
    }

    /// Records that nothing explains, of all that is committed.
    pub(crate) fn residue(&self) -> i64 {
        self.committed.residue()
    }
}

#[cfg(test)]
mod tests {
    use ProcessingGuarantee::{AtLeastOnce, ExactlyOnce};

    use super::*;

    fn account() -> Account {
        Account::begin("g", "calls", "in", 2, 100)
    }

    #[test]
    fn intervals_join_and_totals_go_on_over_a_restart() {
        let mut account = account();
        account.open = Counts { read: 7, scored: 4, late: 1, filtered: 2, windows: 1, metrics: 3, ..Counts::default() };
        let first = account.record(107);
        assert_eq!((first.begin_offset, first.from_offset, first.to_offset), (100, 100, 107));
        assert_eq!((first.read, first.scored, first.metrics, first.residue()), (7, 4, 3, 0));
        assert_eq!(account.commit(first.clone()).read, 7);
        assert_eq!(account.open, Counts::default());

        let mut again = self::account().resume(Some(first.clone()), Some(107), ExactlyOnce, "ledger").unwrap();
        assert_eq!(again, account);
        again.open = Counts { read: 3, dead_lettered: 1, duplicate: 2, alerts: 1, ..Counts::default() };
        let second = again.record(110);
        assert_eq!((second.begin_offset, second.from_offset, second.to_offset), (100, 107, 110));
        assert_eq!((second.read, second.scored, second.dead_lettered, second.alerts), (10, 4, 1, 1));
        assert_eq!(second.residue(), 0);
        // A record that is given up is as if it had never been.
        assert_eq!(account.record(108), Ledger { from_offset: 107, to_offset: 108, ..first });
    }

    #[test]
    fn a_record_that_nothing_explains_stays_in_the_residue() {
        let mut account = account();
        account.open = Counts { read: 2, scored: 1, ..Counts::default() };
        let record = account.record(102);
        account.commit(record);
        assert_eq!(account.residue(), 1);
        account.open = Counts { read: 1, scored: 1, ..Counts::default() };
        let record = account.record(103);
        account.commit(record);
        assert_eq!(account.residue(), 1);
    }

    fn check_refused(last: Option<Ledger>, committed: Option<i64>, part: &str) {
        let error = account().resume(last, committed, ExactlyOnce, "ledger").unwrap_err().to_string();
        assert!(error.contains(part) && error.contains("`processor.group_id`"), "{error}");
    }

    #[test]
    fn at_least_once_what_the_ledger_is_ahead_by_is_not_counted_again() {
        let mut account = account();
        account.open = Counts { read: 7, scored: 7, ..Counts::default() };
        let last = account.record(107);
        // The offsets were to be committed behind it, and were not.
        let mut again = self::account().resume(Some(last.clone()), Some(103), AtLeastOnce, "ledger").unwrap();
        for offset in 103..107 {
            again.open.read += 1;
            again.open.scored += 1;
            again.forget_if_counted(offset);
            assert_eq!(again.record(offset + 1), Ledger { from_offset: 107, ..last.clone() });
        }
        again.open.read += 1;
        again.open.late += 1;
        again.forget_if_counted(107);
        let next = again.record(108);
        assert_eq!((next.from_offset, next.to_offset, next.read, next.scored, next.late), (107, 108, 8, 7, 1));
        self::account().resume(Some(last), Some(108), AtLeastOnce, "ledger").unwrap_err();
    }

    #[test]
    fn a_ledger_that_is_not_the_groups_is_refused() {
        assert_eq!(account().resume(None, None, ExactlyOnce, "ledger").unwrap(), account());
        let last = account().record(107);
        check_refused(None, Some(107), "has committed offset 107, ledger topic `ledger` holds no record");
        check_refused(Some(last.clone()), Some(106), "holds a record of `in` up to 107");
        check_refused(Some(last.clone()), None, "has committed offset none");
        check_refused(Some(Ledger { topic: "other".into(), ..last }), Some(107), "a record of `other` up to 107");
    }
}
