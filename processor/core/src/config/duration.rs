//! A span of time as settings write it: `"90s"`, `"1h 30m"`, `"24h"`.

use std::fmt;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A span of time in whole milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(i64);

const DAY_MS: i64 = 86_400_000;
/// The longest span that a setting may name; past it, a mistake is likelier than a wish.
const DAYS_MAX: u64 = 3_660;

impl Span {
    /// The longest.
    pub const MAX: Self = Self(DAYS_MAX as i64 * DAY_MS);

    /// A span of so many milliseconds.
    ///
    /// # Panics
    /// If it is negative or above ten years: for constants in code, not for input.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        assert!(millis >= 0 && millis <= Self::MAX.0, "a span lies between 0 and ten years");
        Self(millis)
    }

    /// Its length in milliseconds.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// From text as settings have it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let duration = humantime::parse_duration(text)
            .map_err(|_| format!("`{text}` is no span of time; write one like \"90s\", \"5m\" or \"24h\""))?;
        if duration > Duration::from_secs(DAYS_MAX * 86_400) {
            return Err(format!("`{text}` is longer than ten years"));
        }
        let millis = i64::try_from(duration.as_millis()).map_err(|error| error.to_string())?;
        if Duration::from_millis(millis.unsigned_abs()) != duration {
            return Err(format!("`{text}` is finer than a millisecond"));
        }
        Ok(Self::from_millis(millis))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", humantime::format_duration(Duration::from_millis(self.as_millis().unsigned_abs())))
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
