//! What the transaction coordinator answers to requests that are right, wrong, late or repeated, in the versions where the
//! answer changes. The transcript of all of it is in `coordinator.txt`, as Apache Kafka 4.1 was seen to answer.
//!
//! `CONCURRENT_TRANSACTIONS` is waited out wherever it comes: how long a transaction is being ended is the broker's affair.

use std::fmt::Write as _;

use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, DescribeProducersRequest, DescribeTransactionsRequest,
    EndTxnRequest, FindCoordinatorRequest, GroupId, InitProducerIdRequest, InitProducerIdResponse,
    ListTransactionsRequest, ProducerId, TransactionalId, TxnOffsetCommitRequest,
};
use kafka_protocol::protocol::Request;

use crate::ask;
use crate::raw::{Author, Connection, batch, text, topic_name};
use crate::subject::{Subject, eventually, unique};

/// A topic and a group that are not there.
const NOWHERE: &str = "nowhere";
const CONCURRENT_TRANSACTIONS: i16 = 51;
const MINUTE_MS: i32 = 60_000;

/// Who a request says that it is from.
#[derive(Clone, Debug)]
struct Claim {
    id: String,
    producer_id: i64,
    epoch: i16,
}

impl Claim {
    fn of(&self, id: &str) -> Self {
        Self { id: id.to_owned(), ..self.clone() }
    }

    fn epoch(&self, by: i16) -> Self {
        Self { epoch: self.epoch + by, ..self.clone() }
    }

    fn other_producer(&self) -> Self {
        Self { producer_id: self.producer_id + 1_000_000, ..self.clone() }
    }

    fn author(&self, sequence: i32) -> Author {
        Author { id: self.producer_id, epoch: self.epoch, sequence, transactional: true }
    }
}

/// Asks and writes down what is answered.
struct Transcript {
    connection: Connection,
    topic: String,
    lines: String,
}

impl Transcript {
    fn note(&mut self, line: &str) {
        writeln!(self.lines, "{line}").unwrap();
    }

    /// Asks until no older transaction is being ended; whether one was.
    fn settled<R: Request + Clone>(
        &mut self,
        version: i16,
        request: &R,
        code: fn(&R::Response) -> i16,
    ) -> (R::Response, bool) {
        let mut is_first = true;
        eventually("the transaction before has ended", || {
            let response = self.connection.ask(version, request.clone());
            let is_settled = code(&response) != CONCURRENT_TRANSACTIONS;
            let waited = !std::mem::take(&mut is_first);
            is_settled.then_some((response, waited))
        })
    }

    fn find(&mut self, version: i16, key_type: i8, keys: &[&str]) {
        let mut request = FindCoordinatorRequest::default();
        if version > 0 {
            request.key_type = key_type;
        }
        if version < 4 {
            request.key = text(keys[0]);
        } else {
            request.coordinator_keys = keys.iter().map(|key| text(key)).collect();
        }
        let found = self.connection.ask(version, request);
        let place =
            |node: i32, host: &str, port: i32| if node >= 0 && !host.is_empty() && port > 0 { "here" } else { "-" };
        let mut line = format!("find v{version} type {key_type} {keys:?}:");
        if version < 4 {
            write!(line, " {} {}", found.error_code, place(found.node_id.0, &found.host, found.port)).unwrap();
        }
        for own in found.coordinators {
            let place = place(own.node_id.0, &own.host, own.port);
            write!(line, " {:?} {} {place}", own.key.as_str(), own.error_code).unwrap();
        }
        self.note(&line);
    }

    /// `claimed`: the producer's id and epoch that the request brings along.
    fn init(&mut self, version: i16, id: Option<&str>, timeout_ms: i32, claimed: (i64, i16)) -> InitProducerIdResponse {
        let mut request = InitProducerIdRequest::default().with_transaction_timeout_ms(timeout_ms);
        request.transactional_id = id.map(|id| TransactionalId(text(id)));
        if version >= 3 {
            request = request.with_producer_id(ProducerId(claimed.0)).with_producer_epoch(claimed.1);
        }
        let (answer, waited) = self.settled(version, &request, |answer| answer.error_code);
        let id = match id {
            None => "without an id",
            Some("") => "of an empty id",
            Some(_) => "of an id",
        };
        let claimed = match claimed {
            (-1, -1) => "none".to_owned(),
            (-1, epoch) => format!("no id, epoch {epoch}"),
            (_, epoch) => format!("epoch {epoch}"),
        };
        let given = if answer.producer_id.0 < 0 { "no id" } else { "an id" };
        let waited = if waited { "after another's end, " } else { "" };
        self.note(&format!(
            "init v{version} {id}, {timeout_ms} ms, claiming {claimed}: {waited}{} {given}, epoch {}",
            answer.error_code, answer.producer_epoch
        ));
        answer
    }

    fn add(&mut self, what: &str, version: i16, claim: &Claim, partitions: &[(&str, i32)]) {
        let topics = partitions.iter().map(|(topic, partition)| {
            AddPartitionsToTxnTopic::default().with_name(topic_name(topic)).with_partitions(vec![*partition])
        });
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(TransactionalId(text(&claim.id)))
            .with_v3_and_below_producer_id(ProducerId(claim.producer_id))
            .with_v3_and_below_producer_epoch(claim.epoch)
            .with_v3_and_below_topics(topics.collect());
        let (answer, _) = self.settled(version, &request, |answer| {
            let first = answer.results_by_topic_v3_and_below.first();
            first.map_or(0, |topic| topic.results_by_partition[0].partition_error_code)
        });
        let mut line = format!("add partitions v{version}, {what}:");
        for (topic, partition) in partitions {
            let results = answer.results_by_topic_v3_and_below.iter().find(|result| result.name.as_str() == *topic);
            let code = results.unwrap().results_by_partition[0].partition_error_code;
            let topic = if *topic == self.topic { "topic" } else { topic };
            write!(line, " {topic}-{partition} {code}").unwrap();
        }
        self.note(&line);
    }

    fn add_offsets(&mut self, what: &str, version: i16, claim: &Claim, group: &str) {
        let request = AddOffsetsToTxnRequest::default()
            .with_transactional_id(TransactionalId(text(&claim.id)))
            .with_producer_id(ProducerId(claim.producer_id))
            .with_producer_epoch(claim.epoch)
            .with_group_id(GroupId(text(group)));
        let (answer, _) = self.settled(version, &request, |answer| answer.error_code);
        self.note(&format!("add offsets v{version}, {what}: {}", answer.error_code));
    }

    fn stage(&mut self, what: &str, version: i16, claim: &Claim, group: &str, generation: i32, topics: &[&str]) {
        let wanted = topics.iter().map(|topic| {
            let partition = TxnOffsetCommitRequestPartition::default().with_committed_offset(7);
            TxnOffsetCommitRequestTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition])
        });
        let mut request = TxnOffsetCommitRequest::default()
            .with_transactional_id(TransactionalId(text(&claim.id)))
            .with_producer_id(ProducerId(claim.producer_id))
            .with_producer_epoch(claim.epoch)
            .with_group_id(GroupId(text(group)))
            .with_topics(wanted.collect());
        if version >= 3 {
            request.generation_id = generation;
        }
        let code = |answer: &<TxnOffsetCommitRequest as Request>::Response| {
            answer.topics.iter().map(|topic| topic.partitions[0].error_code).max().unwrap_or(0)
        };
        let (answer, _) = self.settled(version, &request, code);
        let mut line = format!("stage v{version}, {what}:");
        for topic in topics {
            let result = answer.topics.iter().find(|result| result.name.as_str() == *topic).unwrap();
            let topic = if *topic == self.topic { "topic" } else { topic };
            write!(line, " {topic} {}", result.partitions[0].error_code).unwrap();
        }
        self.note(&line);
    }

    fn end(&mut self, what: &str, version: i16, claim: &Claim, is_commit: bool) {
        let request = EndTxnRequest::default()
            .with_transactional_id(TransactionalId(text(&claim.id)))
            .with_producer_id(ProducerId(claim.producer_id))
            .with_producer_epoch(claim.epoch)
            .with_committed(is_commit);
        let (answer, _) = self.settled(version, &request, |answer| answer.error_code);
        let end = if is_commit { "commit" } else { "abort" };
        self.note(&format!("{end} v{version}, {what}: {}", answer.error_code));
    }

    fn produce(&mut self, what: &str, version: i16, id: Option<&str>, author: Author) {
        let request = ask::produce_request(&self.topic, 0, id, batch(author, &["v"]));
        let answer = &self.connection.ask(version, request).responses[0].partition_responses[0];
        let message = answer.error_message.as_deref().map(|message| format!(" {message:?}")).unwrap_or_default();
        self.note(&format!("produce v{version}, {what}: {}{message}", answer.error_code));
    }

    /// Once no end is being carried out.
    fn describe(&mut self, id: &str) {
        let request = DescribeTransactionsRequest::default().with_transactional_ids(vec![text(id).into()]);
        let described = eventually("the transaction has ended", || {
            let described = self.connection.ask(0, request.clone()).transaction_states.remove(0);
            (!described.transaction_state.starts_with("Prepare")).then_some(described)
        });
        let mut line = format!("describe: {} {:?}", described.error_code, described.transaction_state.as_str());
        if described.error_code == 0 {
            let started = if described.transaction_start_time_ms > 0 { "started" } else { "not started" };
            let timeout_ms = described.transaction_timeout_ms;
            write!(line, ", epoch {}, {timeout_ms} ms, {started},", described.producer_epoch).unwrap();
            let topics = described.topics.iter().map(|topic| (topic.topic.as_str(), topic.partitions.len()));
            for (topic, partitions) in topics.collect::<std::collections::BTreeMap<_, _>>() {
                let topic = if topic == self.topic { "topic" } else { topic };
                // Which partition a group is in hangs on how many there are.
                write!(line, " {topic} ({partitions})").unwrap();
            }
        }
        self.note(&line);
    }

    fn list(&mut self, version: i16, producer_id: i64, states: &[&str], longer_than_ms: i64) {
        let mut request = ListTransactionsRequest::default()
            .with_producer_id_filters(vec![ProducerId(producer_id)])
            .with_state_filters(states.iter().map(|state| text(state)).collect());
        if version >= 1 {
            request.duration_filter = longer_than_ms;
        }
        let listed = self.connection.ask(version, request);
        let found: Vec<&str> = listed.transaction_states.iter().map(|state| state.transaction_state.as_str()).collect();
        let unknown: Vec<&str> = listed.unknown_state_filters.iter().map(|state| state.as_str()).collect();
        self.note(&format!(
            "list v{version} {states:?}, longer than {longer_than_ms} ms: {} {found:?}, unknown {unknown:?}",
            listed.error_code
        ));
    }

    fn producers(&mut self, topic: &str, partition: i32) {
        let request = TopicRequest::default().with_name(topic_name(topic)).with_partition_indexes(vec![partition]);
        let request = DescribeProducersRequest::default().with_topics(vec![request]);
        let described = self.connection.ask(0, request).topics.remove(0).partitions.remove(0);
        let topic = if topic == self.topic { "topic" } else { topic };
        let mut line = format!("producers of {topic}-{partition}: {}", described.error_code);
        if let Some(message) = described.error_message {
            write!(line, " {:?}", message.as_str()).unwrap();
        }
        for producer in described.active_producers {
            let (epoch, sequence, open) =
                (producer.producer_epoch, producer.last_sequence, producer.current_txn_start_offset);
            let coordinator = producer.coordinator_epoch;
            write!(line, " epoch {epoch}, sequence {sequence}, open from {open}, coordinator's epoch {coordinator}")
                .unwrap();
        }
        self.note(&line);
    }
}

fn every_answer(subject: &Subject) {
    let topic = ask::topic(subject, "coordinated", 1, &[]);
    let id = unique("coordinated");
    let mut transcript = Transcript { connection: Connection::open(subject), topic, lines: String::new() };
    finding(&mut transcript);
    let claim = beginning(&mut transcript, &id);
    enlisting(&mut transcript, &claim);
    writing(&mut transcript, &claim);
    staging(&mut transcript, &claim);
    ending(&mut transcript, &claim);
    fencing(&mut transcript, &claim);
    let lines = transcript.lines;
    assert_eq!(lines, include_str!("coordinator.txt"), "\n{lines}");
}

fn finding(to: &mut Transcript) {
    for (version, key_type) in [(0, 0), (1, 1), (3, 0), (3, 2), (3, 9)] {
        to.find(version, key_type, &["a"]);
    }
    for key_type in [0, 1, 9] {
        to.find(4, key_type, &["a", "", "b"]);
    }
    to.find(6, 2, &["a"]);
}

/// Gives the claim of the producer whose epoch is 1.
fn beginning(to: &mut Transcript, id: &str) -> Claim {
    const NONE: (i64, i16) = (-1, -1);
    for version in [0, 2, 5] {
        to.init(version, None, 0, NONE);
    }
    for claimed in [(5, -1), (-1, 5), (5, 5)] {
        to.init(4, None, MINUTE_MS, claimed);
    }
    to.init(4, Some(""), MINUTE_MS, NONE);
    for timeout_ms in [0, -1, 900_001] {
        to.init(4, Some(id), timeout_ms, NONE);
    }
    to.describe(id);
    let first = to.init(4, Some(id), MINUTE_MS, NONE);
    to.describe(id);
    let producer_id = first.producer_id.0;
    to.init(4, Some(id), MINUTE_MS, (producer_id + 1_000_000, 0));
    to.init(4, Some(id), MINUTE_MS - 1, (producer_id, 0));
    // Repeated, of a later epoch, and as an older client is told.
    for (version, epoch) in [(4, 0), (4, 2), (3, 2)] {
        to.init(version, Some(id), MINUTE_MS - 1, (producer_id, epoch));
    }
    to.describe(id);
    for (states, longer_than_ms) in
        [(&[][..], -1), (&["Empty"], 1_000), (&["Ongoing"], -1), (&["empty"], -1), (&["Dead", "PrepareEpochFence"], -1)]
    {
        to.list(1, producer_id, states, longer_than_ms);
    }
    to.list(0, producer_id, &["Empty", "Full"], -1);
    Claim { id: id.to_owned(), producer_id, epoch: 1 }
}

/// Whatever may be wrong with who asks.
fn wrong(claim: &Claim) -> [(&'static str, i16, Claim); 7] {
    [
        ("an empty id", 3, claim.of("")),
        ("an unknown id", 3, claim.of(NOWHERE)),
        ("another producer's id", 3, claim.other_producer()),
        ("an older epoch", 1, claim.epoch(-1)),
        ("an older epoch", 2, claim.epoch(-1)),
        ("a later epoch", 1, claim.epoch(1)),
        ("a later epoch", 2, claim.epoch(1)),
    ]
}

fn enlisting(to: &mut Transcript, claim: &Claim) {
    let topic = to.topic.clone();
    to.end("nothing begun", 3, claim, true);
    to.end("nothing begun", 3, claim, false);
    for (what, version, wrong) in wrong(claim) {
        to.end(what, version, &wrong, true);
        to.add(what, version, &wrong, &[(&topic, 0)]);
        to.add_offsets(what, version, &wrong, "group");
    }
    to.add("one is not there", 3, claim, &[(&topic, 0), (NOWHERE, 0)]);
    to.add("none is there", 0, claim, &[(&topic, 1), (NOWHERE, 0)]);
    to.describe(&claim.id);
}

fn writing(to: &mut Transcript, claim: &Claim) {
    let (topic, id) = (to.topic.clone(), Some(claim.id.as_str()));
    to.produce("not enlisted", 9, id, claim.author(0));
    to.produce("not enlisted", 11, id, claim.author(0));
    to.produce("no transactional id", 9, None, claim.author(0));
    to.produce("an unknown id", 9, Some(NOWHERE), claim.author(0));
    to.produce("another producer's id", 9, id, claim.other_producer().author(0));
    to.produce("an older epoch", 9, id, claim.epoch(-1).author(0));
    to.produce("a later epoch", 11, id, claim.epoch(1).author(0));
    to.add("for the first time", 3, claim, &[(&topic, 0)]);
    to.add("again", 3, claim, &[(&topic, 0)]);
    to.producers(&topic, 0);
    to.producers(&topic, 1);
    to.producers(NOWHERE, 0);
    to.produce("enlisted", 9, id, claim.author(0));
    to.produce("the same again", 9, id, claim.author(0));
    to.produce("out of order", 9, id, claim.author(5));
    to.produce("an older epoch", 9, id, claim.epoch(-1).author(1));
    to.producers(&topic, 0);
    to.list(1, claim.producer_id, &["Ongoing"], -1);
    to.list(1, claim.producer_id, &["Ongoing"], 3_600_000);
}

fn staging(to: &mut Transcript, claim: &Claim) {
    let topic = to.topic.clone();
    for version in [2, 3, 4] {
        to.stage("not enlisted", version, claim, "group", -1, &[&topic]);
    }
    to.add_offsets("for the first time", 3, claim, "group");
    to.add_offsets("again", 3, claim, "group");
    to.describe(&claim.id);
    to.stage("an older epoch", 3, &claim.epoch(-1), "group", -1, &[&topic]);
    to.stage("a later epoch", 4, &claim.epoch(1), "group", -1, &[&topic]);
    to.stage("another producer's id", 3, &claim.other_producer(), "group", -1, &[&topic]);
    to.stage("an empty group", 3, claim, "", -1, &[&topic, NOWHERE]);
    to.stage("a generation of no group", 3, claim, "group", 4, &[&topic, NOWHERE]);
    to.stage("nothing there", 3, claim, "group", -1, &[NOWHERE]);
    for version in [2, 3, 4] {
        to.stage("one is not there", version, claim, "group", -1, &[&topic, NOWHERE]);
    }
}

fn ending(to: &mut Transcript, claim: &Claim) {
    let (topic, id) = (to.topic.clone(), Some(claim.id.as_str()));
    to.end("for the first time", 3, claim, true);
    to.end("again", 3, claim, true);
    to.end("committed before", 3, claim, false);
    to.end("an older epoch", 3, &claim.epoch(-1), true);
    to.describe(&claim.id);
    to.producers(&topic, 0);
    to.produce("not enlisted any more", 9, id, claim.author(1));
    to.stage("not enlisted any more", 3, claim, "group", -1, &[&topic]);
    to.add("for the next", 3, claim, &[(&topic, 0)]);
    to.produce("in the next", 9, id, claim.author(1));
    to.end("for the first time", 3, claim, false);
    to.end("again", 3, claim, false);
    to.end("aborted before", 3, claim, true);
    to.describe(&claim.id);
}

fn fencing(to: &mut Transcript, claim: &Claim) {
    let (topic, id) = (to.topic.clone(), Some(claim.id.as_str()));
    to.add("for the next", 3, claim, &[(&topic, 0)]);
    to.produce("in the next", 9, id, claim.author(2));
    let other = to.init(4, id, MINUTE_MS, (-1, -1));
    assert_eq!(other.producer_id.0, claim.producer_id);
    to.producers(&topic, 0);
    to.produce("fenced", 9, id, claim.author(3));
    to.stage("fenced", 3, claim, "group", -1, &[&topic]);
    for version in [1, 2] {
        to.add("fenced", version, claim, &[(&topic, 0)]);
        to.add_offsets("fenced", version, claim, "group");
        to.end("fenced", version, claim, false);
    }
    to.init(3, id, MINUTE_MS, (claim.producer_id, claim.epoch));
    to.init(4, id, MINUTE_MS, (claim.producer_id, claim.epoch));
    to.describe(&claim.id);
}

on_both!(every_answer);
