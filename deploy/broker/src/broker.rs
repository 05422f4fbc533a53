//! The handle of a running broker, and the thread that is the broker: one loop over connections, timers and the end.

mod flush;
mod folder;
mod open_files;

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::runtime;
use tokio::sync::oneshot;
use tokio::task::LocalSet;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::config::{BrokerConfig, Storage};
use crate::damage;
use crate::durable::Unsynced;
use crate::error::StartError;
use crate::faults::Faults;
use crate::log::compact::Compaction;
use crate::node::{Node, NodeRef, Now};
use crate::server::Server;
use crate::topics::id;
use flush::Flusher;
use folder::DataFolder;

/// Time-outs of groups and of transactions are met this well.
const TICK: Duration = Duration::from_millis(20);
/// What could not be synced is tried again after this, where no flush interval says when.
const SYNC_RETRY: Duration = Duration::from_secs(1);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3_600);
/// A system that has no more files or memory for connections is asked again after this.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A running broker. Dropping it stops it in order.
#[derive(Debug)]
pub struct Broker {
    address: SocketAddr,
    bootstrap_servers: String,
    faults: Faults,
    is_ending: Arc<AtomicBool>,
    end: Option<oneshot::Sender<End>>,
    thread: Option<JoinHandle<()>>,
}

/// How a broker ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Answers are sent, files synced.
    InOrder,
    /// As by SIGKILL.
    Abrupt,
}

impl Broker {
    /// Opens the data folder, listens, and serves on a thread of its own until [`stop`](Self::stop) or drop.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(config: BrokerConfig) -> Result<Self, StartError> {
        let data = match &config.storage {
            Storage::Memory => None,
            Storage::Folder(folder) => Some(DataFolder::open(folder)?),
        };
        let listener = listen(config.listen)?;
        let address = listener.1;
        let host = config.advertised_host.clone().unwrap_or_else(|| reachable(address.ip()).to_string());
        let bootstrap_servers = host_and_port(&host, address.port());
        if let Some(data) = &data {
            data.tell(&bootstrap_servers);
        }
        let (faults, is_ending) = (Faults::default(), Arc::new(AtomicBool::new(false)));
        let (end, ended) = oneshot::channel();
        let (started, is_started) = mpsc::channel();
        let task = Task {
            config,
            data,
            host,
            listener: listener.0,
            faults: faults.clone(),
            is_ending: Arc::clone(&is_ending),
            ended,
        };
        let run = move || run(task, &started);
        let thread = thread::Builder::new().name("broker".to_owned()).spawn(run).map_err(StartError::Thread)?;
        let broker = Self { address, bootstrap_servers, faults, is_ending, end: Some(end), thread: Some(thread) };
        match is_started.recv() {
            Ok(Ok(())) => Ok(broker),
            Ok(Err(error)) => Err(error),
            // It panicked, and the panic is on standard error.
            Err(mpsc::RecvError) => Err(StartError::Thread(std::io::Error::other("it ended in a panic"))),
        }
    }

    /// The address listened on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What clients connect to: `HOST:PORT`.
    pub fn bootstrap_servers(&self) -> String {
        self.bootstrap_servers.clone()
    }

    /// Whether it has ended by itself, which is a defect.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// The faults that this broker injects: none until a test asks for some.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Stops taking requests, syncs the files and closes.
    pub fn stop(mut self) {
        self.end(End::InOrder);
    }

    /// Ends as a killed process would: connections cut, nothing synced, nothing finished.
    pub fn kill(mut self) {
        self.end(End::Abrupt);
    }

    fn end(&mut self, how: End) {
        self.is_ending.store(true, Ordering::Release);
        let (end, thread) = (self.end.take(), self.thread.take());
        if let (Some(end), Some(thread)) = (end, thread) {
            // It may be gone already; then there is nothing to end.
            let _is_gone = end.send(how);
            thread.thread().unpark();
            if thread.join().is_err() {
                tracing::error!("the broker's thread has ended in a panic");
            }
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.end(End::InOrder);
    }
}

/// What the thread begins with.
struct Task {
    config: BrokerConfig,
    data: Option<DataFolder>,
    host: String,
    listener: TcpListener,
    faults: Faults,
    is_ending: Arc<AtomicBool>,
    ended: oneshot::Receiver<End>,
}

/// The listener, which does not block, and its address. Standard Rust sets SO_REUSEADDR, so that a port is free for the next
/// broker while connections of the last one linger.
fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let error = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).map_err(error)?;
    listener.set_nonblocking(true).map_err(error)?;
    let bound = listener.local_addr().map_err(error)?;
    if !bound.ip().is_loopback() {
        tracing::warn!(address = %bound, "whoever reaches this address can read, write and delete everything: there is no authentication");
    }
    Ok((listener, bound))
}

/// An address that a client on this machine reaches.
fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

fn host_and_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The broker's thread, from the first file opened to the last one closed.
fn run(task: Task, started: &mpsc::Sender<Result<(), StartError>>) {
    let Task { mut config, data, host, listener, faults, is_ending, ended } = task;
    let (flush_interval, is_memory) = (config.flush_interval, config.storage == Storage::Memory);
    let open_files_max = open_files::raise_limit();
    let connections_max = open_files::connections_max(config.limits.connections_max, open_files_max);
    config.limits.connections_max = connections_max;
    let opened = || {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
        let flusher = if is_memory || flush_interval.is_zero() { None } else { Some(Flusher::start()) };
        let flusher = flusher.transpose().map_err(StartError::Thread)?;
        let address = listener.local_addr().map_err(StartError::Thread)?;
        let cluster_id = data.as_ref().map_or_else(|| id::text(id::random()), |data| data.cluster_id.clone());
        let node = Node::open(config, cluster_id, host, address.port())?;
        let listener = {
            let _entered = runtime.enter();
            tokio::net::TcpListener::from_std(listener).map_err(StartError::Thread)?
        };
        Ok((runtime, flusher, Rc::new(RefCell::new(node)), listener))
    };
    let (runtime, flusher, node, listener) = match opened() {
        Ok(opened) => opened,
        Err(error) => {
            // The lock goes first, so that whoever hears of it can try again.
            drop(data);
            let _is_heard = started.send(Err(error));
            return;
        }
    };
    let partitions = if is_memory { 0 } else { node.borrow().topics.partitions() };
    if let Some(shortage) = open_files::shortage(open_files_max, connections_max, partitions) {
        tracing::warn!("{shortage}");
    }
    let _is_heard = started.send(Ok(()));
    let tasks = LocalSet::new();
    let server = Server::new(Rc::clone(&node), faults, is_ending);
    let (end, unsynced) = tasks.block_on(&runtime, serve(&server, &node, listener, flusher.as_ref(), ended));
    // What still runs is cut here.
    drop(tasks);
    drop(runtime);
    // It ends what it is syncing, so that no file is synced by two, and all is synced before that is noted.
    drop(flusher);
    if end == End::InOrder {
        flush::sync(&unsynced);
        stop_in_order(&mut node.borrow_mut());
    }
    drop(server);
    drop(node);
    // The lock is the last to go.
    drop(data);
}

/// Syncs what was written, and notes that nothing is torn.
fn stop_in_order(node: &mut Node) {
    // What could not be synced before too.
    let synced = node.take_dirty().iter().map(Unsynced::sync).fold(Ok(()), Result::and);
    let noted = synced.and_then(|()| if node.is_whole() { damage::note_stop(&node.config.storage) } else { Ok(()) });
    if let Err(error) = noted {
        tracing::error!(%error, "not all could be synced; the next start takes this stop for a kill");
    }
}

/// Serves until the handle says how to end. Gives with it what the flusher has not been given.
async fn serve(
    server: &Server,
    node: &NodeRef,
    listener: tokio::net::TcpListener,
    flusher: Option<&Flusher>,
    mut ended: oneshot::Receiver<End>,
) -> (End, Vec<Unsynced>) {
    let (flush_interval, maintenance_interval) = {
        let config = &node.borrow().config;
        (config.flush_interval, config.maintenance_interval)
    };
    let mut tick = timer(TICK);
    // Where every answer is synced before it is sent, only what could not be synced is left to try again.
    let mut flush = timer(if flush_interval.is_zero() { SYNC_RETRY } else { flush_interval });
    let mut maintenance = timer(maintenance_interval);
    let compaction = Compaction::default();
    let (mut accept_due, mut is_accept_failing) = (Instant::now(), false);
    let mut unsynced = Vec::new();
    let end = loop {
        tokio::select! {
            // A handle that is gone without a word stops it in order.
            end = &mut ended => break end.unwrap_or(End::InOrder),
            accepted = accept(&listener, accept_due) => match accepted {
                Ok((stream, peer)) => {
                    is_accept_failing = false;
                    server.accept(stream, peer);
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_accept_failing, true) {
                        tracing::warn!(%error, "a connection cannot be taken; this is told again only after one could");
                    }
                    accept_due = Instant::now() + ACCEPT_PAUSE;
                }
            },
            _ = tick.tick() => node.borrow_mut().tick(Now::read()),
            _ = maintenance.tick() => {
                node.borrow_mut().maintain(Now::read());
                compaction.start(node);
            }
            _ = flush.tick() => {
                // What the flusher had no time for comes first; until then the rest may as well stay where it is.
                if unsynced.is_empty() {
                    unsynced = node.borrow_mut().take_dirty();
                }
                match flusher {
                    Some(flusher) if !unsynced.is_empty() => {
                        unsynced = flusher.give(std::mem::take(&mut unsynced)).err().unwrap_or_default();
                    }
                    Some(_) => {}
                    None => flush::sync(&std::mem::take(&mut unsynced)),
                }
            }
        }
    };
    drop(listener);
    if end == End::InOrder {
        server.close().await;
    }
    (end, unsynced)
}

/// The next connection, asked for when it is due: all else goes on until then. Given up and called again it loses none.
async fn accept(listener: &tokio::net::TcpListener, due: Instant) -> std::io::Result<(TcpStream, SocketAddr)> {
    if Instant::now() < due {
        tokio::time::sleep_until(due).await;
    }
    listener.accept().await
}

fn timer(period: Duration) -> Interval {
    // Who wants it never says so by a time that no clock can count to.
    let period = period.clamp(TICK, YEAR);
    let mut timer = interval_at(Instant::now() + period, period);
    // A broker that stood still has one thing to catch up with, not one a period.
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    timer
}

#[cfg(test)]
mod tests;
#[cfg(test)]
#[path = "../tests/wire/mod.rs"]
mod wire;
