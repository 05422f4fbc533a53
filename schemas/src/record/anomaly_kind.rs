//! The kinds of anomaly: the vocabulary that detection and truth share; alerts have one more, see [`super::AlertKind`].

use super::symbols;

/// What an anomaly looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum AnomalyKind {
    /// A short excursion upwards.
    Spike,
    /// A short excursion downwards.
    Dip,
    /// A new level that stays.
    LevelShift,
    /// A slow departure from the level.
    Drift,
    /// The slope changed.
    TrendChange,
    /// The season's pattern is not followed.
    SeasonalBreak,
    /// Single points far from the rest.
    Outlier,
    /// Data that stopped.
    Dropout,
}

symbols!(AnomalyKind { Spike = "spike", Dip = "dip", LevelShift = "level_shift", Drift = "drift", TrendChange = "trend_change", SeasonalBreak = "seasonal_break", Outlier = "outlier", Dropout = "dropout" });
