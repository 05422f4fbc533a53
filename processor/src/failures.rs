//! What has failed lately, and whether that is too much.

use std::time::{Duration, Instant};
use std::{mem, thread};

use tidewatch_topic_io::{KafkaError, TransactionOutcome};

use crate::config::millis;
use crate::error::Recovery;
use crate::progress::WorkerProgress;
use crate::{ProcessorConfig, ProcessorError, metrics};

/// Cycles that may fail in a row before the processor gives up.
const FAILURES_MAX: u32 = 10;
/// Pause after a failed cycle, times the failures in a row before it.
const BACKOFF: Duration = Duration::from_millis(200);
/// Times that a producer may be fenced within two time-outs of a transaction, and that a static member may be expelled. Once may be nobody
/// else's doing: the broker gave a transaction up, or a member has joined twice.
const FENCED_MAX: usize = 3;

/// A worker's failures.
pub(crate) struct Failures {
    worker: usize,
    transaction_timeout: Duration,
    in_a_row: u32,
    /// Transactions when the last failure came.
    transactions: u64,
    fenced: Vec<Instant>,
    expelled: Vec<Instant>,
}

impl Failures {
    pub(crate) fn new(config: &ProcessorConfig, worker: usize) -> Self {
        let transaction_timeout = millis(config.settings.transaction_timeout);
        Self { worker, transaction_timeout, in_a_row: 0, transactions: 0, fenced: Vec::new(), expelled: Vec::new() }
    }

    /// Takes note of a failure and pauses, longer with each in a row.
    ///
    /// # Errors
    /// The failure, if it is one too many.
    pub(crate) fn add(
        &mut self,
        recovery: Recovery,
        error: ProcessorError,
        progress: &WorkerProgress,
    ) -> Result<(), ProcessorError> {
        metrics::cycle_failed(self.worker, recovery, &error);
        thread::sleep(self.count(error, progress.transactions())?);
        Ok(())
    }

    /// How long to pause, with so many transactions so far.
    fn count(&mut self, error: ProcessorError, transactions: u64) -> Result<Duration, ProcessorError> {
        // A broker that is away comes back, some time, and what fails then has nothing to do with how long that was; input that is skipped
        // is behind, once and for all.
        if matches!(error, ProcessorError::Kafka(KafkaError::Unreachable { .. }) | ProcessorError::InputSkipped { .. })
        {
            return Ok(BACKOFF);
        }
        let has_worked = transactions > mem::replace(&mut self.transactions, transactions);
        self.in_a_row = if has_worked { 1 } else { self.in_a_row + 1 };
        let times = match &error {
            ProcessorError::Kafka(KafkaError::Transaction { outcome: TransactionOutcome::Fenced, .. }) => {
                Some(&mut self.fenced)
            }
            ProcessorError::Kafka(KafkaError::Expelled { .. }) => Some(&mut self.expelled),
            _ => None,
        };
        let is_of_another = times.is_some_and(|times| {
            times.push(Instant::now());
            times.retain(|at| at.elapsed() < self.transaction_timeout * 2);
            times.len() >= FENCED_MAX
        });
        if !is_of_another && self.in_a_row < FAILURES_MAX {
            return Ok(BACKOFF * (self.in_a_row - 1));
        }
        Err(match error {
            ProcessorError::Kafka(KafkaError::Transaction {
                outcome: TransactionOutcome::Fenced,
                transactional_id,
                reason,
                ..
            }) => ProcessorError::Fenced { transactional_id, reason },
            other => other,
        })
    }
}

#[cfg(test)]
mod tests {
    use tidewatch_schemas::catalogue::Topics;
    use tidewatch_topic_io::KafkaConfig;

    use super::*;
    use crate::ProcessorSettings;

    fn failures() -> Failures {
        let (kafka, topics, settings) = (KafkaConfig::default(), Topics::default(), ProcessorSettings::default());
        Failures::new(&ProcessorConfig { kafka, streams: Vec::new(), topics, settings }, 0)
    }

    fn failed(outcome: TransactionOutcome) -> ProcessorError {
        let (operation, transactional_id, reason) = ("commit", "g/0/0".into(), "r".into());
        ProcessorError::Kafka(KafkaError::Transaction { operation, transactional_id, outcome, reason })
    }

    fn outage() -> ProcessorError {
        let waited = Duration::from_secs(5);
        ProcessorError::Kafka(KafkaError::Unreachable { bootstrap_servers: "b:1".into(), waited, reason: "r".into() })
    }

    #[test]
    fn ten_in_a_row_are_too_many_however_long_the_broker_was_away() {
        let mut failures = failures();
        for round in 1..=3 {
            for pauses in 0..9 {
                assert_eq!(failures.count(failed(TransactionOutcome::Abortable), round).unwrap(), BACKOFF * pauses);
                failures.count(outage(), round).unwrap();
            }
        }
        failures.count(failed(TransactionOutcome::Abortable), 3).unwrap_err();
    }

    #[test]
    fn three_times_fenced_are_another_process() {
        let mut failures = failures();
        for transactions in 1..=2 {
            failures.count(failed(TransactionOutcome::Fenced), transactions).unwrap();
        }
        // Expelled is another thing.
        let expelled = || ProcessorError::Kafka(KafkaError::Expelled { group: "g".into(), reason: "r".into() });
        for transactions in 3..=4 {
            failures.count(expelled(), transactions).unwrap();
        }
        let error = failures.count(failed(TransactionOutcome::Fenced), 5).unwrap_err();
        assert!(matches!(error, ProcessorError::Fenced { .. }), "{error:?}");
        let error = failures.count(expelled(), 6).unwrap_err();
        assert!(matches!(error, ProcessorError::Kafka(KafkaError::Expelled { .. })), "{error:?}");
    }
}
