//! A broker that is killed (SIGKILL) again and again under load, and started again on its folder: nothing that it acknowledged
//! is lost, nothing is doubled for idempotent producers, and every transaction is whole, its offsets included.
//!
//! `TIDEWATCH_BROKER_KILLS` sets the number of kills (15 unless it is set), `TIDEWATCH_BROKER_KILLS_SEED` which moments are
//! chosen. The same expectations hold for Apache Kafka, which is killed less often: it takes seconds to start.

#![allow(clippy::unwrap_used)] // The helpers are tests too.

mod idempotent;
mod observers;
mod random;
mod transactional;
mod victim;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tidewatch_topic_io::{Admin, KafkaConfig, TopicSpec};

use observers::{Followed, Seen};
use random::Random;
use transactional::{Fate, Fates};
use victim::Victim;

/// Of each topic.
const PARTITIONS: i32 = 3;
/// Written by idempotent producers.
const PLAIN: &str = "plain";
/// Written in transactions.
const LEDGER: &str = "ledger";
/// Its offsets are committed in the transactions; nothing is written to it.
const INPUT: &str = "input";
/// Producers of each kind.
const PRODUCERS: u32 = 2;
/// Records of the idempotent producers between two kills.
const RECORDS_PER_KILL: u64 = 6_000;
/// Ends a test that has failed; nothing that succeeds waits for it.
const PATIENCE: Duration = Duration::from_secs(120);

/// What all threads of the load share.
pub(crate) struct Load {
    pub(crate) kafka: KafkaConfig,
    pub(crate) seed: u64,
    /// Records that idempotent producers were told to have arrived.
    pub(crate) records: AtomicU64,
    /// Idempotent producers wait here for the next kill: a log of gigabytes would show no more than one of megabytes.
    pub(crate) records_max: AtomicU64,
    /// Transactions that were committed.
    pub(crate) transactions: AtomicU64,
    /// Producers end what they have begun.
    pub(crate) is_over: AtomicBool,
    /// They have ended, and the broker stays.
    pub(crate) is_settled: AtomicBool,
}

/// Ends the load when a check fails, too: its threads are waited for.
struct End<'a>(&'a Load);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Relaxed);
        self.0.is_settled.store(true, Relaxed);
    }
}

/// The records of each producer's transactions.
type Transactions = BTreeMap<(u32, u32), Vec<Seen>>;

#[test]
fn the_embedded_broker_keeps_its_word() {
    survives(Victim::embedded(), number("TIDEWATCH_BROKER_KILLS", 15));
}

#[test]
fn apache_kafka_keeps_its_word() {
    survives(Victim::apache(), 2);
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} = {text} is no number")))
}

/// Kills and checks.
fn survives(mut victim: Victim, kills: u64) {
    let seed = number("TIDEWATCH_BROKER_KILLS_SEED", 1);
    println!("{kills} kills, TIDEWATCH_BROKER_KILLS_SEED={seed}");
    let mut kafka = KafkaConfig::at(&victim.bootstrap_servers());
    // A broker that comes back is found at once.
    kafka.properties.set("reconnect.backoff.ms", "5");
    kafka.properties.set("reconnect.backoff.max.ms", "50");
    let admin = Admin::connect(&kafka).unwrap();
    // Small segments, so that kills find the log at their ends too.
    let topic = |name: &str| {
        let mut spec = TopicSpec::new(name, PARTITIONS);
        spec.properties.insert("segment.bytes".into(), (1 << 20).to_string());
        spec
    };
    admin.ensure_topics(&[topic(PLAIN), topic(LEDGER), topic(INPUT)]).unwrap();
    let load = Load {
        kafka,
        seed,
        records: AtomicU64::new(0),
        records_max: AtomicU64::new(0),
        transactions: AtomicU64::new(0),
        is_over: AtomicBool::new(false),
        is_settled: AtomicBool::new(false),
    };
    std::thread::scope(|scope| {
        let _end = End(&load);
        let plain: Vec<_> = (0..PRODUCERS)
            .map(|id| {
                scope.spawn({
                    let load = &load;
                    move || idempotent::produce(load, id)
                })
            })
            .collect();
        let ledger: Vec<_> = (0..PRODUCERS)
            .map(|id| {
                scope.spawn({
                    let load = &load;
                    move || transactional::produce(load, id)
                })
            })
            .collect();
        let follower = scope.spawn(|| observers::follow(&load, "follower"));
        let watching = [(PLAIN, false), (LEDGER, true)].map(|(topic, committed)| {
            let load = &load;
            scope.spawn(move || observers::watch(load, topic, committed))
        });
        kill_repeatedly(&mut victim, &load, kills, || {
            let gone =
                plain.iter().any(|thread| thread.is_finished()) || ledger.iter().any(|thread| thread.is_finished());
            assert!(!gone, "a producer gave up");
        });
        load.is_over.store(true, Relaxed);
        let acknowledged: Vec<_> = plain.into_iter().map(|thread| thread.join().unwrap()).collect();
        let fates: Vec<_> = ledger.into_iter().map(|thread| thread.join().unwrap()).collect();
        // What the end of the load left is read after a clean stop and a start, too.
        victim.restart();
        load.is_settled.store(true, Relaxed);
        let in_log = observers::read_all(&load.kafka, PLAIN, false);
        let committed = observers::read_all(&load.kafka, LEDGER, true);
        check_idempotent(&acknowledged, &in_log);
        check_transactions(&fates, &committed, &admin);
        let followed = follower.join().unwrap();
        check_group(&followed, &admin);
        let [saw_plain, saw_ledger] = watching.map(|thread| thread.join().unwrap());
        let end = |seen: &[Seen]| seen.len();
        println!("{} records and {} in transactions, seen by readers all the while", end(&in_log), end(&committed));
        assert!(saw_plain == in_log, "a reader saw another log than the one that is there at the end");
        assert!(saw_ledger == committed, "a reader of committed records saw others than those of the end");
    });
}

/// Kills at moments that the seed chooses: so many acknowledged records or committed transactions after a start, and sometimes
/// once more while it starts.
fn kill_repeatedly(victim: &mut Victim, load: &Load, kills: u64, check: impl Fn()) {
    let mut random = Random::new(load.seed);
    let begun = Instant::now();
    for kill in 0..kills {
        let (what, counter, wanted) = match random.below(2) {
            0 => ("records", &load.records, random.below(RECORDS_PER_KILL)),
            _ => ("transactions", &load.transactions, random.below(60)),
        };
        load.records_max.store(load.records.load(Relaxed) + RECORDS_PER_KILL, Relaxed);
        let (start, before) = (Instant::now(), counter.load(Relaxed));
        let done = || counter.load(Relaxed) - before;
        while done() < wanted {
            check();
            assert!(start.elapsed() < PATIENCE, "kill {kill}: nothing goes on after {} of {wanted} {what}", done());
            std::thread::sleep(Duration::from_micros(200));
        }
        std::thread::sleep(Duration::from_micros(random.below(3_000)));
        victim.kill();
        let mut at_start = String::new();
        if random.below(4) == 0 {
            let wait = Duration::from_micros(random.below(40_000));
            victim.kill_at_start(wait);
            at_start = format!(", and {:.1} ms into the start", wait.as_secs_f64() * 1e3);
        }
        println!("{:7.2} s: kill {kill} after {} {what}{at_start}", begun.elapsed().as_secs_f64(), done());
        victim.start();
    }
    // The last start is to be worth something.
    load.records_max.store(u64::MAX, Relaxed);
    let (start, before) = (Instant::now(), load.transactions.load(Relaxed));
    while load.transactions.load(Relaxed) < before + 20 {
        check();
        assert!(start.elapsed() < PATIENCE, "nothing goes on after the last kill");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Every record that a producer was told of stands at the offset that it was told, once, in the order it was sent; and there is
/// no other.
fn check_idempotent(acknowledged: &[Vec<Seen>], in_log: &[Seen]) {
    let mut expected: Vec<Seen> = acknowledged.iter().flatten().copied().collect();
    expected.sort_by_key(|seen| (seen.partition, seen.offset));
    assert!(expected.len() > 1_000, "the load is a load");
    let mut last = BTreeMap::new();
    for seen in in_log {
        let before = last.insert((seen.partition, seen.producer), seen.number);
        assert!(before.is_none_or(|before| before < seen.number), "out of order or doubled: {before:?}, then {seen:?}");
    }
    let differs = expected.iter().zip(in_log).find(|(expected, found)| expected != found);
    assert_eq!(differs, None, "the first acknowledged record that is not where it was said to be");
    assert_eq!(expected.len(), in_log.len());
}

/// A committed transaction is there whole, an aborted one not at all, one of unknown fate one or the other; and the offsets are
/// those of the last that is there.
fn check_transactions(fates: &[Fates], committed: &[Seen], admin: &Admin) {
    let mut found = Transactions::new();
    for seen in committed {
        found.entry((seen.producer, seen.number)).or_default().push(*seen);
    }
    let mut counts = [0; 3];
    for (producer, fates) in (0..).zip(fates) {
        let mut offset = None;
        for (&number, &(fate, size)) in &fates.0 {
            let records = found.remove(&(producer, number)).unwrap_or_default();
            let mut parts: Vec<u32> = records.iter().map(|seen| seen.part).collect();
            parts.sort_unstable();
            let is_whole = parts == (0..size).collect::<Vec<_>>();
            let holds = match fate {
                Fate::Committed => is_whole,
                Fate::Aborted => parts.is_empty(),
                Fate::Unknown => is_whole || parts.is_empty(),
            };
            assert!(holds, "transaction {number} of producer {producer}, {fate:?} with {size} records: {records:?}");
            counts[fate as usize] += 1;
            if is_whole {
                offset = Some(i64::from(number) + 1);
            }
        }
        let lag = admin.lag(&transactional::group(producer), &[INPUT]).unwrap();
        let stored = lag.iter().find(|lag| lag.partition == 0).unwrap().committed;
        assert_eq!(stored, offset, "producer {producer}: the offset belongs to the last transaction that is there");
    }
    println!("transactions: {} committed, {} aborted, {} of unknown fate", counts[0], counts[1], counts[2]);
    assert!(found.is_empty(), "transactions that nobody began: {:?}", found.keys());
    assert!(counts[0] > 10 && counts[1] > 0, "the load is a load");
}

/// The group stands at the last commit that was acknowledged, or at a later one whose answer was lost.
fn check_group(followed: &Followed, admin: &Admin) {
    for lag in admin.lag("follower", &[PLAIN]).unwrap() {
        let committed = lag.committed;
        let Some(&acknowledged) = followed.acknowledged.get(&lag.partition) else { continue };
        let possible = committed == Some(acknowledged)
            || committed
                .is_some_and(|offset| offset > acknowledged && followed.tried.contains(&(lag.partition, offset)));
        assert!(possible, "partition {}: {committed:?} is stored, {acknowledged} was acknowledged", lag.partition);
    }
    println!("a group committed {} times", followed.commits);
    assert!(followed.commits > 0, "the load is a load");
}
