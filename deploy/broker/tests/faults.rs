//! Each fault does what it says, by raw sockets; one seed gives one sequence; and an idempotent producer of librdkafka gets
//! every record through all of them, once.

#![allow(clippy::unwrap_used)] // The helpers are tests too.

mod wire;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::ProduceRequest;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use tidewatch_broker::{ApiKey, Broker, BrokerConfig, Fault, FaultRule};
use wire::{Wire, batch, fetch, produce};

const DELAY: Duration = Duration::from_millis(60);

/// A broker with a topic.
fn start() -> Broker {
    let broker = Broker::start(BrokerConfig::in_memory()).unwrap();
    Wire::connect(broker.address()).create_topic("faulty");
    broker
}

fn produces(fault: Fault) -> FaultRule {
    FaultRule { api: Some(ApiKey::Produce), ..FaultRule::new(fault) }
}

fn end_offset(broker: &Broker) -> i64 {
    let read = Wire::connect(broker.address()).ask(12, &fetch("faulty", 0).with_max_wait_ms(0));
    read.responses[0].partitions[0].high_watermark
}

/// What one client sees of a produce request that a fault befalls.
#[derive(Debug, PartialEq)]
enum Seen {
    Answer(i16),
    Closed,
    /// Nothing, and nothing to a second request either.
    Silence,
}

/// Produces one record under a fault and says what came of it: to the client, and to the log.
fn check(fault: Fault, expected: Seen, is_carried_out: bool) -> Duration {
    let broker = start();
    let id = broker.faults().add(FaultRule { times: Some(1), ..produces(fault) });
    let mut wire = Wire::connect(broker.address());
    let begun = Instant::now();
    let correlation_id = wire.send(9, &produce("faulty", -1, batch(&[b"a"])));
    match expected {
        Seen::Answer(error) => {
            let answer = wire.receive::<ProduceRequest>(9, correlation_id);
            assert_eq!(answer.responses[0].partition_responses[0].error_code, error, "{fault:?}");
            wire.expect_alive();
        }
        Seen::Closed => wire.expect_end(),
        Seen::Silence => {
            wire.send(3, &wire::api_versions());
            wire.end_sending();
            wire.expect_end();
        }
    }
    let took = begun.elapsed();
    assert_eq!(end_offset(&broker), i64::from(is_carried_out), "{fault:?}");
    assert_eq!(broker.faults().befallen(), BTreeMap::from([(id, 1)]), "{fault:?}");
    took
}

#[test]
fn each_fault_does_what_it_says() {
    check(Fault::DropRequest, Seen::Silence, false);
    check(Fault::DropReply, Seen::Silence, true);
    check(Fault::Disconnect, Seen::Closed, false);
    check(Fault::DisconnectAfter, Seen::Closed, true);
    let error = ResponseError::NotLeaderOrFollower;
    check(Fault::Error(error), Seen::Answer(error.code()), false);
    // Throttled, the answer comes at once, and the request behind it waits.
    for fault in [Fault::Delay(DELAY), Fault::DelayReply(DELAY), Fault::Freeze(DELAY), Fault::Throttle(DELAY)] {
        assert!(check(fault, Seen::Answer(0), true) >= DELAY, "{fault:?}");
    }
}

#[test]
fn a_throttled_client_is_told_for_how_long() {
    let broker = start();
    broker.faults().add(FaultRule { times: Some(3), ..FaultRule::new(Fault::Throttle(DELAY)) });
    let mut wire = Wire::connect(broker.address());
    let time_ms = DELAY.as_millis() as i32;
    assert_eq!(wire.ask(9, &produce("faulty", -1, batch(&[b"a"]))).throttle_time_ms, time_ms);
    assert_eq!(wire.ask(12, &fetch("faulty", 0)).throttle_time_ms, time_ms);
    assert_eq!(wire.ask(3, &wire::api_versions()).throttle_time_ms, time_ms);
    assert_eq!(wire.ask(12, &fetch("faulty", 0)).throttle_time_ms, 0);
}

#[test]
fn a_delayed_request_is_carried_out_when_its_client_has_gone() {
    let broker = start();
    broker.faults().add(produces(Fault::Delay(DELAY)));
    let mut wire = Wire::connect(broker.address());
    wire.send(9, &produce("faulty", -1, batch(&[b"a"])));
    while broker.faults().befallen().values().all(|count| *count == 0) {
        std::thread::yield_now();
    }
    drop(wire);
    // It does not end before it is there, which is what is asked for.
    while end_offset(&broker) == 0 {
        std::thread::yield_now();
    }
}

#[test]
fn a_delayed_request_is_carried_out_later_and_a_delayed_answer_is_not() {
    for (fault, end) in
        [(Fault::Delay(Duration::from_secs(3_600)), 0), (Fault::DelayReply(Duration::from_secs(3_600)), 1)]
    {
        let broker = start();
        broker.faults().add(produces(fault));
        let mut wire = Wire::connect(broker.address());
        wire.send(9, &produce("faulty", -1, batch(&[b"a"])));
        // Once it is counted, the broker's one thread has done with it what comes before the wait.
        while broker.faults().befallen().values().all(|count| *count == 0) {
            std::thread::yield_now();
        }
        assert_eq!(end_offset(&broker), end, "{fault:?}");
    }
}

#[test]
fn a_frozen_broker_answers_nobody_and_can_be_killed() {
    let broker = start();
    broker.faults().add(FaultRule { times: Some(1), ..FaultRule::new(Fault::Freeze(DELAY)) });
    let (mut first, mut second) = (Wire::connect(broker.address()), Wire::connect(broker.address()));
    let begun = Instant::now();
    first.send(3, &wire::api_versions());
    while broker.faults().befallen().values().all(|count| *count == 0) {
        std::thread::yield_now();
    }
    second.expect_alive();
    assert!(begun.elapsed() >= DELAY);
    broker.faults().add(FaultRule::new(Fault::Freeze(Duration::from_secs(3_600))));
    first.send(3, &wire::api_versions());
    broker.kill();
}

#[test]
fn an_error_stands_wherever_one_can() {
    let broker = start();
    let error = ResponseError::UnknownServerError;
    broker.faults().add(FaultRule { client_id: Some("unlucky".to_owned()), ..FaultRule::new(Fault::Error(error)) });
    let mut wire = Wire::connect_as(broker.address(), "unlucky-1");
    assert_eq!(wire.ask(3, &wire::api_versions()).error_code, error.code());
    let read = wire.ask(12, &fetch("faulty", 0));
    assert_eq!(read.responses[0].partitions[0].error_code, error.code());
    // Who sends with acks=0 sees an error as a closed connection.
    wire.send(9, &produce("faulty", 0, batch(&[b"a"])));
    wire.expect_end();
    Wire::connect_as(broker.address(), "lucky").expect_alive();
}

#[test]
fn one_seed_gives_one_sequence() {
    let sequence = |seed: u64| -> Vec<i16> {
        let broker = start();
        broker.faults().seed(seed);
        broker.faults().add(FaultRule { probability: 0.5, ..produces(Fault::Error(ResponseError::RequestTimedOut)) });
        let mut wire = Wire::connect(broker.address());
        let mut ask =
            || wire.ask(9, &produce("faulty", -1, batch(&[b"a"]))).responses[0].partition_responses[0].error_code;
        (0..40).map(|_| ask()).collect()
    };
    assert_eq!(sequence(11), sequence(11));
    assert_ne!(sequence(11), sequence(12));
}

/// Produces records with an idempotent producer while faults befall it, and reads them back.
#[test]
fn an_idempotent_producer_gets_every_record_through_once() {
    let broker = start();
    broker.faults().seed(5);
    for fault in [
        Fault::DropReply,
        Fault::DropRequest,
        Fault::Disconnect,
        Fault::DisconnectAfter,
        Fault::Error(ResponseError::NotEnoughReplicas),
        Fault::Delay(Duration::from_millis(20)),
    ] {
        let client_id = Some("unlucky".to_owned());
        broker.faults().add(FaultRule { client_id, probability: 0.03, ..produces(fault) });
    }
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap_servers())
        .set("client.id", "unlucky")
        .set("enable.idempotence", "true")
        .set("socket.timeout.ms", "500")
        .set("request.timeout.ms", "400")
        .set("retry.backoff.ms", "5")
        .set("reconnect.backoff.ms", "5")
        .set("reconnect.backoff.max.ms", "20")
        .set("linger.ms", "0")
        .set("batch.num.messages", "5")
        .create()
        .unwrap();
    let records = 400;
    for number in 0..records {
        let value = number.to_string();
        loop {
            match producer.send(BaseRecord::<(), str>::to("faulty").payload(&value)) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    producer.poll(Duration::from_millis(10));
                }
                Err((error, _)) => panic!("{error}"),
            }
        }
        producer.poll(Duration::ZERO);
    }
    producer.flush(Duration::from_secs(120)).unwrap();
    let befallen: u64 = broker.faults().befallen().values().sum();
    assert!(befallen > 0, "the test tests something");
    let expected: Vec<String> = (0..records).map(|number| number.to_string()).collect();
    assert_eq!(read_all(&broker, records), expected);
}

fn read_all(broker: &Broker, records: usize) -> Vec<String> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap_servers())
        .set("group.id", "reader")
        .set("enable.partition.eof", "true")
        .create()
        .unwrap();
    let mut from_start = TopicPartitionList::new();
    from_start.add_partition_offset("faulty", 0, Offset::Beginning).unwrap();
    consumer.assign(&from_start).unwrap();
    let mut read = Vec::with_capacity(records);
    loop {
        match consumer.poll(Duration::from_secs(30)).expect("a record or the end") {
            Ok(record) => read.push(String::from_utf8(record.payload().unwrap().to_vec()).unwrap()),
            Err(KafkaError::PartitionEOF(_)) => return read,
            Err(error) => panic!("{error}"),
        }
    }
}
