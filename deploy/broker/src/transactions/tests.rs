//! The coordinator with its journal: what a request leaves, what time does. Every interruption is in [`interruptions`].

mod disk;
mod histories;
mod interruptions;

use super::transaction::State;
use super::*;
use disk::{Clock, Coordinator, Disk, Failing, group, partitions};

const MINUTE_MS: i32 = 60_000;

/// Initialises until no older transaction is in the way, as a client does.
fn initialise(transactions: &mut Coordinator, disk: &Disk, id: &str, now: Now) -> Producer {
    for _ in 0..3 {
        match transactions.initialise_with(&mut disk.clone(), id, None, MINUTE_MS, now) {
            Ok(producer) => return producer,
            Err(ResponseError::ConcurrentTransactions) => {}
            Err(error) => panic!("not initialised: {error}"),
        }
    }
    panic!("always a concurrent transaction");
}

fn state(transactions: &Coordinator, id: &str) -> State {
    transactions.get(id).unwrap().state
}

#[test]
fn a_transaction_is_shown_when_it_commits_and_not_before() {
    let (disk, clock) = (Disk::new(2), Clock::new());
    let mut transactions = disk.start(clock.now());
    let producer = initialise(&mut transactions, &disk, "a", clock.now());
    transactions.enlist("a", producer, &partitions([0, 1]), clock.now()).unwrap();
    transactions.enlist("a", producer, &group("g"), clock.now()).unwrap();
    disk.write(0, producer, 1);
    disk.write(1, producer, 2);
    disk.stage("g", producer.id, 10);
    assert!(disk.log(0).shown.is_empty());
    transactions.end_with(&mut disk.clone(), "a", producer, true, clock.now()).unwrap();
    assert_eq!((disk.log(0).shown, disk.log(1).shown, disk.group("g").committed), (vec![1], vec![2], Some(10)));
    // The client did not get the answer: it is the same again, and the other way it is refused.
    let again =
        |is_commit| move |t: &mut Coordinator| t.end_with(&mut disk.clone(), "a", producer, is_commit, clock.now());
    assert_eq!(again.clone()(true)(&mut transactions), Ok(()));
    assert_eq!(again(false)(&mut transactions), Err(ResponseError::InvalidTxnState));
}

#[test]
fn requests_that_cannot_be_right() {
    let (mut disk, clock) = (Disk::new(1), Clock::new());
    let now = clock.now();
    let mut config = BrokerConfig::in_memory();
    config.transaction_timeout_max = Duration::from_secs(60);
    config.limits.transactional_ids_max = 1;
    let mut transactions = disk.start_with(&config, now);
    let mut init = |id, timeout_ms| transactions.initialise_with(&mut disk, id, None, timeout_ms, now);
    assert_eq!(init("", MINUTE_MS), Err(ResponseError::InvalidRequest));
    assert_eq!(init("a", 0), Err(ResponseError::InvalidTransactionTimeout));
    assert_eq!(init("a", -1), Err(ResponseError::InvalidTransactionTimeout));
    assert_eq!(init("a", MINUTE_MS + 1), Err(ResponseError::InvalidTransactionTimeout));
    assert_eq!(init("a", MINUTE_MS), Ok(Producer { id: 0, epoch: 0 }));
    assert_eq!(init("b", MINUTE_MS), Err(ResponseError::PolicyViolation));
    assert_eq!(init("a", MINUTE_MS), Ok(Producer { id: 0, epoch: 1 }));

    let producer = Producer { id: 0, epoch: 1 };
    let enlist = |t: &mut Coordinator, id| t.enlist(id, producer, &partitions([0]), now);
    assert_eq!(enlist(&mut transactions, ""), Err(ResponseError::InvalidRequest));
    assert_eq!(enlist(&mut transactions, "b"), Err(ResponseError::InvalidProducerIdMapping));
    let mut end = |id| transactions.end_with(&mut disk, id, producer, true, now);
    assert_eq!(end(""), Err(ResponseError::InvalidRequest));
    assert_eq!(end("b"), Err(ResponseError::InvalidProducerIdMapping));
    assert_eq!(end("a"), Err(ResponseError::InvalidTxnState));
}

#[test]
fn what_may_be_written_is_what_was_enlisted() {
    let (disk, clock) = (Disk::new(2), Clock::new());
    let mut transactions = disk.start(clock.now());
    let producer = initialise(&mut transactions, &disk, "a", clock.now());
    transactions.enlist("a", producer, &partitions([0]), clock.now()).unwrap();
    transactions.enlist("a", producer, &group("g"), clock.now()).unwrap();
    let zombie = Producer { epoch: producer.epoch - 1, ..producer };
    let other = Producer { id: producer.id + 1, ..producer };
    for (id, producer, partition, version, expected) in [
        ("a", producer, 0, 9, Ok(())),
        ("a", producer, 1, 10, Err(ResponseError::InvalidTxnState)),
        ("a", producer, 1, 11, Err(ResponseError::TransactionAbortable)),
        ("a", zombie, 0, 9, Err(ResponseError::InvalidProducerEpoch)),
        ("a", other, 0, 9, Err(ResponseError::InvalidProducerIdMapping)),
        ("b", producer, 0, 9, Err(ResponseError::InvalidProducerIdMapping)),
        ("", producer, 0, 9, Err(ResponseError::InvalidRequest)),
    ] {
        let verified = transactions.verify_partition(id, producer, "t", partition, version);
        assert_eq!(verified, expected, "{id} {producer:?} {partition} {version}");
    }
    for (producer, group, version, expected) in [
        (producer, "g", 3, Ok(())),
        (producer, "h", 3, Err(ResponseError::InvalidTxnState)),
        (producer, "h", 4, Err(ResponseError::TransactionAbortable)),
        (zombie, "g", 3, Err(ResponseError::InvalidProducerEpoch)),
    ] {
        assert_eq!(
            transactions.verify_group("a", producer, group, version),
            expected,
            "{producer:?} {group} {version}"
        );
    }
    // While it ends, clients are to try again.
    disk.fail(Failing::AllAfter(1));
    transactions.end_with(&mut disk.clone(), "a", producer, true, clock.now()).unwrap();
    let verified = transactions.verify_partition("a", producer, "t", 0, 9);
    assert_eq!(verified, Err(ResponseError::NotEnoughReplicas));
    let verified = transactions.verify_group("a", producer, "g", 3);
    assert_eq!(verified, Err(ResponseError::ConcurrentTransactions));
}

#[test]
fn another_instance_aborts_what_the_first_left_open_and_shuts_it_out() {
    let (mut disk, clock) = (Disk::new(1), Clock::new());
    let mut transactions = disk.start(clock.now());
    let zombie = initialise(&mut transactions, &disk, "a", clock.now());
    transactions.enlist("a", zombie, &partitions([0]), clock.now()).unwrap();
    disk.write(0, zombie, 1);
    let first = transactions.initialise_with(&mut disk, "a", None, MINUTE_MS, clock.now());
    assert_eq!(first, Err(ResponseError::ConcurrentTransactions));
    let producer = transactions.initialise_with(&mut disk, "a", None, MINUTE_MS, clock.now()).unwrap();
    assert_eq!(producer, Producer { id: zombie.id, epoch: zombie.epoch + 2 });
    assert_eq!((disk.log(0).shown, disk.log(0).open.len()), (vec![], 0));
    let late = transactions.enlist("a", zombie, &partitions([0]), clock.now());
    assert_eq!(late, Err(ResponseError::ProducerFenced));
    let late = transactions.end_with(&mut disk, "a", zombie, true, clock.now());
    assert_eq!(late, Err(ResponseError::ProducerFenced));
}

#[test]
fn time_runs_from_the_first_partition_on() {
    let (mut disk, mut clock) = (Disk::new(2), Clock::new());
    let mut transactions = disk.start(clock.now());
    let producer = initialise(&mut transactions, &disk, "a", clock.now());
    clock.pass(Duration::from_secs(100));
    transactions.enlist("a", producer, &partitions([0]), clock.now()).unwrap();
    disk.write(0, producer, 1);
    clock.pass(Duration::from_secs(59));
    transactions.enlist("a", producer, &partitions([1]), clock.now()).unwrap();
    transactions.tick_with(&mut disk, clock.now());
    assert_eq!(state(&transactions, "a"), State::Ongoing);
    clock.pass(Duration::from_secs(1));
    transactions.tick_with(&mut disk, clock.now());
    assert_eq!((state(&transactions, "a"), disk.log(0).open.len()), (State::CompleteAbort, 0));
    let late = transactions.end_with(&mut disk, "a", producer, true, clock.now());
    assert_eq!(late, Err(ResponseError::ProducerFenced));
    assert_eq!(initialise(&mut transactions, &disk, "a", clock.now()).epoch, producer.epoch + 2);
}

#[test]
fn time_runs_on_over_starts() {
    let (mut disk, mut clock) = (Disk::new(1), Clock::new());
    let mut transactions = disk.start(clock.now());
    let producer = initialise(&mut transactions, &disk, "a", clock.now());
    transactions.enlist("a", producer, &partitions([0]), clock.now()).unwrap();
    disk.write(0, producer, 1);
    for _ in 0..2 {
        clock.pass(Duration::from_secs(29));
        transactions = disk.start(clock.now());
        transactions.tick_with(&mut disk, clock.now());
        assert_eq!(state(&transactions, "a"), State::Ongoing);
    }
    // A clock that was set back makes its time no longer than it was.
    let set_back = Now { unix_ms: 0, ..clock.now() };
    let mut later = disk.start(set_back);
    later.tick_with(&mut disk, Now { instant: set_back.instant + Duration::from_secs(59), ..set_back });
    assert_eq!(state(&later, "a"), State::Ongoing);
    clock.pass(Duration::from_secs(2));
    transactions.tick_with(&mut disk, clock.now());
    assert_eq!((state(&transactions, "a"), disk.log(0).shown.len()), (State::CompleteAbort, 0));
}

#[test]
fn a_partition_that_was_enlisted_and_not_written_to_is_marked_once() {
    for failing in [Failing::Nothing, Failing::OneAfter(2), Failing::OneAfter(3)] {
        let (mut disk, mut clock) = (Disk::new(2), Clock::new());
        let mut transactions = disk.start(clock.now());
        let producer = initialise(&mut transactions, &disk, "a", clock.now());
        for ended in 1..=2 {
            transactions.enlist("a", producer, &partitions([0, 1]), clock.now()).unwrap();
            if ended == 1 {
                disk.fail(failing);
            }
            transactions.end_with(&mut disk, "a", producer, true, clock.now()).unwrap();
            disk.fail(Failing::Nothing);
            clock.pass(Duration::from_secs(1));
            transactions.tick_with(&mut disk, clock.now());
            assert_eq!(state(&transactions, "a"), State::CompleteCommit);
            assert_eq!([0, 1].map(|partition| disk.log(partition).markers), [ended, ended], "{failing:?}");
        }
    }
}

#[test]
fn idle_ids_are_forgotten_and_busy_ones_are_not() {
    let (mut disk, mut clock) = (Disk::new(1), Clock::new());
    let mut config = BrokerConfig::in_memory();
    config.transactional_id_expiration = Duration::from_secs(100);
    config.transaction_timeout_max = Duration::from_secs(1_000);
    let mut transactions = disk.start_with(&config, clock.now());
    let idle = initialise(&mut transactions, &disk, "idle", clock.now());
    let busy = transactions.initialise_with(&mut disk, "busy", None, 1_000_000, clock.now()).unwrap();
    transactions.enlist("busy", busy, &partitions([0]), clock.now()).unwrap();
    transactions.tick_with(&mut disk, clock.now());
    clock.pass(Duration::from_secs(99));
    transactions.tick_with(&mut disk, clock.now());
    assert!(transactions.get("idle").is_some());
    clock.pass(Duration::from_secs(11));
    transactions.tick_with(&mut disk, clock.now());
    for transactions in [&transactions, &disk.start(clock.now())] {
        assert_eq!(transactions.iter().map(|(id, _)| id).collect::<Vec<_>>(), ["busy"]);
    }
    // The forgotten one comes back: whatever it claims, it is a new producer.
    let back = transactions.initialise_with(&mut disk, "idle", Some(idle), MINUTE_MS, clock.now()).unwrap();
    assert_eq!((back.id > busy.id, back.epoch), (true, 0));
}

#[test]
fn producer_ids_are_given_once_over_starts_and_failures() {
    let (disk, clock) = (Disk::new(1), Clock::new());
    let mut given = Vec::new();
    for run in 0..5 {
        let mut transactions = disk.start(clock.now());
        disk.fail(Failing::OneAfter(1));
        let ids: Vec<_> = (0..1_500).map(|_| transactions.new_producer_id()).collect();
        disk.fail(Failing::Nothing);
        assert!(ids.contains(&Err(ResponseError::CoordinatorLoadInProgress)), "run {run}");
        given.extend(ids.into_iter().flatten());
    }
    assert!(given.is_sorted_by(|a, b| a < b), "{given:?}");
    assert_eq!(given.len(), 5 * 1_499);
}

#[test]
fn a_lost_journal_gives_no_id_that_a_log_knows() {
    let (disk, clock) = (Disk::new(1), Clock::new());
    disk.write(0, Producer { id: 5_000, epoch: 3 }, 1);
    let mut transactions = disk.start(clock.now());
    assert_eq!(transactions.new_producer_id(), Ok(5_001));
    assert_eq!(disk.log(0).open.len(), 0, "and what it left open is aborted");
}

#[test]
fn the_journal_is_rewritten_and_says_the_same() {
    let (mut disk, mut clock) = (Disk::new(1), Clock::new());
    let mut transactions = disk.start(clock.now());
    let producer = initialise(&mut transactions, &disk, "a", clock.now());
    initialise(&mut transactions, &disk, "b", clock.now());
    for _ in 0..20 {
        transactions.enlist("a", producer, &partitions([0]), clock.now()).unwrap();
        transactions.end_with(&mut disk, "a", producer, false, clock.now()).unwrap();
    }
    let before = record::replay(disk.journal());
    clock.pass(Duration::from_secs(60));
    transactions.tick_with(&mut disk, clock.now());
    assert_eq!(disk.journal().len(), 3);
    assert_eq!(record::replay(disk.journal()), before);
}
