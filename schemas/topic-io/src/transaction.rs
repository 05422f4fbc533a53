//! Writing in transactions: outputs and the input offsets that they stand for, committed together or not at all.
//!
//! Invariants: nothing is sent outside of a transaction; after an outcome that is not known the client is replaced, whose
//! initialisation fences the old one and settles the transaction. Source: librdkafka's `rdkafka.h`, "Transactional producer
//! API". Every call blocks.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{fmt, iter};

use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};
use rdkafka::producer::Producer as _;
use rdkafka::{Offset, TopicPartitionList};

use crate::config::KafkaConfig;
use crate::error::{KafkaError, TransactionOutcome};
use crate::metrics;
use crate::reader::GroupMetadata;
use crate::writer::{Outgoing, Producer, enqueue, partitions, producer, settle};

/// Between two tries of an operation that the client says may be tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// What an init may take at least: the coordinator first settles what was open, and a cluster that has just started has to find it.
const INIT_TIME_MIN: Duration = Duration::from_secs(15);
/// Between two looks whether an init is given up.
const INIT_LOOK: Duration = Duration::from_millis(200);

/// What a transaction lasts longer than an answer is waited for, at the least (librdkafka's `socket.timeout.ms`).
const ANSWER_MARGIN: Duration = Duration::from_millis(100);

/// What either step of an abort may take when no time is left.
const ABORT_TIME: Duration = Duration::from_secs(1);

/// How long transactions and their operations may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionOptions {
    /// After this long the broker aborts a transaction that its writer left open, and readers get past it. Default 60 s.
    pub transaction_timeout: Duration,
    /// How long init (15 s at least), commit or abort may take before its outcome is given up on. Default 30 s.
    pub operation_timeout: Duration,
    /// The most that a batch of several records holds, in bytes, where a topic takes less than the client's own megabyte.
    pub batch_bytes_max: Option<usize>,
}

impl Default for TransactionOptions {
    fn default() -> Self {
        Self {
            transaction_timeout: Duration::from_secs(60),
            operation_timeout: Duration::from_secs(30),
            batch_bytes_max: None,
        }
    }
}

impl TransactionOptions {
    fn init_timeout(&self) -> Duration {
        self.operation_timeout.max(INIT_TIME_MIN)
    }
}

/// The position of a group in one partition, to be committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetCommit<'a> {
    /// The input topic.
    pub topic: &'a str,
    /// The input partition.
    pub partition: i32,
    /// The next offset to read.
    pub offset: i64,
    /// Free text kept with the offset, 4096 bytes by the broker's default.
    pub metadata: &'a str,
}

/// A writer of transactions; one per transactional id is alive, a second one fences the first.
pub struct TransactionalWriter {
    config: KafkaConfig,
    transactional_id: String,
    options: TransactionOptions,
    /// `None` while it is opened in the background, and after a reopening that failed.
    producer: Option<Producer>,
    opening: Option<Opening>,
    has_opened: bool,
    open: bool,
    /// Whether a request of the open transaction has no answer that counts: it may still arrive.
    in_doubt: bool,
    /// When everything must be over.
    deadline: Option<Instant>,
}

impl TransactionalWriter {
    /// Makes the client and initialises its transactions: waits for the end of any open transaction of this id.
    ///
    /// # Errors
    /// A setting that the client does not accept, no right to the id, or no answer within `operation_timeout`.
    pub fn new(config: &KafkaConfig, transactional_id: &str, options: TransactionOptions) -> Result<Self, KafkaError> {
        let mut writer = Self::in_background(config, transactional_id, options)?;
        writer.wait_until_open()?;
        Ok(writer)
    }

    /// As [`new`](Self::new), but does not wait: [`begin`](Self::begin) does, and gives the error. The client asks a coordinator that is
    /// still settling what was open only twice a second (librdkafka 2.12), and there may be something to do meanwhile.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn in_background(
        config: &KafkaConfig,
        transactional_id: &str,
        options: TransactionOptions,
    ) -> Result<Self, KafkaError> {
        let (config, transactional_id) = (config.clone(), transactional_id.to_owned());
        let opening = Opening::begin(&config, &transactional_id, &options)?;
        let opening = Some(opening);
        let (producer, has_opened, open, in_doubt, deadline) = (None, false, false, false, None);
        Ok(Self { config, transactional_id, options, producer, opening, has_opened, open, in_doubt, deadline })
    }

    /// Waits for an opening in the background.
    fn wait_until_open(&mut self) -> Result<(), KafkaError> {
        if let Some(opening) = self.opening.take() {
            self.producer = Some(opening.wait()?);
            self.has_opened = true;
        }
        Ok(())
    }

    /// Whether the id was this writer's at some time, whatever has become of it since; not while it is opened in the background.
    pub fn has_opened(&self) -> bool {
        self.has_opened
    }

    /// From now on nothing is waited for beyond this moment, whatever `operation_timeout` allows, but what ends a transaction, which
    /// has a second.
    pub fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }

    /// How long an operation that begins now may take.
    fn timeout(&self) -> Duration {
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        left.map_or(self.options.operation_timeout, |left| left.min(self.options.operation_timeout))
    }

    /// Replaces the client by a new one of the same id: whatever the old one left open is settled. An open transaction is lost.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn reopen(&mut self) -> Result<(), KafkaError> {
        // The old one ends first, so that it does not work against the new one.
        (self.opening, self.producer) = (None, None);
        (self.open, self.in_doubt) = (false, false);
        let timeout = match self.deadline {
            Some(_) => self.timeout().max(ABORT_TIME),
            None => self.options.init_timeout(),
        };
        let is_given_up = AtomicBool::new(false);
        self.producer = Some(open(&self.config, &self.transactional_id, &self.options, timeout, &is_given_up)?);
        Ok(())
    }

    /// Opens a transaction.
    ///
    /// # Errors
    /// The client cannot go on: [`KafkaError::needs_new_writer`] tells.
    pub fn begin(&mut self) -> Result<(), KafkaError> {
        self.wait_until_open()?;
        let begun = self.producer()?.begin_transaction();
        begun.map_err(|error| self.failure("begin", &error))?;
        self.open = true;
        Ok(())
    }

    /// Whether a transaction is open.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Hands a record to the open transaction; waits while the client's queue is full.
    ///
    /// # Errors
    /// A record that the client refuses, or a transaction that has failed already: abort it.
    pub fn send(&mut self, record: Outgoing<'_>) -> Result<(), KafkaError> {
        self.send_with(record, iter::empty())
    }

    /// As [`send`](Self::send), with more headers behind the record's own; they may be without a value, as those of records of
    /// others are now and then.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_with<'a>(
        &mut self,
        record: Outgoing<'_>,
        more: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>,
    ) -> Result<(), KafkaError> {
        enqueue(self.producer()?, &record, more, self.deadline).map_err(|error| self.void(error, "send"))
    }

    /// How many partitions a topic has.
    ///
    /// # Errors
    /// No such topic, or no answer in time.
    pub fn partitions(&self, topic: &str) -> Result<i32, KafkaError> {
        partitions(self.producer()?, topic, self.timeout())
    }

    /// Commits what was sent and the group's offsets together.
    ///
    /// # Errors
    /// Nothing is committed if the error's outcome is [`TransactionOutcome::Abortable`]: call [`abort`](Self::abort). If it
    /// [`needs_new_writer`](KafkaError::needs_new_writer), call [`reopen`](Self::reopen) and read the committed offsets to
    /// learn what became of it.
    pub fn commit(&mut self, offsets: &[OffsetCommit<'_>], group: &GroupMetadata) -> Result<(), KafkaError> {
        let start = Instant::now();
        self.flush()?;
        if !offsets.is_empty() {
            let list = offset_list(offsets)?;
            self.in_doubt = true;
            let producer = self.producer()?;
            let mut wait = Wait::new(self.timeout());
            while let Err(error) = producer.send_offsets_to_transaction(&list, group.native(), wait.remaining()) {
                if !wait.again(&error, producer) {
                    return Err(self.failure("send offsets", &error));
                }
            }
        }
        self.finish(start)
    }

    /// Commits what was sent; no offsets belong to it.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn commit_records(&mut self) -> Result<(), KafkaError> {
        let start = Instant::now();
        self.flush()?;
        self.finish(start)
    }

    /// Takes back everything of the open transaction; without one, does nothing.
    ///
    /// The next transaction has a new epoch, in which nothing of this one counts: a record that the client throws away may be at the
    /// broker all the same, whose next one would get its number in the sequence, be answered as its duplicate, and be lost (librdkafka
    /// 2.12); and offsets whose answer was lost may arrive late, and would be the next transaction's.
    ///
    /// # Errors
    /// The id is another writer's now, and left to it; else as [`reopen`](Self::reopen).
    pub fn abort(&mut self) -> Result<(), KafkaError> {
        if !self.open {
            return Ok(());
        }
        let producer = self.producer()?;
        // An event that waits to be told counts as on its way, and one is told at a time.
        for _ in 0..producer.in_flight_count() {
            producer.poll(Duration::ZERO);
        }
        let is_answered = !self.in_doubt && producer.in_flight_count() == 0 && producer.context().failed() == 0;
        producer.context().set_discarding();
        // Aborted first, the next epoch is there at once; a coordinator that has yet to abort is asked for it but twice a second. Not where
        // something may still arrive: what is aborted for a next epoch is closed under that one, what is aborted before is not.
        if is_answered {
            let timeout = self.deadline.map_or(self.options.operation_timeout, |_| ABORT_TIME);
            let aborted = producer.abort_transaction(timeout);
            aborted.unwrap_or_else(|error| tracing::debug!(%error, "left to the next epoch"));
        }
        // It may be the abort that tells.
        if let Some((code, reason)) = producer.client().fatal_error()
            && is_fenced(code)
        {
            self.open = false;
            return Err(self.failed("abort", TransactionOutcome::Fenced, reason));
        }
        self.reopen()?;
        metrics::aborted();
        Ok(())
    }

    /// Waits until all that was sent is acknowledged, looking every millisecond: a commit itself looks every 100 ms.
    ///
    /// # Errors
    /// A record was not delivered, or nothing is known of it in time: abort the transaction.
    pub fn flush(&self) -> Result<(), KafkaError> {
        let operation = "delivering a transaction's records";
        settle(self.producer()?, self.timeout(), operation).map_err(|error| match error {
            KafkaError::TimedOut { waited, .. } => {
                let reason = format!("its records were not acknowledged within {} s", waited.as_secs_f32());
                self.failed("commit", TransactionOutcome::Abortable, reason)
            }
            other => self.void(other, "commit"),
        })
    }

    /// What a record that was not delivered makes of its transaction; it may be the first sign that the id is another writer's.
    fn void(&self, error: KafkaError, operation: &'static str) -> KafkaError {
        let KafkaError::Delivery { topic, partition, reason, .. } = error else { return error };
        let reason = format!("a record for {topic}[{partition}] was not delivered: {reason}");
        self.failed(operation, outcome_of_failed_delivery(self.producer.as_ref()), reason)
    }

    fn finish(&mut self, start: Instant) -> Result<(), KafkaError> {
        self.in_doubt = true;
        let producer = self.producer()?;
        let mut wait = Wait::new(self.timeout());
        // Asking again after a time-out is how the client wants to be asked for the outcome.
        while let Err(error) = producer.commit_transaction(wait.remaining()) {
            if !wait.again(&error, producer) {
                return Err(self.failure("commit", &error));
            }
        }
        (self.open, self.in_doubt) = (false, false);
        metrics::committed(start.elapsed());
        Ok(())
    }

    fn producer(&self) -> Result<&Producer, KafkaError> {
        let reason = || "its client could not be reopened".to_owned();
        self.producer.as_ref().ok_or_else(|| self.failed("use", TransactionOutcome::Indefinite, reason()))
    }

    fn failed(&self, operation: &'static str, outcome: TransactionOutcome, reason: String) -> KafkaError {
        KafkaError::Transaction { operation, transactional_id: self.transactional_id.clone(), outcome, reason }
    }

    fn failure(&self, operation: &'static str, error: &ClientError) -> KafkaError {
        failure(&self.transactional_id, operation, error, self.producer.as_ref(), None)
    }
}

/// An opening in the background. Given up when it is dropped: a client that came to its id later would fence the next one.
struct Opening {
    thread: Option<JoinHandle<Result<Producer, KafkaError>>>,
    is_given_up: Arc<AtomicBool>,
}

impl Opening {
    fn begin(config: &KafkaConfig, transactional_id: &str, options: &TransactionOptions) -> Result<Self, KafkaError> {
        let is_given_up = Arc::new(AtomicBool::new(false));
        let (config, id, options) = (config.clone(), transactional_id.to_owned(), *options);
        let asked = Arc::clone(&is_given_up);
        let thread = thread::Builder::new()
            .name("open".into())
            .spawn(move || open(&config, &id, &options, options.init_timeout(), &asked))
            .map_err(|error| KafkaError::Client {
                operation: "starting a thread",
                code: None,
                reason: error.to_string(),
            })?;
        Ok(Self { thread: Some(thread), is_given_up })
    }

    fn wait(mut self) -> Result<Producer, KafkaError> {
        let thread = self.thread.take().expect("it is taken here, or when this is dropped");
        thread.join().unwrap_or_else(|panic| resume_unwind(panic))
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.is_given_up.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Makes a client and initialises its transactions, unless that is given up before.
fn open(
    config: &KafkaConfig,
    transactional_id: &str,
    options: &TransactionOptions,
    timeout: Duration,
    is_given_up: &AtomicBool,
) -> Result<Producer, KafkaError> {
    let timeout_ms = options.transaction_timeout.as_millis().to_string();
    // A record may not outlive its transaction: the client wants the one time-out within the other.
    let mut more = vec![("transaction.timeout.ms", timeout_ms.clone()), ("message.timeout.ms", timeout_ms)];
    more.extend(options.batch_bytes_max.map(|bytes| ("batch.size", bytes.to_string())));
    // The client waits for the answer to offsets for as long as for any, whatever it is told; and wants that to be over this long before
    // the transaction is.
    let answered = options.operation_timeout.min(options.transaction_timeout.saturating_sub(ANSWER_MARGIN));
    more.push(("socket.timeout.ms", config.socket_timeout().min(answered).as_millis().to_string()));
    let producer = producer(config, Some(transactional_id), &more)?;
    let mut wait = Wait::new(timeout);
    // The client goes on where it was when it is asked again.
    while let Err(error) = producer.init_transactions(wait.remaining().min(INIT_LOOK)) {
        producer.poll(Duration::ZERO); // the reason of a failed connection comes as an event
        if is_given_up.load(Relaxed) || !wait.again(&error, &producer) {
            let last = producer.context().events.last().map(|(_, reason)| reason);
            return Err(failure(transactional_id, "init", &error, Some(&producer), last.as_deref()));
        }
    }
    Ok(producer)
}

/// A failed delivery voids the transaction; it may also be the first sign that this writer was fenced.
fn outcome_of_failed_delivery(producer: Option<&Producer>) -> TransactionOutcome {
    match producer.and_then(|producer| producer.client().fatal_error()) {
        Some((code, _)) if is_fenced(code) => TransactionOutcome::Fenced,
        Some(_) => TransactionOutcome::Fatal,
        None => TransactionOutcome::Abortable,
    }
}

fn failure(
    transactional_id: &str,
    operation: &'static str,
    error: &ClientError,
    producer: Option<&Producer>,
    last_event: Option<&str>,
) -> KafkaError {
    let mut reason = error.to_string();
    let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
    if code == Code::TransactionalIdAuthorizationFailed {
        let resource = format!("transactional id {transactional_id:?}");
        return KafkaError::NotAuthorized { operation: "use", resource, reason };
    }
    if let Some(last) = last_event {
        reason = format!("{reason} ({last})");
    }
    let outcome = match error {
        ClientError::Transaction(error) if is_fenced(error.code()) => TransactionOutcome::Fenced,
        ClientError::Transaction(error) if error.is_fatal() => match outcome_of_failed_delivery(producer) {
            TransactionOutcome::Fenced => TransactionOutcome::Fenced,
            _ => TransactionOutcome::Fatal,
        },
        ClientError::Transaction(error) if error.txn_requires_abort() => TransactionOutcome::Abortable,
        _ if operation == "send offsets" => TransactionOutcome::Abortable,
        _ => TransactionOutcome::Indefinite,
    };
    KafkaError::Transaction { operation, transactional_id: transactional_id.to_owned(), outcome, reason }
}

impl fmt::Debug for TransactionalWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("TransactionalWriter");
        debug.field("transactional_id", &self.transactional_id).field("open", &self.open).finish_non_exhaustive()
    }
}

fn is_fenced(code: Code) -> bool {
    matches!(code, Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch)
}

pub(crate) fn offset_list(offsets: &[OffsetCommit<'_>]) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::with_capacity(offsets.len());
    for commit in offsets {
        let mut entry = list.add_partition(commit.topic, commit.partition);
        entry
            .set_offset(Offset::Offset(commit.offset))
            .map_err(|error| KafkaError::client("committing an offset", &error))?;
        entry.set_metadata(commit.metadata);
    }
    Ok(list)
}

/// A deadline, and whether an error is worth another try before it.
struct Wait {
    deadline: Instant,
}

impl Wait {
    fn new(timeout: Duration) -> Self {
        Self { deadline: Instant::now() + timeout }
    }

    fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Whether to try again; pauses a moment first, in which the client's events are served.
    fn again(&mut self, error: &ClientError, producer: &Producer) -> bool {
        let retriable = matches!(error, ClientError::Transaction(error) if error.is_retriable());
        if retriable {
            producer.poll(RETRY_PAUSE.min(self.remaining()));
        }
        retriable && !self.remaining().is_zero()
    }
}
