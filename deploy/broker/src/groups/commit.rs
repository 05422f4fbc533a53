//! Committing, staging and deleting offsets.
//!
//! Each partition of a request has its own answer: it may not exist, its metadata may be too long, and what is left shares
//! the answer of the group: may this member commit, can it be written.
//! Source: Apache Kafka's `KafkaApis.handleOffsetCommitRequest` and `OffsetMetadataManager`.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse, TxnOffsetCommitRequest,
    TxnOffsetCommitResponse,
};

use super::Groups;
use super::group::State;
use super::offsets::Committed;
use super::record::Record;
use super::turn;
use crate::api::Context;
use crate::node::Now;

/// From this version of OffsetCommit on a group that is not there is called that.
const GROUP_ID_NOT_FOUND_SINCE: i16 = 9;

/// One partition's offset, whichever request it came with.
struct Wish<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    leader_epoch: i32,
    metadata: &'a str,
}

/// How the wishes of one request become records.
struct Terms<'a> {
    group: &'a str,
    /// Staged by this producer's transaction, not committed.
    producer_id: Option<i64>,
    expire_ms: Option<i64>,
    now: Now,
}

impl Groups {
    /// Commits offsets; `exists` says whether a partition does.
    pub(crate) fn commit(
        &mut self,
        request: &OffsetCommitRequest,
        exists: &dyn Fn(&str, i32) -> bool,
        context: &Context,
    ) -> OffsetCommitResponse {
        let wishes = request.topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(|partition| Wish {
                topic: &topic.name,
                partition: partition.partition_index,
                offset: partition.committed_offset,
                leader_epoch: partition.committed_leader_epoch,
                metadata: partition.committed_metadata.as_deref().unwrap_or_default(),
            })
        });
        let now = context.now;
        let expire_ms = (request.retention_time_ms >= 0).then(|| now.unix_ms.saturating_add(request.retention_time_ms));
        let terms = Terms { group: &request.group_id, producer_id: None, expire_ms, now };
        let mut codes =
            self.store(wishes.collect(), exists, &terms, |groups| groups.check_commit(request, context)).into_iter();
        let topics = request.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().zip(&mut codes).map(|(partition, code)| {
                OffsetCommitResponsePartition::default()
                    .with_partition_index(partition.partition_index)
                    .with_error_code(code)
            });
            OffsetCommitResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
        });
        OffsetCommitResponse::default().with_topics(topics.collect())
    }

    /// Stages the offsets of a producer's open transaction (`TxnOffsetCommit`): checks the partitions (`exists`), the group,
    /// its generation and its member, and journals. That the producer may is the caller's to check, before.
    pub(crate) fn stage(
        &mut self,
        request: &TxnOffsetCommitRequest,
        exists: &dyn Fn(&str, i32) -> bool,
        now: Now,
    ) -> TxnOffsetCommitResponse {
        let wishes = request.topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(|partition| Wish {
                topic: &topic.name,
                partition: partition.partition_index,
                offset: partition.committed_offset,
                leader_epoch: partition.committed_leader_epoch,
                metadata: partition.committed_metadata.as_deref().unwrap_or_default(),
            })
        });
        let producer_id = Some(request.producer_id.0);
        let terms = Terms { group: &request.group_id, producer_id, expire_ms: None, now };
        let mut codes = self.store(wishes.collect(), exists, &terms, |groups| groups.check_stage(request)).into_iter();
        let topics = request.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().zip(&mut codes).map(|(partition, code)| {
                TxnOffsetCommitResponsePartition::default()
                    .with_partition_index(partition.partition_index)
                    .with_error_code(code)
            });
            TxnOffsetCommitResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
        });
        TxnOffsetCommitResponse::default().with_topics(topics.collect())
    }

    /// A producer's transaction has ended: its staged offsets become committed, or are dropped. Idempotent.
    ///
    /// # Errors
    /// The journal cannot be written; nothing has changed then.
    pub(crate) fn end_transaction(
        &mut self,
        group: &str,
        producer_id: i64,
        is_commit: bool,
        now: Now,
    ) -> Result<(), ResponseError> {
        if !self.groups.get(group).is_some_and(|group| group.offsets.has_staged_by(producer_id)) {
            return Ok(());
        }
        self.write(vec![Record::Ended { group: group.to_owned(), producer_id, is_commit }], now)
    }

    /// `(group, producer id)` of all staged offsets.
    pub(crate) fn staged(&self) -> Vec<(String, i64)> {
        let groups = self.groups.iter();
        groups.flat_map(|(id, group)| group.offsets.producers().map(|producer| (id.clone(), producer))).collect()
    }

    /// A topic is deleted: its committed offsets go.
    ///
    /// # Errors
    /// The journal's.
    pub(crate) fn forget_topic(&mut self, topic: &str) -> Result<(), ResponseError> {
        if !self.groups.values().any(|group| group.offsets.has_topic(topic)) {
            return Ok(());
        }
        turn::write(&mut self.journal, &[Record::TopicDeleted { topic: topic.to_owned() }])?;
        self.remove_topic(topic);
        Ok(())
    }

    /// Deletes committed offsets of topics that no member reads.
    pub(crate) fn delete_offsets(
        &mut self,
        request: &OffsetDeleteRequest,
        exists: &dyn Fn(&str, i32) -> bool,
        now: Now,
    ) -> OffsetDeleteResponse {
        let refused = |error: ResponseError| OffsetDeleteResponse::default().with_error_code(error.code());
        if request.group_id.is_empty() {
            return refused(ResponseError::InvalidGroupId);
        }
        let Some(group) = self.groups.get(request.group_id.as_str()) else {
            return refused(ResponseError::GroupIdNotFound);
        };
        if let Err(error) = group.check_offset_deletion() {
            return refused(error);
        }
        let mut records = Vec::new();
        let topics = request.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| {
                let partition = partition.partition_index;
                let code = if !exists(&topic.name, partition) {
                    ResponseError::UnknownTopicOrPartition.code()
                } else if group.is_subscribed_to(&topic.name) {
                    ResponseError::GroupSubscribedToTopic.code()
                } else {
                    let offsets = &group.offsets;
                    if offsets.get(&topic.name, partition).is_some() || offsets.is_unstable(&topic.name, partition) {
                        let (group, topic) = (request.group_id.to_string(), topic.name.to_string());
                        records.push(Record::Removed { group, topic, partition });
                    }
                    0
                };
                OffsetDeleteResponsePartition::default().with_partition_index(partition).with_error_code(code)
            });
            OffsetDeleteResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
        });
        let topics = topics.collect();
        match self.write(records, now) {
            Ok(()) => OffsetDeleteResponse::default().with_topics(topics),
            Err(error) => refused(error),
        }
    }

    /// Stores what may be stored; the error code of each wish, in order.
    fn store(
        &mut self,
        wishes: Vec<Wish<'_>>,
        exists: &dyn Fn(&str, i32) -> bool,
        terms: &Terms<'_>,
        check: impl FnOnce(&mut Self) -> Result<(), ResponseError>,
    ) -> Vec<i16> {
        let unknown = ResponseError::UnknownTopicOrPartition;
        let mut codes: Vec<i16> =
            wishes.iter().map(|wish| if exists(wish.topic, wish.partition) { 0 } else { unknown.code() }).collect();
        if codes.iter().all(|code| *code != 0) {
            return codes;
        }
        let mut records = Vec::new();
        let mut result = check(self);
        if result.is_ok() {
            for (wish, code) in wishes.iter().zip(&mut codes).filter(|(_, code)| **code == 0) {
                if wish.metadata.len() > self.settings.metadata_bytes_max {
                    *code = ResponseError::OffsetMetadataTooLarge.code();
                } else {
                    records.push(terms.record(wish, self.position + records.len() as u64));
                }
            }
            result = self.store_records(records, terms);
        }
        if let Err(error) = result {
            for code in codes.iter_mut().filter(|code| **code == 0) {
                *code = error.code();
            }
        }
        codes
    }

    fn store_records(&mut self, records: Vec<Record>, terms: &Terms<'_>) -> Result<(), ResponseError> {
        if records.is_empty() {
            return Ok(());
        }
        self.check_room(terms.group)?;
        self.write(records, terms.now)
    }

    /// Whether this member may commit in this group; its session begins anew.
    fn check_commit(&mut self, request: &OffsetCommitRequest, context: &Context) -> Result<(), ResponseError> {
        let generation = request.generation_id_or_member_epoch;
        let (Some(group), mut turn) = self.turn(&request.group_id, context.now) else {
            return match generation {
                // Neither a member nor a group: offsets are kept for whoever calls it so.
                ..0 => Ok(()),
                _ if context.version >= GROUP_ID_NOT_FOUND_SINCE => Err(ResponseError::GroupIdNotFound),
                _ => Err(ResponseError::IllegalGeneration),
            };
        };
        group.check_commit(&request.member_id, request.group_instance_id.as_deref(), generation, false)?;
        if group.state == State::Stable || group.is_preparing() {
            group.extend_session(&request.member_id, &mut turn);
        }
        Ok(())
    }

    fn check_stage(&self, request: &TxnOffsetCommitRequest) -> Result<(), ResponseError> {
        if request.group_id.is_empty() {
            return Err(ResponseError::InvalidGroupId);
        }
        match self.groups.get(request.group_id.as_str()) {
            None if request.generation_id < 0 => Ok(()),
            None => Err(ResponseError::IllegalGeneration),
            Some(group) => {
                let instance_id = request.group_instance_id.as_deref();
                group.check_commit(&request.member_id, instance_id, request.generation_id, true)
            }
        }
    }
}

impl Terms<'_> {
    fn record(&self, wish: &Wish<'_>, position: u64) -> Record {
        let (group, topic, partition) = (self.group.to_owned(), wish.topic.to_owned(), wish.partition);
        let committed = Committed {
            offset: wish.offset,
            leader_epoch: wish.leader_epoch,
            metadata: wish.metadata.to_owned(),
            commit_ms: self.now.unix_ms,
            expire_ms: self.expire_ms,
            position,
        };
        match self.producer_id {
            None => Record::Committed { group, topic, partition, committed },
            Some(producer_id) => Record::Staged { group, producer_id, topic, partition, committed },
        }
    }
}
