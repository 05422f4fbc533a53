//! What every request that is answered looks like on the wire, in all of its versions.
//!
//! The shapes are those of Kafka's message definitions (`clients/src/main/resources/common/message`), as kafka-protocol
//! decodes them; a test encodes random requests of every version with it and walks them to their last byte.

mod admin;
mod groups;
mod records;
mod transactions;

use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::VersionRange;

/// A request's fields, and the first version in which they are compact and tagged ("flexible", KIP-482).
#[derive(Debug)]
pub(super) struct Request {
    /// Those that the decoder knows; `ApiKey::valid_versions` is wrong for some.
    pub(super) versions: VersionRange,
    pub(super) flexible_since: i16,
    pub(super) fields: &'static [Field],
}

/// One field, in the versions that have it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    since: i16,
    until: i16,
    /// Not in its place but among the tagged fields, under this tag.
    pub(super) tag: Option<u32>,
}

/// How a field is written. Null is as good as a value: whether it may stand there is the decoder's business.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// A number, a flag or an id of so many bytes.
    Fixed(usize),
    /// A string.
    Text,
    /// Bytes, or records.
    Bytes,
    /// An array of numbers of so many bytes, as large in memory as on the wire.
    FixedArray(usize),
    /// An array of strings.
    TextArray,
    /// An array of structures.
    StructArray(Struct),
    /// A structure.
    Struct(Struct),
    /// A structure behind a byte that says whether it is there.
    OptionalStruct(Struct),
}

/// A structure's fields, and its size once it is decoded, without what it points to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Struct {
    pub(super) decoded_bytes: usize,
    pub(super) fields: &'static [Field],
}

impl Field {
    /// Whether a version has it in its place.
    pub(super) fn is_in(&self, version: i16) -> bool {
        self.tag.is_none() && (self.since..=self.until).contains(&version)
    }

    /// Whether a version has it under this tag.
    pub(super) fn is_tagged(&self, tag: u32, version: i16) -> bool {
        self.tag == Some(tag) && (self.since..=self.until).contains(&version)
    }

    const fn since(self, since: i16) -> Self {
        Self { since, ..self }
    }

    const fn until(self, until: i16) -> Self {
        Self { until, ..self }
    }

    const fn tag(self, tag: u32) -> Self {
        Self { tag: Some(tag), ..self }
    }
}

const BOOL: Kind = Kind::Fixed(1);
const INT8: Kind = Kind::Fixed(1);
const INT16: Kind = Kind::Fixed(2);
const INT32: Kind = Kind::Fixed(4);
const INT64: Kind = Kind::Fixed(8);
const UUID: Kind = Kind::Fixed(16);
const TEXT: Kind = Kind::Text;
const BYTES: Kind = Kind::Bytes;
const INT32S: Kind = Kind::FixedArray(4);
const INT64S: Kind = Kind::FixedArray(8);
const TEXTS: Kind = Kind::TextArray;
/// Of a request that has no flexible version.
const NEVER: i16 = i16::MAX;

const fn field(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, since: 0, until: i16::MAX, tag: None }
}

/// An array of structures, by its name.
struct Array(&'static str);
/// One structure.
struct One(&'static str);
/// One structure or none.
struct Optional(&'static str);

impl Array {
    /// Of the structure that kafka-protocol decodes as `T`.
    const fn of<T>(self, fields: &'static [Field]) -> Field {
        field(self.0, Kind::StructArray(Struct { decoded_bytes: size_of::<T>(), fields }))
    }
}

impl One {
    const fn of<T>(self, fields: &'static [Field]) -> Field {
        field(self.0, Kind::Struct(Struct { decoded_bytes: size_of::<T>(), fields }))
    }
}

impl Optional {
    const fn of<T>(self, fields: &'static [Field]) -> Field {
        field(self.0, Kind::OptionalStruct(Struct { decoded_bytes: size_of::<T>(), fields }))
    }
}

/// A request's shape; `None` for an API that is not answered.
pub(super) fn request(api: ApiKey) -> Option<&'static Request> {
    Some(match api {
        ApiKey::Produce => &records::PRODUCE,
        ApiKey::Fetch => &records::FETCH,
        ApiKey::ListOffsets => &records::LIST_OFFSETS,
        ApiKey::Metadata => &records::METADATA,
        ApiKey::OffsetCommit => &groups::OFFSET_COMMIT,
        ApiKey::OffsetFetch => &groups::OFFSET_FETCH,
        ApiKey::FindCoordinator => &groups::FIND_COORDINATOR,
        ApiKey::JoinGroup => &groups::JOIN_GROUP,
        ApiKey::Heartbeat => &groups::HEARTBEAT,
        ApiKey::LeaveGroup => &groups::LEAVE_GROUP,
        ApiKey::SyncGroup => &groups::SYNC_GROUP,
        ApiKey::DescribeGroups => &groups::DESCRIBE_GROUPS,
        ApiKey::ListGroups => &groups::LIST_GROUPS,
        ApiKey::SaslHandshake => &admin::SASL_HANDSHAKE,
        ApiKey::ApiVersions => &admin::API_VERSIONS,
        ApiKey::CreateTopics => &admin::CREATE_TOPICS,
        ApiKey::DeleteTopics => &admin::DELETE_TOPICS,
        ApiKey::DeleteRecords => &records::DELETE_RECORDS,
        ApiKey::InitProducerId => &transactions::INIT_PRODUCER_ID,
        ApiKey::OffsetForLeaderEpoch => &records::OFFSET_FOR_LEADER_EPOCH,
        ApiKey::AddPartitionsToTxn => &transactions::ADD_PARTITIONS_TO_TXN,
        ApiKey::AddOffsetsToTxn => &transactions::ADD_OFFSETS_TO_TXN,
        ApiKey::EndTxn => &transactions::END_TXN,
        ApiKey::TxnOffsetCommit => &transactions::TXN_OFFSET_COMMIT,
        ApiKey::DescribeLogDirs => &admin::DESCRIBE_LOG_DIRS,
        ApiKey::SaslAuthenticate => &admin::SASL_AUTHENTICATE,
        ApiKey::DescribeConfigs => &admin::DESCRIBE_CONFIGS,
        ApiKey::AlterConfigs => &admin::ALTER_CONFIGS,
        ApiKey::CreatePartitions => &admin::CREATE_PARTITIONS,
        ApiKey::DeleteGroups => &groups::DELETE_GROUPS,
        ApiKey::IncrementalAlterConfigs => &admin::INCREMENTAL_ALTER_CONFIGS,
        ApiKey::OffsetDelete => &groups::OFFSET_DELETE,
        ApiKey::DescribeCluster => &admin::DESCRIBE_CLUSTER,
        ApiKey::DescribeProducers => &records::DESCRIBE_PRODUCERS,
        ApiKey::DescribeTransactions => &transactions::DESCRIBE_TRANSACTIONS,
        ApiKey::ListTransactions => &transactions::LIST_TRANSACTIONS,
        ApiKey::DescribeTopicPartitions => &records::DESCRIBE_TOPIC_PARTITIONS,
        _ => return None,
    })
}
