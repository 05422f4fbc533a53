//! The id that a cluster gave a topic when it was created (KIP-516): one of the same name that is made again has another.
//!
//! Why unsafe: the client has this (`rd_kafka_DescribeTopics`), rdkafka's safe face of it has not.
//!
//! Invariants behind the `unsafe` below: the client outlives the call; each handle is made, used and destroyed once within it; what is
//! read from an event is copied before the event is destroyed.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::ptr;
use std::time::Duration;

use rdkafka::client::{Client, ClientContext};
use rdkafka_sys as sys;
use rdkafka_sys::types::{RDKafkaErrorCode as Code, RDKafkaRespErr};

/// Asks for the id of a topic, as Kafka's tools print it; `None` where the cluster gives none.
///
/// # Errors
/// No answer in time, or no such topic.
pub(crate) fn ask<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    timeout: Duration,
) -> Result<Option<String>, Code> {
    let name = CString::new(topic).map_err(|_| Code::InvalidTopic)?;
    let milliseconds = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let mut names = [name.as_ptr()];
    // SAFETY: see above.
    unsafe {
        let (handle, operation) = (client.native_ptr(), sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS);
        let queue = sys::rd_kafka_queue_new(handle);
        let options = sys::rd_kafka_AdminOptions_new(handle, operation);
        // Refused only if it is not between 0 and an hour: then the client's own holds.
        sys::rd_kafka_AdminOptions_set_request_timeout(options, milliseconds, ptr::null_mut(), 0);
        let topics = sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        sys::rd_kafka_DescribeTopics(handle, topics, options, queue);
        // It always comes, be it to say that the time is over.
        let event = sys::rd_kafka_queue_poll(queue, -1);
        let id = read(event);
        sys::rd_kafka_event_destroy(event);
        sys::rd_kafka_TopicCollection_destroy(topics);
        sys::rd_kafka_AdminOptions_destroy(options);
        sys::rd_kafka_queue_destroy(queue);
        id
    }
}

/// # Safety
/// The event is the answer about one topic.
unsafe fn read(event: *mut sys::rd_kafka_event_t) -> Result<Option<String>, Code> {
    // SAFETY: all of it belongs to the event, which outlives this.
    unsafe {
        check(sys::rd_kafka_event_error(event))?;
        let mut count = 0;
        let found =
            sys::rd_kafka_DescribeTopics_result_topics(sys::rd_kafka_event_DescribeTopics_result(event), &mut count);
        if count == 0 {
            return Err(Code::UnknownTopicOrPartition);
        }
        let topic = *found;
        check(sys::rd_kafka_error_code(sys::rd_kafka_TopicDescription_error(topic)))?;
        let id = sys::rd_kafka_TopicDescription_topic_id(topic);
        if (sys::rd_kafka_Uuid_most_significant_bits(id), sys::rd_kafka_Uuid_least_significant_bits(id)) == (0, 0) {
            return Ok(None);
        }
        Ok(Some(CStr::from_ptr(sys::rd_kafka_Uuid_base64str(id)).to_string_lossy().into_owned()))
    }
}

fn check(code: RDKafkaRespErr) -> Result<(), Code> {
    if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR { Ok(()) } else { Err(code.into()) }
}
