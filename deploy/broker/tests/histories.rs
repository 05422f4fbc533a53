//! Random transactional histories through librdkafka against a broker on a folder: producers that commit, abort, crash and
//! are replaced, a broker that is killed under them and comes back; what read_committed readers are shown and what groups
//! have committed is what the producers were told.
//!
//! Longer and with other seeds: `PROPTEST_CASES=500 PROPTEST_RNG_SEED=7 cargo test -p tidewatch-broker --test histories`.

#![allow(clippy::unwrap_used)] // The helpers are tests too.

#[path = "histories/clients.rs"]
mod clients;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use clients::{Follower, PARTITIONS, Plain, Shown, TOPIC, Told, Transactional};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};
use tidewatch_broker::{Broker, BrokerConfig};

/// Histories of a run that does not say how many.
const CASES: u32 = 8;
/// And their seed.
const SEED: u64 = 4;

/// What one producer does.
#[derive(Clone, Debug)]
struct Transaction {
    /// The partition of each record.
    records: Vec<i32>,
    /// An offset for its group.
    offset: Option<i64>,
    end: End,
}

#[derive(Clone, Copy, Debug)]
enum End {
    Commit,
    Abort,
    /// The producer is gone without a word, and starts again.
    Crash,
    /// Another instance starts, then the first one tries to commit.
    Replaced,
}

/// The broker is killed once so many transactions have begun, and after so many microseconds more.
#[derive(Clone, Copy, Debug)]
struct Kill {
    begun: usize,
    delay_us: u64,
}

#[derive(Clone, Debug)]
struct Plan {
    producers: Vec<Vec<Transaction>>,
    plain: Vec<i32>,
    kills: Vec<Kill>,
}

fn transaction() -> impl Strategy<Value = Transaction> {
    let end =
        prop_oneof![6 => Just(End::Commit), 3 => Just(End::Abort), 1 => Just(End::Crash), 1 => Just(End::Replaced)];
    let records = prop::collection::vec(0..PARTITIONS, 0..12);
    (records, prop::option::of(0..1_000_i64), end).prop_map(|(records, offset, end)| Transaction {
        records,
        offset,
        end,
    })
}

fn plan() -> impl Strategy<Value = Plan> {
    let producers = prop::collection::vec(prop::collection::vec(transaction(), 5..20), 2..5);
    let kill = (1..40_usize, 0..20_000_u64).prop_map(|(begun, delay_us)| Kill { begun, delay_us });
    (producers, prop::collection::vec(0..PARTITIONS, 0..40), prop::collection::vec(kill, 0..4)).prop_map(
        |(producers, plain, mut kills)| {
            kills.sort_by_key(|kill| kill.begun);
            Plan { producers, plain, kills }
        },
    )
}

/// How many transactions have begun, and how many producers are still at work.
struct Progress {
    counts: Mutex<(usize, usize)>,
    changed: Condvar,
}

impl Progress {
    fn new(producers: usize) -> Self {
        Self { counts: Mutex::new((0, producers)), changed: Condvar::new() }
    }

    fn update(&self, change: impl FnOnce(&mut (usize, usize))) {
        change(&mut self.counts.lock().unwrap());
        self.changed.notify_all();
    }

    fn wait_for(&self, begun: usize) {
        let counts = self.counts.lock().unwrap();
        drop(self.changed.wait_while(counts, |(now, at_work)| *now < begun && *at_work > 0).unwrap());
    }
}

/// Says that its producer is done, also if it panics: whoever waits for it then goes on.
struct AtWork<'a>(&'a Progress);

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.update(|(_, at_work)| *at_work -= 1);
    }
}

fn produce(servers: &str, name: &str, plan: &[Transaction], progress: &Progress) -> Told {
    let _at_work = AtWork(progress);
    let mut producer = Transactional::start(servers, name);
    for transaction in plan {
        progress.update(|(begun, _)| *begun += 1);
        producer.begin();
        for &partition in &transaction.records {
            producer.send(partition);
        }
        if let Some(offset) = transaction.offset {
            producer.send_offset(offset);
        }
        match transaction.end {
            End::Commit => producer.commit(),
            End::Abort => producer.abort(),
            End::Crash => producer.crash(),
            End::Replaced => producer.replace(),
        }
    }
    producer.finish()
}

fn run(plan: &Plan) {
    let folder = tempfile::tempdir().unwrap();
    let mut config = BrokerConfig::at(folder.path());
    config.default_partitions = PARTITIONS;
    let mut broker = Broker::start(config.clone()).unwrap();
    config.listen = broker.address();
    let servers = broker.bootstrap_servers();
    clients::make_topic(&servers);

    let progress = Progress::new(plan.producers.len());
    let (shown_count, is_over) = (AtomicUsize::new(usize::MAX), AtomicBool::new(false));
    let names: Vec<String> = (0..plan.producers.len()).map(|at| format!("producer{at}")).collect();
    thread::scope(|scope| {
        let follow = || {
            let mut follower = Follower::start(&servers, "follower");
            while follower.count() < shown_count.load(Ordering::Acquire) && !is_over.load(Ordering::Acquire) {
                follower.poll();
            }
            follower.shown()
        };
        let followers = [scope.spawn(follow), scope.spawn(follow)];
        let producers: Vec<_> = names
            .iter()
            .zip(&plan.producers)
            .map(|(name, plan)| scope.spawn(|| produce(&servers, name, plan, &progress)))
            .collect();
        let plain = scope.spawn(|| Plain::start(&servers).send_all(&plan.plain));
        for kill in &plan.kills {
            progress.wait_for(kill.begun);
            let until = Instant::now() + Duration::from_micros(kill.delay_us);
            while Instant::now() < until {
                thread::yield_now();
            }
            broker.kill();
            broker = Broker::start(config.clone()).unwrap();
        }

        // Whatever fails from here on, the followers must not wait for what never comes.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let told: BTreeMap<&str, Told> =
                names.iter().map(String::as_str).zip(producers.into_iter().map(|p| p.join().unwrap())).collect();
            let plain = plain.join().unwrap();
            let shown = clients::read_to_end(&servers);
            check(&servers, &told, &plain, &shown);
            shown
        }));
        match &result {
            Ok(shown) => shown_count.store(shown.values().map(Vec::len).sum(), Ordering::Release),
            Err(_) => is_over.store(true, Ordering::Release),
        }
        let followed = followers.map(|follower| follower.join().unwrap());
        match result {
            // They read while it happened, over all kills, and were shown the same in the same order.
            Ok(shown) => followed.iter().for_each(|followed| assert_eq!(followed, &shown)),
            Err(panic) => std::panic::resume_unwind(panic),
        }
        broker.stop();
    });
}

/// Each producer's records are there, in its order and once; and nothing else is.
fn check(servers: &str, told: &BTreeMap<&str, Told>, plain: &Shown, shown: &Shown) {
    let of = |name: &str| -> Shown {
        let prefix = format!("{name} ");
        let own = |values: &Vec<String>| values.iter().filter(|value| value.starts_with(&prefix)).cloned().collect();
        let own = shown.iter().map(|(partition, values)| (*partition, own(values)));
        own.filter(|(_, values): &(i32, Vec<String>)| !values.is_empty()).collect()
    };
    let mut count = 0;
    for (name, told) in told {
        assert_eq!(of(name), told.shown, "records of {name} on {TOPIC}");
        assert_eq!(clients::committed(servers, name), told.committed, "offset of {name}'s group");
        count += told.shown.values().map(Vec::len).sum::<usize>();
    }
    assert_eq!(&of("plain"), plain, "plain records");
    count += plain.values().map(Vec::len).sum::<usize>();
    assert_eq!(shown.values().map(Vec::len).sum::<usize>(), count, "records of nobody");
}

fn config() -> Config {
    let mut config = Config { max_shrink_iters: 32, failure_persistence: None, ..Config::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = CASES;
        if config.rng_seed == RngSeed::Random {
            config.rng_seed = RngSeed::Fixed(SEED);
        }
    }
    config
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn read_committed_shows_what_was_committed(plan in plan()) {
        run(&plan);
    }
}
