//! A broker of our own in this thread: its requests go through the whole table of APIs, its time is the test's.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use kafka_protocol::messages::{ApiKey, ResponseHeader};
use kafka_protocol::protocol::{Decodable, HeaderVersion, Request};
use tempfile::TempDir;
use uuid::Uuid;

use super::world::{Broker, Pending};
use crate::api::{self, Context, Outcome};
use crate::config::{BrokerConfig, Storage};
use crate::durable::testing::{self, Operation};
use crate::groups::{Groups, JOURNAL};
use crate::node::{Node, NodeRef, Now};
use crate::topics::Topics;
use crate::transactions::Transactions;

/// How finely time goes by.
const STEP: Duration = Duration::from_millis(50);

pub(super) struct Local {
    folder: TempDir,
    config: BrokerConfig,
    pub(super) node: NodeRef,
    now: Now,
    is_disk_full: bool,
    /// Ids that were made.
    minted: u64,
}

impl Local {
    pub(super) fn new(mut config: BrokerConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        config.storage = Storage::Folder(folder.path().to_owned());
        let now = Now { unix_ms: 1_700_000_000_000, instant: Instant::now() };
        let minted = 0;
        let node = open(&config, now, minted);
        Self { folder, config, node, now, is_disk_full: false, minted }
    }

    /// The groups as a restart would find them now.
    pub(super) fn reopened(&self) -> Groups {
        Groups::open(&self.config, self.now).unwrap()
    }

    /// The groups' journal is on it, and nothing else.
    fn fill_disk(&mut self, is_full: bool) {
        self.is_disk_full = is_full;
        let fails = if is_full { usize::MAX } else { 0 };
        testing::fail(&self.folder.path().join(JOURNAL), Operation::Write, 0, fails, testing::ENOSPC);
    }
}

impl Broker for Local {
    fn send<R: Request<Response: 'static> + 'static>(
        &mut self,
        client: &str,
        version: i16,
        request: R,
    ) -> Pending<R::Response> {
        let mut body = BytesMut::new();
        request.encode(&mut body, version).unwrap();
        let request = api::Request {
            key: ApiKey::try_from(R::KEY).unwrap(),
            version,
            correlation_id: 1,
            client_id: client.to_owned().into(),
            body: body.freeze(),
        };
        let client_host = "/127.0.0.1".to_owned();
        let room = api::Room::new(self.node.borrow().config.limits.answer_bytes_max);
        let (client_id, throttle) = (client.to_owned(), Duration::ZERO);
        let context = Context { client_id, client_host, version, now: self.now, room, throttle };
        let node = Rc::clone(&self.node);
        let answer = async move { api::answer(&node, request, &context, None).await };
        pending::<R>(Box::pin(answer), version)
    }

    fn wait(&mut self, time: Duration) {
        let mut left = time;
        while !left.is_zero() {
            let step = left.min(STEP);
            left -= step;
            self.now.instant += step;
            self.now.unix_ms += i64::try_from(step.as_millis()).unwrap();
            self.node.borrow_mut().tick(self.now);
        }
    }

    fn restart(&mut self) {
        self.minted += 1_000_000;
        self.node = open(&self.config, self.now, self.minted);
        self.fill_disk(false);
    }

    fn do_own(&mut self, line: &str) -> bool {
        match line {
            "disk full" => self.fill_disk(true),
            "disk free" => self.fill_disk(false),
            // It fails while the disk is full, as it may.
            "rewrite" if self.is_disk_full => {}
            "rewrite" => {
                let groups = &mut self.node.borrow_mut().groups;
                let alive = groups.snapshot();
                groups.journal.rewrite(alive.into_iter()).unwrap();
            }
            _ => return false,
        }
        true
    }

    fn settle(&mut self, _since: Instant) -> bool {
        false
    }

    fn let_arrive(&mut self) {}
}

/// A node whose new members' ids are the same in every run, and not in the order of joining.
fn open(config: &BrokerConfig, now: Now, minted: u64) -> NodeRef {
    let mut topics = Topics::open(config).unwrap();
    let mut groups = Groups::open(config, now).unwrap();
    let mut minted = minted;
    groups.mint = Box::new(move || {
        minted += 1;
        Uuid::from_u64_pair(minted.wrapping_mul(0x9e37_79b9_7f4a_7c15), minted)
    });
    let mut transactions = Transactions::open(config, now).unwrap();
    transactions.recover(&mut topics, &mut groups, now);
    let (cluster_id, host) = ("cluster".to_owned(), "localhost".to_owned());
    let node = Node {
        config: config.clone(),
        cluster_id,
        host,
        port: 0,
        topics,
        groups,
        transactions,
        unsent_bytes: Rc::default(),
    };
    Rc::new(RefCell::new(node))
}

type Answering = Pin<Box<dyn Future<Output = Result<Outcome<BytesMut>, api::Unanswerable>>>>;

/// An answer that is looked for now, and whenever it is asked for.
fn pending<R: Request<Response: 'static>>(mut answering: Answering, version: i16) -> Pending<R::Response> {
    let mut look = move || {
        let Poll::Ready(answer) = answering.as_mut().poll(&mut TaskContext::from_waker(Waker::noop())) else {
            return None;
        };
        let Outcome::Answer(frame) = answer.unwrap() else { panic!("the request was forgotten") };
        let mut frame = frame.freeze();
        frame.advance(4);
        ResponseHeader::decode(&mut frame, R::Response::header_version(version)).unwrap();
        let response = R::Response::decode(&mut frame, version).unwrap();
        assert!(frame.is_empty(), "bytes after the answer");
        Some(response)
    };
    let mut answer = look();
    Box::new(move || answer.take().or_else(&mut look))
}
