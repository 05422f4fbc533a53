//! Tidewatch's producer: synthetic telemetry with labelled faults, and replay of recorded data.
//!
//! Two halves. Pure: a [`Scenario`](scenario::Scenario) (a TOML file) and a seed give a
//! [`Generator`](generator::Generator) of events and the truth about what is wrong in them. Shell: a
//! [`publisher`] that sends them on an open-loop schedule, and a [`replay`] of CSV files.
//!
//! Invariant: an event is a function of (scenario, seed, entity, index). Only `publisher` and `replay` look at a clock, and
//! what they see goes into a header, never into a value.

pub mod disorder;
pub mod fault;
pub mod generator;
pub mod metrics;
mod outlet;
pub mod progress;
pub mod publisher;
pub mod random;
pub mod rate;
pub mod replay;
pub mod scenario;
pub mod schedule;
pub mod shape;
pub mod stream;
