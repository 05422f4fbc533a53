//! What a client tells us outside of a call: log lines, errors, failed deliveries, rebalances.
//!
//! Invariant: a callback only records; it is acted upon where a caller can see the result (the writer's next call,
//! the reader's `serve_group`).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::ProducerContext;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Statistics, TopicPartitionList};

use crate::config::KafkaConfig;
use crate::error::{self, KafkaError};
use crate::metrics;
use crate::oauth::Tokens;

/// What every client reports.
#[derive(Default)]
pub(crate) struct ClientEvents {
    /// The last error of each kind that matters, with the client's words.
    last: Mutex<Option<(Code, String)>>,
}

impl ClientEvents {
    /// The last thing that went wrong.
    pub(crate) fn last(&self) -> Option<(Code, String)> {
        lock(&self.last).clone()
    }

    fn record(&self, error: &ClientError, reason: &str) {
        let Some(code) = error.rdkafka_error_code() else { return };
        if error::is_passing(code) {
            metrics::client_error();
            tracing::debug!(%code, reason, "kafka client: passing trouble");
        } else {
            tracing::warn!(%code, reason, "kafka client");
        }
        let mut last = lock(&self.last);
        // "All brokers are down" follows the reason why, and says less.
        if code != Code::AllBrokersDown || last.is_none() {
            *last = Some((code, reason.to_owned()));
        }
    }
}

fn forward_log(level: RDKafkaLogLevel, facility: &str, line: &str) {
    match level {
        // Its connection troubles arrive as errors too; a property of another role is no news.
        _ if facility == "FAIL" || facility == "CONFWARN" => tracing::debug!(facility, line, "librdkafka"),
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
            tracing::warn!(facility, line, "librdkafka");
        }
        RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice => tracing::info!(facility, line, "librdkafka"),
        RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => tracing::debug!(facility, line, "librdkafka"),
    }
}

/// The three methods that every context shares.
macro_rules! client_context {
    ($context:ty) => {
        impl ClientContext for $context {
            fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
                forward_log(level, facility, line);
            }

            fn error(&self, error: ClientError, reason: &str) {
                self.events.record(&error, reason);
            }

            fn stats(&self, _: Statistics) {}

            fn stats_raw(&self, _: &[u8]) {}
        }
    };
}

/// What a producer reports: which deliveries failed.
pub(crate) struct ProducerEvents {
    pub(crate) tokens: Option<Tokens>,
    pub(crate) events: ClientEvents,
    failed: AtomicU64,
    first_failure: Mutex<Option<KafkaError>>,
    /// Set when records are thrown away on purpose, by an abort.
    discarding: AtomicBool,
}

client_context!(ProducerEvents);

impl ProducerEvents {
    pub(crate) fn new(config: &KafkaConfig) -> Self {
        Self {
            tokens: Tokens::of(config),
            events: ClientEvents::default(),
            failed: AtomicU64::new(0),
            first_failure: Mutex::new(None),
            discarding: AtomicBool::new(false),
        }
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    pub(crate) fn first_failure(&self) -> Option<KafkaError> {
        lock(&self.first_failure).clone()
    }

    pub(crate) fn set_discarding(&self) {
        self.discarding.store(true, Ordering::Relaxed);
    }
}

impl ProducerContext for ProducerEvents {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let Err((error, message)) = result else { return };
        self.failed.fetch_add(1, Ordering::Relaxed);
        if self.discarding.load(Ordering::Relaxed) {
            return;
        }
        metrics::delivery_failed();
        let mut first = lock(&self.first_failure);
        if first.is_none() {
            let size = message.payload_len() + message.key_len();
            *first = Some(delivery_error(error, message.topic(), message.partition(), size));
        }
    }
}

/// A failed delivery in the words of a user.
pub(crate) fn delivery_error(error: &ClientError, topic: &str, partition: i32, size: usize) -> KafkaError {
    let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
    let topic = topic.to_owned();
    match code {
        Code::MessageSizeTooLarge => KafkaError::RecordTooLarge { topic, size },
        Code::UnknownTopic | Code::UnknownTopicOrPartition => KafkaError::UnknownTopic { topic },
        Code::TopicAuthorizationFailed => KafkaError::NotAuthorized {
            operation: "write to topic",
            resource: format!("{topic:?}"),
            reason: code.to_string(),
        },
        Code::InvalidTimestamp | Code::InvalidRecord | Code::PolicyViolation => {
            KafkaError::RecordRefused { topic, reason: code.to_string() }
        }
        code => KafkaError::Delivery { topic, partition, code, reason: code.to_string() },
    }
}

/// A rebalance that waits to be served.
#[derive(Debug)]
pub(crate) enum Rebalance {
    Assign(Vec<(String, i32)>),
    Revoke { partitions: Vec<(String, i32)>, lost: bool },
}

/// What a consumer reports: rebalances.
pub(crate) struct ConsumerEvents {
    pub(crate) tokens: Option<Tokens>,
    pub(crate) events: ClientEvents,
    pub(crate) rebalances: Mutex<VecDeque<Rebalance>>,
    /// Set when the reader goes away: nobody will serve a rebalance any more.
    closing: AtomicBool,
}

client_context!(ConsumerEvents);

impl ConsumerEvents {
    pub(crate) fn new(config: &KafkaConfig) -> Self {
        Self {
            tokens: Tokens::of(config),
            events: ClientEvents::default(),
            rebalances: Mutex::default(),
            closing: AtomicBool::new(false),
        }
    }

    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    pub(crate) fn rebalances(&self) -> MutexGuard<'_, VecDeque<Rebalance>> {
        lock(&self.rebalances)
    }
}

impl ConsumerContext for ConsumerEvents {
    /// Records the rebalance; the client waits with its next step until `serve_group` has called assign or unassign.
    fn rebalance(&self, consumer: &BaseConsumer<Self>, event: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions = || list.elements().iter().map(|e| (e.topic().to_owned(), e.partition())).collect();
        let assigned = event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::Relaxed) {
            answer_leaving(consumer, assigned, list);
            return;
        }
        let rebalance = if assigned {
            Rebalance::Assign(partitions())
        } else {
            Rebalance::Revoke { partitions: partitions(), lost: consumer.assignment_lost() }
        };
        self.rebalances().push_back(rebalance);
    }
}

/// The answer of a member that is leaving: it takes what it is given, as the client can give back only that, and gives up everything.
pub(crate) fn answer_leaving(consumer: &BaseConsumer<ConsumerEvents>, assigned: bool, list: &TopicPartitionList) {
    let cooperative = matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
    let answered = match (assigned, cooperative) {
        (false, true) => consumer.incremental_unassign(list),
        (true, true) => consumer.incremental_assign(list),
        (_, false) => consumer.unassign(),
    };
    if let Err(error) = answered {
        tracing::debug!(%error, "leaving the group");
    }
}

/// A poisoned lock still guards whole values here: every write is one assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
