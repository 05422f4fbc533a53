//! What is drawn, from a seed. Invariant: what one purpose draws does not hang on how much another has drawn.

use std::time::Duration;

use tidewatch_producer::random::Random;

/// A sequence of draws for one purpose.
#[derive(Clone, Debug)]
pub(crate) struct Dice {
    random: Random,
    drawn: u64,
}

impl Dice {
    /// The draws of a seed for a purpose.
    pub(crate) fn new(seed: u64, purpose: &str) -> Self {
        Self { random: Random::new(seed).of(purpose), drawn: 0 }
    }

    /// The draws of a part of this purpose.
    pub(crate) fn of(&self, part: &str) -> Self {
        Self { random: self.random.of(part), drawn: 0 }
    }

    /// Uniform below `count`; 0 if that is 0.
    pub(crate) fn below(&mut self, count: u64) -> u64 {
        self.drawn += 1;
        self.random.below(count, self.drawn, 0)
    }

    /// One of these.
    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    /// Uniform from `low` to below `high`, both in ms.
    pub(crate) fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(low + self.below(high - low))
    }

    /// One of two, evenly.
    pub(crate) fn flip(&mut self) -> bool {
        self.below(2) == 0
    }

    /// So many different ones of these, in random order; all if there are fewer.
    pub(crate) fn some_of<T: Copy>(&mut self, count: usize, of: &[T]) -> Vec<T> {
        let mut left = of.to_vec();
        let mut drawn = Vec::new();
        while drawn.len() < count && !left.is_empty() {
            let at = self.below(left.len() as u64) as usize;
            drawn.push(left.swap_remove(at));
        }
        drawn
    }
}

/// The seed of a campaign's run: the first has the campaign's own, so that a run is repeated by its seed alone.
pub(crate) fn seed_of_run(campaign: u64, run: u64) -> u64 {
    if run == 0 { campaign } else { Random::new(campaign).of("run").bits(run, 0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_repeated_by_its_seed_alone() {
        let third = seed_of_run(7, 3);
        assert_eq!(seed_of_run(third, 0), third);
        assert_ne!(seed_of_run(7, 2), third);
    }

    #[test]
    fn one_seed_draws_the_same_whatever_other_purposes_draw() {
        let draws = |mut dice: Dice| (0..8).map(|_| dice.below(1_000)).collect::<Vec<_>>();
        let mut other = Dice::new(7, "faults");
        other.flip();
        assert_eq!(draws(Dice::new(7, "calm")), draws(Dice::new(7, "calm")));
        assert_eq!(draws(other.of("part")), draws(Dice::new(7, "faults").of("part")));
        assert_ne!(draws(Dice::new(7, "calm")), draws(Dice::new(8, "calm")));
    }

    #[test]
    fn what_is_drawn_of_some_differs() {
        let mut drawn = Dice::new(1, "some").some_of(5, &[1, 2, 3, 4, 5]);
        drawn.sort_unstable();
        assert_eq!(drawn, [1, 2, 3, 4, 5]);
        assert_eq!(Dice::new(1, "some").some_of(9, &[1, 2]).len(), 2);
    }
}
