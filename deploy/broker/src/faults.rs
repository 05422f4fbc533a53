//! Faults that tests inject into a running broker, seeded, so that a run can be repeated.

use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::ApiKey;

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// It is carried out later, and the connection's next ones after it.
    Delay(Duration),
    /// It is carried out, its answer comes later.
    DelayReply(Duration),
    /// It is not carried out, and this connection is silent from then on.
    DropRequest,
    /// It is carried out, never answered, and this connection is silent from then on: the case that hurts.
    DropReply,
    /// It is not carried out but answered with this error.
    Error(ResponseError),
    /// It is not carried out, the connection is closed.
    Disconnect,
    /// It is carried out, and the connection is closed without an answer.
    DisconnectAfter,
    /// The whole broker stands still for this long, then carries it out.
    Freeze(Duration),
}

/// Which requests a fault befalls.
#[derive(Clone, Debug)]
pub struct FaultRule {
    /// Only this API.
    pub api: Option<ApiKey>,
    /// Only clients whose id begins with this.
    pub client_id: Option<String>,
    /// What happens.
    pub fault: Fault,
    /// With this probability each, 0 to 1.
    pub probability: f64,
    /// Let so many matching requests pass first.
    pub skip: u64,
    /// At most so many times; `None`: until it is cleared.
    pub times: Option<u64>,
}

/// The rules in force, shared with the broker's thread.
#[derive(Clone, Debug, Default)]
pub struct Faults {}
