//! The kinds of result topic that Delivery stores: a closed set, so that folders, metric labels and
//! settings share one spelling.

use serde::{Deserialize, Serialize};
use tidewatch_schemas::catalogue::Topics;

/// What the records of a delivered topic are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TopicKind {
    /// Enriched windows.
    Metrics,
    /// Forecast paths.
    Forecasts,
    /// Alert records: opened, updated, resolved.
    Alerts,
    /// Events that came after their window.
    Late,
    /// Records that could not be read.
    DeadLetters,
}

impl TopicKind {
    /// All kinds, in the order of their discriminants.
    pub const ALL: [Self; 5] = [Self::Metrics, Self::Forecasts, Self::Alerts, Self::Late, Self::DeadLetters];

    /// The spelling in settings, in folder names and in the `kind` label of metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Forecasts => "forecasts",
            Self::Alerts => "alerts",
            Self::Late => "late",
            Self::DeadLetters => "dead-letters",
        }
    }

    /// This kind's topic among the configured names.
    pub fn topic_name(self, topics: &Topics) -> &str {
        match self {
            Self::Metrics => &topics.metrics,
            Self::Forecasts => &topics.forecasts,
            Self::Alerts => &topics.alerts,
            Self::Late => &topics.late,
            Self::DeadLetters => &topics.dead_letters,
        }
    }

    /// Place in arrays indexed by kind.
    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

impl std::fmt::Display for TopicKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_everywhere() {
        for (place, kind) in TopicKind::ALL.into_iter().enumerate() {
            assert_eq!(kind.index(), place);
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
        }
    }
}
