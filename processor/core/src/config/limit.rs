//! The limit of a measure: what it must not pass, and how likely that has to be for a person to hear of it before.

use serde::{Deserialize, Serialize};

use super::{Aggregate, ConfigError};

/// What one series of a measure must not pass: a bare limit, or that of a service level objective.
///
/// `{ above = 300.0, objective = 0.95 }` is the objective that 95 % of the values of a window are at most 300, so it is the limit of the
/// 95th percentile. The objective that a share of events is good is a limit of the mean of a measure that is 1 where one is not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitSettings {
    /// Values above this are beyond it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<f64>,
    /// Values below this are beyond it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<f64>,
    /// Which series; left out: the only one, or that of the objective.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregate: Option<Aggregate>,
    /// The share of a window's values that have to be within.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objective: Option<f64>,
    /// A breach is predicted when a forecast says that it is at least this likely.
    #[serde(default = "LimitSettings::default_chance")]
    pub chance: f64,
}

impl LimitSettings {
    /// The least and the greatest chance that a band of 95 % tells.
    const CHANCES: [f64; 2] = [0.025, 0.975];

    fn default_chance() -> f64 {
        0.1
    }
}

/// A limit, validated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    /// Which series it is of.
    pub aggregate: Aggregate,
    /// What that must not pass.
    pub value: f64,
    /// Whether values above are beyond it; else those below.
    pub is_above: bool,
    /// From which chance on a breach is predicted.
    pub chance: f64,
}

impl Limit {
    /// Whether a value is beyond it.
    #[must_use]
    pub fn is_passed_by(&self, value: f64) -> bool {
        if self.is_above { value > self.value } else { value < self.value }
    }

    pub(super) fn from_settings(
        limit: &LimitSettings,
        aggregates: &[Aggregate],
        wrong: impl Fn(&str, String) -> ConfigError,
    ) -> Result<Self, ConfigError> {
        let (value, is_above) = match (limit.above, limit.below) {
            (Some(value), None) => (value, true),
            (None, Some(value)) => (value, false),
            _ => return Err(wrong("limit", "needs one of `above` and `below`".into())),
        };
        if !value.is_finite() {
            return Err(wrong("limit", format!("is {value}; write a number")));
        }
        let [least, most] = LimitSettings::CHANCES;
        if !(least..=most).contains(&limit.chance) {
            return Err(wrong("limit.chance", format!("is {}; it lies between {least} and {most}", limit.chance)));
        }
        let aggregate = match (limit.objective, limit.aggregate, aggregates) {
            (Some(_), Some(_), _) => {
                return Err(wrong("limit", "names an aggregate and an objective, which says which one it is".into()));
            }
            (Some(_), ..) if !is_above => {
                return Err(wrong("limit.objective", "goes with `above`: so many values are at most that".into()));
            }
            (Some(objective), ..) => {
                let of = [Aggregate::P50, Aggregate::P95, Aggregate::P99];
                let found = of.into_iter().find(|aggregate| aggregate.quantile() == Some(objective));
                found.ok_or_else(|| {
                    let problem = format!("is {objective}, of which no percentile is kept; write 0.5, 0.95 or 0.99");
                    wrong("limit.objective", problem)
                })?
            }
            (None, Some(aggregate), _) | (None, None, &[aggregate]) => aggregate,
            (None, None, _) => {
                let names: Vec<_> = aggregates.iter().map(|aggregate| format!("\"{}\"", aggregate.as_str())).collect();
                let problem =
                    format!("is left out, and the measure has more than one; write one of {}", names.join(", "));
                return Err(wrong("limit.aggregate", problem));
            }
        };
        if !aggregates.contains(&aggregate) {
            let name = aggregate.as_str();
            let problem = format!("is of \"{name}\", which the measure does not watch; add it to `aggregates`");
            return Err(wrong("limit", problem));
        }
        Ok(Self { aggregate, value, is_above, chance: limit.chance })
    }
}
