//! What became of an input partition's records, as of a transaction. Schema: `avsc/ledger/`.

use super::record;

/// What became of an input partition's records: all totals are since `begin_offset`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    /// Consumer group of the processor.
    pub group: String,
    /// Stream's name in the settings.
    pub stream: String,
    /// Input topic.
    pub topic: String,
    /// Input partition.
    pub partition: i32,
    /// Input offset at which the group began.
    pub begin_offset: i64,
    /// First input offset of this transaction, inclusive: `to_offset` of the record before.
    pub from_offset: i64,
    /// End of this transaction's input offsets, exclusive; the committed offset.
    pub to_offset: i64,
    /// Records read.
    pub read: i64,
    /// Events taken into a window.
    pub scored: i64,
    /// Events whose windows were final; as many records on the late topic.
    pub late: i64,
    /// Records that were no events; as many records on the dead-letter topic.
    pub dead_lettered: i64,
    /// Events with an id that was seen before, and records delivered again.
    pub duplicate: i64,
    /// Events that the stream does not want.
    pub filtered: i64,
    /// Windows closed, of all entities.
    pub windows: i64,
    /// Result records that correct earlier ones after late events.
    pub revisions: i64,
    /// Records written to the metrics topic, revisions included.
    pub metrics: i64,
    /// Records written to the forecasts topic, revisions included.
    pub forecasts: i64,
    /// Records written to the alerts topic, corrections included.
    pub alerts: i64,
}

record!(
    "ledger",
    "tidewatch.ledger.v1",
    Ledger {
        group,
        stream,
        topic,
        partition,
        begin_offset,
        from_offset,
        to_offset,
        read,
        scored,
        late,
        dead_lettered,
        duplicate,
        filtered,
        windows,
        revisions,
        metrics,
        forecasts,
        alerts
    }
);

impl Ledger {
    /// Records read that no other total explains: anything but 0 is a defect. The arithmetic wraps: a record may say anything.
    #[must_use]
    pub fn residue(&self) -> i64 {
        let explained = [self.scored, self.late, self.dead_lettered, self.duplicate, self.filtered];
        explained.into_iter().fold(self.read, i64::wrapping_sub)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_and_not_explained_is_the_residue() {
        let mut ledger = Ledger {
            group: "g".into(),
            stream: "s".into(),
            topic: "t".into(),
            partition: 0,
            begin_offset: 0,
            from_offset: 0,
            to_offset: 31,
            read: 31,
            scored: 16,
            late: 8,
            dead_lettered: 4,
            duplicate: 2,
            filtered: 1,
            windows: 3,
            revisions: 0,
            metrics: 3,
            forecasts: 0,
            alerts: 0,
        };
        assert_eq!(ledger.residue(), 0);
        ledger.read += 1;
        assert_eq!(ledger.residue(), 1);
        ledger.scored += 3;
        assert_eq!(ledger.residue(), -2);
        (ledger.read, ledger.scored) = (i64::MIN, i64::MAX);
        assert_ne!(ledger.residue(), 0, "no overflow stops a reader");
    }
}
