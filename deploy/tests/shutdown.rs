//! SIGTERM, where nothing answers any more.

#![allow(clippy::unwrap_used)] // The helpers are tests too.

#[allow(dead_code)] // Nothing is read or compared here.
mod support;

use support::{Corner, page};
use tidewatch_broker::{Broker, BrokerConfig, Fault, FaultRule};

/// A broker of a test's own, and the program's topics on it.
fn scene(name: &'static str) -> (Broker, Corner) {
    let broker = Broker::start(tidewatch_test_brokers::embedded_config(BrokerConfig::in_memory())).unwrap();
    let corner = Corner::new(&broker.bootstrap_servers(), name);
    corner.run("", &["topics", "create"]);
    (broker, corner)
}

/// Waits until it works on its partitions.
fn wait_for_member(corner: &Corner, group: &str, topic: &str) {
    while corner.admin.unowned(group, &[topic]).unwrap().is_none_or(|unowned| !unowned.is_empty()) {
        std::thread::yield_now();
    }
}

#[test]
fn a_sink_ends_in_order_without_a_broker() {
    let (broker, corner) = scene("sink-alone");
    let sink = corner.start("", &["sink"]);
    wait_for_member(&corner, "tidewatch-sink", "tidewatch.alerts.v1");
    broker.kill();
    sink.signal("TERM");
    let (status, log) = sink.finish();
    assert!(status.success(), "{status}: {log}");
}

#[test]
fn a_scorer_ends_in_order_without_a_broker() {
    let (broker, corner) = scene("score-alone");
    let (mut score, address) = corner.serve("", &["score"]);
    while !page(&address, "/ready").starts_with("HTTP/1.1 200") {
        assert!(!score.has_ended(), "{}", score.log());
        std::thread::yield_now();
    }
    broker.kill();
    score.signal("TERM");
    let (status, log) = score.finish();
    assert!(status.success(), "{status}: {log}");
}

#[test]
fn a_second_signal_ends_at_once() {
    let (broker, corner) = scene("signalled-twice");
    let processor = corner.start("", &["process"]);
    wait_for_member(&corner, "tidewatch", "tidewatch.checks.v1");
    // To leave the group takes some seconds when nobody answers.
    broker.faults().add(FaultRule::new(Fault::DropRequest));
    processor.signal("TERM");
    while !processor.log().contains("once more ends at once") {
        std::thread::yield_now();
    }
    processor.signal("TERM");
    let (status, log) = processor.finish();
    assert_eq!(status.code(), Some(130), "{log}");
}
