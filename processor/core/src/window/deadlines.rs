//! When which entity has something to do: the order in which windows close.
//!
//! Each entity has one deadline, its next. One that is brought forward leaves its old note behind; one that is put off, as each event
//! of a session does, stays where it is, and whoever takes it finds that nothing is due yet. Cost: constant but for a search among the
//! instants at which anything is due, of which there are few (windows end at multiples of the slide). Memory: 4 bytes for each note.

use std::collections::BTreeMap;

/// Slots of the engine's entity table by the event time at which they are due.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deadlines {
    /// By time; a slot whose deadline was replaced stays behind in the list of the old one.
    due: BTreeMap<i64, Vec<u32>>,
    /// Of each slot.
    current: Vec<Option<i64>>,
}

impl Deadlines {
    /// Notes the next deadline of a slot; `None` strikes it out.
    pub fn set(&mut self, slot: u32, deadline: Option<i64>) {
        let at = slot as usize;
        if at >= self.current.len() {
            self.current.resize(at + 1, None);
        }
        if self.current[at] == deadline {
            return;
        }
        self.current[at] = deadline;
        if let Some(deadline) = deadline {
            self.due.entry(deadline).or_default().push(slot);
        }
    }

    /// Brings the deadline of a slot forward; a later one is left to be found when the earlier one is taken.
    pub fn bring_forward(&mut self, slot: u32, deadline: Option<i64>) {
        let current = self.current.get(slot as usize).copied().flatten();
        if current.is_none_or(|current| deadline.is_some_and(|deadline| deadline < current)) {
            self.set(slot, deadline);
        }
    }

    /// The earliest time at which something may be due.
    #[must_use]
    pub fn next(&self) -> Option<i64> {
        self.due.keys().next().copied()
    }

    /// Takes the earliest time that is not after `until`, with its slots, each once. They have no deadline then.
    pub fn take_due(&mut self, until: i64) -> Option<(i64, Vec<u32>)> {
        let entry = self.due.first_entry()?;
        if *entry.key() > until {
            return None;
        }
        let (time, mut slots) = entry.remove_entry();
        // What was replaced, or noted twice, has no such deadline any more.
        slots.retain(|&slot| {
            let current = &mut self.current[slot as usize];
            let is_due = *current == Some(time);
            if is_due {
                *current = None;
            }
            is_due
        });
        Some((time, slots))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_a_plain_map(steps in prop::collection::vec((0u32..6, prop::option::of(0i64..20), 0i64..20), 1..100)) {
            let mut deadlines = Deadlines::default();
            let mut plain: BTreeMap<u32, i64> = BTreeMap::new();
            for (slot, deadline, until) in steps {
                if until % 2 == 0 {
                    deadlines.set(slot, deadline);
                } else {
                    deadlines.bring_forward(slot, deadline);
                }
                let put_off = until % 2 == 1 && plain.get(&slot).is_some_and(|&known| deadline.is_none_or(|new| new >= known));
                match deadline {
                    _ if put_off => None,
                    Some(deadline) => plain.insert(slot, deadline),
                    None => plain.remove(&slot),
                };
                if until < 5 {
                    let mut found = Vec::new();
                    while let Some((time, mut slots)) = deadlines.take_due(until) {
                        slots.sort_unstable();
                        found.extend(slots.into_iter().map(|slot| (time, slot)));
                    }
                    let mut expected: Vec<(i64, u32)> =
                        plain.iter().filter(|(_, due)| **due <= until).map(|(slot, due)| (*due, *slot)).collect();
                    expected.sort_unstable();
                    plain.retain(|_, due| *due > until);
                    prop_assert_eq!(found, expected);
                }
            }
        }
    }
}
