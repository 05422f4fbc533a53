//! Connections: frames in, answers out, in order.
//!
//! A connection is one task: it reads a frame, has it carried out, writes the answer, and reads the next, as Apache Kafka
//! mutes a channel while a request of it is in progress. So answers are in order, a client that does not read its answers is
//! not read from either, and what is wrong with one connection ends that one only.

mod connection;

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::faults::Faults;
use crate::node::NodeRef;
use connection::Connection;

/// An answer that is being written when the broker stops gets so long.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(1);

/// All connections.
pub(crate) struct Server {
    shared: Rc<Shared>,
    /// False once the broker stops.
    serving: watch::Sender<bool>,
}

/// What connections share.
struct Shared {
    node: NodeRef,
    faults: Faults,
    /// Set by the handle, so that a broker that stands still on purpose can be ended.
    is_ending: Arc<AtomicBool>,
    open: Cell<usize>,
}

impl Server {
    pub(crate) fn new(node: NodeRef, faults: Faults, is_ending: Arc<AtomicBool>) -> Self {
        let shared = Rc::new(Shared { node, faults, is_ending, open: Cell::new(0) });
        Self { shared, serving: watch::Sender::new(true) }
    }

    /// Serves a connection in a task of this thread, or closes it at the bound.
    pub(crate) fn accept(&self, stream: TcpStream, peer: SocketAddr) {
        let connections_max = self.shared.node.borrow().config.limits.connections_max;
        if self.shared.open.get() >= connections_max {
            tracing::warn!(%peer, connections_max, "connection closed: there are as many as there may be");
            return;
        }
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "connection closed");
            return;
        }
        let open = Open::new(Rc::clone(&self.shared));
        let connection = Connection::new(stream, peer, Rc::clone(&self.shared), self.serving.subscribe());
        tokio::task::spawn_local(async move {
            connection.run().await;
            drop(open);
        });
    }

    /// Ends every connection that waits, and gives those that write the time to end.
    pub(crate) async fn close(&self) {
        self.serving.send_replace(false);
        // Its receivers are the connections; with the last one gone it is closed.
        let _all_closed_or_time_is_up = tokio::time::timeout(CLOSE_TIME_MAX, self.serving.closed()).await;
    }
}

impl Shared {
    /// Holds the whole thread, so the whole broker, for this long, or until the handle ends it.
    fn freeze(&self, time: Duration) {
        let end = Instant::now() + time;
        while !self.is_ending.load(Ordering::Acquire) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            std::thread::park_timeout(left);
        }
    }
}

/// One connection as it is counted, also if its task is dropped.
struct Open(Rc<Shared>);

impl Open {
    fn new(shared: Rc<Shared>) -> Self {
        shared.open.set(shared.open.get() + 1);
        Self(shared)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
    }
}
