//! Where files go and the claim that makes a roll of several files one step.
//!
//! Every name is a function of the topic, the partition, the offsets and the records' dates, so two
//! writers of the same roll write the same files. Folders of claims begin with `_`, which pyarrow,
//! Spark and Hive pass over when they are given a folder.

use jiff::{Timestamp, tz::TimeZone};
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use super::kind::TopicKind;

/// Version of the claim's JSON; a newer one is refused.
pub(crate) const CLAIM_VERSION: u32 = 1;

/// The statement "offsets `first..=last` of this partition are stored as exactly these files",
/// created (never overwritten) before the first of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Claim {
    /// [`CLAIM_VERSION`].
    pub(crate) version: u32,
    /// Kafka topic.
    pub(crate) topic: String,
    /// Its partition.
    pub(crate) partition: i32,
    /// Offset of the roll's first record.
    pub(crate) first_offset: i64,
    /// Offset of the roll's last record.
    pub(crate) last_offset: i64,
    /// Records of the roll, rejected ones included.
    pub(crate) records: u64,
    /// The roll's files, in the order in which they are written.
    pub(crate) files: Vec<ClaimedFile>,
}

/// One file of a claimed roll.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClaimedFile {
    /// Path under the output.
    pub(crate) path: String,
    /// Size in bytes: a shorter file (power loss before the data reached the disk) is written again.
    pub(crate) bytes: u64,
    /// Records in it.
    pub(crate) rows: u64,
}

/// The folder of all claims: a folder for each topic.
pub(crate) fn all_claims_folder() -> Path {
    Path::from_iter(["_tidewatch", "claims"])
}

/// The folder of a topic's claims: a folder for each partition.
pub(crate) fn topic_claims_folder(topic: &str) -> Path {
    all_claims_folder().join(topic)
}

/// The folder of a partition's claims.
pub(crate) fn claims_folder(topic: &str, partition: i32) -> Path {
    topic_claims_folder(topic).join(partition.to_string())
}

/// A claim's name: zero-padded, so that names sort as offsets do.
pub(crate) fn claim_path(topic: &str, partition: i32, first_offset: i64) -> Path {
    claims_folder(topic, partition).join(format!("{first_offset:020}.json").as_str())
}

/// What a data file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FileKind {
    /// Rows as Parquet.
    Parquet,
    /// Alerts as JSON lines.
    AlertLines,
    /// Records that could not be read, raw, as JSON lines.
    RejectedLines,
}

/// A data file's name: `<folder>/date=YYYY-MM-DD/<topic>-<partition>-<first>-<last>.<extension>`,
/// where the offsets are the roll's, the same in all files of the roll.
pub(crate) fn data_path(
    file: FileKind,
    kind: TopicKind,
    date: &str,
    topic: &str,
    partition: i32,
    offsets: (i64, i64),
) -> Path {
    let (folder, extension) = match file {
        FileKind::Parquet => (kind.as_str(), "parquet"),
        FileKind::AlertLines => (super::ALERT_LINES_FOLDER, "jsonl"),
        FileKind::RejectedLines => (super::REJECTED_FOLDER, "jsonl"),
    };
    let (first, last) = offsets;
    let name = format!("{topic}-{partition}-{first:020}-{last:020}.{extension}");
    Path::from_iter([folder, &format!("date={date}"), name.as_str()])
}

/// The UTC date of a record's event time. A record without one, or dated outside the years 1970 to
/// 9999, goes to the nearest date of that range: its folder must be a date that every reader parses.
pub(crate) fn date_of(timestamp_ms: Option<i64>) -> String {
    const LAST_MS: i64 = 253_402_207_200_000 - 1;
    let ms = timestamp_ms.unwrap_or(0).clamp(0, LAST_MS);
    let time = Timestamp::from_millisecond(ms).expect("the clamp keeps it in jiff's range");
    time.to_zoned(TimeZone::UTC).date().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_date(timestamp_ms: Option<i64>, expected: &str) {
        assert_eq!(date_of(timestamp_ms), expected, "{timestamp_ms:?}");
    }

    #[test]
    fn dates_are_utc_and_bounded() {
        check_date(Some(0), "1970-01-01");
        check_date(Some(86_399_999), "1970-01-01");
        check_date(Some(86_400_000), "1970-01-02");
        check_date(Some(1_709_164_800_000), "2024-02-29");
        check_date(Some(-5), "1970-01-01");
        check_date(None, "1970-01-01");
        check_date(Some(i64::MAX), "9999-12-30");
    }

    #[test]
    fn names_are_as_documented() {
        let path =
            data_path(FileKind::Parquet, TopicKind::DeadLetters, "2026-03-01", "tidewatch.dead-letters.v1", 3, (7, 42));
        assert_eq!(
            path.as_ref(),
            "dead-letters/date=2026-03-01/tidewatch.dead-letters.v1-3-00000000000000000007-00000000000000000042.parquet"
        );
        assert_eq!(claim_path("t", 0, 7).as_ref(), "_tidewatch/claims/t/0/00000000000000000007.json");
    }
}
