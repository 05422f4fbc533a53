//! A scenario: which entities there are, how their telemetry moves, and what goes wrong when. A TOML file, checked.
//! The file's reference is `SCENARIOS.md` in this crate.
//!
//! Invariant: a `Scenario` is valid, and nothing in it depends on a seed; with a seed it becomes a
//! [`Generator`]. Every error is one line with the file, the field, and what to do.

mod raw;
mod roster;
#[cfg(test)]
mod tests;
mod validate;

use crate::disorder::Disorder;
use crate::fault::{DeclaredFault, Fault, FaultKind, placement};
use crate::generator::Generator;
use crate::rate::Profile;
use crate::shape::Shape;
use crate::stream::{Region, StreamKind};
use std::path::Path;
use tidewatch_schemas::record::Truth;

/// A scenario that cannot be used: one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {field}: {problem}")]
pub struct ScenarioError {
    /// The file, or the shipped scenario's name.
    pub file: String,
    /// Where in it: `fault[2].onset` (tables of one name are counted from 0), or `line 12`.
    pub field: String,
    /// What is wrong and what to do.
    pub problem: String,
}

const SHIPPED: [(&str, &str); 5] = [
    ("demo", include_str!("../scenarios/demo.toml")),
    ("disorder", include_str!("../scenarios/disorder.toml")),
    ("drift", include_str!("../scenarios/drift.toml")),
    ("smoke", include_str!("../scenarios/smoke.toml")),
    ("steady", include_str!("../scenarios/steady.toml")),
];

/// A checked scenario.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// What it is for, in a sentence.
    pub description: String,
    /// Event time of its beginning, epoch ms.
    pub start_ms: i64,
    /// How much event time it covers, ms.
    pub duration_ms: i64,
    /// How the rate of events moves.
    pub profile: Profile,
    /// Events in all (the mean, if the profile is Poisson).
    pub events: u64,
    pub(crate) services: Vec<Service>,
    /// Sorted by stream and key: an entity's place here is its number everywhere.
    pub(crate) entities: Vec<Entity>,
    pub(crate) faults: Vec<DeclaredFault>,
    pub(crate) random_faults: Option<RandomFaults>,
    pub(crate) disorder: Option<Disorder>,
}

/// A service's name and place in the graph of dependencies.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Service {
    pub(crate) name: String,
    /// Services that call this one, by number.
    pub(crate) dependants: Vec<usize>,
}

/// Whose telemetry it is: constant labels and what the values are around.
#[derive(Clone, Debug, PartialEq)]
pub struct Entity {
    /// The kind of its telemetry.
    pub stream: StreamKind,
    /// The values of the entity fields, joined: the key of its messages.
    pub key: String,
    /// The values of the entity fields.
    pub fields: [String; 2],
    /// Where it is.
    pub region: Region,
    /// Whose it is.
    pub tenant: String,
    /// The service that it belongs to, by number.
    pub(crate) service: Option<usize>,
    /// What it runs (service calls).
    pub(crate) release: String,
    pub(crate) shape: Shape,
    pub(crate) base: Base,
    /// Its part of all events.
    pub(crate) share: f64,
}

/// What an entity's values are around.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Base {
    /// Of the stream's first measure: duration, CPU, load or response time.
    pub(crate) main: f64,
    /// Of bytes or memory, where the stream has them.
    pub(crate) size: f64,
    /// Of the disk.
    pub(crate) disk_ratio: f64,
    /// Share of errors.
    pub(crate) error_rate: f64,
    /// Sigma of the logarithm of a value.
    pub(crate) noise: f64,
}

/// Faults that the seed places.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RandomFaults {
    pub(crate) streams: Vec<StreamKind>,
    /// Nothing before this offset: time to learn.
    pub(crate) after_ms: i64,
    /// Nothing in the last part.
    pub(crate) quiet_tail_ms: i64,
    /// Between two faults of an entity.
    pub(crate) min_gap_ms: i64,
    pub(crate) kinds: Vec<RandomKind>,
}

/// How many faults of a kind, and how they are.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RandomKind {
    pub(crate) kind: FaultKind,
    pub(crate) count: u32,
    pub(crate) magnitude: [f64; 2],
    pub(crate) duration_ms: [i64; 2],
    /// How many of the `count` hit a whole service and what depends on it.
    pub(crate) correlated: u32,
}

impl Scenario {
    /// Whether events come out of order, late, twice or broken; the truth then says how many.
    pub fn has_disorder(&self) -> bool {
        self.disorder.is_some()
    }

    /// Reads and checks a scenario; `file` is what errors call it.
    pub fn from_toml(text: &str, file: &str) -> Result<Self, ScenarioError> {
        validate::scenario(text, file)
    }

    /// Reads and checks a scenario file.
    pub fn load(path: &Path) -> Result<Self, ScenarioError> {
        let file = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::from_toml(&text, &file),
            Err(error) => {
                let names = Self::shipped_names().collect::<Vec<_>>().join(", ");
                let problem = format!("cannot be read ({error}); name a file or a shipped scenario: {names}");
                Err(ScenarioError { file, field: "scenario file".to_owned(), problem })
            }
        }
    }

    /// A scenario that comes with the program.
    pub fn shipped(name: &str) -> Option<Self> {
        Self::shipped_toml(name).map(|text| Self::from_toml(text, name).expect("a test parses every shipped scenario"))
    }

    /// Its file, to start an own one from.
    pub fn shipped_toml(name: &str) -> Option<&'static str> {
        SHIPPED.iter().find(|(shipped, _)| *shipped == name).map(|(_, text)| *text)
    }

    /// The scenarios that come with the program.
    pub fn shipped_names() -> impl Iterator<Item = &'static str> {
        SHIPPED.iter().map(|(name, _)| *name)
    }

    /// The same scenario with another number of events: denser or thinner, over the same event time.
    pub fn with_events(mut self, events: u64) -> Self {
        self.events = events.clamp(1, validate::EVENTS_MAX);
        self
    }

    /// Event time of its end (exclusive), epoch ms.
    pub fn end_ms(&self) -> i64 {
        self.start_ms + self.duration_ms
    }

    /// Its entities, by stream and key.
    pub fn entities(&self) -> &[Entity] {
        &self.entities
    }

    /// The streams that it has entities of.
    pub fn streams(&self) -> Vec<StreamKind> {
        StreamKind::ALL.into_iter().filter(|kind| self.entities.iter().any(|entity| entity.stream == *kind)).collect()
    }

    /// Its events, for topics of `partitions` partitions each.
    pub fn generator(&self, seed: u64, partitions: i32) -> Generator {
        Generator::new(self, seed, partitions)
    }

    /// What goes wrong with this seed, by onset.
    pub fn faults(&self, seed: u64) -> Vec<Fault> {
        placement::place(self, seed)
    }

    /// What goes wrong with this seed, as records of the truth topic, by onset.
    pub fn truth(&self, seed: u64) -> Vec<Truth> {
        self.faults(seed).iter().map(|fault| fault.truth(&self.entities[fault.entity], seed)).collect()
    }
}
