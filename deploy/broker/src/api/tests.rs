use std::pin::pin;
use std::task::{Poll, Waker};

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::{
    CreateTopicsRequest, DescribeConfigsRequest, DescribeGroupsRequest, DescribeProducersRequest,
    DescribeTransactionsRequest, FindCoordinatorRequest, MetadataRequest, OffsetCommitRequest, OffsetFetchRequest,
    ResponseKind,
};

use super::*;
use crate::config::BrokerConfig;
use crate::frame::tests::request_of;

#[test]
fn the_table_is_in_the_order_of_kafkas_numbers() {
    for pair in TABLE.windows(2) {
        assert!((pair[0].key as i16) < pair[1].key as i16, "{pair:?}");
    }
}

#[test]
fn ranges_are_within_what_the_decoder_knows() {
    for api in TABLE {
        let known = api.key.valid_versions();
        assert!(known.min <= api.min && api.min <= api.max && api.max <= known.max, "{api:?}, known is {known}");
    }
}

/// Bytes that look random.
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..200).map(|_| next()).collect()
}

/// Has a request answered, unless it waits, and reads the answer as a client does.
fn check(node: &NodeRef, request: Request, refused: Option<ResponseError>) {
    let (key, version) = (request.key, request.version);
    let context = testing::context(&node.borrow(), version);
    let answer = pin!(answer(node, request, &context, refused));
    let outcome = match answer.poll(&mut std::task::Context::from_waker(Waker::noop())) {
        Poll::Pending => return,
        Poll::Ready(outcome) => outcome,
    };
    match outcome {
        // Null where there may be none.
        Err(Unanswerable::Malformed { .. }) | Ok(Outcome::Silence) => {}
        Ok(Outcome::Close(_)) => assert_eq!(key, ApiKey::Produce, "nobody else closes its connection"),
        Err(error) => panic!("{error}"),
        Ok(Outcome::Answer(frame)) => {
            let mut frame = frame.freeze();
            assert_eq!(frame.split_to(4)[..], (frame.len() as u32).to_be_bytes());
            ResponseHeader::decode(&mut frame, key.response_header_version(version)).unwrap();
            ResponseKind::decode(key, &mut frame, version).unwrap_or_else(|error| panic!("{key:?} {version}: {error}"));
            assert!(frame.is_empty(), "{key:?} {version} has bytes after its answer");
        }
    }
}

fn encoded<Q: kafka_protocol::protocol::Request>(key: ApiKey, version: i16, request: &Q) -> Request {
    let mut body = BytesMut::new();
    request.encode(&mut body, version).unwrap();
    Request { key, version, correlation_id: 7, client_id: StrBytes::default(), body: body.freeze() }
}

/// A node with a group, a transactional id and a topic about which there is much to say.
fn node_with_much_to_say() -> NodeRef {
    let mut node = testing::node();
    node.config.limits.answer_bytes_max = ANSWER_BYTES_MAX;
    testing::create(&mut node, 7, false, vec![testing::creatable("t", 2, 1, &[])]);
    let metadata = StrBytes::from_string("m".repeat(4_000));
    let partition = OffsetCommitRequestPartition::default().with_committed_metadata(Some(metadata));
    let topic = OffsetCommitRequestTopic::default().with_name(testing::topic("t")).with_partitions(vec![partition]);
    let commit = OffsetCommitRequest::default()
        .with_group_id(testing::text("g").into())
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    let committed = testing::ask(&mut node, 8, &commit, offset_commit::handle);
    assert_eq!(committed.topics[0].partitions[0].error_code, 0);
    let (log, settings) = node.topics.partition_mut("t", 0).unwrap();
    for producer in 0..100 {
        let batch = crate::log::testing::TestBatch::of_producer(1, producer, 0, 0);
        log.append(batch.build(), false, &settings, Now::read()).unwrap();
    }
    std::rc::Rc::new(std::cell::RefCell::new(node))
}

const ANSWER_BYTES_MAX: usize = 1 << 20;

/// A small request that names the same thing again and again, or many, is answered within bounds or not at all.
#[test]
fn an_answer_is_no_larger_than_its_bound_whatever_is_asked() {
    let text = testing::text;
    let described_groups = |count| {
        let groups = std::iter::repeat_n(text("g").into(), count).collect();
        encoded(ApiKey::DescribeGroups, 5, &DescribeGroupsRequest::default().with_groups(groups))
    };
    let fetched_groups = |count| {
        let group = OffsetFetchRequestGroup::default().with_group_id(text("g").into()).with_topics(None);
        let request = OffsetFetchRequest::default().with_groups(vec![group; count]);
        encoded(ApiKey::OffsetFetch, 8, &request)
    };
    let fetched_partitions = |count| {
        let topic = OffsetFetchRequestTopics::default().with_name(testing::topic("t"));
        let topic = topic.with_partition_indexes(vec![0; count]);
        let group = OffsetFetchRequestGroup::default().with_group_id(text("g").into()).with_topics(Some(vec![topic]));
        encoded(ApiKey::OffsetFetch, 8, &OffsetFetchRequest::default().with_groups(vec![group]))
    };
    let configs = |count| {
        let topic = DescribeConfigsResource::default().with_resource_type(2).with_resource_name(text("t"));
        let request = DescribeConfigsRequest::default().with_resources(vec![topic; count]).with_include_synonyms(true);
        encoded(ApiKey::DescribeConfigs, 4, &request)
    };
    let producers = |count| {
        let topic = TopicRequest::default().with_name(testing::topic("t")).with_partition_indexes(vec![0; count]);
        encoded(ApiKey::DescribeProducers, 0, &DescribeProducersRequest::default().with_topics(vec![topic]))
    };
    let transactions = |count| {
        let ids = std::iter::repeat_n(text("").into(), count).collect();
        encoded(ApiKey::DescribeTransactions, 0, &DescribeTransactionsRequest::default().with_transactional_ids(ids))
    };
    let coordinators = |count| {
        let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g"); count]);
        encoded(ApiKey::FindCoordinator, 4, &request)
    };
    let rehearsed_topics = |count| {
        let topics = (0..count).map(|name| testing::creatable(&name.to_string(), 1, 1, &[]));
        let request = CreateTopicsRequest::default().with_topics(topics.collect()).with_validate_only(true);
        encoded(ApiKey::CreateTopics, 7, &request)
    };
    let unknown_topics = |count: usize| {
        let topic = |name: usize| MetadataRequestTopic::default().with_name(Some(testing::topic(&name.to_string())));
        let request = MetadataRequest::default().with_topics(Some((0..count).map(topic).collect()));
        encoded(ApiKey::Metadata, 9, &request)
    };
    let requests: [(&dyn Fn(usize) -> Request, usize); 9] = [
        (&described_groups, 10_000),
        (&fetched_groups, 1_000),
        (&fetched_partitions, 1_000),
        (&configs, 1_000),
        (&producers, 1_000),
        (&transactions, 20_000),
        (&coordinators, 10_000),
        (&rehearsed_topics, 1_000),
        (&unknown_topics, 20_000),
    ];
    for (request, count) in requests {
        let node = node_with_much_to_say();
        let ask = |request: Request| {
            let context = testing::context(&node.borrow(), request.version);
            let answer = pin!(answer(&node, request, &context, None));
            match answer.poll(&mut std::task::Context::from_waker(Waker::noop())) {
                Poll::Ready(Ok(outcome)) => outcome,
                other => panic!("{other:?}"),
            }
        };
        let (few, many) = (request(3), request(count));
        let (key, sent_bytes) = (few.key, many.body.len() as u64);
        assert!(matches!(ask(few), Outcome::Answer(_)), "{key:?}");
        let used = allocation_counter::measure(|| assert!(matches!(ask(many), Outcome::Close(_)), "{key:?}"));
        // The request decoded, and twice its parts, as a vector grows.
        let bytes_max = 20 * sent_bytes + 4 * ANSWER_BYTES_MAX as u64;
        assert!(used.bytes_max < bytes_max, "{key:?}: {used:?} for {sent_bytes} bytes");
    }
}

#[test]
fn an_id_that_is_asked_for_twice_is_told_once() {
    let mut node = testing::node();
    let id = testing::create(&mut node, 7, false, vec![testing::creatable("t", 1, 1, &[])]).topics[0].topic_id;
    let by_id = MetadataRequestTopic::default().with_topic_id(id).with_name(None);
    let request = MetadataRequest::default().with_topics(Some(vec![by_id; 5_000]));
    assert_eq!(testing::ask(&mut node, 12, &request, metadata::handle).topics.len(), 1);
}

/// Every API answers in all of its versions, whatever it is asked and whether it is refused, and what it says can be read.
#[test]
fn every_request_of_every_version_gets_an_answer_that_can_be_read() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    let node =
        Node::open(BrokerConfig::in_memory(), "5L6g3nShT-eMCtK--X86sw".into(), "localhost".into(), 9_092).unwrap();
    let node: NodeRef = std::rc::Rc::new(std::cell::RefCell::new(node));
    for seed in 0..40 {
        for api in TABLE {
            for version in api.min..=api.max {
                let choices = if seed == 0 { Vec::new() } else { noise(seed * 1_000 + version as u64) };
                let body = Bytes::from(request_of(api.key, version, &choices));
                let request =
                    Request { key: api.key, version, correlation_id: 7, client_id: StrBytes::default(), body };
                for refused in [Some(ResponseError::UnknownServerError), None] {
                    check(&node, request.clone(), refused);
                }
            }
        }
    }
}
