//! An embedded broker with faults, and a processor that they strike.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use tidewatch_broker::{ApiKey, Broker, BrokerConfig, Fault, FaultRule, RuleId};
use tidewatch_processor::{ProcessorConfig, ProcessorError, Progress, Recoveries, Summary};
use tidewatch_processor_core::config::Span;
use tidewatch_sink::{Stop, StopSignal};
use tidewatch_topic_io::{Admin, KafkaConfig};

use crate::{Reading, assert_same_results, create, drain, last_ledgers, processor, publish, readings};

/// A broker of a test's own, with an input that is half published.
pub(crate) struct Scene {
    pub(crate) broker: Broker,
    pub(crate) kafka: KafkaConfig,
    pub(crate) config: ProcessorConfig,
    /// Readings of the input, when it is whole.
    pub(crate) readings: u64,
}

pub(crate) const INPUT: &str = "faults";
pub(crate) const READINGS: i64 = 6_000;
pub(crate) const HALF: usize = 3_000;
/// The processor's `client.id`: who writes the input has another.
pub(crate) const DISTURBED: &str = "disturbed";

/// One reading of each of so many rooms, after the first half of the input.
pub(crate) fn crowd(rooms: u32) -> Vec<Reading> {
    let at = 1_700_000_000_000 + HALF as i64 * 1_500;
    (0..rooms).map(|room| Reading { room: format!("crowd-{room}"), at, celsius: 20.0 }).collect()
}

/// Ends a processor when a test panics beside it: a scope waits for its threads, whatever has become of the test.
pub(crate) struct EndOnPanic<'a>(pub(crate) &'a StopSignal);

impl Drop for EndOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.request(Stop::Now);
        }
    }
}

impl Scene {
    pub(crate) fn new() -> Self {
        let broker = Broker::start(tidewatch_test_brokers::embedded_config(BrokerConfig::in_memory())).unwrap();
        let kafka = KafkaConfig::at(&broker.bootstrap_servers());
        create(&kafka, &[INPUT]);
        publish(&kafka, INPUT, &readings(READINGS)[..HALF]);
        let mut config = processor(&kafka, INPUT, "disturbed");
        config.kafka.client_id = DISTURBED.into();
        config.settings.batch_max = 200;
        config.settings.transaction_timeout = Span::from_millis(3_000);
        Self { broker, kafka, config, readings: READINGS as u64 }
    }

    /// A rule that strikes the processor once.
    pub(crate) fn once(&self, api: ApiKey, fault: Fault) -> RuleId {
        let client_id = Some(DISTURBED.to_owned());
        self.broker.faults().add(FaultRule { api: Some(api), client_id, times: Some(1), ..FaultRule::new(fault) })
    }

    /// Counts the requests of an API from now on.
    pub(crate) fn count(&self, api: ApiKey) -> RuleId {
        self.broker.faults().add(FaultRule { api: Some(api), ..FaultRule::new(Fault::Delay(Duration::ZERO)) })
    }

    /// Records of the input that are committed.
    pub(crate) fn committed(&self, admin: &Admin) -> i64 {
        let committed = admin.committed(&self.config.settings.group_id, INPUT).unwrap();
        committed.iter().flatten().map(|at| at.offset).sum()
    }

    /// Whether there is a snapshot as of each committed offset.
    pub(crate) fn is_saved(&self, admin: &Admin) -> bool {
        let committed = admin.committed(&self.config.settings.group_id, INPUT).unwrap();
        committed.iter().flatten().all(|at| at.metadata.starts_with(&format!("snapshot={};", at.offset)))
    }

    pub(crate) fn befallen(&self, id: RuleId) -> u64 {
        self.broker.faults().befallen()[&id]
    }

    /// Runs until the first half is committed, has the fault put in force, publishes the second half and drains.
    pub(crate) fn run(&self, disturb: impl FnOnce()) -> Result<Summary, ProcessorError> {
        self.run_while(|_| disturb())
    }

    /// As [`run`](Self::run); who waits for a fault asks whether the processor still runs.
    pub(crate) fn run_while(&self, disturb: impl FnOnce(&dyn Fn() -> bool)) -> Result<Summary, ProcessorError> {
        let (progress, stop) = (Progress::new(), StopSignal::new());
        let before = self.readings - (READINGS as u64 - HALF as u64);
        thread::scope(|scope| {
            let run = scope.spawn(|| tidewatch_processor::run(&self.config, &progress, &stop));
            let _end = EndOnPanic(&stop);
            while progress.counts().read < before && !run.is_finished() {
                thread::yield_now();
            }
            disturb(&|| !run.is_finished());
            publish(&self.kafka, INPUT, &readings(READINGS)[HALF..]);
            stop.request(Stop::Drain);
            run.join().unwrap()
        })
    }

    pub(crate) fn assert_same_as_undisturbed(&self) {
        self.broker.faults().clear();
        let undisturbed = processor(&self.kafka, INPUT, "undisturbed");
        assert_eq!(drain(&undisturbed).read, self.readings);
        assert_same_results(&self.kafka, &self.config, &undisturbed);
        assert_eq!(last_ledgers(&self.kafka, &self.config), last_ledgers(&self.kafka, &undisturbed));
    }

    /// One fault, what it takes to get over it, and how often the group is joined for it.
    pub(crate) fn check(api: ApiKey, fault: Fault, expected: Recoveries, joins: u64) {
        let scene = Self::new();
        let mut rules = BTreeMap::new();
        let summary = scene.run(|| {
            rules.insert("fault", scene.once(api, fault));
            rules.insert("joins", scene.count(ApiKey::JoinGroup));
        });
        let summary = summary.unwrap();
        assert_eq!(scene.befallen(rules["fault"]), 1, "{api:?} {fault:?}");
        assert_eq!(summary.recoveries, expected, "{api:?} {fault:?}");
        assert_eq!(scene.befallen(rules["joins"]), joins, "{api:?} {fault:?}");
        assert_eq!((summary.counts.read, summary.counts.residue()), (READINGS as u64, 0));
        scene.assert_same_as_undisturbed();
    }
}
