//! Times at which nothing is worth an alert, as settings write them, in UTC: `"2026-12-24T00:00Z/2026-12-27T00:00Z"` once,
//! `"Sun 02:00/4h"` each week, `"02:00/30m"` each day.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Span;

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 1_440 * MINUTE_MS;
const WEEK_MS: i64 = 7 * DAY_MS;
/// 1970-01-01 was a Thursday.
const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const EXAMPLES: &str = "write \"2026-12-24T00:00Z/2026-12-27T00:00Z\" (once), \"Sun 02:00/4h\" (each week) or \"02:00/30m\" (each day), in UTC";

/// When maintenance is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maintenance {
    text: String,
    from_ms: i64,
    length_ms: i64,
    /// It comes again after so long.
    every_ms: Option<i64>,
}

impl Maintenance {
    /// Whether it falls into some of a window.
    #[must_use]
    pub fn covers(&self, start_ms: i64, end_ms: i64) -> bool {
        match self.every_ms {
            None => start_ms < self.from_ms + self.length_ms && self.from_ms < end_ms,
            // Whether it is on at the start, or begins before the end.
            Some(every_ms) => {
                let since = (start_ms - self.from_ms).rem_euclid(every_ms);
                since < self.length_ms || every_ms - since < end_ms - start_ms
            }
        }
    }

    /// Whether it falls into every window of this length.
    pub(crate) fn covers_all(&self, length_ms: i64) -> bool {
        self.every_ms.is_some_and(|every_ms| self.length_ms + length_ms > every_ms)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no time of maintenance; {EXAMPLES}");
        let (from, to) = text.split_once('/').ok_or_else(wrong)?;
        let (from, to) = (from.trim(), to.trim());
        if let Some(from_ms) = timestamp(from) {
            let to_ms = timestamp(to).or_else(|| Some(from_ms + Span::parse(to).ok()?.as_millis()));
            let length_ms = to_ms.ok_or_else(wrong)? - from_ms;
            return Self { text: text.to_owned(), from_ms, length_ms, every_ms: None }.checked();
        }
        let (day, clock) = from.split_once(' ').map_or((None, from), |(day, clock)| (Some(day), clock));
        let clock_ms = clock_ms(clock).ok_or_else(wrong)?;
        let length_ms = Span::parse(to).map_err(|_| wrong())?.as_millis();
        let (from_ms, every_ms) = match day {
            None => (clock_ms, DAY_MS),
            Some(day) => {
                let day = DAYS.iter().position(|name| *name == day).ok_or_else(wrong)?;
                (day as i64 * DAY_MS + clock_ms, WEEK_MS)
            }
        };
        Self { text: text.to_owned(), from_ms, length_ms, every_ms: Some(every_ms) }.checked()
    }

    fn checked(self) -> Result<Self, String> {
        let text = &self.text;
        if self.length_ms <= 0 {
            return Err(format!("`{text}` ends before it begins; {EXAMPLES}"));
        }
        if self.every_ms.is_some_and(|every_ms| self.length_ms >= every_ms) {
            return Err(format!("`{text}` never ends; {EXAMPLES}"));
        }
        Ok(self)
    }
}

/// `2026-12-24T00:00Z`, in ms since 1970.
fn timestamp(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond)
}

/// `02:00`, in ms since midnight.
fn clock_ms(text: &str) -> Option<i64> {
    let (hours, minutes) = text.split_once(':')?;
    let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
    ((0..24).contains(&hours) && (0..60).contains(&minutes)).then_some((hours * 60 + minutes) * MINUTE_MS)
}

impl fmt::Display for Maintenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Maintenance {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Maintenance {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-12-25T02:15:00Z, a Friday.
    const FRIDAY: i64 = 1_798_164_900_000;

    #[track_caller]
    fn check(text: &str, minutes_later: i64, expected: bool) {
        let start_ms = FRIDAY + minutes_later * MINUTE_MS;
        let maintenance = Maintenance::parse(text).unwrap();
        assert_eq!(
            maintenance.covers(start_ms, start_ms + 5 * MINUTE_MS),
            expected,
            "{text} {minutes_later} min later"
        );
    }

    #[test]
    fn once_each_week_and_each_day() {
        for text in ["2026-12-25T02:00Z/2026-12-25T02:30Z", "2026-12-25T02:00Z/30m", "Fri 02:00/30m", "02:00/30m"] {
            for (minutes, expected) in [(-21, false), (-19, true), (0, true), (14, true), (15, false), (300, false)] {
                check(text, minutes, expected);
            }
        }
        check("2026-12-25T02:00Z/30m", 7 * 1_440, false);
        check("Fri 02:00/30m", 7 * 1_440, true);
        check("Fri 02:00/30m", 1_440, false);
        check("02:00/30m", 1_440, true);
        check("Thu 23:00/6h", 0, true);
    }

    #[test]
    fn what_is_none_is_told_with_examples() {
        for text in [
            "",
            "Sunday 02:00/4h",
            "25:00/1h",
            "02:00",
            "02:00/0s",
            "02:00/24h",
            "Sun 02:00/8d",
            "2026-12-24T00:00Z/2026-12-23T00:00Z",
            "a/b",
        ] {
            assert!(Maintenance::parse(text).unwrap_err().contains("each week"), "{text}");
        }
    }
}
