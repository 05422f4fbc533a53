//! Counter-based randomness: a number is a function of (seed, name, index, channel), never of what was drawn before.
//!
//! Invariant: no state. Two threads, or two runs that stopped at different places, ask for the same coordinates and get
//! the same number. Mixing is wyhash's 64x64 -> 128 bit multiply-fold (Wang Yi, wyhash final 4) closed by the finaliser of
//! SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).

const P0: u64 = 0xa076_1d64_78bd_642f;
const P1: u64 = 0xe703_7ed1_a0b4_28db;
const P2: u64 = 0x8ebc_6af0_9c88_c6e3;
const P3: u64 = 0x5899_65cc_7537_4cc3;

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

fn finish(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// One independent sequence of numbers, addressed by index and channel.
///
/// An index is the position of an event (or of a slot, or of an attempt); a channel is what the number is for, so that
/// changing how one quantity is drawn leaves all the others as they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Random {
    key: u64,
}

impl Random {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Self {
        Self { key: finish(fold(seed ^ P0, P1)) }
    }

    /// The sequence of a part of this one (a stream, an entity, a purpose), independent of every other part's.
    pub fn of(self, name: &str) -> Self {
        let mut key = self.key ^ P2;
        for chunk in name.as_bytes().chunks(8) {
            let mut word = [0_u8; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            key = fold(key ^ u64::from_le_bytes(word), P1) ^ P3;
        }
        // The length separates "a" from "a\0".
        Self { key: finish(key ^ name.len() as u64) }
    }

    /// 64 random bits.
    pub fn bits(self, index: u64, channel: u64) -> u64 {
        let at = fold(self.key ^ P0, index.wrapping_mul(P1) ^ P2);
        finish(at ^ self.key ^ channel.wrapping_mul(P3))
    }

    /// Uniform in the open interval (0, 1).
    pub fn uniform(self, index: u64, channel: u64) -> f64 {
        unit(self.bits(index, channel))
    }

    /// Uniform in `[low, high)`.
    pub fn between(self, low: f64, high: f64, index: u64, channel: u64) -> f64 {
        low + (high - low) * self.uniform(index, channel)
    }

    /// Uniform integer below `count` (0 if `count` is 0).
    pub fn below(self, count: u64, index: u64, channel: u64) -> u64 {
        ((u128::from(self.bits(index, channel)) * u128::from(count)) >> 64) as u64
    }

    /// Two independent standard normal numbers (Box and Muller, 1958).
    pub fn normal_pair(self, index: u64, channel: u64) -> (f64, f64) {
        let bits = self.bits(index, channel);
        let radius = (-2.0 * unit(bits).ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * unit(finish(bits ^ P3))).sin_cos();
        (radius * cos, radius * sin)
    }

    /// Standard normal.
    pub fn normal(self, index: u64, channel: u64) -> f64 {
        self.normal_pair(index, channel).0
    }

    /// Lognormal with mean 1 and the given sigma of its logarithm, so that noise does not move what it multiplies.
    pub fn lognormal(self, sigma: f64, index: u64, channel: u64) -> f64 {
        lognormal(self.normal(index, channel), sigma)
    }

    /// Exponential with mean 1.
    pub fn exponential(self, index: u64, channel: u64) -> f64 {
        -self.uniform(index, channel).ln()
    }

    /// Poisson with the given mean: exact inversion below 30, rounded normal from there (error of the tail below 1 %).
    pub fn poisson(self, mean: f64, index: u64, channel: u64) -> u64 {
        if mean <= 0.0 {
            return 0;
        }
        if mean >= 30.0 {
            return (mean + mean.sqrt() * self.normal(index, channel)).round().max(0.0) as u64;
        }
        let target = self.uniform(index, channel);
        let mut probability = (-mean).exp();
        let (mut cumulative, mut count) = (probability, 0_u64);
        // 30 + 20 standard deviations: reached only where rounding keeps the sum below the target.
        while cumulative < target && count < 150 {
            count += 1;
            probability *= mean / count as f64;
            cumulative += probability;
        }
        count
    }
}

fn unit(bits: u64) -> f64 {
    ((bits >> 11) as f64 + 0.5) * (1.0 / (1_u64 << 53) as f64)
}

/// A standard normal number as a lognormal one of mean 1.
pub fn lognormal(normal: f64, sigma: f64) -> f64 {
    (sigma * normal - 0.5 * sigma * sigma).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: u64 = 200_000;

    /// Mean and variance of `draw` over many indices must lie within 4 standard errors of what is wanted.
    fn check(name: &str, mean: f64, variance: f64, kurtosis: f64, draw: impl Fn(u64) -> f64) {
        let n = DRAWS as f64;
        let values: Vec<f64> = (0..DRAWS).map(draw).collect();
        let found_mean = values.iter().sum::<f64>() / n;
        let found_variance = values.iter().map(|v| (v - found_mean).powi(2)).sum::<f64>() / n;
        assert!((found_mean - mean).abs() < 4.0 * (variance / n).sqrt(), "{name}: mean {found_mean}, wanted {mean}");
        let error = 4.0 * variance * ((kurtosis - 1.0) / n).sqrt();
        assert!((found_variance - variance).abs() < error, "{name}: variance {found_variance}, wanted {variance}");
    }

    #[test]
    fn the_moments_are_those_of_the_distributions() {
        let random = Random::new(7).of("moments");
        check("uniform", 0.5, 1.0 / 12.0, 1.8, |i| random.uniform(i, 0));
        check("uniform over channels", 0.5, 1.0 / 12.0, 1.8, |i| random.uniform(3, i));
        check("uniform over seeds", 0.5, 1.0 / 12.0, 1.8, |i| Random::new(i).uniform(0, 0));
        check("normal", 0.0, 1.0, 3.0, |i| random.normal(i, 1));
        check("second normal", 0.0, 1.0, 3.0, |i| random.normal_pair(i, 1).1);
        check("exponential", 1.0, 1.0, 9.0, |i| random.exponential(i, 2));
        let variance = (0.3_f64 * 0.3).exp() - 1.0;
        check("lognormal", 1.0, variance, 5.0, |i| random.lognormal(0.3, i, 3));
        check("poisson 4", 4.0, 4.0, 3.25, |i| random.poisson(4.0, i, 4) as f64);
        check("poisson 50", 50.0, 50.0 + 1.0 / 12.0, 3.1, |i| random.poisson(50.0, i, 5) as f64);
    }

    #[test]
    fn neighbours_are_uncorrelated() {
        let random = Random::new(1).of("correlation");
        let correlation = |pair: &dyn Fn(u64) -> (f64, f64)| {
            (0..DRAWS).map(pair).map(|(a, b)| (a - 0.5) * (b - 0.5) * 12.0).sum::<f64>() / DRAWS as f64
        };
        let bound = 4.0 / (DRAWS as f64).sqrt();
        type Pair<'a> = (&'a str, &'a dyn Fn(u64) -> (f64, f64));
        let pairs: [Pair<'_>; 3] = [
            ("indices", &|i| (random.uniform(i, 0), random.uniform(i + 1, 0))),
            ("channels", &|i| (random.uniform(i, 0), random.uniform(i, 1))),
            ("names", &|i| (random.of("a").uniform(i, 0), random.of("b").uniform(i, 0))),
        ];
        for (name, pair) in pairs {
            let found = correlation(pair);
            assert!(found.abs() < bound, "{name}: correlation {found}");
        }
    }

    #[test]
    fn every_coordinate_matters() {
        let random = Random::new(42);
        let base = random.of("a").bits(1, 2);
        assert_eq!(base, Random::new(42).of("a").bits(1, 2));
        for other in [
            Random::new(43).of("a").bits(1, 2),
            random.of("b").bits(1, 2),
            random.of("a\0").bits(1, 2),
            random.of("a").bits(2, 2),
            random.of("a").bits(1, 3),
        ] {
            assert_ne!(base, other);
        }
        assert_eq!(random.below(0, 1, 1), 0);
        assert!((0..1000).all(|i| random.below(3, i, 0) < 3));
    }
}
