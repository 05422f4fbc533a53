//! The APIs that the broker answers, each with its range of versions; one file each.
//!
//! An API's file has `handle`, which carries a request out, and `refuse`, which answers the same request with one error
//! everywhere an error can stand (for faults and bounds). The table below is the one place that knows all of them: what it
//! names is advertised, dispatched and refused, and what it does not name is answered as Apache Kafka answers an API that it
//! does not have: the connection is closed (`SocketServer.processCompletedReceives`), as an answer's form would be a guess.
//! `ApiVersions` alone is answered in every version, so that a newer client can find out.

mod add_offsets_to_txn;
mod add_partitions_to_txn;
#[cfg(test)]
mod admin_tests;
mod alter_configs;
mod api_versions;
mod assignments;
mod authorized_operations;
mod config_resources;
#[cfg(test)]
mod config_tests;
mod create_partitions;
mod create_topics;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod describe_producers;
mod describe_topic_partitions;
mod describe_transactions;
mod described_settings;
mod end_txn;
mod fetch;
mod find_coordinator;
mod heartbeat;
mod incremental_alter_configs;
pub(crate) mod init_producer_id;
pub(crate) mod join_group;
mod leave_group;
mod list_groups;
mod list_offsets;
mod list_transactions;
mod metadata;
pub(crate) mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
mod room;
mod sasl_authenticate;
mod sasl_handshake;
mod sync_group;
#[cfg(test)]
pub(crate) mod testing;
mod throttle;
mod txn_offset_commit;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{ApiKey, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};

use crate::frame;
use crate::node::{Node, NodeRef, Now};
pub(crate) use room::Room;
use throttle::Throttled;

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
    pub(crate) now: Now,
    /// What is left for its answer.
    pub(crate) room: Room,
    /// For how long its connection is throttled, which the answer says; a fault.
    pub(crate) throttle: Duration,
}

impl Context {
    /// Parts of an answer, as many as it has room for. One that runs out of it is not sent, and its connection closed.
    fn fill<T: Encodable>(&self, parts: impl Iterator<Item = T>) -> impl Iterator<Item = T> {
        self.room.fill(self.version, parts)
    }
}

/// One request, its header read and its body not yet.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) key: ApiKey,
    pub(crate) version: i16,
    /// The client's number of it, given back with the answer.
    pub(crate) correlation_id: i32,
    pub(crate) client_id: StrBytes,
    pub(crate) body: Bytes,
}

/// What becomes of a request that is answered as a rule.
#[derive(Debug)]
pub(crate) enum Outcome<R> {
    /// This is the answer.
    Answer(R),
    /// None is expected: a produce request with acks=0.
    Silence,
    /// The connection is closed, for this reason.
    Close(&'static str),
}

/// A request that cannot be answered; its connection is closed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unanswerable {
    /// Its body is not what its header says.
    #[error("the {key:?} request of version {version} cannot be read: {problem}")]
    Malformed { key: ApiKey, version: i16, problem: String },
    /// Its answer cannot be written in its version: a fault of the broker.
    #[error("the answer to a {key:?} request of version {version} cannot be written: {problem}")]
    Unwritable { key: ApiKey, version: i16, problem: String },
    /// An API or a version that is not in the table.
    #[error("{key:?} is not answered in version {version}")]
    Unsupported { key: ApiKey, version: i16 },
}

/// An API in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Supported {
    pub(crate) key: ApiKey,
    pub(crate) min: i16,
    pub(crate) max: i16,
}

/// Whether the table has an API in a version.
pub(crate) fn is_supported(key: ApiKey, version: i16) -> bool {
    TABLE.iter().any(|api| api.key == key && (api.min..=api.max).contains(&version))
}

/// Makes [`TABLE`] and [`answer`] of rows `API versions how file`. How a request is answered says what its `handle` is:
/// - `at_once`: `fn handle(&mut Node, XRequest, &Context) -> XResponse`;
/// - `or_not`: `fn handle(&mut Node, XRequest, &Context) -> Outcome<XResponse>`;
/// - `in_time`: `async fn handle(&NodeRef, XRequest, &Context) -> Outcome<XResponse>`; dropped when its connection ends.
///
/// `refuse` is `fn refuse(&XRequest, ResponseError, version: i16) -> XResponse`; of an `or_not` it gives an `Outcome` too.
macro_rules! apis {
    ($($key:ident $min:literal ..= $max:literal $how:ident $file:ident)*) => {
        /// Every API that is answered, in the order of Kafka's numbers.
        pub(crate) const TABLE: &[Supported] = &[$(Supported { key: ApiKey::$key, min: $min, max: $max }),*];

        /// Carries a request out, or refuses it with an error, and gives the frame of its answer.
        pub(crate) async fn answer(
            node: &NodeRef,
            request: Request,
            context: &Context,
            refused: Option<ResponseError>,
        ) -> Result<Outcome<BytesMut>, Unanswerable> {
            if !is_supported(request.key, request.version) {
                return unsupported(&request);
            }
            let answer = match request.key {
                $(ApiKey::$key => $how(node, request, context, refused, $file::handle, $file::refuse).await,)*
                key => Err(Unanswerable::Unsupported { key, version: request.version }),
            };
            if context.room.is_exceeded() { Ok(Outcome::Close(TOO_LARGE)) } else { answer }
        }
    };
}

apis! {
    // API                  versions   how      file
    Produce                 3..=13     or_not   produce
    Fetch                   4..=17     in_time  fetch
    ListOffsets             1..=10     at_once  list_offsets
    Metadata                0..=13     at_once  metadata
    OffsetCommit            2..=9      at_once  offset_commit
    OffsetFetch             1..=9      at_once  offset_fetch
    FindCoordinator         0..=6      at_once  find_coordinator
    JoinGroup               0..=9      in_time  join_group
    Heartbeat               0..=4      at_once  heartbeat
    LeaveGroup              0..=5      at_once  leave_group
    SyncGroup               0..=5      in_time  sync_group
    DescribeGroups          0..=6      at_once  describe_groups
    ListGroups              0..=5      at_once  list_groups
    SaslHandshake           0..=1      at_once  sasl_handshake
    ApiVersions             0..=4      at_once  api_versions
    CreateTopics            2..=7      at_once  create_topics
    DeleteTopics            1..=6      at_once  delete_topics
    DeleteRecords           0..=2      at_once  delete_records
    InitProducerId          0..=5      at_once  init_producer_id
    OffsetForLeaderEpoch    2..=4      at_once  offset_for_leader_epoch
    AddPartitionsToTxn      0..=3      at_once  add_partitions_to_txn
    AddOffsetsToTxn         0..=4      at_once  add_offsets_to_txn
    EndTxn                  0..=4      at_once  end_txn
    TxnOffsetCommit         0..=4      at_once  txn_offset_commit
    DescribeConfigs         1..=4      at_once  describe_configs
    AlterConfigs            0..=2      at_once  alter_configs
    DescribeLogDirs         1..=4      at_once  describe_log_dirs
    SaslAuthenticate        0..=2      at_once  sasl_authenticate
    CreatePartitions        0..=3      at_once  create_partitions
    DeleteGroups            0..=2      at_once  delete_groups
    IncrementalAlterConfigs 0..=1      at_once  incremental_alter_configs
    OffsetDelete            0..=0      at_once  offset_delete
    DescribeCluster         0..=2      at_once  describe_cluster
    DescribeProducers       0..=0      at_once  describe_producers
    DescribeTransactions    0..=0      at_once  describe_transactions
    ListTransactions        0..=1      at_once  list_transactions
    DescribeTopicPartitions 0..=0      at_once  describe_topic_partitions
}

/// Why the connection is closed on which an answer would have been too large.
const TOO_LARGE: &str = "an answer would be larger than answer_bytes_max";

/// How a request is refused.
type Refuse<Q, R> = fn(&Q, ResponseError, i16) -> R;

async fn at_once<Q: Decodable, R: Encodable + HeaderVersion + Throttled>(
    node: &NodeRef,
    request: Request,
    context: &Context,
    refused: Option<ResponseError>,
    handle: fn(&mut Node, Q, &Context) -> R,
    refuse: Refuse<Q, R>,
) -> Result<Outcome<BytesMut>, Unanswerable> {
    let decoded = decode(&request)?;
    let response = match refused {
        None => handle(&mut node.borrow_mut(), decoded, context),
        Some(error) => refuse(&decoded, error, request.version),
    };
    encode(&request, Outcome::Answer(response), context.throttle)
}

async fn or_not<Q: Decodable, R: Encodable + HeaderVersion + Throttled>(
    node: &NodeRef,
    request: Request,
    context: &Context,
    refused: Option<ResponseError>,
    handle: fn(&mut Node, Q, &Context) -> Outcome<R>,
    refuse: Refuse<Q, Outcome<R>>,
) -> Result<Outcome<BytesMut>, Unanswerable> {
    let decoded = decode(&request)?;
    let response = match refused {
        None => handle(&mut node.borrow_mut(), decoded, context),
        Some(error) => refuse(&decoded, error, request.version),
    };
    encode(&request, response, context.throttle)
}

async fn in_time<Q: Decodable, R: Encodable + HeaderVersion + Throttled>(
    node: &NodeRef,
    request: Request,
    context: &Context,
    refused: Option<ResponseError>,
    handle: impl AsyncFnOnce(&NodeRef, Q, &Context) -> Outcome<R>,
    refuse: Refuse<Q, R>,
) -> Result<Outcome<BytesMut>, Unanswerable> {
    let decoded = decode(&request)?;
    let response = match refused {
        None => handle(node, decoded, context).await,
        Some(error) => Outcome::Answer(refuse(&decoded, error, request.version)),
    };
    encode(&request, response, context.throttle)
}

/// An `ApiVersions` of a version that is not known is answered in that of version 0, whatever its body (KIP-511).
fn unsupported(request: &Request) -> Result<Outcome<BytesMut>, Unanswerable> {
    if request.key != ApiKey::ApiVersions {
        return Err(Unanswerable::Unsupported { key: request.key, version: request.version });
    }
    let request = Request { version: 0, ..request.clone() };
    encode(&request, Outcome::Answer(api_versions::unsupported_version()), Duration::ZERO)
}

fn decode<Q: Decodable>(request: &Request) -> Result<Q, Unanswerable> {
    let (key, version) = (request.key, request.version);
    let malformed = |problem: String| Unanswerable::Malformed { key, version, problem };
    frame::check(key, version, &request.body).map_err(|problem| malformed(problem.to_string()))?;
    // A slice of the frame: records are not copied out of it.
    Q::decode(&mut request.body.clone(), version).map_err(|problem| malformed(problem.to_string()))
}

/// The whole frame of an answer: length, header, body.
fn encode<R: Encodable + HeaderVersion + Throttled>(
    request: &Request,
    response: Outcome<R>,
    throttle: Duration,
) -> Result<Outcome<BytesMut>, Unanswerable> {
    let (key, version) = (request.key, request.version);
    let mut response = match response {
        Outcome::Answer(response) => response,
        Outcome::Silence => return Ok(Outcome::Silence),
        Outcome::Close(reason) => return Ok(Outcome::Close(reason)),
    };
    if !throttle.is_zero() {
        response.set_throttle_time_ms(i32::try_from(throttle.as_millis()).unwrap_or(i32::MAX));
    }
    let unwritable = |problem: String| Unanswerable::Unwritable { key, version, problem };
    let header = ResponseHeader::default().with_correlation_id(request.correlation_id);
    let header_version = R::header_version(version);
    let bytes = header
        .compute_size(header_version)
        .and_then(|header| Ok(header + response.compute_size(version)?))
        .map_err(|problem| unwritable(problem.to_string()))?;
    let length = i32::try_from(bytes).map_err(|_| unwritable(format!("{bytes} bytes are no frame")))?;
    let mut frame = BytesMut::with_capacity(4 + bytes);
    frame.extend_from_slice(&length.to_be_bytes());
    header
        .encode(&mut frame, header_version)
        .and_then(|()| response.encode(&mut frame, version))
        .map_err(|problem| unwritable(problem.to_string()))?;
    debug_assert_eq!(frame.len(), 4 + bytes, "a frame is as long as it says");
    Ok(Outcome::Answer(frame))
}

/// Producers know `ProducerFenced` from a version of their request on; older ones are told `InvalidProducerEpoch` (KIP-588).
fn fenced_since(since: i16, error: ResponseError, version: i16) -> ResponseError {
    if error == ResponseError::ProducerFenced && version < since { ResponseError::InvalidProducerEpoch } else { error }
}

#[cfg(test)]
mod tests;
