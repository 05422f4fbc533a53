//! Producer ids, none of them ever given twice: they are taken from a block that the journal has as used up before its first
//! one is given. What is left of a block when the broker ends is never given.

/// Ids of one block, as Kafka's (`ProducerIdsBlock.PRODUCER_ID_BLOCK_SIZE`).
const BLOCK_IDS: i64 = 1_000;

/// The ids that are still to be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProducerIds {
    next: i64,
    /// The journal says that all before this one may have been given.
    reserved_end: i64,
}

impl ProducerIds {
    /// After a start: nothing before `reserved_end` is given any more.
    pub(crate) fn after(reserved_end: i64) -> Self {
        Self { next: reserved_end, reserved_end }
    }

    /// The next id; `None`: a block has to be reserved first.
    pub(crate) fn take(&mut self) -> Option<i64> {
        let id = self.next;
        (id < self.reserved_end).then(|| {
            self.next += 1;
            id
        })
    }

    /// The end that the journal must have before [`reserve`](Self::reserve); `None`: there are no more ids at all.
    pub(crate) fn next_block(&self) -> Option<i64> {
        self.next.max(self.reserved_end).checked_add(BLOCK_IDS)
    }

    /// The journal has it.
    pub(crate) fn reserve(&mut self, end: i64) {
        self.reserved_end = end;
    }

    /// What the journal has.
    pub(crate) fn reserved_end(&self) -> i64 {
        self.reserved_end
    }

    /// An id is in use that the journal does not know of (it was lost): only later ones are given.
    pub(crate) fn skip(&mut self, used: i64) {
        self.next = self.next.max(used.saturating_add(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_given_once() {
        let mut ids = ProducerIds::after(2_000);
        assert_eq!(ids.take(), None);
        assert_eq!(ids.next_block(), Some(3_000));
        ids.reserve(3_000);
        assert_eq!((ids.take(), ids.take()), (Some(2_000), Some(2_001)));
        // A start gives nothing of a block that was begun.
        assert_eq!(ProducerIds::after(ids.reserved_end()), ProducerIds { next: 3_000, reserved_end: 3_000 });
    }

    #[test]
    fn ids_that_are_found_in_use_are_skipped() {
        let mut ids = ProducerIds::after(2_000);
        ids.reserve(3_000);
        ids.skip(2_500);
        ids.skip(100);
        assert_eq!(ids.take(), Some(2_501));
        ids.skip(7_000);
        assert_eq!(ids.take(), None);
        assert_eq!(ids.next_block(), Some(8_001));
    }

    #[test]
    fn the_last_ids_are_not_passed() {
        let mut ids = ProducerIds::after(i64::MAX - 1);
        assert_eq!((ids.take(), ids.next_block()), (None, None));
    }
}
