//! The APIs that the broker answers, each with its range of versions; one file each.
//!
//! An API's file has `handle`, which carries a request out, and `refuse`, which answers the same request with one error
//! everywhere an error can stand (for faults and bounds).

/// Who asks, and how.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// The client's id, as it gave it; empty if it gave none.
    pub(crate) client_id: String,
    /// Its address, as Kafka shows it: `/127.0.0.1`.
    pub(crate) client_host: String,
    /// The version of the request.
    pub(crate) version: i16,
    /// When the request was read.
    pub(crate) now: crate::node::Now,
}
