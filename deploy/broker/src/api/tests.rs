use std::pin::pin;
use std::task::{Poll, Waker};

use kafka_protocol::messages::ResponseKind;

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
    let context = Context { client_id: "test".into(), client_host: "/test".into(), version, now: Now::read() };
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
