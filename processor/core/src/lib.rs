//! The pure stream engine: events of one input partition in, effects out.
//!
//! [`Engine::ingest`] takes one event and appends what follows from it (enriched metrics, forecasts, alerts) to [`Effects`].
//! Everything here is a function of the events and the configuration: there is no clock, no I/O, no unseeded randomness, and no
//! hash-map order reaches an output. The same log gives the same effects, bit for bit, however it was cut into batches and however
//! often the engine was saved by [`Engine::snapshot`] and brought back by [`Engine::restore`] on the way.
//!
//! One event's way: [`watermark`] says how far time has come, [`window`] keeps the panes, [`series`] holds what is known of each
//! aggregate ([`forecast`], [`detect`]), and [`alert`] decides what a person hears of.

pub mod alert;
mod cohort;
pub mod config;
pub mod detect;
pub mod engine;
mod entity;
pub mod forecast;
mod history;
pub mod ids;
mod judge;
mod recency;
pub mod series;
pub mod sketch;
pub mod state;
pub mod summary;
mod tell;
pub mod watermark;
pub mod window;

pub use config::{StreamConfig, StreamSettings};
pub use engine::{Effects, Engine, Event, Ingested, LateEvent};
pub use state::StateError;

/// The first event time, in ms since 1970, that is no longer accepted: 2200-01-01T00:00:00Z.
///
/// Times from 0 up to this bound are valid. A time outside is a defect of the record, not a point in a stream: it is refused before
/// it can move a watermark.
pub const EVENT_TIME_END_MS: i64 = 7_258_118_400_000;

/// Whether an event time, in ms since 1970, can be taken in.
#[must_use]
pub const fn is_valid_event_time(event_time_ms: i64) -> bool {
    0 <= event_time_ms && event_time_ms < EVENT_TIME_END_MS
}
