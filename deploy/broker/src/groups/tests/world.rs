//! Clients with names, a clock, and groups on a disk, driven by lines of text.
//!
//! ```text
//! a joins [OPTIONS]        with what a knows of itself; options stay: v4, as INSTANCE, with PROTOCOL,PROTOCOL, type T,
//!                          session 10s, rebalance 60s
//! a syncs [b=1 c=2]        of the generation that a knows, with these assignments
//! a beats | a leaves       heartbeat, leave
//! a forgets                its id and generation, as a process does that starts anew
//! remove INSTANCE ...      leave by instance ids, as an administrator
//! a commits t/0=5 ["m"]    as a member; nobody commits: without one
//! p1 stages t/0=5 [as a]   transactional offsets of producer 1, in a's name or nobody's
//! p1 commits | p1 aborts   its transaction's end
//! fetch [stable] all | t/0 t/1
//! delete t/0 ... | delete | list | describe | topic t is gone
//! group h                  all further lines are about this group
//! wait 10s | restart | rewrite | disk full | disk free
//! ```
//! An answer is that of the one who acts, and after `;` the answers of others that came with it.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopics;
use kafka_protocol::messages::offset_fetch_response::OffsetFetchResponseTopics;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, OffsetCommitRequest, OffsetDeleteRequest, ProducerId,
    SyncGroupRequest, SyncGroupResponse, TopicName, TxnOffsetCommitRequest,
};
use kafka_protocol::protocol::StrBytes;
use tempfile::TempDir;
use tokio::sync::oneshot::Receiver;
use uuid::Uuid;

use crate::api::Context;
use crate::config::{BrokerConfig, Storage};
use crate::groups::{Answer, Groups, JOURNAL};
use crate::node::Now;

/// How finely time goes by.
const STEP: Duration = Duration::from_millis(50);

pub(super) struct World {
    folder: TempDir,
    config: BrokerConfig,
    pub(super) groups: Groups,
    now: Now,
    group: String,
    clients: BTreeMap<String, Client>,
    joins: Vec<(String, Receiver<JoinGroupResponse>)>,
    syncs: Vec<(String, Receiver<SyncGroupResponse>)>,
    /// While the disk is full.
    writable: Option<Arc<File>>,
    /// The generations that were told: number, leader's id, protocol.
    pub(super) told: Vec<(i32, String, String)>,
    /// Ids that were made.
    minted: Arc<AtomicU64>,
}

/// What a client knows of itself.
#[derive(Clone, Debug)]
struct Client {
    id: String,
    generation: i32,
    instance: Option<String>,
    version: i16,
    kind: String,
    protocols: Vec<String>,
    session_ms: i32,
    rebalance_ms: i32,
}

impl Default for Client {
    fn default() -> Self {
        Self {
            id: String::new(),
            generation: -1,
            instance: None,
            version: 9,
            kind: "consumer".to_owned(),
            protocols: vec!["range".to_owned()],
            session_ms: 10_000,
            rebalance_ms: 60_000,
        }
    }
}

impl World {
    pub(super) fn new(mut config: BrokerConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        config.storage = Storage::Folder(folder.path().to_owned());
        let now = Now { unix_ms: 1_700_000_000_000, instant: Instant::now() };
        let minted = Arc::default();
        let groups = open(&config, now, &minted);
        Self {
            folder,
            config,
            groups,
            now,
            group: "g".to_owned(),
            clients: BTreeMap::new(),
            joins: Vec::new(),
            syncs: Vec::new(),
            writable: None,
            told: Vec::new(),
            minted,
        }
    }

    /// Does what a line says and gives the answers to it.
    pub(super) fn run(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        let own = match *words.as_slice() {
            [who, "joins", ref options @ ..] => self.join(who, options),
            [who, "syncs", ref assignments @ ..] => self.sync(who, assignments),
            [who, "beats"] => self.beat(who),
            [who, "leaves"] => self.leave(who),
            [who, "forgets"] => {
                let client = self.client(who);
                (client.id, client.generation) = (String::new(), -1);
                String::new()
            }
            ["remove", ref instances @ ..] => self.remove(instances),
            [who, ending @ ("commits" | "aborts")] => self.end(who, ending == "commits"),
            [who, "commits", ref offsets @ ..] => self.commit(who, offsets),
            [producer, "stages", ref offsets @ .., "as", who] => self.stage(producer, offsets, who),
            [producer, "stages", ref offsets @ ..] => self.stage(producer, offsets, "nobody"),
            ["fetch", "stable", ref partitions @ ..] => self.fetch(partitions, true),
            ["fetch", ref partitions @ ..] => self.fetch(partitions, false),
            ["delete"] => outcome(self.groups.delete(&self.group, self.now)),
            ["delete", ref partitions @ ..] => self.delete_offsets(partitions),
            ["list"] => self.list(),
            ["describe"] => self.describe(),
            ["topic", topic, "is", "gone"] => outcome(self.groups.forget_topic(topic)),
            ["group", group] => {
                self.group = group.to_owned();
                String::new()
            }
            ["wait", time] => {
                self.wait(duration(time));
                String::new()
            }
            ["rewrite"] => {
                let alive = self.groups.snapshot();
                // It fails while the disk is full, as it may.
                let _ = if self.writable.is_none() { self.groups.journal.rewrite(alive.into_iter()) } else { Ok(()) };
                String::new()
            }
            ["restart"] => {
                self.restart();
                String::new()
            }
            ["disk", state] => {
                self.fill_disk(state == "full");
                String::new()
            }
            _ => panic!("not understood: {line}"),
        };
        let mut answers = self.answered();
        if !own.is_empty() {
            answers.insert(0, own);
        } else if self.waits(&words) {
            answers.insert(0, "waits".to_owned());
        } else if let Some(place) = answers.iter().position(|answer| answer.starts_with(&format!("{}: ", words[0]))) {
            let own = answers.remove(place);
            answers.insert(0, own.split_once(": ").unwrap().1.to_owned());
        }
        if answers.is_empty() { "-".to_owned() } else { answers.join("; ") }
    }

    /// The groups as a restart would find them now.
    pub(super) fn reopened(&self) -> Groups {
        Groups::open(&self.config, self.now).unwrap()
    }

    /// What a client takes for the present generation; -1 if it knows none.
    pub(super) fn generation(&self, who: &str) -> i32 {
        self.clients.get(who).map_or(-1, |client| client.generation)
    }

    /// Lets time go by.
    pub(super) fn wait(&mut self, time: Duration) {
        let mut left = time;
        while !left.is_zero() {
            let step = left.min(STEP);
            left -= step;
            self.now.instant += step;
            self.now.unix_ms += i64::try_from(step.as_millis()).unwrap();
            self.groups.tick(self.now);
        }
    }

    /// The broker is killed and started again: who waited is cut off.
    pub(super) fn restart(&mut self) {
        self.groups = open(&self.config, self.now, &self.minted);
        self.joins.clear();
        self.syncs.clear();
        self.writable = None;
    }

    /// Whether requests wait for their answer.
    pub(super) fn is_anybody_waiting(&self) -> bool {
        !self.joins.is_empty() || !self.syncs.is_empty()
    }

    fn fill_disk(&mut self, is_full: bool) {
        let path = self.folder.path().join(JOURNAL);
        if is_full {
            self.writable = self.groups.journal.exchange_file(Arc::new(File::open(path).unwrap()));
        } else if let Some(writable) = self.writable.take() {
            self.groups.journal.exchange_file(writable);
        }
    }

    fn client(&mut self, who: &str) -> &mut Client {
        self.clients.entry(who.to_owned()).or_default()
    }

    fn context(&self, who: &str, version: i16) -> Context {
        let client_host = "/127.0.0.1".to_owned();
        Context { client_id: format!("client-{who}"), client_host, version, now: self.now }
    }

    fn join(&mut self, who: &str, options: &[&str]) -> String {
        let client = self.client(who);
        let mut options = options.iter().copied();
        while let Some(option) = options.next() {
            let mut value = || options.next().unwrap_or_else(|| panic!("{option} of what?"));
            match option {
                "as" => client.instance = Some(value().to_owned()),
                "type" => client.kind = value().to_owned(),
                "with" => client.protocols = value().split(',').map(str::to_owned).collect(),
                "session" => client.session_ms = milliseconds(value()),
                "rebalance" => client.rebalance_ms = milliseconds(value()),
                version => client.version = version.strip_prefix('v').unwrap().parse().unwrap(),
            }
        }
        let client = client.clone();
        let protocols = client.protocols.iter().filter(|name| *name != "nothing");
        let protocols = protocols.map(|name| {
            let (name, topics) = name.split_once(':').unwrap_or((name, "t"));
            JoinGroupRequestProtocol::default().with_name(text(name)).with_metadata(subscription(topics))
        });
        let request = JoinGroupRequest::default()
            .with_group_id(text(&self.group).into())
            .with_member_id(text(&client.id))
            .with_group_instance_id(client.instance.as_deref().map(text))
            .with_protocol_type(text(&client.kind))
            .with_session_timeout_ms(client.session_ms)
            .with_rebalance_timeout_ms(client.rebalance_ms)
            .with_protocols(protocols.collect());
        let context = self.context(who, client.version);
        match self.groups.join(&request, &context) {
            Answer::Now(response) => self.joined(who, &response),
            Answer::Later(receiver) => {
                self.joins.push((who.to_owned(), receiver));
                String::new()
            }
        }
    }

    /// A client learns from the answer to its join.
    fn joined(&mut self, who: &str, response: &JoinGroupResponse) -> String {
        let error = ResponseError::try_from_code(response.error_code);
        if error.is_none() || error == Some(ResponseError::MemberIdRequired) {
            self.client(who).id = response.member_id.to_string();
        }
        if let Some(error) = error {
            return format!("{error:?}");
        }
        self.client(who).generation = response.generation_id;
        let protocol = response.protocol_name.as_deref().unwrap_or("-");
        self.told.push((response.generation_id, response.leader.to_string(), protocol.to_owned()));
        let mut answer = format!("generation {} {protocol} of {}", response.generation_id, self.name(&response.leader));
        if !response.members.is_empty() {
            let mut members: Vec<String> = response.members.iter().map(|member| self.name(&member.member_id)).collect();
            members.sort();
            answer += &format!(", members {}", members.join(" "));
        }
        if response.skip_assignment {
            answer += ", skips";
        }
        answer
    }

    fn sync(&mut self, who: &str, assignments: &[&str]) -> String {
        let client = self.client(who).clone();
        let assignments = assignments.iter().map(|assignment| {
            let (name, part) = assignment.split_once('=').unwrap();
            let id = self.clients.get(name).map_or(name, |client| &client.id);
            let part = Bytes::copy_from_slice(part.as_bytes());
            SyncGroupRequestAssignment::default().with_member_id(text(id)).with_assignment(part)
        });
        let request = SyncGroupRequest::default()
            .with_group_id(text(&self.group).into())
            .with_member_id(text(&client.id))
            .with_group_instance_id(client.instance.as_deref().map(text))
            .with_generation_id(client.generation)
            .with_protocol_type(Some(text(&client.kind)))
            .with_assignments(assignments.collect());
        match self.groups.sync(&request, self.now) {
            Answer::Now(response) => synced(&response),
            Answer::Later(receiver) => {
                self.syncs.push((who.to_owned(), receiver));
                String::new()
            }
        }
    }

    fn beat(&mut self, who: &str) -> String {
        let client = self.client(who).clone();
        let request = HeartbeatRequest::default()
            .with_group_id(text(&self.group).into())
            .with_member_id(text(&client.id))
            .with_group_instance_id(client.instance.as_deref().map(text))
            .with_generation_id(client.generation);
        outcome(self.groups.heartbeat(&request, self.now))
    }

    fn leave(&mut self, who: &str) -> String {
        let client = self.client(who).clone();
        let identity = MemberIdentity::default()
            .with_member_id(text(&client.id))
            .with_group_instance_id(client.instance.as_deref().map(text));
        self.leave_all(&[identity])
    }

    fn remove(&mut self, instances: &[&str]) -> String {
        let identity = |id: &&str| MemberIdentity::default().with_group_instance_id(Some(text(id)));
        self.leave_all(&instances.iter().map(identity).collect::<Vec<_>>())
    }

    fn leave_all(&mut self, leaving: &[MemberIdentity]) -> String {
        match self.groups.leave(&self.group, leaving, self.now) {
            Ok(members) => members.iter().map(|member| code(member.error_code)).collect::<Vec<_>>().join(" "),
            Err(error) => format!("{error:?}"),
        }
    }

    fn commit(&mut self, who: &str, offsets: &[&str]) -> String {
        let client = self.clients.get(who).cloned().unwrap_or_default();
        let mut topics: Vec<OffsetCommitRequestTopic> = Vec::new();
        for (topic, partition, offset, metadata) in wishes(offsets) {
            let partition = OffsetCommitRequestPartition::default()
                .with_partition_index(partition)
                .with_committed_offset(offset)
                .with_committed_leader_epoch(3)
                .with_committed_metadata(metadata);
            topics.push(OffsetCommitRequestTopic::default().with_name(topic).with_partitions(vec![partition]));
        }
        let request = OffsetCommitRequest::default()
            .with_group_id(text(&self.group).into())
            .with_member_id(text(&client.id))
            .with_group_instance_id(client.instance.as_deref().map(text))
            .with_generation_id_or_member_epoch(client.generation)
            .with_topics(topics);
        let context = self.context(who, client.version);
        let response = self.groups.commit(&request, &exists, &context);
        let codes = response.topics.iter().flat_map(|topic| &topic.partitions).map(|one| code(one.error_code));
        codes.collect::<Vec<_>>().join(" ")
    }

    fn stage(&mut self, producer: &str, offsets: &[&str], who: &str) -> String {
        let client = self.clients.get(who).cloned().unwrap_or_default();
        let mut topics: Vec<TxnOffsetCommitRequestTopic> = Vec::new();
        for (topic, partition, offset, metadata) in wishes(offsets) {
            let partition = TxnOffsetCommitRequestPartition::default()
                .with_partition_index(partition)
                .with_committed_offset(offset)
                .with_committed_leader_epoch(3)
                .with_committed_metadata(metadata);
            topics.push(TxnOffsetCommitRequestTopic::default().with_name(topic).with_partitions(vec![partition]));
        }
        let request = TxnOffsetCommitRequest::default()
            .with_producer_id(ProducerId(producer_id(producer)))
            .with_group_id(text(&self.group).into())
            .with_member_id(text(&client.id))
            .with_group_instance_id(client.instance.as_deref().map(text))
            .with_generation_id(client.generation)
            .with_topics(topics);
        let response = self.groups.stage(&request, &exists, self.now);
        let codes = response.topics.iter().flat_map(|topic| &topic.partitions).map(|one| code(one.error_code));
        codes.collect::<Vec<_>>().join(" ")
    }

    fn end(&mut self, producer: &str, is_commit: bool) -> String {
        outcome(self.groups.end_transaction(&self.group, producer_id(producer), is_commit, self.now))
    }

    fn fetch(&self, partitions: &[&str], is_stable: bool) -> String {
        let fetched = if partitions == ["all"] {
            self.groups.fetch(&self.group, None, is_stable)
        } else {
            let topics = partitions.iter().map(|partition| {
                let (topic, partition) = topic_partition(partition);
                OffsetFetchRequestTopics::default().with_name(topic).with_partition_indexes(vec![partition])
            });
            self.groups.fetch(&self.group, Some(&topics.collect::<Vec<_>>()), is_stable)
        };
        fetched.iter().flat_map(fetched_topic).collect::<Vec<_>>().join(" ")
    }

    fn delete_offsets(&mut self, partitions: &[&str]) -> String {
        let topics = partitions.iter().map(|partition| {
            let (topic, partition) = topic_partition(partition);
            let partition = OffsetDeleteRequestPartition::default().with_partition_index(partition);
            OffsetDeleteRequestTopic::default().with_name(topic).with_partitions(vec![partition])
        });
        let group = text(&self.group).into();
        let request = OffsetDeleteRequest::default().with_group_id(group).with_topics(topics.collect());
        let response = self.groups.delete_offsets(&request, &exists, self.now);
        if response.error_code != 0 {
            return code(response.error_code);
        }
        let codes = response.topics.iter().flat_map(|topic| &topic.partitions).map(|one| code(one.error_code));
        codes.collect::<Vec<_>>().join(" ")
    }

    fn list(&self) -> String {
        let groups = self.groups.list().map(|group| {
            format!("{} {} {:?}", group.group_id.as_str(), group.group_state, group.protocol_type.as_str())
        });
        groups.collect::<Vec<_>>().join(", ")
    }

    fn describe(&self) -> String {
        let Some(group) = self.groups.describe(&self.group) else { return "Dead".to_owned() };
        let mut members: Vec<String> = group
            .members
            .iter()
            .map(|member| {
                let (name, part) = (self.name(&member.member_id), &member.member_assignment);
                let instance = member.group_instance_id.as_ref().map(|id| format!("@{id}")).unwrap_or_default();
                format!("{name}{instance}={}", String::from_utf8_lossy(part))
            })
            .collect();
        members.sort();
        format!("{} {} [{}]", group.group_state, group.protocol_data, members.join(" "))
    }

    /// Whether the request of this line waits.
    fn waits(&self, words: &[&str]) -> bool {
        match words {
            [who, "joins", ..] => self.joins.iter().any(|(waiting, _)| waiting == who),
            [who, "syncs", ..] => self.syncs.iter().any(|(waiting, _)| waiting == who),
            _ => false,
        }
    }

    /// The answers that have come.
    fn answered(&mut self) -> Vec<String> {
        let mut answers = Vec::new();
        let (mut joined, mut waiting) = (Vec::new(), Vec::new());
        for (who, mut receiver) in std::mem::take(&mut self.joins) {
            match receiver.try_recv() {
                Ok(response) => joined.push((who, response)),
                Err(tokio::sync::oneshot::error::TryRecvError::Empty) => waiting.push((who, receiver)),
                Err(error) => panic!("{who} was forgotten: {error}"),
            }
        }
        self.joins = waiting;
        // All learn their ids before one is told the others' names.
        for (who, response) in &joined {
            self.joined(who, response);
        }
        answers.extend(joined.iter().map(|(who, response)| format!("{who}: {}", self.joined(who, response))));
        self.syncs.retain_mut(|(who, receiver)| match receiver.try_recv() {
            Ok(response) => {
                answers.push(format!("{who}: {}", synced(&response)));
                false
            }
            Err(tokio::sync::oneshot::error::TryRecvError::Empty) => true,
            Err(error) => panic!("{who} was forgotten: {error}"),
        });
        answers.sort();
        answers
    }

    /// The name of the client that has this id; `?` if none has.
    fn name(&self, id: &str) -> String {
        let client = self.clients.iter().find(|(_, client)| client.id == id && !id.is_empty());
        client.map_or_else(|| "?".to_owned(), |(name, _)| name.clone())
    }
}

/// Groups whose ids are the same in every run.
fn open(config: &BrokerConfig, now: Now, minted: &Arc<AtomicU64>) -> Groups {
    let mut groups = Groups::open(config, now).unwrap();
    let minted = minted.clone();
    // Spread out, so that the order of ids is not that of joining.
    let next = move || minted.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    groups.mint = Box::new(move || Uuid::from_u64_pair(next(), 0));
    groups
}

/// Partitions 0 to 2 of topics t and u.
fn exists(topic: &str, partition: i32) -> bool {
    ["t", "u"].contains(&topic) && (0..3).contains(&partition)
}

fn synced(response: &SyncGroupResponse) -> String {
    match ResponseError::try_from_code(response.error_code) {
        Some(error) => format!("{error:?}"),
        None if response.assignment.is_empty() => "assigned nothing".to_owned(),
        None => format!("assigned {}", String::from_utf8_lossy(&response.assignment)),
    }
}

fn fetched_topic(topic: &OffsetFetchResponseTopics) -> Vec<String> {
    let partitions = topic.partitions.iter().map(|partition| {
        let place = format!("{}/{}", topic.name.as_str(), partition.partition_index);
        let metadata = partition.metadata.as_deref().unwrap_or_default();
        match ResponseError::try_from_code(partition.error_code) {
            Some(error) => format!("{place} {error:?}"),
            None if partition.committed_offset == -1 => format!("{place}=none"),
            None if metadata.is_empty() => format!("{place}={}", partition.committed_offset),
            None => format!("{place}={} {metadata:?}", partition.committed_offset),
        }
    });
    partitions.collect()
}

fn code(code: i16) -> String {
    ResponseError::try_from_code(code).map_or_else(|| "ok".to_owned(), |error| format!("{error:?}"))
}

fn outcome(result: Result<(), ResponseError>) -> String {
    result.map_or_else(|error| format!("{error:?}"), |()| "ok".to_owned())
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// What a consumer says of itself: it reads these topics, `t+u`.
fn subscription(topics: &str) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(0);
    bytes.put_i32(i32::try_from(topics.split('+').count()).unwrap());
    for topic in topics.split('+') {
        bytes.put_i16(i16::try_from(topic.len()).unwrap());
        bytes.put_slice(topic.as_bytes());
    }
    bytes.put_i32(-1);
    bytes.freeze()
}

/// `t/0=5` and behind it perhaps `"metadata"`.
fn wishes(offsets: &[&str]) -> Vec<(TopicName, i32, i64, Option<StrBytes>)> {
    let mut wishes = Vec::new();
    for word in offsets {
        match word.split_once('=') {
            Some((place, offset)) => {
                let (topic, partition) = topic_partition(place);
                wishes.push((topic, partition, offset.parse().unwrap(), None));
            }
            None => wishes.last_mut().unwrap().3 = Some(text(word.trim_matches('"'))),
        }
    }
    wishes
}

fn topic_partition(place: &str) -> (TopicName, i32) {
    let (topic, partition) = place.split_once('/').unwrap();
    (TopicName(text(topic)), partition.parse().unwrap())
}

fn producer_id(producer: &str) -> i64 {
    producer.strip_prefix('p').unwrap().parse().unwrap()
}

fn duration(time: &str) -> Duration {
    let (number, unit) = time.split_at(time.find(|c: char| c.is_ascii_alphabetic()).unwrap());
    let number: u64 = number.parse().unwrap();
    match unit {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "min" => Duration::from_secs(60 * number),
        "h" => Duration::from_secs(3_600 * number),
        _ => panic!("what is {unit}?"),
    }
}

fn milliseconds(time: &str) -> i32 {
    i32::try_from(duration(time).as_millis()).unwrap()
}
