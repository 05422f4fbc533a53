//! Groups and their offsets by scripts, on the wire: see [`world`]. Their time-outs, which take time, are tested in the
//! broker's own unit tests, which run these same scripts too.

use std::time::{Duration, Instant};

use kafka_protocol::messages::DescribeGroupsRequest;
use kafka_protocol::protocol::Request;

use crate::raw::{Connection, text};
use crate::subject::{Subject, eventually, unique};
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

fn check(subject: &Subject, script: &str) {
    let mut world = World::new(Wire { subject, unread: Vec::new() }, &format!("{}-", unique("script")));
    // Nobody's session ends however slow the machine is.
    world.novice = Client { session_ms: 600_000, rebalance_ms: 600_000, ..Client::default() };
    world.check(script);
}

/// A broker on the wire.
struct Wire<'a> {
    subject: &'a Subject,
    /// The ports of connections whose request the broker may not have read yet.
    unread: Vec<u16>,
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
        self.unread.push(connection.port());
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

    /// A broker reads, carries out and answers one request after the other (Kafka with one thread for each of these), so
    /// what is asked once these have been read is answered after them.
    fn let_arrive(&mut self) {
        let unread = std::mem::take(&mut self.unread);
        eventually("the requests are read", || unread.iter().all(|&port| is_read(self.subject, port)).then_some(()));
        let request = DescribeGroupsRequest::default().with_groups(vec![text("anybody").into()]);
        Connection::open(self.subject).ask(5, request);
    }
}

/// Whether the broker has read all that was sent from this port, or has closed the connection. First it must have arrived,
/// which is looked at first: while it is on its way it is at neither end.
fn is_read(subject: &Subject, port: u16) -> bool {
    let has_arrived = queues(port, subject.port()).is_none_or(|(unacknowledged, _)| unacknowledged == 0);
    has_arrived && queues(subject.port(), port).is_none_or(|(_, unread)| unread == 0)
}

/// Bytes that the other end of a connection has not acknowledged, and that this one has not read, as Linux tells them.
fn queues(own_port: u16, other_port: u16) -> Option<(u32, u32)> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| std::fs::read_to_string(table).unwrap_or_default());
    assert!(tables.iter().any(|table| !table.is_empty()), "this suite needs Linux");
    let ends_in = |address: &str, port: u16| address.ends_with(&format!(":{port:04X}"));
    let queues = tables.iter().flat_map(|table| table.lines()).find_map(|line| {
        let [_, own, other, _, queues, ..] = line.split_whitespace().collect::<Vec<_>>()[..] else { return None };
        (ends_in(own, own_port) && ends_in(other, other_port)).then_some(queues)
    });
    let (unacknowledged, unread) = queues?.split_once(':')?;
    Some((u32::from_str_radix(unacknowledged, 16).unwrap(), u32::from_str_radix(unread, 16).unwrap()))
}
