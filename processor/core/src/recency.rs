//! Which entity was seen least recently: a doubly linked list over the slots of the engine's table, constant time for each step.

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Link {
    older: u32,
    newer: u32,
}

/// Slots in the order in which they were last touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recency {
    links: Vec<Link>,
    oldest: u32,
    newest: u32,
}

impl Default for Recency {
    fn default() -> Self {
        Self { links: Vec::new(), oldest: NONE, newest: NONE }
    }
}

impl Recency {
    /// Adds a slot that is not in the list as the most recent one.
    pub(crate) fn insert(&mut self, slot: u32) {
        let at = slot as usize;
        if at >= self.links.len() {
            self.links.resize(at + 1, Link { older: NONE, newer: NONE });
        }
        self.links[at] = Link { older: self.newest, newer: NONE };
        match self.newest {
            NONE => self.oldest = slot,
            newest => self.links[newest as usize].newer = slot,
        }
        self.newest = slot;
    }

    /// Takes a slot of the list out.
    pub(crate) fn remove(&mut self, slot: u32) {
        let Link { older, newer } = self.links[slot as usize];
        match older {
            NONE => self.oldest = newer,
            older => self.links[older as usize].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.links[newer as usize].older = older,
        }
    }

    /// Makes a slot of the list the most recent one.
    pub(crate) fn touch(&mut self, slot: u32) {
        if self.newest != slot {
            self.remove(slot);
            self.insert(slot);
        }
    }

    /// The least recent slot.
    pub(crate) fn oldest(&self) -> Option<u32> {
        (self.oldest != NONE).then_some(self.oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_a_plain_list(steps in prop::collection::vec((0u32..8, prop::bool::ANY), 1..200)) {
            let mut recency = Recency::default();
            let mut plain: Vec<u32> = Vec::new();
            for (slot, remove) in steps {
                match (plain.contains(&slot), remove) {
                    (true, true) => recency.remove(slot),
                    (true, false) => recency.touch(slot),
                    (false, true) => continue,
                    (false, false) => recency.insert(slot),
                }
                plain.retain(|&other| other != slot);
                if !remove { plain.push(slot); }
                prop_assert_eq!(recency.oldest(), plain.first().copied());
            }
        }
    }
}
