//! How often something may happen, as settings write it: `"1 per week"`, `"2 per 30d"`, `"0.5 per day"`.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Span;

const DAY_MS: f64 = 86_400_000.0;
/// Spans that have a name of their own; longer ones first.
const NAMED: [(&str, f64); 6] = [
    ("year", 365.25 * DAY_MS),
    ("month", 30.4375 * DAY_MS),
    ("week", 7.0 * DAY_MS),
    ("day", DAY_MS),
    ("hour", DAY_MS / 24.0),
    ("minute", DAY_MS / 1_440.0),
];
const EXAMPLES: &str = "write one like \"1 per week\", \"2 per 30d\" or \"1 per year\"";

/// So many times in a span of time.
#[derive(Clone, Debug, PartialEq)]
pub struct Rate {
    text: String,
    per_ms: f64,
}

impl Rate {
    /// How many in a span of so many ms.
    #[must_use]
    pub fn within(&self, span_ms: i64) -> f64 {
        self.per_ms * span_ms as f64
    }

    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no rate; {EXAMPLES}");
        let (count, span) = text.split_once(" per ").ok_or_else(wrong)?;
        let count: f64 = count.trim().parse().map_err(|_| wrong())?;
        if !(count.is_finite() && count > 0.0) {
            return Err(format!("`{text}` is no rate above 0; {EXAMPLES}"));
        }
        let span = span.trim();
        let named = NAMED.iter().find(|(name, _)| *name == span).map(|(_, ms)| *ms);
        let span_ms = match named {
            Some(ms) => ms,
            None => Span::parse(span).map_err(|_| wrong())?.as_millis() as f64,
        };
        if span_ms <= 0.0 {
            return Err(wrong());
        }
        Ok(Self { text: text.to_owned(), per_ms: count / span_ms })
    }
}

impl Default for Rate {
    fn default() -> Self {
        Self { text: "1 per week".to_owned(), per_ms: 1.0 / (7.0 * DAY_MS) }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::str::FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_people_write_them() {
        const WEEK_MS: i64 = 604_800_000;
        for (text, a_week) in [
            ("1 per week", 1.0),
            ("2 per 14d", 1.0),
            ("0.5 per day", 3.5),
            ("1 per month", 7.0 / 30.4375),
            ("3 per 1h", 504.0),
        ] {
            let rate: Rate = text.parse().unwrap();
            assert!((rate.within(WEEK_MS) - a_week).abs() < 1e-9, "{text}");
            assert_eq!(rate.to_string(), text);
        }
        assert_eq!(Rate::default(), "1 per week".parse().unwrap());
        for text in
            ["", "1", "1 per", "0 per week", "-1 per week", "NaN per week", "1 per fortnight", "1 per 0s", "1/week"]
        {
            assert!(text.parse::<Rate>().unwrap_err().contains("1 per week"), "{text}");
        }
    }
}
