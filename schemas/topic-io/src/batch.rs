//! Reading in batches, straight from librdkafka.
//!
//! Why: `rd_kafka_consume_batch_queue` costs 0.48 CPU seconds per million messages, rdkafka's message-by-message poll 0.74.
//! The safe face is `BatchQueue`, which owns a native queue that partitions are forwarded to, and [`Batch`], whose
//! messages borrow from the client's memory and are given back when it is dropped.
//!
//! Invariants behind every `unsafe` below:
//! 1. a native handle is used only while its `Arc<BaseConsumer>` is alive: the queue holds one;
//! 2. every message pointer in `messages` came from the client, is not null, and is destroyed exactly once: by `clear`, after
//!    which it is no longer in the vector;
//! 3. a [`Message`] lives no longer than the borrow of its batch, and a batch is the only borrow of its queue.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_void};
use std::fmt;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::client::{Client, ClientContext};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka_sys as sys;
use rdkafka_sys::types::RDKafkaErrorCode;
use secrecy::ExposeSecret as _;

use crate::context::ConsumerEvents;
use crate::oauth::Token;

/// A queue of our own that partitions' queues are forwarded to, and that is read a batch at a time.
pub(crate) struct BatchQueue {
    queue: NonNull<sys::rd_kafka_queue_t>,
    messages: Vec<NonNull<sys::rd_kafka_message_t>>,
    consumer: Arc<BaseConsumer<ConsumerEvents>>,
}

// SAFETY: librdkafka's handles may be used from any thread; `&mut self` keeps them to one at a time.
unsafe impl Send for BatchQueue {}

/// The generation of the group that a consumer is a member of, below 0 if it is none at the moment.
pub(crate) fn generation(consumer: &BaseConsumer<ConsumerEvents>) -> i32 {
    // SAFETY: the consumer outlives the call; what it gives is null or ours, asked while it is, and destroyed once.
    unsafe {
        let metadata = sys::rd_kafka_consumer_group_metadata(consumer.client().native_ptr());
        if metadata.is_null() {
            return -1;
        }
        // Who has left keeps the generation, but not the name.
        let member = sys::rd_kafka_consumer_group_metadata_member_id(metadata);
        let is_named = !member.is_null() && *member != 0;
        let generation = if is_named { sys::rd_kafka_consumer_group_metadata_generation_id(metadata) } else { -1 };
        sys::rd_kafka_consumer_group_metadata_destroy(metadata);
        generation
    }
}

/// An error that came in place of a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MessageError {
    pub(crate) code: RDKafkaErrorCode,
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
}

impl BatchQueue {
    pub(crate) fn new(consumer: Arc<BaseConsumer<ConsumerEvents>>) -> Self {
        // SAFETY: (1); `rd_kafka_queue_new` only allocates.
        let queue = unsafe { sys::rd_kafka_queue_new(consumer.client().native_ptr()) };
        let queue = NonNull::new(queue).expect("rd_kafka_queue_new aborts when out of memory, it never returns null");
        Self { queue, messages: Vec::new(), consumer }
    }

    /// Sends what is fetched for a partition to this queue from now on. To be called before the partition is assigned: the
    /// client keeps a forwarding that the application made. False if there can be no such partition.
    pub(crate) fn forward(&self, topic: &str, partition: i32) -> bool {
        let Ok(topic) = CString::new(topic) else { return false };
        // SAFETY: (1); the partition's handle is given back at once, the forwarding itself holds its own references.
        unsafe {
            let source =
                sys::rd_kafka_queue_get_partition(self.consumer.client().native_ptr(), topic.as_ptr(), partition);
            if source.is_null() {
                return false;
            }
            sys::rd_kafka_queue_forward(source, self.queue.as_ptr());
            sys::rd_kafka_queue_destroy(source);
        }
        true
    }

    /// Waits up to `timeout` for a first message and takes what else is there, `max` at most. Errors that came in place of
    /// messages go to `errors`; a message that `keep` declines is given back.
    pub(crate) fn fill(
        &mut self,
        max: usize,
        timeout: Duration,
        errors: &mut Vec<MessageError>,
        mut keep: impl FnMut(Message<'_>) -> bool,
    ) {
        self.clear();
        let max = max.max(1);
        self.messages.reserve(max);
        // The client waits until the batch is full: ask first for what is there, and wait only for one.
        if self.take(max, Duration::ZERO) == 0 && !timeout.is_zero() && self.take(1, timeout) == 1 {
            self.take(max - 1, Duration::ZERO);
        }
        self.messages.retain(|&message| {
            // SAFETY: (2).
            let borrowed = Message(unsafe { message.as_ref() });
            let kept = match borrowed.error() {
                Some(error) => {
                    errors.push(error);
                    false
                }
                None => keep(borrowed),
            };
            if !kept {
                // SAFETY: (2); false takes it out of the vector.
                unsafe { sys::rd_kafka_message_destroy(message.as_ptr()) };
            }
            kept
        });
    }

    /// The messages of the last [`fill`](Self::fill).
    pub(crate) fn batch(&mut self) -> Batch<'_> {
        Batch { queue: self }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Takes up to `max` messages into the vector, which has room for them; returns how many.
    fn take(&mut self, max: usize, timeout: Duration) -> usize {
        let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        let before = self.messages.len();
        let room = self.messages.spare_capacity_mut();
        let max = max.min(room.len());
        if max == 0 {
            return 0;
        }
        // SAFETY: (1); at most `max` pointers are written, none of them null, into room for `max`; `NonNull<T>` has the layout
        // of `*mut T`. The client returns how many it wrote, or -1 for an argument that we do not give.
        unsafe {
            let taken =
                sys::rd_kafka_consume_batch_queue(self.queue.as_ptr(), timeout_ms, room.as_mut_ptr().cast(), max);
            let taken = usize::try_from(taken).unwrap_or(0);
            self.messages.set_len(before + taken);
            taken
        }
    }

    fn clear(&mut self) {
        for message in self.messages.drain(..) {
            // SAFETY: (2); drained, so it cannot be destroyed again.
            unsafe { sys::rd_kafka_message_destroy(message.as_ptr()) };
        }
    }
}

impl Drop for BatchQueue {
    fn drop(&mut self) {
        self.clear();
        // SAFETY: (1), as the Arc is dropped after this; nothing uses the handle afterwards.
        unsafe { sys::rd_kafka_queue_destroy(self.queue.as_ptr()) };
    }
}

/// Messages in the order of their partitions, borrowed from the client and given back when this is dropped.
pub struct Batch<'a> {
    queue: &'a mut BatchQueue,
}

impl Batch<'_> {
    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.queue.messages.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.queue.messages.is_empty()
    }

    /// The messages; those of one partition are in order and mostly next to each other.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Message<'_>> {
        // SAFETY: (2) and (3): each is alive until the batch, which the items borrow, is dropped.
        self.queue.messages.iter().map(|message| Message(unsafe { message.as_ref() }))
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.queue.clear();
    }
}

impl fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// One record as it lies in the client's memory.
#[derive(Clone, Copy)]
pub struct Message<'a>(&'a sys::rd_kafka_message_t);

impl<'a> Message<'a> {
    /// The topic it was read from.
    pub fn topic(&self) -> &'a str {
        // SAFETY: a consumed message keeps its topic alive; the name is a C string that lives as long.
        let name = unsafe { CStr::from_ptr(sys::rd_kafka_topic_name(self.0.rkt)) };
        name.to_str().expect("kafka allows only ASCII in a topic's name")
    }

    /// The partition it was read from.
    pub fn partition(&self) -> i32 {
        self.0.partition
    }

    /// Its place in the partition.
    pub fn offset(&self) -> i64 {
        self.0.offset
    }

    /// When it was created, or appended if the topic says so, in milliseconds since the epoch.
    pub fn timestamp_ms(&self) -> Option<i64> {
        self.timestamp_as_written_ms().filter(|ms| *ms >= 0)
    }

    /// The timestamp as the record carries it, also a negative one, which is none to [`timestamp_ms`](Self::timestamp_ms).
    pub fn timestamp_as_written_ms(&self) -> Option<i64> {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: (2); `kind` outlives the call.
        let timestamp = unsafe { sys::rd_kafka_message_timestamp(self.0, &raw mut kind) };
        let is_there = kind != sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE && timestamp != -1;
        is_there.then_some(timestamp)
    }

    /// The key; `None` is no key, which is not the same as an empty one.
    pub fn key(&self) -> Option<&'a [u8]> {
        // SAFETY: the client's key pointer is null or good for `key_len` bytes while the message lives.
        unsafe { bytes(self.0.key, self.0.key_len) }
    }

    /// The value; `None` is a tombstone.
    pub fn value(&self) -> Option<&'a [u8]> {
        // SAFETY: as for the key.
        unsafe { bytes(self.0.payload, self.0.len) }
    }

    /// The headers in their order. A name that is not UTF-8 is given as `\u{fffd}`.
    pub fn headers(&self) -> Headers<'a> {
        let mut headers = ptr::null_mut();
        // SAFETY: (2); on success the list belongs to the message and lives as long, otherwise it stays null.
        let _ = unsafe { sys::rd_kafka_message_headers(self.0, &raw mut headers) };
        Headers { headers, next: 0, message: *self }
    }

    /// The value of the first header of this name.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers().find(|(found, _)| *found == name).and_then(|(_, value)| value)
    }

    /// Equal for messages of one topic while the batch lives; cheaper than comparing names.
    pub(crate) fn topic_id(&self) -> usize {
        self.0.rkt as usize
    }

    fn error(&self) -> Option<MessageError> {
        if self.0.err == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return None;
        }
        let topic = if self.0.rkt.is_null() { String::new() } else { self.topic().to_owned() };
        Some(MessageError { code: self.0.err.into(), topic, partition: self.0.partition, offset: self.0.offset })
    }
}

impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]@{}", self.topic(), self.partition(), self.offset())
    }
}

/// The headers of a message, from [`Message::headers`].
#[derive(Clone)]
pub struct Headers<'a> {
    headers: *mut sys::rd_kafka_headers_t,
    next: usize,
    message: Message<'a>,
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a str, Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.headers.is_null() {
            return None;
        }
        let (mut name, mut value, mut size) = (ptr::null::<c_char>(), ptr::null::<c_void>(), 0);
        // SAFETY: the list is the message's, alive with it; the three results outlive the call, and on success the name is a C
        // string and the value null or good for `size` bytes, both as long as the message.
        unsafe {
            let found =
                sys::rd_kafka_header_get_all(self.headers, self.next, &raw mut name, &raw mut value, &raw mut size);
            if found != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                return None;
            }
            self.next += 1;
            Some((CStr::from_ptr(name).to_str().unwrap_or("\u{fffd}"), bytes(value, size)))
        }
    }
}

impl fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "headers of {:?}", self.message)
    }
}

/// # Safety
/// `start` is null, or good for `size` bytes during `'a`.
unsafe fn bytes<'a>(start: *const c_void, size: usize) -> Option<&'a [u8]> {
    // SAFETY: the caller's promise.
    (!start.is_null()).then(|| unsafe { slice::from_raw_parts(start.cast(), size) })
}

/// The low and high watermark as of the last fetch of a partition, without asking a broker. `None` before the first one.
pub(crate) fn cached_watermarks(
    consumer: &BaseConsumer<ConsumerEvents>,
    topic: &str,
    partition: i32,
) -> Option<(i64, i64)> {
    let topic = CString::new(topic).ok()?;
    let (mut low, mut high) = (-1, -1);
    // SAFETY: the consumer is alive during the call, and so are the name and both results.
    let found = unsafe {
        let client = consumer.client().native_ptr();
        sys::rd_kafka_get_watermark_offsets(client, topic.as_ptr(), partition, &raw mut low, &raw mut high)
    };
    (found == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some((low, high))
}

/// Gives a client its token; an error says what is wrong with it. rdkafka can do this only from one of its callbacks.
pub(crate) fn set_oauth_token<C: ClientContext>(client: &Client<C>, token: &Token) -> Result<(), String> {
    let text = |text: &str| CString::new(text).map_err(|_| "a token must not hold a zero byte".to_owned());
    let (value, principal) = (text(token.value.expose_secret())?, text(&token.principal)?);
    let extensions = token.extensions.iter().map(|part| text(part)).collect::<Result<Vec<_>, _>>()?;
    let mut parts: Vec<*const c_char> = extensions.iter().map(|part| part.as_ptr()).collect();
    let mut reason = [0_u8; 512];
    // SAFETY: the client and every string are alive during the call, which copies them; the reason is ended by a zero within its
    // size.
    let given = unsafe {
        sys::rd_kafka_oauthbearer_set_token(
            client.native_ptr(),
            value.as_ptr(),
            token.expires_ms,
            principal.as_ptr(),
            parts.as_mut_ptr(),
            parts.len(),
            reason.as_mut_ptr().cast(),
            reason.len(),
        )
    };
    if given == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Ok(());
    }
    Err(CStr::from_bytes_until_nul(&reason).map(|reason| reason.to_string_lossy().into_owned()).unwrap_or_default())
}

/// The metadata of each entry of a list. rdkafka's own accessor panics on bytes that are not UTF-8, which another member of
/// the group may have committed; they are replaced here.
pub(crate) fn committed_metadata(list: &TopicPartitionList) -> Vec<String> {
    // SAFETY: the list is alive and not written during the call; it has `cnt` entries, whose metadata is null or good for its
    // size in bytes.
    unsafe {
        let list = &*list.ptr();
        let count = usize::try_from(list.cnt).unwrap_or(0);
        let entries = if count == 0 { &[] } else { slice::from_raw_parts(list.elems, count) };
        let text = |entry: &sys::rd_kafka_topic_partition_t| {
            bytes(entry.metadata, entry.metadata_size).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        };
        entries.iter().map(|entry| text(entry).unwrap_or_default()).collect()
    }
}
