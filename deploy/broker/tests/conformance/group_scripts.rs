//! Groups and their offsets by scripts, on the wire: see [`world`]. Their time-outs, which take time, are tested in the
//! broker's own unit tests, which run these same scripts too.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use kafka_protocol::protocol::Request;

use crate::raw::Connection;
use crate::subject::{Subject, unique};
use world::{Broker, Client, Pending, World};

#[path = "../../src/groups/tests/requests.rs"]
mod requests;
#[path = "../../src/groups/tests/scripts.rs"]
mod scripts;
#[allow(dead_code, reason = "the unit tests need more of it")]
#[path = "../../src/groups/tests/world.rs"]
mod world;

/// How long an answer may take on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(30);

macro_rules! checks {
    ([$($name:ident)*] [$($restarting:ident)*]) => {
        $(fn $name(subject: &Subject) { check(subject, scripts::$name); })*
        on_both!($($name),*);

        mod alone {
            use super::{Subject, check, scripts};

            $(fn $restarting(subject: &Subject) { check(subject, scripts::$restarting); })*
            on_both_alone!($($restarting),*);
        }
    };
}

scripts::scripts!(checks);

/// Whether a request that waits has arrived cannot be seen, so the next one may overtake it. A broker that is wrong is wrong
/// every time, one that was overtaken is not: it has the time below, and is asked again with more before it is judged.
const ARRIVAL_TIMES_MS: [u64; 3] = [50, 500, 5_000];

fn check(subject: &Subject, script: &str) {
    let [hasty @ .., last] = ARRIVAL_TIMES_MS.map(Duration::from_millis);
    let run = |arrival_time| {
        let mut world = World::new(Wire { subject, arrival_time }, &format!("{}-", unique("script")));
        // Nobody's session ends however slow the machine is.
        world.novice = Client { session_ms: 600_000, rebalance_ms: 600_000, ..Client::default() };
        world.check(script);
    };
    if !hasty.into_iter().any(|arrival_time| catch_unwind(AssertUnwindSafe(|| run(arrival_time))).is_ok()) {
        run(last);
    }
}

/// A broker on the wire.
struct Wire<'a> {
    subject: &'a Subject,
    arrival_time: Duration,
}

impl Broker for Wire<'_> {
    fn send<R: Request<Response: 'static> + 'static>(
        &mut self,
        _client: &str,
        version: i16,
        request: R,
    ) -> Pending<R::Response> {
        let mut connection = Connection::open(self.subject);
        connection.start(version, &request);
        Box::new(move || {
            let is_answered = !connection.is_silent_for(Duration::from_millis(1));
            is_answered.then(|| connection.finish::<R>(version))
        })
    }

    fn wait(&mut self, time: Duration) {
        std::thread::sleep(time);
    }

    fn restart(&mut self) {
        self.subject.kill_and_restart();
    }

    fn do_own(&mut self, _line: &str) -> bool {
        false
    }

    fn settle(&mut self, since: Instant) -> bool {
        std::thread::sleep(Duration::from_millis(10)); // another process decides: there is nothing to be woken by
        since.elapsed() < PATIENCE
    }

    fn let_arrive(&mut self) {
        std::thread::sleep(self.arrival_time);
    }
}
