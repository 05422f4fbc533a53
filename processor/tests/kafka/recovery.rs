//! Each row of the worker's table of failures, on an embedded broker with faults: what it was answered with, and that the results are
//! those of a run without.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use tidewatch_broker::{ApiKey, Fault, FaultRule, ResponseError};
use tidewatch_processor::{ProcessorConfig, ProcessorError, Progress, Recoveries};
use tidewatch_processor_core::config::Span;
use tidewatch_schemas::record::Ledger;
use tidewatch_sink::{ProcessingGuarantee, Stop, StopSignal};
use tidewatch_topic_io::{Admin, KafkaConfig, KafkaError, Outgoing, TransactionOptions, TransactionalWriter};

use crate::scene::{DISTURBED, EndOnPanic, HALF, INPUT, READINGS, Scene, crowd};
use crate::{drain, processor, publish, read, readings, records};

#[test]
fn a_commit_whose_answer_is_lost_is_confirmed_by_the_committed_offset() {
    let confirmed = Recoveries { confirmed: 1, ..Recoveries::default() };
    Scene::check(ApiKey::EndTxn, Fault::DropReply, confirmed, 0);
}

#[test]
fn a_commit_that_never_arrived_is_undone_and_done_again() {
    let undone = Recoveries { undone: 1, ..Recoveries::default() };
    Scene::check(ApiKey::EndTxn, Fault::DropRequest, undone, 0);
}

#[test]
fn an_end_of_a_transaction_that_comes_late_is_fenced() {
    let scene = Scene::new();
    // It arrives when its producer is gone and the next ones have committed.
    let summary = scene.run(|| _ = scene.once(ApiKey::EndTxn, Fault::Delay(Duration::from_secs(5)))).unwrap();
    assert_eq!(summary.recoveries, Recoveries { undone: 1, ..Recoveries::default() });
    scene.assert_same_as_undisturbed();
}

#[test]
fn offsets_that_are_refused_abort_the_cycle_and_nothing_else() {
    let aborted = Recoveries { aborted: 1, ..Recoveries::default() };
    Scene::check(ApiKey::TxnOffsetCommit, Fault::Error(ResponseError::IllegalGeneration), aborted, 0);
}

#[test]
fn offsets_whose_answer_is_lost_are_given_up_within_the_time_of_an_operation() {
    let aborted = Recoveries { aborted: 1, ..Recoveries::default() };
    Scene::check(ApiKey::TxnOffsetCommit, Fault::DropReply, aborted, 0);
}

#[test]
fn what_may_still_arrive_is_not_aborted_under_its_own_epoch() {
    let mut scene = Scene::new();
    scene.config.settings.transaction_timeout = Span::from_millis(20_000);
    scene.config.kafka.properties.set("socket.timeout.ms", "1000");
    let ends = scene.count(ApiKey::EndTxn);
    // Offsets without an answer, which may come late, and when they are sent again they are refused.
    let summary = scene.run(|| {
        scene.once(ApiKey::TxnOffsetCommit, Fault::DropReply);
        scene.once(ApiKey::TxnOffsetCommit, Fault::Error(ResponseError::IllegalGeneration));
    });
    let summary = summary.unwrap();
    assert_eq!(summary.recoveries, Recoveries { aborted: 1, ..Recoveries::default() });
    // No end of that transaction but for the next epoch's sake.
    assert_eq!(scene.befallen(ends), summary.transactions);
    scene.assert_same_as_undisturbed();
}

#[test]
fn a_producer_that_is_fenced_once_is_replaced() {
    let undone = Recoveries { undone: 1, ..Recoveries::default() };
    Scene::check(ApiKey::EndTxn, Fault::Error(ResponseError::InvalidProducerEpoch), undone, 0);
}

#[test]
fn state_alone_is_written_under_the_word_of_the_group_too() {
    let mut scene = Scene::new();
    publish(&scene.kafka, INPUT, &crowd(600));
    scene.config.settings.snapshot_every = Span::from_millis(50);
    scene.config.settings.snapshot_kib_per_second = 64;
    // A member whose partitions have moved may not know it yet: the offsets that go with each transaction tell.
    let [offsets, ends] = [ApiKey::TxnOffsetCommit, ApiKey::EndTxn].map(|api| scene.count(api));
    let (progress, stop) = (Progress::new(), StopSignal::new());
    let admin = Admin::connect(&scene.kafka).unwrap();
    let published = HALF as u64 + crowd(600).len() as u64;
    let (by_then, summary) = thread::scope(|scope| {
        let run = scope.spawn(|| tidewatch_processor::run(&scene.config, &progress, &stop));
        let _end = EndOnPanic(&stop);
        while progress.counts().read < published && !run.is_finished() {
            thread::yield_now();
        }
        let by_then = progress.transactions();
        while !scene.is_saved(&admin) && !run.is_finished() {
            thread::yield_now();
        }
        stop.request(Stop::Now);
        (by_then, run.join().unwrap().unwrap())
    });
    assert!(summary.transactions > by_then + 3, "some transactions held nothing but state");
    assert_eq!((scene.befallen(offsets), summary.recoveries), (scene.befallen(ends), Recoveries::default()));
}

#[test]
fn state_whose_commit_never_arrived_is_written_again() {
    let mut scene = Scene::new();
    publish(&scene.kafka, INPUT, &crowd(600));
    let published = HALF as u64 + crowd(600).len() as u64;
    scene.readings += crowd(600).len() as u64;
    // All is read long before the state of so many rooms is written: its transactions hold nothing else.
    scene.config.settings.snapshot_every = Span::from_millis(50);
    scene.config.settings.snapshot_kib_per_second = 32;
    let (progress, stop) = (Progress::new(), StopSignal::new());
    let admin = Admin::connect(&scene.kafka).unwrap();
    let summary = thread::scope(|scope| {
        let run = scope.spawn(|| tidewatch_processor::run(&scene.config, &progress, &stop));
        let _end = EndOnPanic(&stop);
        while progress.counts().read < published && !run.is_finished() {
            thread::yield_now();
        }
        let lost = scene.once(ApiKey::EndTxn, Fault::DropRequest);
        while (scene.befallen(lost) == 0 || !scene.is_saved(&admin)) && !run.is_finished() {
            thread::yield_now();
        }
        stop.request(Stop::Now);
        run.join().unwrap().unwrap()
    });
    assert_eq!(summary.recoveries, Recoveries { undone: 1, ..Recoveries::default() });
    publish(&scene.kafka, INPUT, &readings(READINGS)[HALF..]);
    drain(&scene.config);
    scene.assert_same_as_undisturbed();
}

#[test]
fn records_whose_answer_is_lost_are_written_again_and_none_is_taken_for_a_duplicate() {
    let scene = Scene::new();
    let mut kafka = KafkaConfig { client_id: DISTURBED.into(), ..scene.kafka.clone() };
    // A record whose answer is lost waits to be sent again when its transaction is aborted.
    for (name, value) in [("socket.timeout.ms", "1000"), ("retry.backoff.ms", "5000"), ("retry.backoff.max.ms", "5000")]
    {
        kafka.properties.set(name, value);
    }
    let options = TransactionOptions { operation_timeout: Duration::from_secs(2), ..TransactionOptions::default() };
    let mut writer = TransactionalWriter::new(&kafka, "lost-answer", options).unwrap();
    let topic = scene.config.topics.late.clone();
    let mut write = |value: &[u8]| {
        writer.begin().unwrap();
        writer.send(Outgoing { partition: Some(0), ..Outgoing::new(&topic, b"k", value) }).unwrap();
        writer.commit_records().map_err(|_| writer.abort().unwrap())
    };
    // On a partition's first batch, and on later ones.
    for value in [b"a", b"b", b"c"] {
        scene.once(ApiKey::Produce, Fault::DropReply);
        write(value).unwrap_err();
        // A slow machine may take longer than these times, too.
        assert!((0..5).any(|_| write(value).is_ok()));
    }
    let found: Vec<_> = read(&scene.kafka, &topic, <[u8]>::to_vec).into_iter().map(|(_, _, value, _)| value).collect();
    assert_eq!(found, [b"a", b"b", b"c"]);
}

#[test]
fn what_was_still_to_be_written_when_a_cycle_failed_is_written_once() {
    let mut scene = Scene::new();
    // The next reading of a later window closes the windows of all these rooms, far more than the queue holds.
    publish(&scene.kafka, INPUT, &crowd(600));
    scene.readings += crowd(600).len() as u64;
    scene.config.kafka.properties.set("queue.buffering.max.messages", "20");
    // What is read again after a failure clears the effects, so nothing must be: the snapshot has to be as of what is committed.
    scene.config.settings.snapshot_every = Span::from_millis(50);
    let admin = Admin::connect(&scene.kafka).unwrap();
    let fenced = Fault::Error(ResponseError::InvalidProducerEpoch);
    let summary = scene.run(|| {
        while !scene.is_saved(&admin) {
            thread::yield_now();
        }
        scene.once(ApiKey::Produce, fenced);
    });
    let summary = summary.unwrap();
    assert_ne!(summary.recoveries, Recoveries::default());
    scene.assert_same_as_undisturbed();
}

#[test]
fn a_transactional_id_that_is_not_to_be_had_ends_the_start() {
    let scene = Scene::new();
    let refused = Fault::Error(ResponseError::TransactionalIdAuthorizationFailed);
    let client_id = Some(DISTURBED.to_owned());
    scene.broker.faults().add(FaultRule { api: Some(ApiKey::InitProducerId), client_id, ..FaultRule::new(refused) });
    let error = tidewatch_processor::run(&scene.config, &Progress::new(), &StopSignal::new()).unwrap_err();
    assert!(error.to_string().contains("transactional id \"faults.disturbed.group/0/0\""), "{error}");
}

#[test]
fn at_least_once_repeats_what_a_failed_cycle_had_written_and_leaves_nothing_out() {
    let mut scene = Scene::new();
    scene.config.settings.processing_guarantee = ProcessingGuarantee::AtLeastOnce;
    // The second half is one cycle, and closes windows; no commit between the halves carries state alone.
    scene.config.settings.batch_max = READINGS as usize;
    scene.config.settings.commit_interval = Span::from_millis(2_000);
    scene.config.settings.snapshot_every = Span::from_millis(3_600_000);
    let admin = Admin::connect(&scene.kafka).unwrap();
    // Nothing helps against this answer: the processor ends, with results written that nothing was committed of.
    let refused = Fault::Error(ResponseError::OffsetMetadataTooLarge);
    let error = scene.run(|| {
        while scene.committed(&admin) < HALF as i64 {
            thread::yield_now();
        }
        scene.once(ApiKey::OffsetCommit, refused);
    });
    error.unwrap_err();
    drain(&scene.config);
    let exactly = processor(&scene.kafka, INPUT, "undisturbed");
    drain(&exactly);
    let results = |config: &ProcessorConfig| {
        let t = &config.topics;
        [&t.metrics, &t.forecasts, &t.alerts, &t.late].map(|topic| read(&scene.kafka, topic, <[u8]>::to_vec))
    };
    let mut repeated = 0;
    for (found, expected) in results(&scene.config).iter().zip(&results(&exactly)) {
        let missing = expected.iter().find(|record| !found.contains(record));
        assert_eq!(missing, None);
        // No other records are among them than those that are to be there.
        assert!(found.iter().all(|record| expected.contains(record)));
        repeated += found.len() - expected.len();
    }
    assert!(repeated > 0, "the cycle that failed had written something");
    let last = |config: &ProcessorConfig| {
        let ledgers = records::<Ledger>(&scene.kafka, &config.topics.ledger).into_iter();
        let last: BTreeMap<i32, Ledger> = ledgers.map(|ledger| (ledger.partition, ledger)).collect();
        let without = |ledger| Ledger { group: String::new(), from_offset: 0, ..ledger };
        last.into_values().map(without).collect::<Vec<_>>()
    };
    assert_eq!(last(&scene.config), last(&exactly));
}

#[test]
fn a_fatal_error_makes_all_clients_anew() {
    let rebuilt = Recoveries { rebuilt: 1, ..Recoveries::default() };
    // A member asks for an id before it joins.
    Scene::check(ApiKey::EndTxn, Fault::Error(ResponseError::InvalidTxnState), rebuilt, 2);
}

#[test]
fn a_producer_that_is_fenced_again_and_again_ends_the_processor() {
    let mut scene = Scene::new();
    scene.config.settings.transaction_timeout = Span::from_millis(30_000);
    let error = scene.run(|| {
        let fenced = Fault::Error(ResponseError::InvalidProducerEpoch);
        scene.broker.faults().add(FaultRule { api: Some(ApiKey::EndTxn), ..FaultRule::new(fenced) });
    });
    let error = error.unwrap_err();
    assert!(matches!(error, ProcessorError::Fenced { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.starts_with("transactional id `faults.disturbed.group/0/0` is in use by another process"), "{text}");
    assert!(text.contains("`processor.instance`"), "{text}");
    scene.broker.faults().clear();
    drain(&scene.config);
    scene.assert_same_as_undisturbed();
}

#[test]
fn what_fails_again_and_again_ends_the_processor_with_its_error() {
    let scene = Scene::new();
    let error = scene.run(|| {
        let refused = Fault::Error(ResponseError::IllegalGeneration);
        scene.broker.faults().add(FaultRule { api: Some(ApiKey::TxnOffsetCommit), ..FaultRule::new(refused) });
    });
    let error = error.unwrap_err();
    assert!(matches!(error, ProcessorError::Kafka(KafkaError::Transaction { .. })), "{error:?}");
    scene.broker.faults().clear();
    drain(&scene.config);
    scene.assert_same_as_undisturbed();
}

#[test]
fn a_broker_that_is_away_for_longer_than_a_producer_waits_is_waited_for() {
    let scene = Scene::new();
    let (progress, stop) = (Progress::new(), StopSignal::new());
    let summary = thread::scope(|scope| {
        let run = scope.spawn(|| tidewatch_processor::run(&scene.config, &progress, &stop));
        let _end = EndOnPanic(&stop);
        while progress.transactions() == 0 && !run.is_finished() {
            thread::yield_now();
        }
        // The commit is not answered, and who would settle it is not let in.
        for api in [ApiKey::EndTxn, ApiKey::InitProducerId] {
            let client_id = Some(DISTURBED.to_owned());
            scene.broker.faults().add(FaultRule { api: Some(api), client_id, ..FaultRule::new(Fault::DropRequest) });
        }
        publish(&scene.kafka, INPUT, &readings(READINGS)[HALF..]);
        while progress.recoveries().rebuilt == 0 && !run.is_finished() {
            thread::yield_now();
        }
        scene.broker.faults().clear();
        stop.request(Stop::Drain);
        run.join().unwrap().unwrap()
    });
    assert!(summary.recoveries.rebuilt > 0 && summary.counts.residue() == 0, "{summary:?}");
    scene.assert_same_as_undisturbed();
}

#[test]
fn a_worker_whose_reading_hangs_is_made_anew() {
    let mut scene = Scene::new();
    scene.config.settings.stall_timeout = Span::from_millis(6_000);
    // The connection is silent from then on, and only the client's own time-out, a minute, would end that.
    let summary = scene.run_while(|runs| {
        let silent = scene.once(ApiKey::Fetch, Fault::DropRequest);
        // A request that came before it may be answered with everything.
        while scene.befallen(silent) == 0 && runs() {
            thread::yield_now();
        }
    });
    let summary = summary.unwrap();
    assert_eq!(summary.recoveries.rebuilt, 1, "{:?}", summary.recoveries);
    scene.assert_same_as_undisturbed();
}

#[test]
fn a_worker_that_hangs_for_good_ends_the_processor() {
    let mut scene = Scene::new();
    scene.config.settings.stall_timeout = Span::from_millis(700);
    scene.config.settings.shutdown_grace = Span::from_millis(500);
    let error = scene.run_while(|runs| {
        let silent = FaultRule { api: Some(ApiKey::Fetch), ..FaultRule::new(Fault::DropRequest) };
        let silent = scene.broker.faults().add(silent);
        // A request that came before it may be answered with everything.
        while scene.befallen(silent) == 0 && runs() {
            thread::yield_now();
        }
    });
    let error = error.unwrap_err();
    assert!(matches!(error, ProcessorError::Stalled { worker: 0, times: 3, .. }), "{error:?}");
    assert!(error.to_string().starts_with("worker 0 has made no progress for 0.7 s though there is input"), "{error}");
}

#[test]
fn outputs_slower_than_a_batch_in_the_time_of_a_transaction_are_caught_up_with() {
    let mut scene = Scene::new();
    scene.config.settings.batch_max = READINGS as usize;
    scene.config.settings.commit_interval = Span::from_millis(2_000);
    for (name, value) in [("batch.num.messages", "10"), ("max.in.flight.requests.per.connection", "1")] {
        scene.config.kafka.properties.set(name, value);
    }
    let slow = FaultRule {
        api: Some(ApiKey::Produce),
        client_id: Some(DISTURBED.into()),
        ..FaultRule::new(Fault::DelayReply(Duration::from_millis(150)))
    };
    let summary = scene.run(|| _ = scene.broker.faults().add(slow)).unwrap();
    assert_ne!(summary.recoveries, Recoveries::default());
    scene.assert_same_as_undisturbed();
}

#[test]
fn one_worker_that_cannot_go_on_ends_all() {
    let mut scene = Scene::new();
    scene.config.settings.workers = 3;
    scene.config.settings.transaction_timeout = Span::from_millis(30_000);
    let error = scene.run(|| {
        let fenced = Fault::Error(ResponseError::InvalidProducerEpoch);
        scene.broker.faults().add(FaultRule { api: Some(ApiKey::EndTxn), ..FaultRule::new(fenced) });
    });
    assert!(matches!(error, Err(ProcessorError::Fenced { .. })), "{error:?}");
    scene.broker.faults().clear();
    drain(&scene.config);
    scene.assert_same_as_undisturbed();
}

#[test]
fn outputs_that_are_slow_cost_no_membership() {
    let mut scene = Scene::new();
    let properties = &mut scene.config.kafka.properties;
    // Some records of queue, and little patience of the group.
    for (name, value) in [
        ("queue.buffering.max.messages", "50"),
        ("session.timeout.ms", "6000"),
        ("max.poll.interval.ms", "9000"),
        ("heartbeat.interval.ms", "300"),
    ] {
        properties.set(name, value);
    }
    let mut joins = None;
    let summary = scene.run(|| {
        let slow = FaultRule {
            api: Some(ApiKey::Produce),
            client_id: Some(DISTURBED.into()),
            times: Some(25),
            ..FaultRule::new(Fault::DelayReply(Duration::from_millis(400)))
        };
        scene.broker.faults().add(slow);
        joins = Some(scene.count(ApiKey::JoinGroup));
    });
    let summary = summary.unwrap();
    assert_eq!(scene.befallen(joins.unwrap()), 0, "{:?}", summary.recoveries);
    scene.assert_same_as_undisturbed();
}

#[test]
fn an_end_is_asked_for_while_a_commit_is_not_answered() {
    let mut scene = Scene::new();
    scene.config.settings.shutdown_grace = Span::from_millis(500);
    let (progress, stop) = (Progress::new(), StopSignal::new());
    thread::scope(|scope| {
        let run = scope.spawn(|| tidewatch_processor::run(&scene.config, &progress, &stop));
        let _end = EndOnPanic(&stop);
        while progress.transactions() == 0 {
            assert!(!run.is_finished());
            thread::yield_now();
        }
        let silent = FaultRule { api: Some(ApiKey::EndTxn), ..FaultRule::new(Fault::DropRequest) };
        let rule = scene.broker.faults().add(silent);
        publish(&scene.kafka, INPUT, &readings(READINGS)[HALF..]);
        while scene.befallen(rule) == 0 {
            thread::yield_now();
        }
        stop.request(Stop::Now);
        run.join().unwrap().unwrap();
    });
    scene.broker.faults().clear();
    drain(&scene.config);
    scene.assert_same_as_undisturbed();
}
