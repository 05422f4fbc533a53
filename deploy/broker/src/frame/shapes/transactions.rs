//! Requests of producers and transactions.

use kafka_protocol::messages::add_partitions_to_txn_request::{AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction};
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, DescribeTransactionsRequest, EndTxnRequest,
    InitProducerIdRequest, ListTransactionsRequest, TxnOffsetCommitRequest,
};
use kafka_protocol::protocol::Message as _;

use super::*;

pub(super) static INIT_PRODUCER_ID: Request = Request {
    versions: InitProducerIdRequest::VERSIONS,
    flexible_since: 2,
    fields: &[
        field("transactional_id", TEXT),
        field("transaction_timeout_ms", INT32),
        field("producer_id", INT64).since(3),
        field("producer_epoch", INT16).since(3),
    ],
};

pub(super) static ADD_PARTITIONS_TO_TXN: Request = Request {
    versions: AddPartitionsToTxnRequest::VERSIONS,
    flexible_since: 3,
    fields: &[
        Array("transactions")
            .of::<AddPartitionsToTxnTransaction>(&[
                field("transactional_id", TEXT).since(4),
                field("producer_id", INT64).since(4),
                field("producer_epoch", INT16).since(4),
                field("verify_only", BOOL).since(4),
                Array("topics")
                    .of::<AddPartitionsToTxnTopic>(&[field("name", TEXT), field("partitions", INT32S)])
                    .since(4),
            ])
            .since(4),
        field("v3_and_below_transactional_id", TEXT).until(3),
        field("v3_and_below_producer_id", INT64).until(3),
        field("v3_and_below_producer_epoch", INT16).until(3),
        Array("v3_and_below_topics")
            .of::<AddPartitionsToTxnTopic>(&[field("name", TEXT), field("partitions", INT32S)])
            .until(3),
    ],
};

pub(super) static ADD_OFFSETS_TO_TXN: Request = Request {
    versions: AddOffsetsToTxnRequest::VERSIONS,
    flexible_since: 3,
    fields: &[
        field("transactional_id", TEXT),
        field("producer_id", INT64),
        field("producer_epoch", INT16),
        field("group_id", TEXT),
    ],
};

pub(super) static END_TXN: Request = Request {
    versions: EndTxnRequest::VERSIONS,
    flexible_since: 3,
    fields: &[
        field("transactional_id", TEXT),
        field("producer_id", INT64),
        field("producer_epoch", INT16),
        field("committed", BOOL),
    ],
};

pub(super) static TXN_OFFSET_COMMIT: Request = Request {
    versions: TxnOffsetCommitRequest::VERSIONS,
    flexible_since: 3,
    fields: &[
        field("transactional_id", TEXT),
        field("group_id", TEXT),
        field("producer_id", INT64),
        field("producer_epoch", INT16),
        field("generation_id", INT32).since(3),
        field("member_id", TEXT).since(3),
        field("group_instance_id", TEXT).since(3),
        Array("topics").of::<TxnOffsetCommitRequestTopic>(&[
            field("name", TEXT),
            Array("partitions").of::<TxnOffsetCommitRequestPartition>(&[
                field("partition_index", INT32),
                field("committed_offset", INT64),
                field("committed_leader_epoch", INT32).since(2),
                field("committed_metadata", TEXT),
            ]),
        ]),
    ],
};

pub(super) static DESCRIBE_TRANSACTIONS: Request = Request {
    versions: DescribeTransactionsRequest::VERSIONS,
    flexible_since: 0,
    fields: &[field("transactional_ids", TEXTS)],
};

pub(super) static LIST_TRANSACTIONS: Request = Request {
    versions: ListTransactionsRequest::VERSIONS,
    flexible_since: 0,
    fields: &[
        field("state_filters", TEXTS),
        field("producer_id_filters", INT64S),
        field("duration_filter", INT64).since(1),
        field("transactional_id_pattern", TEXT).since(2),
    ],
};
