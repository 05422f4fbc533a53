//! Delivery: the result topics as files, each committed record in them exactly once.
//!
//! ```text
//! <output>/<kind>/date=YYYY-MM-DD/<topic>-<partition>-<first>-<last>.parquet     metrics, forecasts, alerts, late, dead-letters
//! <output>/alerts-json/date=YYYY-MM-DD/<topic>-<partition>-<first>-<last>.jsonl  one readable object per alert
//! <output>/rejected/date=YYYY-MM-DD/<topic>-<partition>-<first>-<last>.jsonl     records nobody could read, raw
//! <output>/_tidewatch/claims/<topic>/<partition>/<first>.json                    claims, see below
//! ```
//!
//! The date is the record's Kafka timestamp, which is event time, in UTC. JSON lines have folders of
//! their own so that pyarrow can be given the folder of a kind. Parquet columns are the record's
//! fields and `_partition`, `_offset`, `_timestamp`.
//!
//! # Exactly once
//!
//! A *roll* is a run of one partition's records, from one offset to another. Its rows fall on several
//! dates, so it is several files, and no store renames several files in one step. What makes it one
//! step is its **claim**: a small object named by the roll's first offset, which states the last
//! offset and the files. It is *created*, never overwritten (`PutMode::Create`: a hard link on a local
//! folder, `If-None-Match` on S3), before the first file. Then the files are put, each atomically,
//! then the group's offset is committed. Three facts follow.
//!
//! 1. *One cut.* Of all writers that ever start a roll at an offset, the first to create the claim
//!    decides where it ends. The others find the claim and cut there too.
//! 2. *Finishing is repeatable.* Records in a committed log do not change, names and bytes are
//!    functions of the records and the claim, so a roll may be finished by anybody, any number of
//!    times, even by two at once: the same files come out.
//! 3. *Only the newest claim can be unfinished*, since a writer claims on only after all files of the
//!    roll before were put.
//!
//! At start, a partition goes on at `max(committed offset, newest claim's last + 1)`, or, when the
//! newest claim's files are not all there, at that claim's first offset with its cut. So a death
//! between any two steps neither loses a row nor shows it twice, no file is ever taken back from a
//! reader, and a zombie (a member that was stopped, lost its partitions and woke up) can only repeat
//! what is there already. A group's commit is a hint that saves reading; the folder is the truth.
//!
//! On a local folder the claim is synced to the disk before the files, and the files before the
//! commit, so that the same holds after a loss of power.
//!
//! # What ends the role
//!
//! Storage that refuses a write as often as `sink.retry` allows ends it with one line naming
//! `sink.output`; nothing was committed for what is not visible. A record that cannot be read does
//! not: it is kept raw under `rejected/`, counted and logged.

mod buffer;
mod claim;
mod deliverer;
mod encode;
pub mod kind;
mod record;
mod shelf;
mod shell;
mod stored;
pub mod summary;
#[cfg(test)]
mod tests;

pub use encode::EncodeError;
pub use shelf::StorageError;
pub use shell::{DeliveryError, run};
pub use stored::{CommittedOffsets, Files, Held, Stored, stored};

/// Folder under the output that holds the alerts as JSON lines.
pub const ALERT_LINES_FOLDER: &str = "alerts-json";
/// Folder under the output that holds unreadable records as raw JSON lines.
pub const REJECTED_FOLDER: &str = "rejected";
