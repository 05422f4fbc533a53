//! Which records a batch was rejected for, and what is wrong with each (KIP-467).
//!
//! The log says only that a batch is not taken; this looks again, when it is not, for what a client is told. The texts are
//! Kafka's, as clients show them.
//! Source: `LogValidator.validateTimestamp`, `validateKey` and `processRecordErrors` of Apache Kafka.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_response::{BatchIndexAndErrorMessage, PartitionProduceResponse};
use kafka_protocol::protocol::StrBytes;

use crate::log::batch::{BatchHeader, HEADER_LEN};
use crate::log::records::Records;
use crate::topics::settings::{TimestampType, TopicSettings};

/// So many of the errors are repeated in the message of the whole.
const SHOWN_MAX: usize = 3;

/// A batch that was not taken, and all that its records are held against.
pub(super) struct Rejected<'a> {
    pub(super) error: ResponseError,
    pub(super) batch: &'a [u8],
    /// `topic-partition`.
    pub(super) partition: String,
    pub(super) settings: &'a TopicSettings,
    pub(super) decompressed_bytes_max: usize,
    pub(super) now_ms: i64,
}

impl Rejected<'_> {
    /// Adds to an answer what is known of single records; nothing where the batch as a whole was refused.
    pub(super) fn explain(&self, answer: PartitionProduceResponse, log_start_offset: i64) -> PartitionProduceResponse {
        if !matches!(self.error, ResponseError::InvalidTimestamp | ResponseError::InvalidRecord) {
            return answer;
        }
        let problems = self.problems().unwrap_or_default();
        if problems.is_empty() {
            return answer;
        }
        let message = self.message(&problems);
        let records = problems.into_iter().map(|(index, problem)| {
            let problem = StrBytes::from_string(problem);
            BatchIndexAndErrorMessage::default().with_batch_index(index).with_batch_index_error_message(Some(problem))
        });
        answer
            .with_record_errors(records.collect())
            .with_error_message(Some(StrBytes::from_string(message)))
            .with_log_start_offset(log_start_offset)
    }

    /// The records that are wrong, by their number in the batch.
    fn problems(&self) -> Option<Vec<(i32, String)>> {
        let header = BatchHeader::parse(self.batch).ok()?;
        let records = header.decompress(self.batch.get(HEADER_LEN..header.size)?, self.decompressed_bytes_max).ok()?;
        let mut problems = Vec::new();
        for (index, record) in (0..).zip(Records::new(&records, header.record_count)) {
            let record = record.ok()?;
            if let Some(problem) = self.problem(record.key, header.timestamp_of(record.timestamp_delta), index) {
                problems.push((index, problem));
            }
        }
        Some(problems)
    }

    fn problem(&self, key: Option<&[u8]>, timestamp_ms: i64, index: i32) -> Option<String> {
        if self.settings.cleanup_policy.is_compact && key.is_none() {
            let partition = &self.partition;
            return Some(format!("Compacted topic cannot accept message without key in topic partition {partition}"));
        }
        let earliest = self.now_ms.saturating_sub(self.settings.timestamp_before_max_ms);
        let latest = self.now_ms.saturating_add(self.settings.timestamp_after_max_ms);
        let is_bounded = self.settings.timestamp_type == TimestampType::CreateTime && timestamp_ms != -1;
        (is_bounded && !(earliest..=latest).contains(&timestamp_ms)).then(|| {
            format!(
                "Timestamp {timestamp_ms} of message with offset {index} is out of range. \
                 The timestamp should be within [{earliest}, {latest}]"
            )
        })
    }

    fn message(&self, problems: &[(i32, String)]) -> String {
        if self.error == ResponseError::InvalidTimestamp {
            return "One or more records have been rejected due to invalid timestamp".to_owned();
        }
        let shown = problems.iter().take(SHOWN_MAX);
        let shown = shown.map(|(index, problem)| format!("RecordError(batchIndex={index}, message='{problem}')"));
        format!(
            "One or more records have been rejected due to {} record errors in total, \
             and only showing the first three errors at most: [{}]",
            problems.len(),
            shown.collect::<Vec<_>>().join(", ")
        )
    }
}
