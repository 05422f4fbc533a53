//! A transactional producer on the wire: each step of a transaction is one call, and may be a wrong one.
//!
//! The versions are those of librdkafka 2.12, which adds each partition before it writes there (KIP-890's first part). The
//! Java client's (the second part, where the epoch grows with each transaction) are tried by `java.rs`.

use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, EndTxnRequest, GroupId, InitProducerIdRequest,
    InitProducerIdResponse, ProducerId, TransactionalId, TxnOffsetCommitRequest,
};

use crate::ask;
use crate::raw::{Author, Connection, batch, text, topic_name};
use crate::subject::{Subject, eventually};

const CONCURRENT_TRANSACTIONS: i16 = 51;

/// One producer with an id, on a connection of its own.
pub(crate) struct Transactor {
    pub(crate) connection: Connection,
    pub(crate) id: String,
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
    /// The next sequence, of all partitions: a check that writes to several sets it.
    pub(crate) sequence: i32,
}

impl Transactor {
    pub(crate) fn new(subject: &Subject, id: &str) -> Self {
        Self::with_timeout(subject, id, 60_000)
    }

    pub(crate) fn with_timeout(subject: &Subject, id: &str, timeout_ms: i32) -> Self {
        let mut connection = Connection::open(subject);
        let response = init(&mut connection, Some(id), timeout_ms, -1, -1);
        assert_eq!(response.error_code, 0);
        Self {
            connection,
            id: id.to_owned(),
            producer_id: response.producer_id.0,
            epoch: response.producer_epoch,
            sequence: 0,
        }
    }

    fn transactional_id(&self) -> TransactionalId {
        TransactionalId(text(&self.id))
    }

    /// Adds a partition to the transaction; waits out the end of the one before.
    pub(crate) fn add(&mut self, topic: &str, partition: i32) -> i16 {
        let topic = AddPartitionsToTxnTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(self.transactional_id())
            .with_v3_and_below_producer_id(ProducerId(self.producer_id))
            .with_v3_and_below_producer_epoch(self.epoch)
            .with_v3_and_below_topics(vec![topic]);
        self.retried(|transactor| {
            let response = transactor.connection.ask(3, request.clone());
            response.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
        })
    }

    /// Asks until the transaction before has ended.
    fn retried(&mut self, mut ask: impl FnMut(&mut Self) -> i16) -> i16 {
        eventually("the transaction before has ended", || {
            let error = ask(self);
            (error != CONCURRENT_TRANSACTIONS).then_some(error)
        })
    }

    pub(crate) fn author(&self) -> Author {
        Author { id: self.producer_id, epoch: self.epoch, sequence: self.sequence, transactional: true }
    }

    /// Writes a batch; the sequence goes on where that is taken.
    pub(crate) fn write(&mut self, topic: &str, partition: i32, values: &[&str]) -> PartitionProduceResponse {
        let records = batch(self.author(), values);
        let id = self.id.clone();
        let response = ask::produce(&mut self.connection, topic, partition, Some(&id), records);
        if response.error_code == 0 {
            self.sequence += values.len() as i32;
        }
        response
    }

    /// Adds the partition and writes a batch, and gives its offset.
    pub(crate) fn add_and_write(&mut self, topic: &str, partition: i32, values: &[&str]) -> i64 {
        assert_eq!(self.add(topic, partition), 0);
        let response = self.write(topic, partition, values);
        assert_eq!(response.error_code, 0, "{:?}", response.error_message);
        response.base_offset
    }

    pub(crate) fn add_offsets(&mut self, group: &str) -> i16 {
        let request = AddOffsetsToTxnRequest::default()
            .with_transactional_id(self.transactional_id())
            .with_producer_id(ProducerId(self.producer_id))
            .with_producer_epoch(self.epoch)
            .with_group_id(GroupId(text(group)));
        self.retried(|transactor| transactor.connection.ask(3, request.clone()).error_code)
    }

    /// A commit in the transaction, from outside of the group's membership.
    pub(crate) fn commit_offset(&mut self, group: &str, topic: &str, partition: i32, offset: i64) -> i16 {
        self.commit_offset_as(group, "", -1, topic, partition, offset)
    }

    pub(crate) fn commit_offset_as(
        &mut self,
        group: &str,
        member: &str,
        generation: i32,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> i16 {
        let partition =
            TxnOffsetCommitRequestPartition::default().with_partition_index(partition).with_committed_offset(offset);
        let topic =
            TxnOffsetCommitRequestTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
        let request = TxnOffsetCommitRequest::default()
            .with_transactional_id(self.transactional_id())
            .with_group_id(GroupId(text(group)))
            .with_producer_id(ProducerId(self.producer_id))
            .with_producer_epoch(self.epoch)
            .with_member_id(text(member))
            .with_generation_id(generation)
            .with_topics(vec![topic]);
        self.connection.ask(3, request).topics[0].partitions[0].error_code
    }

    /// Ends the transaction; its markers may be written a moment later.
    pub(crate) fn end(&mut self, commit: bool) -> i16 {
        let request = EndTxnRequest::default()
            .with_transactional_id(self.transactional_id())
            .with_producer_id(ProducerId(self.producer_id))
            .with_producer_epoch(self.epoch)
            .with_committed(commit);
        self.retried(|transactor| transactor.connection.ask(3, request.clone()).error_code)
    }
}

/// Asks for a producer's id and epoch; waits out the end of a transaction.
pub(crate) fn init(
    connection: &mut Connection,
    id: Option<&str>,
    timeout_ms: i32,
    producer_id: i64,
    epoch: i16,
) -> InitProducerIdResponse {
    eventually("the transaction before has ended", || {
        let response = init_once(connection, id, timeout_ms, producer_id, epoch);
        (response.error_code != CONCURRENT_TRANSACTIONS).then_some(response)
    })
}

/// As [`init`], without waiting for anything.
pub(crate) fn init_once(
    connection: &mut Connection,
    id: Option<&str>,
    timeout_ms: i32,
    producer_id: i64,
    epoch: i16,
) -> InitProducerIdResponse {
    let request = InitProducerIdRequest::default()
        .with_transactional_id(id.map(|id| TransactionalId(text(id))))
        .with_transaction_timeout_ms(timeout_ms)
        .with_producer_id(ProducerId(producer_id))
        .with_producer_epoch(epoch);
    connection.ask(4, request)
}

/// Waits for the end of a partition's log to be stable and gives it: the markers of all transactions are written.
pub(crate) fn settled(connection: &mut Connection, topic: &str, partition: i32) -> i64 {
    eventually("no transaction is open", || {
        let (_, stable, end) = ask::bounds(connection, topic, partition);
        (stable == end).then_some(end)
    })
}
