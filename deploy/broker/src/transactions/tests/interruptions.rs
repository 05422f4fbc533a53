//! A transaction's end, stopped after each of its steps in turn: whatever follows, it is whole.

use std::time::Duration;

use super::*;

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Commit,
    Abort,
    /// Another instance starts.
    Fence,
    TimeOut,
}

const ENDS: [End; 4] = [End::Commit, End::Abort, End::Fence, End::TimeOut];

/// Partition 2 is deleted while the transaction is open.
const PARTITIONS: [i32; 3] = [0, 1, 2];

struct Open {
    disk: Disk,
    clock: Clock,
    transactions: Coordinator,
    producer: Producer,
}

/// An open transaction over partitions and groups, beside another producer's in one of them.
fn open() -> Open {
    open_with(&BrokerConfig::in_memory())
}

fn open_with(config: &BrokerConfig) -> Open {
    let (disk, clock) = (Disk::new(3), Clock::new());
    let mut transactions = disk.start_with(config, clock.now());
    let other = initialise(&mut transactions, &disk, "other", clock.now());
    transactions.enlist("other", other, &partitions([0]), clock.now()).unwrap();
    disk.write(0, other, 100);
    let producer = initialise(&mut transactions, &disk, "a", clock.now());
    transactions.enlist("a", producer, &partitions(PARTITIONS), clock.now()).unwrap();
    transactions.enlist("a", producer, &group("g"), clock.now()).unwrap();
    transactions.enlist("a", producer, &group("h"), clock.now()).unwrap();
    for partition in PARTITIONS {
        disk.write(partition, producer, 1);
    }
    disk.stage("g", producer.id, 10);
    disk.stage("h", producer.id, 20);
    disk.delete(2);
    disk.fail(Failing::Nothing);
    Open { disk, clock, transactions, producer }
}

impl Open {
    fn end(&mut self, end: End) -> Result<(), ResponseError> {
        let Self { disk, clock, transactions, producer } = self;
        match end {
            End::Commit | End::Abort => transactions.end_with(disk, "a", *producer, end == End::Commit, clock.now()),
            End::Fence => transactions.initialise_with(disk, "a", None, MINUTE_MS, clock.now()).map(|_| ()),
            End::TimeOut => {
                // The other's time must not be up: it was given first.
                transactions.entries.get_mut("a").unwrap().due = clock.now().instant;
                transactions.housekeeping_due = Some(clock.now().instant + Duration::from_secs(3_600));
                transactions.tick_with(disk, clock.now());
                Ok(())
            }
        }
    }

    /// What is shown of the transaction's records and offsets: all of them or none.
    fn is_shown(&self) -> bool {
        let shown = [0, 1].map(|partition| self.disk.log(partition).shown.contains(&1));
        let committed = [("g", 10), ("h", 20)].map(|(group, offset)| self.disk.group(group).committed == Some(offset));
        let all = [shown[0], shown[1], committed[0], committed[1]];
        assert!(all.iter().all(|one| *one == all[0]), "torn: {all:?}");
        all[0]
    }

    fn is_open(&self) -> bool {
        let is_open = [0, 1].map(|partition| self.disk.log(partition).open.contains_key(&self.producer.id));
        let is_staged = ["g", "h"].map(|group| self.disk.group(group).staged.contains_key(&self.producer.id));
        is_open.contains(&true) || is_staged.contains(&true)
    }

    /// After whatever happened: the same id's next transaction is whole, and no record was ended twice.
    fn check_next(&mut self, shown: bool) {
        let producer = initialise(&mut self.transactions, &self.disk, "a", self.clock.now());
        assert!(producer.epoch > self.producer.epoch);
        assert!(!self.is_open(), "ended at the latest now");
        assert_eq!(self.is_shown(), shown);
        let markers = self.disk.log(0).markers;
        assert_eq!(markers, 1);
        self.transactions.enlist("a", producer, &partitions([0]), self.clock.now()).unwrap();
        self.disk.write(0, producer, 2);
        self.transactions.end_with(&mut self.disk.clone(), "a", producer, true, self.clock.now()).unwrap();
        assert_eq!(self.disk.log(0).shown, if shown { vec![1, 2] } else { vec![2] });
        assert!(self.disk.log(0).open.values().any(|(_, values)| *values == [100]), "another one's stays open");
    }
}

fn steps(end: End) -> u32 {
    let mut undisturbed = open();
    let _ = undisturbed.end(end);
    assert!(!undisturbed.is_open());
    assert_eq!(undisturbed.is_shown(), end == End::Commit);
    undisturbed.disk.steps()
}

#[test]
fn a_kill_after_any_step() {
    for end in ENDS {
        // The decision, three markers (one topic is gone), two groups, the end.
        assert_eq!(steps(end), 7, "{end:?}");
        for done in 0..=7 {
            let mut open = open();
            open.disk.fail(Failing::AllAfter(done));
            let _ = open.end(end);
            open.disk.fail(Failing::Nothing);
            open.transactions = open.disk.start(open.clock.now());
            let is_decided = done > 0;
            assert_eq!(open.is_open(), !is_decided, "{end:?}, killed after step {done}");
            let shown = end == End::Commit && is_decided;
            assert_eq!(open.is_shown(), shown, "{end:?}, killed after step {done}");
            // Killed before it was decided, it goes on: only the fence of the next instance ends it.
            open.check_next(shown);
        }
    }
}

/// Also killed in the recovery itself, after each of its steps.
#[test]
fn a_kill_in_the_recovery() {
    for end in ENDS {
        for (done, recovered) in (1..=7).flat_map(|done| (0..=7).map(move |recovered| (done, recovered))) {
            let mut open = open();
            open.disk.fail(Failing::AllAfter(done));
            let _ = open.end(end);
            open.disk.fail(Failing::AllAfter(recovered));
            drop(open.disk.start(open.clock.now()));
            open.disk.fail(Failing::Nothing);
            open.transactions = open.disk.start(open.clock.now());
            assert!(!open.is_open(), "{end:?}, killed after steps {done} and {recovered}");
            open.check_next(end == End::Commit);
        }
    }
}

/// Where each answer is synced: whatever of each file is left.
#[test]
fn a_power_loss_after_any_step() {
    let mut config = BrokerConfig::in_memory();
    config.flush_interval = Duration::ZERO;
    for end in ENDS {
        for done in 0..=9 {
            for lost in 0..1 << 5 {
                let mut open = open_with(&config);
                open.disk.sync_all();
                open.disk.fail(Failing::AllAfter(done));
                let answer = open.end(end);
                assert_eq!(open.disk.steps() == 9, done >= 8, "two syncs more than without; {done}");
                if answer.is_ok() && done == 9 {
                    open.disk.sync_all();
                }
                open.disk.fail(Failing::Nothing);
                open.disk.lose_power(lost);
                open.transactions = open.disk.start_with(&config, open.clock.now());
                let is_decided = !open.is_open();
                assert!(is_decided || done <= 1, "{end:?}, lost {lost:05b} after step {done}");
                let shown = end == End::Commit && is_decided;
                assert_eq!(open.is_shown(), shown, "{end:?}, lost {lost:05b} after step {done}");
                open.check_next(shown);
            }
        }
    }
}

/// The disk fails once, the broker goes on: the timer ends what was decided, and until then clients are asked to wait.
#[test]
fn a_full_disk_at_any_step() {
    for end in ENDS {
        for done in 0..7 {
            let mut open = open();
            open.disk.fail(Failing::OneAfter(done));
            let answer = open.end(end);
            let is_decided = done > 0;
            match end {
                End::Fence if is_decided => assert_eq!(answer, Err(ResponseError::ConcurrentTransactions)),
                End::TimeOut => {}
                _ if is_decided => assert_eq!(answer, Ok(()), "{end:?} after step {done}"),
                _ => assert_eq!(answer, Err(ResponseError::NotCoordinator), "{end:?} after step {done}"),
            }
            let is_prepared = matches!(state(&open.transactions, "a"), State::PrepareCommit | State::PrepareAbort);
            assert_eq!(is_prepared, is_decided, "{end:?} after step {done}");
            if is_decided {
                let now = open.clock.now();
                let asked = open.transactions.initialise_with(&mut open.disk, "a", None, MINUTE_MS, now);
                assert_eq!(asked, Err(ResponseError::ConcurrentTransactions));
            }
            open.clock.pass(Duration::from_secs(1));
            open.transactions.tick_with(&mut open.disk, open.clock.now());
            let is_ended = is_decided || end == End::TimeOut;
            assert_eq!(open.is_open(), !is_ended, "{end:?} after step {done}");
            open.check_next(end == End::Commit && is_decided);
        }
    }
}

/// A log and a group have what the coordinator has never heard of: aborted at the start, or later if the disk fails then.
#[test]
fn strays_are_aborted() {
    for failing in [Failing::Nothing, Failing::OneAfter(0), Failing::OneAfter(1), Failing::AllAfter(0)] {
        let mut open = open();
        let stray = Producer { id: 77, epoch: 4 };
        open.disk.write(1, stray, 9);
        open.disk.stage("g", stray.id, 99);
        // A producer's staged offsets of a group that is not in its transaction.
        open.disk.stage("other", open.producer.id, 99);
        open.disk.fail(failing);
        open.transactions = open.disk.start(open.clock.now());
        open.disk.fail(Failing::Nothing);
        open.clock.pass(Duration::from_secs(10));
        open.transactions.tick_with(&mut open.disk, open.clock.now());
        assert!(!open.disk.log(1).open.contains_key(&stray.id), "{failing:?}");
        assert!(open.disk.group("g").staged.keys().eq([&open.producer.id]), "{failing:?}");
        assert_eq!(open.disk.group("other").staged.len(), 0, "{failing:?}");
        let (disk, producer, now) = (&mut open.disk.clone(), open.producer, open.clock.now());
        open.transactions.end_with(disk, "a", producer, true, now).unwrap();
        assert!(open.is_shown());
        assert_eq!(open.disk.log(1).shown, [1]);
    }
}
