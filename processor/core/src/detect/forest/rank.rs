//! The rank of a number among the recent ones.
//!
//! A sharp window of the last 2,048, in a ring with their order: after a shift of everything it forgets what was usual in that many rows,
//! where decayed counts remember for several times as long. Cost: a binary search and a move of 4 kB on average at most, 100 ns. Memory: 16
//! kB.

use serde::{Deserialize, Serialize};

/// Numbers that are remembered.
const WINDOW: usize = 2_048;
/// One of so many is of the tail, and so many at least are.
const TAIL: usize = 50;
const TAIL_LEAST: usize = 16;
/// The least mean excess of a tail, as a share of where it begins.
const EXCESS_LEAST: f64 = 1e-6;

/// The recent numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Ranks {
    ring: Vec<f32>,
    next: usize,
    sorted: Vec<f32>,
}

impl Ranks {
    /// Numbers that are remembered.
    pub(super) const fn len(&self) -> usize {
        self.ring.len()
    }

    /// The share of the recent numbers that are not below `x`, half of those that are equal counted in. In the last fiftieth, and beyond it,
    /// it is that of an exponential distribution: by the median of the excesses over the least of them, which the few that are odd
    /// themselves hardly move.
    pub(super) fn tail(&self, x: f64) -> f64 {
        let x = x as f32;
        let below = self.sorted.partition_point(|other| *other < x);
        let all = self.sorted.len() as f64 + 1.0;
        let peaks =
            &self.sorted[self.sorted.len() - self.sorted.len().div_ceil(TAIL).max(TAIL_LEAST).min(self.sorted.len())..];
        match peaks.first() {
            Some(&least) if x > least => {
                let excess = f64::from(peaks[peaks.len() / 2] - least) / std::f64::consts::LN_2;
                let excess = excess.max(EXCESS_LEAST * f64::from(least.abs())).max(f64::MIN_POSITIVE);
                peaks.len() as f64 / all * libm::exp(-f64::from(x - least) / excess)
            }
            _ => {
                let up_to = below + self.sorted[below..].partition_point(|other| *other <= x);
                1.0 - ((below + up_to) as f64 / 2.0 + 0.5) / all
            }
        }
    }

    /// The same as a quantile of the normal distribution: the greater, the further in the tail.
    pub(super) fn quantile(&self, x: f64) -> f64 {
        -normal_quantile(self.tail(x).clamp(1e-300, 1.0 - 1e-12))
    }

    /// Takes a number in, and forgets the oldest.
    pub(super) fn take(&mut self, x: f64) {
        let x = if x.is_finite() { x as f32 } else { 0.0 };
        if self.ring.len() < WINDOW {
            self.ring.push(x);
        } else {
            let oldest = std::mem::replace(&mut self.ring[self.next], x);
            let at = self.sorted.partition_point(|other| *other < oldest);
            self.sorted.remove(at);
            self.next = (self.next + 1) % WINDOW;
        }
        let at = self.sorted.partition_point(|other| *other < x);
        self.sorted.insert(at, x);
    }
}

/// The quantile of the normal distribution, to 16 digits and with the same bits on every machine.
///
/// M. J. Wichura, "Algorithm AS 241: The Percentage Points of the Normal Distribution", Applied Statistics 37(3), 1988.
fn normal_quantile(p: f64) -> f64 {
    /// A polynomial, its highest coefficient first.
    fn polynomial(coefficients: [f64; 8], x: f64) -> f64 {
        coefficients.into_iter().fold(0.0, |sum, coefficient| sum * x + coefficient)
    }
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        let r = 0.180_625 - q * q;
        return q * polynomial(
            [
                2_509.080_928_730_122_7,
                33_430.575_583_588_13,
                67_265.770_927_008_7,
                45_921.953_931_549_87,
                13_731.693_765_509_46,
                1_971.590_950_306_551_3,
                133.141_667_891_784_38,
                3.387_132_872_796_366_5,
            ],
            r,
        ) / polynomial(
            [
                5_226.495_278_852_545,
                28_729.085_735_721_943,
                39_307.895_800_092_71,
                21_213.794_301_586_597,
                5_394.196_021_424_751,
                687.187_007_492_057_9,
                42.313_330_701_600_91,
                1.0,
            ],
            r,
        );
    }
    let r = (-libm::log(p.min(1.0 - p))).sqrt();
    let (numerator, denominator, r) = if r <= 5.0 {
        (
            [
                7.745_450_142_783_414e-4,
                0.022_723_844_989_269_184,
                0.241_780_725_177_450_6,
                1.270_458_252_452_368_4,
                3.647_848_324_763_204_5,
                5.769_497_221_460_691,
                4.630_337_846_156_546,
                1.423_437_110_749_683_5,
            ],
            [
                1.050_750_071_644_416_9e-9,
                5.475_938_084_995_345e-4,
                0.015_198_666_563_616_457,
                0.148_103_976_427_480_08,
                0.689_767_334_985_1,
                1.676_384_830_183_803_8,
                2.053_191_626_637_759,
                1.0,
            ],
            r - 1.6,
        )
    } else {
        (
            [
                2.010_334_399_292_288_1e-7,
                2.711_555_568_743_487_6e-5,
                0.001_242_660_947_388_078_4,
                0.026_532_189_526_576_124,
                0.296_560_571_828_504_87,
                1.784_826_539_917_291_3,
                5.463_784_911_164_114,
                6.657_904_643_501_103,
            ],
            [
                2.044_263_103_389_939_8e-15,
                1.421_511_758_316_446e-7,
                1.846_318_317_510_054_8e-5,
                7.868_691_311_456_133e-4,
                0.014_875_361_290_850_615,
                0.136_929_880_922_735_8,
                0.599_832_206_555_888,
                1.0,
            ],
            r - 5.0,
        )
    };
    let x = polynomial(numerator, r) / polynomial(denominator, r);
    if q < 0.0 { -x } else { x }
}

#[cfg(test)]
mod tests {
    use statrs::distribution::{ContinuousCDF as _, Normal};

    use super::*;

    #[test]
    fn quantiles_are_those_of_statrs() {
        let normal = Normal::standard();
        for p in [1e-12, 1e-9, 1e-4, 0.01, 0.07, 0.3, 0.5, 0.71, 0.93, 0.999, 1.0 - 1e-9] {
            let (found, expected) = (normal_quantile(p), normal.inverse_cdf(p));
            assert!((found - expected).abs() < 1e-7 * expected.abs().max(1.0), "{p}: {found}, not {expected}");
        }
    }

    #[test]
    fn ranks_are_among_the_last_ones() {
        let mut ranks = Ranks::default();
        assert_eq!(ranks.tail(1.0), 0.5);
        (0..5_000).for_each(|x| ranks.take(f64::from(x)));
        // 2,952 to 4,999 are remembered.
        assert!((ranks.tail(3_976.0) - 0.5).abs() < 1e-3);
        assert!(ranks.tail(2_000.0) > 1.0 - 1e-3);
        assert_eq!(ranks.tail(f64::INFINITY), 0.0);
        assert!(ranks.quantile(f64::INFINITY).is_finite());
        let equal = [7.0; 3_000];
        equal.iter().for_each(|x| ranks.take(*x));
        assert!((ranks.tail(7.0) - 0.5).abs() < 1e-3, "half of the equal ones are below");
        assert!(ranks.quantile(7.1) > 6.0, "what never differed does");
    }

    #[test]
    fn the_tail_of_an_exponential_distribution_is_its_own() {
        let mut ranks = Ranks::default();
        (0..2_048).for_each(|at| ranks.take(-((f64::from(at) + 0.5) / 2_048.0).ln()));
        for x in [8.0_f64, 10.0, 20.0, 30.0] {
            let ratio = ranks.tail(x).ln() / -x;
            assert!((ratio - 1.0).abs() < 0.15, "{x}: {ratio}");
        }
    }
}
