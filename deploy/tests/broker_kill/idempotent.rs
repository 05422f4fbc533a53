//! Idempotent producers: each notes what the broker told it of every record.

use std::sync::Mutex;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};

use crate::observers::Seen;
use crate::random::Random;
use crate::{Load, PARTITIONS, PATIENCE, PLAIN};

/// So many records are on their way at most: the more often does a kill find them in different states.
const IN_FLIGHT_MAX: i32 = 400;

#[derive(Default)]
struct Reports {
    acknowledged: Mutex<Vec<Seen>>,
    failed: Mutex<Option<String>>,
}

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, report: &DeliveryResult<'_>, (): ()) {
        match report {
            Ok(message) => self.acknowledged.lock().unwrap().push(Seen::of(
                message.partition(),
                message.offset(),
                message.payload().unwrap(),
            )),
            Err((error, message)) => {
                let text = format!("a record for partition {} failed: {error}", message.partition());
                self.failed.lock().unwrap().get_or_insert(text);
            }
        }
    }
}

/// Writes until the load is over, then waits for the last acknowledgement. Gives all of them.
pub(crate) fn produce(load: &Load, id: u32) -> Vec<Seen> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &load.kafka.bootstrap_servers).set("enable.idempotence", "true");
    config.set("reconnect.backoff.ms", "5").set("reconnect.backoff.max.ms", "50").set("retry.backoff.ms", "5");
    // A record does not give up: what it would become then nobody knows.
    config.set("message.timeout.ms", "0").set("linger.ms", "1");
    config.set("compression.type", if id.is_multiple_of(2) { "lz4" } else { "none" });
    let producer: BaseProducer<Reports> = BaseProducer::from_config_and_context(&config, Reports::default()).unwrap();
    let mut random = Random::of(load.seed, 100 + u64::from(id));
    let mut told = 0;
    let mut number = 0;
    let mut tell = |producer: &BaseProducer<Reports>| {
        let now = producer.context().acknowledged.lock().unwrap().len() as u64;
        load.records.fetch_add(now - told, Relaxed);
        told = now;
        let failed = producer.context().failed.lock().unwrap().take();
        assert_eq!(failed, None, "idempotent producer {id}");
    };
    while !load.is_over.load(Relaxed) {
        if load.records.load(Relaxed) >= load.records_max.load(Relaxed) {
            producer.poll(Duration::from_millis(1));
            tell(&producer);
            continue;
        }
        let payload = Seen::payload(id, number, 0, usize::try_from(random.below(300)).unwrap());
        let partition = i32::try_from(random.below(PARTITIONS as u64)).unwrap();
        match producer.send(BaseRecord::<(), [u8]>::to(PLAIN).partition(partition).payload(&payload)) {
            Ok(()) => number += 1,
            Err((KafkaError::MessageProduction(Code::QueueFull), _)) => {}
            Err((error, _)) => panic!("idempotent producer {id}: {error}, {:?}", producer.client().fatal_error()),
        }
        while producer.in_flight_count() >= IN_FLIGHT_MAX {
            producer.poll(Duration::from_millis(1));
            tell(&producer);
        }
    }
    let begun = Instant::now();
    while producer.in_flight_count() > 0 {
        assert!(begun.elapsed() < PATIENCE, "{} records are not acknowledged", producer.in_flight_count());
        producer.poll(Duration::from_millis(10));
    }
    producer.poll(Duration::ZERO);
    tell(&producer);
    let acknowledged = std::mem::take(&mut *producer.context().acknowledged.lock().unwrap());
    assert_eq!(acknowledged.len(), number as usize, "every record is acknowledged once");
    acknowledged
}
