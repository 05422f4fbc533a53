//! How a member comes back: what its restore tells, and what becomes of it when it takes longer than others wait.

use std::thread;
use std::time::Duration;

use tidewatch_broker::{ApiKey, Fault, FaultRule};
use tidewatch_processor::{ProcessorConfig, Progress};
use tidewatch_processor_core::config::Span;
use tidewatch_sink::{Stop, StopSignal};
use tidewatch_topic_io::{
    Admin, GroupOptions, GroupReader, KafkaConfig, Outgoing, StartAt, TransactionOptions, TransactionalWriter, Writer,
};

use crate::scene::{DISTURBED, EndOnPanic, HALF, INPUT, READINGS, Scene, crowd};
use crate::{PARTITIONS, drain, metrics, publish, readings, send};

/// What members are given, at the least that a broker allows, and what follows from it.
fn hurry(config: &mut ProcessorConfig) {
    for time_out in ["session.timeout.ms", "max.poll.interval.ms"] {
        config.kafka.properties.set(time_out, "6000");
    }
    config.settings.transaction_timeout = Span::from_millis(2_000);
}

/// All fetches of the processor take this long.
fn slow_fetches(seconds: u64) -> FaultRule {
    let client_id = Some(DISTURBED.to_owned());
    FaultRule { api: Some(ApiKey::Fetch), client_id, ..FaultRule::new(Fault::Delay(Duration::from_secs(seconds))) }
}

#[test]
fn a_restore_that_takes_longer_than_a_member_may_be_silent_keeps_its_place() {
    let mut scene = Scene::new();
    hurry(&mut scene.config);
    drain(&scene.config);
    publish(&scene.kafka, INPUT, &readings(READINGS)[HALF..]);
    // State is read when no transaction on it is open any more: this one is, for longer than that.
    let mut writer = hold_state(&scene, 0);
    let joins = scene.count(ApiKey::JoinGroup);
    let counts = thread::scope(|scope| {
        let run = scope.spawn(|| drain(&scene.config));
        thread::sleep(Duration::from_secs(8));
        writer.abort().unwrap();
        run.join().unwrap()
    });
    // A member asks for an id before it joins, once.
    assert_eq!((counts.read, scene.befallen(joins)), ((READINGS as usize - HALF) as u64, 2));
    scene.assert_same_as_undisturbed();
}

#[test]
fn a_member_that_comes_too_late_with_its_restore_lets_who_has_gone_on() {
    let mut scene = Scene::new();
    hurry(&mut scene.config);
    drain(&scene.config);
    publish(&scene.kafka, INPUT, &readings(READINGS)[HALF..]);
    // Its fetches come late, and of its heartbeats none.
    scene.broker.faults().add(slow_fetches(9));
    let mute = FaultRule { api: Some(ApiKey::Heartbeat), ..slow_fetches(0) };
    scene.broker.faults().add(FaultRule { fault: Fault::DropRequest, ..mute });
    let mut second = scene.config.clone();
    second.kafka.client_id = "second".into();
    second.settings.instance = "1".into();
    let (progresses, stops) = ([Progress::new(), Progress::new()], [StopSignal::new(), StopSignal::new()]);
    let before = lost();
    let summaries = thread::scope(|scope| {
        let one = scope.spawn(|| tidewatch_processor::run(&scene.config, &progresses[0], &stops[0]));
        while progresses[0].restore().is_none() && !one.is_finished() {
            thread::yield_now();
        }
        let two = scope.spawn(|| tidewatch_processor::run(&second, &progresses[1], &stops[1]));
        while progresses[1].transactions() == 0 && !two.is_finished() {
            thread::yield_now();
        }
        while progresses[0].recoveries().aborted == 0 && !one.is_finished() {
            thread::yield_now();
        }
        scene.broker.faults().clear();
        stops.iter().for_each(|stop| stop.request(Stop::Drain));
        [one, two].map(|member| member.join().unwrap().unwrap())
    });
    let [one, two] = summaries;
    assert_eq!(one.counts.read + two.counts.read, (READINGS as usize - HALF) as u64);
    // Restored as of what was committed before, while the second had committed more.
    assert!(one.recoveries.aborted > 0, "{:?}", one.recoveries);
    assert!(lost() > before, "its partitions were lost to it");
    scene.assert_same_as_undisturbed();
}

/// Partitions that members have lost, in all tests of this process.
fn lost() -> f64 {
    let rendered = metrics().render();
    let lost = rendered.lines().find_map(|line| line.strip_prefix("tidewatch_kafka_rebalances_total{kind=\"lost\"} "));
    lost.map_or(0.0, |lost| lost.parse().unwrap())
}

#[test]
fn who_is_told_to_end_while_it_restores_leaves_its_group() {
    let mut scene = Scene::new();
    drain(&scene.config);
    scene.config.settings.shutdown_grace = Span::from_millis(4_000);
    // State is read when no transaction on it is open any more: this one stays.
    let mut writer = hold_state(&scene, 0);
    let [looks, leaves] = [ApiKey::ListOffsets, ApiKey::LeaveGroup].map(|api| scene.count(api));
    let (progress, stop) = (Progress::new(), StopSignal::new());
    thread::scope(|scope| {
        let run = scope.spawn(|| tidewatch_processor::run(&scene.config, &progress, &stop));
        let _end = EndOnPanic(&stop);
        // It waits for the end of that transaction, and looks again and again.
        while scene.befallen(looks) < 50 && !run.is_finished() {
            thread::yield_now();
        }
        stop.request(Stop::Now);
        run.join().unwrap().unwrap();
    });
    assert_eq!(scene.befallen(leaves), 1);
    writer.abort().unwrap();
    publish(&scene.kafka, INPUT, &readings(READINGS)[HALF..]);
    drain(&scene.config);
    scene.assert_same_as_undisturbed();
}

#[test]
fn a_drain_reads_its_state_back_even_if_there_is_nothing_to_read() {
    let scene = Scene::new();
    drain(&scene.config);
    let mut neighbour =
        GroupReader::new(&scene.kafka, &scene.config.settings.group_id, &[INPUT], GroupOptions::default()).unwrap();
    let (progress, stop) = (Progress::new(), StopSignal::new());
    thread::scope(|scope| {
        let run = scope.spawn(|| tidewatch_processor::run(&scene.config, &progress, &stop));
        let _end = EndOnPanic(&stop);
        let mut held = None;
        while (held.is_none() || progress.assigned() == 0) && !run.is_finished() {
            neighbour.serve_group(&mut |_, _, _| StartAt::Beginning).unwrap();
            held = neighbour.positions().map(|(_, partition, _)| partition).next();
            thread::sleep(Duration::from_millis(10));
        }
        // What the neighbour leaves cannot be read back yet.
        let mut writer = hold_state(&scene, held.unwrap());
        drop(neighbour);
        let looks = scene.count(ApiKey::ListOffsets);
        while scene.befallen(looks) < 10 && !run.is_finished() {
            thread::yield_now();
        }
        stop.request(Stop::Drain);
        // Many times as long as it takes to see that there is nothing to read.
        while scene.befallen(looks) < 60 && !run.is_finished() {
            thread::yield_now();
        }
        let is_over = run.is_finished();
        writer.abort().unwrap();
        assert!(!is_over, "its state is not read back");
        assert_eq!(run.join().unwrap().unwrap().counts.read, 0);
    });
}

/// A transaction that has written to a partition of the state topic, and is open.
fn hold_state(scene: &Scene, partition: i32) -> TransactionalWriter {
    let holder = KafkaConfig { client_id: "holder".into(), ..scene.kafka.clone() };
    let mut writer = TransactionalWriter::new(&holder, "holder", TransactionOptions::default()).unwrap();
    let is_written = FaultRule {
        api: Some(ApiKey::Produce),
        client_id: Some("holder".to_owned()),
        ..FaultRule::new(Fault::Delay(Duration::ZERO))
    };
    let is_written = scene.broker.faults().add(is_written);
    writer.begin().unwrap();
    let record = Outgoing::new(&scene.config.topics.state, b"another group/rooms", b"");
    writer.send(Outgoing { partition: Some(partition), ..record }).unwrap();
    while scene.befallen(is_written) == 0 {
        thread::yield_now();
    }
    writer
}

#[test]
fn all_partitions_have_their_snapshots_however_slowly_they_are_written() {
    let mut scene = Scene::new();
    // A round takes a record of each of its rooms in each cycle, far longer than until the next is due.
    scene.config.settings.snapshot_every = Span::from_millis(1);
    scene.config.settings.snapshot_kib_per_second = 1;
    scene.config.settings.commit_interval = Span::from_millis(10);
    let crowd = crowd(60);
    scene.readings += crowd.len() as u64;
    publish(&scene.kafka, INPUT, &crowd);
    let (progress, stop) = (Progress::new(), StopSignal::new());
    let admin = Admin::connect(&scene.kafka).unwrap();
    let committed = || admin.committed(&scene.config.settings.group_id, INPUT).unwrap();
    let notes = thread::scope(|scope| {
        let run = scope.spawn(|| tidewatch_processor::run(&scene.config, &progress, &stop));
        let _end = EndOnPanic(&stop);
        let mut writer = Writer::new(&scene.kafka).unwrap();
        let mut published = (HALF + crowd.len()) as u64;
        // Each cycle brings something new to save.
        for chunk in readings(READINGS)[HALF..].chunks(10) {
            while progress.counts().read < published && !run.is_finished() {
                thread::yield_now();
            }
            send(&mut writer, INPUT, chunk);
            published += chunk.len() as u64;
        }
        let notes: Vec<String> = committed().into_iter().flatten().map(|at| at.metadata).collect();
        stop.request(Stop::Drain);
        run.join().unwrap().unwrap();
        notes
    });
    assert!(notes.len() == PARTITIONS as usize && notes.iter().all(|note| note.starts_with("snapshot=")), "{notes:?}");
    assert!(scene.is_saved(&admin), "a clean end saves all: {:?}", committed());
    scene.assert_same_as_undisturbed();
}

#[test]
fn a_restore_tells_how_far_it_has_come() {
    let scene = Scene::new();
    scene.run(|| {}).unwrap();
    let slow = Fault::Delay(Duration::from_millis(300));
    scene.broker.faults().add(FaultRule { api: Some(ApiKey::Fetch), ..FaultRule::new(slow) });
    let (progress, stop) = (Progress::new(), StopSignal::new());
    stop.request(Stop::Drain);
    let told = thread::scope(|scope| {
        let run = scope.spawn(|| tidewatch_processor::run(&scene.config, &progress, &stop));
        let _end = EndOnPanic(&stop);
        let mut told = Vec::new();
        while !run.is_finished() {
            told.extend(progress.restore());
            thread::yield_now();
        }
        run.join().unwrap().unwrap();
        told
    });
    assert!(told.iter().all(|(read, total)| read <= total) && told.is_sorted(), "{told:?}");
    assert!(told.len() > 1 && progress.restore().is_none());
}

#[test]
fn partitions_that_a_dead_member_has_left_without_an_owner_are_given_one() {
    // A client that joins before it knows the topics joins twice. Then it is another join of its neighbour's that is lost, and none are left.
    assert!((0..9).any(|_| leaves_partitions_without_an_owner()));
}

/// Whether a neighbour that died has left any; what it has left is read in the end.
fn leaves_partitions_without_an_owner() -> bool {
    let mut scene = Scene::new();
    publish(&scene.kafka, INPUT, &readings(READINGS)[HALF..]);
    scene.config.settings.static_membership = true;
    scene.config.settings.stall_timeout = Span::from_millis(1_500);
    let group = scene.config.settings.group_id.clone();
    let kafka = KafkaConfig { client_id: "neighbour".into(), ..scene.kafka.clone() };
    let neighbour = || {
        let options = GroupOptions { instance_id: Some("neighbour".into()), ..GroupOptions::default() };
        GroupReader::new(&kafka, &group, &[INPUT], options).unwrap()
    };
    let serve = |member: &mut GroupReader| {
        member.serve_group(&mut |_, _, _| StartAt::Beginning).unwrap();
        thread::sleep(Duration::from_millis(10));
    };
    let mut before = neighbour();
    while before.positions().len() < PARTITIONS as usize {
        serve(&mut before);
    }
    // It gives up what the processor is to have, and dies before it says so: the second step of the rebalance never comes.
    let unsaid = FaultRule {
        api: Some(ApiKey::JoinGroup),
        client_id: Some("neighbour".to_owned()),
        skip: 1,
        ..FaultRule::new(Fault::DropRequest)
    };
    let unsaid = scene.broker.faults().add(unsaid);
    let (progress, stop) = (Progress::new(), StopSignal::new());
    let admin = Admin::connect(&scene.kafka).unwrap();
    let unowned = || admin.unowned(&group, &[INPUT]).unwrap().unwrap_or_default();
    let left = thread::scope(|scope| {
        let run = scope.spawn(|| tidewatch_processor::run(&scene.config, &progress, &stop));
        let _end = EndOnPanic(&stop);
        while scene.befallen(unsaid) == 0 && !run.is_finished() {
            serve(&mut before);
        }
        // To its group the rebalance has come to its end.
        let left = unowned();
        drop(before);
        scene.broker.faults().clear();
        let mut after = neighbour();
        while !after.is_member() && !run.is_finished() {
            serve(&mut after);
        }
        let lag = || admin.lag(&group, &[INPUT]).unwrap();
        while lag().iter().any(|at| at.lag > 0 && left.contains(&(at.topic.clone(), at.partition)))
            && !run.is_finished()
        {
            serve(&mut after);
        }
        stop.request(Stop::Now);
        run.join().unwrap().unwrap();
        left
    });
    !left.is_empty()
}

#[test]
fn a_static_member_whose_name_was_used_for_once_goes_on() {
    let mut scene = Scene::new();
    scene.config.settings.static_membership = true;
    let (progress, stop) = (Progress::new(), StopSignal::new());
    let summary = thread::scope(|scope| {
        let run = scope.spawn(|| tidewatch_processor::run(&scene.config, &progress, &stop));
        let _end = EndOnPanic(&stop);
        while progress.transactions() == 0 && !run.is_finished() {
            thread::yield_now();
        }
        let kafka = KafkaConfig { client_id: "namesake".into(), ..scene.kafka.clone() };
        // As the broker sees a member that joins twice.
        let options = GroupOptions { instance_id: Some("0-0".into()), ..GroupOptions::default() };
        let mut namesake = GroupReader::new(&kafka, &scene.config.settings.group_id, &[INPUT], options).unwrap();
        while progress.recoveries().rebuilt == 0 && !run.is_finished() {
            // Until it is expelled in turn.
            let _ = namesake.serve_group(&mut |_, _, _| StartAt::Beginning);
            thread::yield_now();
        }
        drop(namesake);
        publish(&scene.kafka, INPUT, &readings(READINGS)[HALF..]);
        stop.request(Stop::Drain);
        run.join().unwrap().unwrap()
    });
    assert_eq!((summary.recoveries.rebuilt, summary.counts.residue()), (1, 0));
    scene.assert_same_as_undisturbed();
}
