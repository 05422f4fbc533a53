//! The handle of a running broker.

use std::net::SocketAddr;

use crate::config::BrokerConfig;
use crate::error::StartError;
use crate::faults::Faults;

/// A running broker. Dropping it stops it in order.
#[derive(Debug)]
pub struct Broker {}

#[allow(unused, clippy::unimplemented, missing_docs)]
impl Broker {
    /// Opens the data folder, listens, and serves on a thread of its own until [`stop`](Self::stop) or drop.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(config: BrokerConfig) -> Result<Self, StartError> {
        unimplemented!()
    }

    /// The address listened on.
    pub fn address(&self) -> SocketAddr {
        unimplemented!()
    }

    /// What clients connect to: `HOST:PORT`.
    pub fn bootstrap_servers(&self) -> String {
        unimplemented!()
    }

    /// The faults that this broker injects: none until a test asks for some.
    pub fn faults(&self) -> &Faults {
        unimplemented!()
    }

    /// Stops taking requests, syncs the files and closes.
    pub fn stop(self) {
        unimplemented!()
    }

    /// Ends as a killed process would: connections cut, nothing synced, nothing finished.
    pub fn kill(self) {
        unimplemented!()
    }
}
