//! The time that an answer asks its client to wait before it sends the next request: a field of nearly every answer, which only a
//! fault sets here, as there are no quotas.

use kafka_protocol::messages::{
    AddOffsetsToTxnResponse, AddPartitionsToTxnResponse, AlterConfigsResponse, ApiVersionsResponse,
    CreatePartitionsResponse, CreateTopicsResponse, DeleteGroupsResponse, DeleteRecordsResponse, DeleteTopicsResponse,
    DescribeClusterResponse, DescribeConfigsResponse, DescribeGroupsResponse, DescribeLogDirsResponse,
    DescribeProducersResponse, DescribeTopicPartitionsResponse, DescribeTransactionsResponse, EndTxnResponse,
    FetchResponse, FindCoordinatorResponse, HeartbeatResponse, IncrementalAlterConfigsResponse, InitProducerIdResponse,
    JoinGroupResponse, LeaveGroupResponse, ListGroupsResponse, ListOffsetsResponse, ListTransactionsResponse,
    MetadataResponse, OffsetCommitResponse, OffsetDeleteResponse, OffsetFetchResponse, OffsetForLeaderEpochResponse,
    ProduceResponse, SaslAuthenticateResponse, SaslHandshakeResponse, SyncGroupResponse, TxnOffsetCommitResponse,
};

/// An answer that may say for how long its client is throttled.
pub(super) trait Throttled {
    /// Says it; versions without the field leave it out.
    fn set_throttle_time_ms(&mut self, time_ms: i32);
}

macro_rules! throttled {
    ($($response:ident)*) => {
        $(impl Throttled for $response {
            fn set_throttle_time_ms(&mut self, time_ms: i32) {
                self.throttle_time_ms = time_ms;
            }
        })*
    };
}

throttled! {
    ProduceResponse
    FetchResponse
    ListOffsetsResponse
    MetadataResponse
    OffsetCommitResponse
    OffsetFetchResponse
    FindCoordinatorResponse
    JoinGroupResponse
    HeartbeatResponse
    LeaveGroupResponse
    SyncGroupResponse
    DescribeGroupsResponse
    ListGroupsResponse
    ApiVersionsResponse
    CreateTopicsResponse
    DeleteTopicsResponse
    DeleteRecordsResponse
    InitProducerIdResponse
    OffsetForLeaderEpochResponse
    AddPartitionsToTxnResponse
    AddOffsetsToTxnResponse
    EndTxnResponse
    TxnOffsetCommitResponse
    DescribeConfigsResponse
    AlterConfigsResponse
    DescribeLogDirsResponse
    CreatePartitionsResponse
    DeleteGroupsResponse
    IncrementalAlterConfigsResponse
    OffsetDeleteResponse
    DescribeClusterResponse
    DescribeProducersResponse
    DescribeTransactionsResponse
    ListTransactionsResponse
    DescribeTopicPartitionsResponse
}

macro_rules! never_throttled {
    ($($response:ident)*) => {
        $(impl Throttled for $response {
            fn set_throttle_time_ms(&mut self, _time_ms: i32) {}
        })*
    };
}

never_throttled! { SaslAuthenticateResponse SaslHandshakeResponse }
