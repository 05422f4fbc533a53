//! Cohorts: entities of one kind, and what is usual of all of them.
//!
//! The entities of a stream that agree in the fields of its `cohort` setting share a [`Forest`] over their series, each series in units
//! of the entity's own usual residual, so that a hundred thousand entities need no hundred thousand forests; and an entity that is new
//! borrows from the others how far values stray until it has seen enough of its own.
//!
//! Every window has to be judged alike whenever it is judged: as it closes, again after a late event, and when it is final. So what judges
//! it is a *version* that does not change any more when it closes. Event time is cut into epochs `E` of sixteen windows, or the lateness if
//! that is longer. Version `k` has learnt the windows that end up to `kE`, of all entities, when they became final, in the order of their
//! times and the entities' keys; a window that ends at `e` is judged by
//!
//! ```text
//!   version floor((e - lateness - 1) / E)
//! ```
//!
//! whose last window was final before the first time that this one can be judged. As it is judged for the last time, `lateness` after its
//! end, what is being learnt is two versions on at most: two are kept.
//!
//! A row in which a series is anomalous, or has an open alert, is not learnt, so that faults do not become what faults are held against;
//! of more than one row in twenty they are what is usual now, and are.
//!
//! Cost: learning a row, and a copy of the forest every epoch. Memory: about three forests (without the rows of two of them) a cohort;
//! as many cohorts as fit into 8 MiB, 32 at most. Entities of others belong to the one of the whole stream.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use tidewatch_schemas::entity;

use crate::config::StreamConfig;
use crate::detect::forest::{Forest, Oddness};
use crate::series::typical::{Example, Typical};

/// Windows of an epoch.
const EPOCH_WINDOWS: i64 = 16;
/// Versions that are kept besides the one that learns.
const VERSIONS: usize = 2;
/// Cohorts of a partition, and what they may take of its record.
const COHORTS_MAX: usize = 32;
const BYTES_MAX: usize = 8 * 1024 * 1024;
/// The share of rows that may be passed over as they are anomalous, and how many in a row.
const PASSED_SHARE: f64 = 0.05;
const PASSED_MOST: f64 = 64.0;
/// The name of the cohort of the whole stream.
const ALL: &str = "";

/// What is known of a cohort's entities, up to some time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Version {
    /// The epoch of the last window that it has learnt.
    epoch: i64,
    /// Where entities have several series that are judged together.
    pub(crate) forest: Option<Forest>,
    /// Of each series.
    pub(crate) typical: Vec<Typical>,
}

/// A row of a cohort's forest.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) numbers: Vec<f64>,
    /// What the version said of it, where there is one.
    pub(crate) oddness: Option<Oddness>,
    /// Whether a series of it is anomalous, or has an alert that is open.
    pub(crate) is_anomalous: bool,
}

/// One cohort.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cohort {
    learning: Version,
    /// The oldest first.
    published: Vec<Version>,
    /// Anomalous rows that may be passed over.
    may_pass: f64,
}

fn epoch_ms(config: &StreamConfig) -> i64 {
    (EPOCH_WINDOWS * config.window.step_ms()).max(config.lateness_ms)
}

impl Cohort {
    fn new(config: &StreamConfig) -> Self {
        let features = config.joint_series();
        let forest = (features > 0).then(|| Forest::new(config.seed, features));
        let typical = vec![Typical::default(); config.series_count()];
        Self { learning: Version { epoch: i64::MIN, forest, typical }, published: Vec::new(), may_pass: 0.0 }
    }

    /// What judges a window that ends at `end`; `None` while there is none, and of a window so long ago that only later ones are kept.
    pub(crate) fn version(&self, config: &StreamConfig, end: i64) -> Option<&Version> {
        let epoch = (end - config.lateness_ms - 1).div_euclid(epoch_ms(config));
        let versions = std::iter::once(&self.learning).chain(self.published.iter().rev());
        versions.into_iter().find(|version| version.epoch <= epoch)
    }

    /// The same of a window that may have been final long ago: the oldest that is kept, if that is later.
    pub(crate) fn version_now(&self, config: &StreamConfig, end: i64) -> Option<&Version> {
        self.version(config, end).or(self.published.first())
    }

    /// Learns what a final window that ends at `end` says; windows come in the order of their ends.
    pub(crate) fn learn(
        &mut self,
        config: &StreamConfig,
        end: i64,
        row: Option<Row>,
        series: impl Iterator<Item = Option<Example>>,
    ) {
        let epoch_ms = epoch_ms(config);
        let epoch = (end + epoch_ms - 1).div_euclid(epoch_ms);
        let learning = &mut self.learning;
        if learning.epoch == i64::MIN {
            learning.epoch = epoch;
        } else if learning.epoch < epoch {
            if self.published.len() == VERSIONS {
                self.published.remove(0);
            }
            let forest = learning.forest.as_ref().map(Forest::without_rows);
            self.published.push(Version { epoch: learning.epoch, forest, typical: learning.typical.clone() });
            learning.epoch = epoch;
        }
        if let (Some(forest), Some(Row { numbers, oddness, is_anomalous })) = (&mut learning.forest, row) {
            self.may_pass = (self.may_pass + PASSED_SHARE).min(PASSED_MOST);
            if is_anomalous && self.may_pass >= 1.0 {
                self.may_pass -= 1.0;
                return;
            }
            let oddness = oddness.unwrap_or_else(|| forest.score(&numbers));
            forest.learn(&numbers, oddness);
        }
        for (typical, example) in learning.typical.iter_mut().zip(series) {
            if let Some(example) = example {
                typical.learn(&example);
            }
        }
    }
}

/// The cohorts of a partition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cohorts {
    /// The places of the fields that tell them apart.
    fields: Vec<usize>,
    /// What their entities' series are, see [`StreamConfig::series_signature`].
    series: String,
    /// By name; the first is that of the whole stream.
    named: Vec<(String, Cohort)>,
}

impl Cohorts {
    pub(crate) fn new(config: &StreamConfig) -> Self {
        let named = vec![(ALL.into(), Cohort::new(config))];
        Self { fields: config.cohort.clone(), series: config.series_signature(), named }
    }

    /// Starts anew where those of a snapshot are not what the declaration asks for now. Gives whether forests over an entity's own
    /// series have to, as their features are others now.
    pub(crate) fn fit(&mut self, config: &StreamConfig) -> bool {
        let has_other_series = self.series != config.series_signature();
        if has_other_series || self.fields != config.cohort {
            *self = Self::new(config);
        }
        has_other_series
    }

    /// The number of an entity's cohort, which comes to be if there is room.
    pub(crate) fn admit(&mut self, config: &StreamConfig, entity: &str) -> u16 {
        let name = name(config, entity);
        let known = self.named.iter().position(|(of, _)| *of == name);
        let at = known.unwrap_or_else(|| {
            let bytes = Forest::bytes_max(config.joint_series()) * (1 + VERSIONS);
            if self.named.len() >= COHORTS_MAX.min(BYTES_MAX / bytes) {
                return 0;
            }
            self.named.push((name.into_owned(), Cohort::new(config)));
            self.named.len() - 1
        });
        at as u16
    }

    pub(crate) fn of(&mut self, at: u16) -> &mut Cohort {
        &mut self.named[usize::from(at)].1
    }
}

/// What the cohort of an entity is called: the values of the fields that tell cohorts apart.
fn name<'a>(config: &StreamConfig, key: &'a str) -> Cow<'a, str> {
    if config.cohort.is_empty() {
        return Cow::Borrowed(ALL);
    }
    let values = entity::split(key);
    let chosen: Vec<&str> = config.cohort.iter().map(|&at| values.get(at).map_or("", |value| &**value)).collect();
    Cow::Owned(entity::join(&chosen).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::StreamSettings;

    fn config(cohort: serde_json::Value, measures: usize) -> std::sync::Arc<StreamConfig> {
        let measure = |at| serde_json::json!({ "name": format!("m{at}"), "field": format!("f{at}") });
        let settings: StreamSettings = serde_json::from_value(serde_json::json!({
            "name": "calls", "topic": "calls", "format": "json", "entity": ["tenant", "service"], "event_time": "at",
            "window": { "tumbling": "5m" }, "cohort": cohort, "measure": (0..measures).map(measure).collect::<Vec<_>>(),
        }))
        .unwrap();
        settings.validate().unwrap()
    }

    #[test]
    fn entities_that_agree_in_the_fields_are_one_cohort_as_long_as_there_is_room() {
        let by_tenant = config(serde_json::json!(["tenant"]), 2);
        let mut cohorts = Cohorts::new(&by_tenant);
        let of = |cohorts: &mut Cohorts, entity: &str| cohorts.admit(&by_tenant, entity);
        assert_eq!([of(&mut cohorts, "a/x"), of(&mut cohorts, "b/x"), of(&mut cohorts, "a/y")], [1, 2, 1]);
        let last = (0..100).map(|at| of(&mut cohorts, &format!("t{at}/x"))).collect::<Vec<_>>();
        assert!(cohorts.named.len() <= COHORTS_MAX && last.ends_with(&[0, 0, 0]), "{} cohorts", cohorts.named.len());
        assert_eq!(of(&mut cohorts, "b/z"), 2);
        let whole = config(serde_json::json!([]), 2);
        assert_eq!(Cohorts::new(&whole).admit(&whole, "a/x"), 0);
    }

    #[test]
    fn what_the_declaration_does_not_have_any_more_starts_anew() {
        let before = config(serde_json::json!(["tenant"]), 2);
        let mut cohorts = Cohorts::new(&before);
        cohorts.admit(&before, "a/x");
        let mut same = cohorts.clone();
        same.fit(&before);
        assert_eq!(same, cohorts);
        for after in [config(serde_json::json!(["service"]), 2), config(serde_json::json!(["tenant"]), 3)] {
            let mut fitted = cohorts.clone();
            fitted.fit(&after);
            assert_eq!(fitted, Cohorts::new(&after));
        }
    }

    #[test]
    fn a_version_knows_nothing_that_was_not_final_in_time() {
        let config = config(serde_json::json!([]), 1);
        let (mut cohort, epoch_ms) = (Cohort::new(&config), epoch_ms(&config));
        assert_eq!(cohort.version(&config, epoch_ms).map(|version| version.epoch), Some(i64::MIN));
        let step_ms = config.window.step_ms();
        for window in 1..=80 {
            let end = window * step_ms;
            if let Some(version) = cohort.version(&config, end).filter(|version| version.epoch != i64::MIN) {
                assert!(version.epoch * epoch_ms < end, "window {window} by epoch {}", version.epoch);
                assert!(version.epoch * epoch_ms >= end - 2 * epoch_ms, "window {window} by epoch {}", version.epoch);
            }
            cohort.learn(&config, end, None, std::iter::empty());
        }
        assert_eq!(cohort.published.len(), VERSIONS);
        assert_eq!(cohort.version(&config, 0), None);
        assert_eq!(cohort.version_now(&config, 0), cohort.published.first());
    }
}
