//! Which letters of a partition have been put back: a group's offset, and in its metadata what lies beyond it.
//!
//! Everything before the offset has been put back (or is no letter); beyond it, ranges of offsets have, such as `12-15,20`. A range
//! may hold offsets without a letter (the end markers of transactions), never a letter that was not put back. Kafka keeps 4,096
//! bytes of metadata with an offset, which bounds how scattered the letters of one run may be.

/// Bytes of metadata at most: Kafka's default `offset.metadata.max.bytes`.
const METADATA_BYTES_MAX: usize = 4_096;

/// What has been put back of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Replayed {
    /// The first offset that has not, or not surely.
    pub(super) next: i64,
    /// First and last offsets, rising and apart.
    beyond: Vec<(i64, i64)>,
}

impl Replayed {
    /// Reads what [`metadata`](Self::metadata) wrote; `None` for anything else.
    pub(super) fn parse(next: i64, metadata: &str) -> Option<Self> {
        let range = |text: &str| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            Some((first.parse().ok()?, last.parse().ok()?))
        };
        let beyond: Option<Vec<(i64, i64)>> = metadata.split(',').filter(|text| !text.is_empty()).map(range).collect();
        Some(Self { next, beyond: beyond? })
    }

    /// The ranges beyond the offset; `None` if they are too many to be kept.
    pub(super) fn metadata(&self) -> Option<String> {
        let range = |&(first, last): &(i64, i64)| {
            if first == last { first.to_string() } else { format!("{first}-{last}") }
        };
        let text = self.beyond.iter().map(range).collect::<Vec<_>>().join(",");
        (text.len() <= METADATA_BYTES_MAX).then_some(text)
    }

    pub(super) fn contains(&self, offset: i64) -> bool {
        offset < self.next || self.beyond.iter().any(|&(first, last)| (first..=last).contains(&offset))
    }
}

/// Goes through a partition's letters in their order, and so learns which neighbours were both put back.
#[derive(Debug)]
pub(super) struct Walk {
    before: Replayed,
    now: Replayed,
    /// The last letter that was visited, and whether it has been put back.
    last: Option<(i64, bool)>,
}

impl Walk {
    /// From what was put back before; the walk begins with the partition's first letter.
    pub(super) fn new(before: Replayed) -> Self {
        Self { before, now: Replayed::default(), last: None }
    }

    /// Whether the letter at this offset was put back by an earlier run.
    pub(super) fn was_replayed(&self, offset: i64) -> bool {
        self.before.contains(offset)
    }

    /// The next letter of the partition, and whether it has been put back now.
    pub(super) fn visit(&mut self, offset: i64, now: bool) {
        let done = now || self.was_replayed(offset);
        let was_done = self.last.is_none_or(|(_, done)| done);
        self.last = Some((offset, done));
        match self.now.beyond.last_mut() {
            _ if !done => {}
            None if was_done => self.now.next = offset + 1,
            Some(range) if was_done => range.1 = offset,
            _ => self.now.beyond.push((offset, offset)),
        }
    }

    /// What has been put back by all runs, this one up to where it is.
    pub(super) fn replayed(&self) -> Replayed {
        let visited = self.last.map_or(i64::MIN, |(offset, _)| offset);
        let mut all = self.now.clone();
        let later = self.before.beyond.iter().filter(|&&(_, last)| last > visited);
        all.beyond.extend(later.map(|&(first, last)| (first.max(visited + 1), last)));
        // A walk that has not come that far has not forgotten the rest of it.
        if visited < self.before.next {
            all.next = all.next.max(self.before.next);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Letters at these offsets, of which a run puts back some.
    fn run(before: &Replayed, letters: &[i64], chosen: &[i64], again: bool) -> (Vec<i64>, Replayed) {
        let mut walk = Walk::new(before.clone());
        let mut sent = Vec::new();
        for &offset in letters {
            let send = chosen.contains(&offset) && (again || !walk.was_replayed(offset));
            sent.extend(send.then_some(offset));
            walk.visit(offset, send);
            let kept = walk.replayed();
            assert_eq!(Replayed::parse(kept.next, &kept.metadata().unwrap()), Some(kept));
        }
        (sent, walk.replayed())
    }

    #[test]
    fn a_second_run_finds_nothing_to_do() {
        let letters = [0, 1, 3, 4, 7];
        let (sent, after) = run(&Replayed::default(), &letters, &letters, false);
        assert_eq!((sent.as_slice(), after.next, after.metadata().unwrap()), (&letters[..], 8, String::new()));
        assert_eq!(run(&after, &letters, &letters, false), (vec![], after.clone()));
        assert_eq!(run(&after, &letters, &letters, true), (letters.to_vec(), after));
    }

    #[test]
    fn a_choice_leaves_the_others_for_later() {
        let letters = [0, 1, 3, 4, 7, 9];
        let (_, after) = run(&Replayed::default(), &letters, &[1, 3, 7], false);
        assert_eq!((after.next, after.metadata().unwrap().as_str()), (0, "1-3,7"));
        let (sent, after) = run(&after, &letters, &letters, false);
        assert_eq!(sent, [0, 4, 9]);
        assert_eq!((after.next, after.metadata().unwrap().as_str()), (10, ""));
    }

    #[test]
    fn an_end_in_the_middle_forgets_nothing() {
        let before = Replayed::parse(2, "5-9,12").unwrap();
        let mut walk = Walk::new(before.clone());
        assert_eq!(walk.replayed(), before);
        walk.visit(3, true);
        walk.visit(6, false);
        let after = walk.replayed();
        assert_eq!((after.next, after.metadata().unwrap().as_str()), (7, "7-9,12"));
        for (offset, expected) in [(3, true), (6, true), (9, true), (10, false), (12, true), (13, false)] {
            assert_eq!(after.contains(offset), expected, "{offset}");
        }
    }

    #[test]
    fn an_end_while_repeating_forgets_nothing() {
        let before = Replayed::parse(8, "10-12").unwrap();
        let mut walk = Walk::new(before.clone());
        walk.visit(0, true);
        assert_eq!(walk.replayed(), before);
    }

    proptest::proptest! {
        #[test]
        fn every_letter_is_put_back_once(runs in proptest::collection::vec(proptest::collection::vec(0..40_i64, 0..20), 1..6)) {
            let letters: Vec<i64> = (0..40).filter(|offset| offset % 7 != 3).collect();
            let (mut kept, mut all) = (Replayed::default(), Vec::new());
            for chosen in &runs {
                let (sent, after) = run(&kept, &letters, chosen, false);
                kept = after;
                all.extend(sent);
            }
            all.sort_unstable();
            let mut wanted: Vec<i64> = runs.concat().into_iter().filter(|offset| letters.contains(offset)).collect();
            wanted.sort_unstable();
            wanted.dedup();
            proptest::prop_assert_eq!(all, wanted);
        }
    }

    #[test]
    fn what_is_too_scattered_or_no_metadata_is_told() {
        let beyond = (0..2_000).map(|n| (10 + 2 * n, 10 + 2 * n)).collect();
        assert_eq!(Replayed { next: 0, beyond }.metadata(), None);
        assert_eq!(Replayed::parse(0, "by hand"), None);
    }
}
