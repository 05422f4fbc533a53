//! The room that an answer may take, used up while the answer is collected.
//!
//! A request names in a few bytes what is answered in thousands (all offsets of a group, all settings of a topic), as often as
//! it likes: Kafka answers each time. So what an answer costs is no multiple of the request, and is bounded here.

use std::cell::Cell;

use kafka_protocol::protocol::Encodable;

/// What is left for one answer.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    /// Bytes; none once a part had no room.
    left: Cell<Option<usize>>,
}

impl Room {
    /// Room for so many bytes (`limits.answer_bytes_max`).
    pub(crate) fn new(bytes: usize) -> Self {
        Self { left: Cell::new(Some(bytes)) }
    }

    /// Whether the answer has ended before a part that had no room, and so is none.
    pub(crate) fn is_exceeded(&self) -> bool {
        self.left.get().is_none()
    }

    /// Parts of an answer as long as there is room; each takes its bytes in memory and on the wire.
    pub(crate) fn fill<T: Encodable>(&self, version: i16, parts: impl Iterator<Item = T>) -> impl Iterator<Item = T> {
        parts.take_while(move |part| {
            // What cannot be written in this version is an error when the whole answer is.
            let bytes = size_of::<T>() + part.compute_size(version).unwrap_or(0);
            self.left.set(self.left.get().and_then(|left| left.checked_sub(bytes)));
            !self.is_exceeded()
        })
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::metadata_response::MetadataResponsePartition;

    use super::*;

    #[test]
    fn an_answer_ends_where_its_room_does() {
        let part = MetadataResponsePartition::default();
        let bytes = size_of::<MetadataResponsePartition>() + part.compute_size(12).unwrap();
        let parts = || std::iter::repeat_n(part.clone(), 5);
        for (room, expected) in [(0, (0, true)), (5 * bytes - 1, (4, true)), (5 * bytes, (5, false))] {
            let room = Room::new(room);
            let count = room.fill(12, parts()).count();
            assert_eq!((count, room.is_exceeded()), expected);
        }
        let room = Room::new(7 * bytes);
        assert_eq!([room.fill(12, parts()).count(), room.fill(12, parts()).count()], [5, 2], "all parts of one answer");
        assert_eq!(room.fill(12, parts()).count(), 0);
    }
}
