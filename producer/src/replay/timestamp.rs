//! Timestamps as they are found in CSV files, as epoch milliseconds.
//!
//! Invariant: never a guess beyond these forms: epoch seconds (with or without a fraction), epoch milliseconds, RFC 3339,
//! and `YYYY-MM-DD[ HH:MM[:SS[.fff]]]`, which is taken as UTC.

/// From here on an integer is milliseconds: 1973-03-03 as such, the year 5138 as seconds.
const FIRST_MS: f64 = 1e11;

/// `None` if it is none of the known forms.
pub(super) fn parse(text: &str) -> Option<i64> {
    let text = text.trim();
    let numeric = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'+' | b'e' | b'E'));
    if numeric && let Ok(number) = text.parse::<f64>() {
        let ms = if number.abs() < FIRST_MS { number * 1000.0 } else { number };
        return (ms.abs() < 9e18).then(|| ms.round() as i64);
    }
    if let Ok(timestamp) = text.parse::<jiff::Timestamp>() {
        return Some(timestamp.as_millisecond());
    }
    let civil = text.parse::<jiff::civil::DateTime>().ok()?;
    let utc = civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(utc.timestamp().as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn the_known_forms_and_nothing_else() {
        let check = |text: &str, wanted: Option<i64>| assert_eq!(parse(text), wanted, "{text}");
        let noon = 1_388_577_600_000;
        check("1388577600", Some(noon));
        check("1388577600.25", Some(noon + 250));
        check("1388577600000", Some(noon));
        check(" 1388577600 ", Some(noon));
        check("2014-01-01T12:00:00Z", Some(noon));
        check("2014-01-01T14:00:00+02:00", Some(noon));
        check("2014-01-01 12:00:00", Some(noon));
        check("2014-01-01 12:00:00.250", Some(noon + 250));
        check("2014-01-01T12:00:00", Some(noon));
        check("-1", Some(-1000));
        for bad in
            ["", "yesterday", "2014-13-01 00:00:00", "01/02/2014", "12:00", "NaN", "inf", "1e30", "2014-01-01 25:00:00"]
        {
            check(bad, None);
        }
    }
}
