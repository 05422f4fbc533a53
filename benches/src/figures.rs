//! Samples as figures, and figures as text: what the instruments' reports share.

/// The value in the middle; of two in the middle, their mean. Of nothing, not a number.
#[must_use]
pub fn median(samples: &[f64]) -> f64 {
    quantile(samples, 0.5)
}

/// The value below which this share of the samples lies: where that is between two of them, the middle of both. Of nothing, not a number.
#[must_use]
pub fn quantile(samples: &[f64], share: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let place = last as f64 * share;
    f64::midpoint(sorted[place.floor() as usize], sorted[place.ceil() as usize])
}

/// Three digits are enough of small numbers, thousands are apart in great ones.
#[must_use]
pub fn number(value: f64) -> String {
    if value.abs() < 100.0 || !value.is_finite() {
        return format!("{value:.2}");
    }
    let digits = format!("{value:.0}");
    let place = |(at, digit): (usize, char)| {
        let comma = at > 0 && (digits.len() - at).is_multiple_of(3);
        comma.then_some(',').into_iter().chain([digit])
    };
    digits.chars().enumerate().flat_map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_and_numbers() {
        for (samples, share, expected) in
            [(&[3.0, 1.0, 2.0][..], 0.5, 2.0), (&[4.0, 1.0], 0.5, 2.5), (&[7.0], 0.99, 7.0), (&[1.0, 2.0], 1.0, 2.0)]
        {
            assert_eq!(quantile(samples, share), expected, "{samples:?} at {share}");
        }
        assert!(median(&[]).is_nan());
        for (value, expected) in [(0.5, "0.50"), (99.0, "99.00"), (123.4, "123"), (1_234_567.0, "1,234,567")] {
            assert_eq!(number(value), expected);
        }
    }
}
