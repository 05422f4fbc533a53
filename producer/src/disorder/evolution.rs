//! Schemas that come in mid-stream: one with a field added, one in which fields have changed their type.
//!
//! Invariant: `avsc/<kind>.added.avsc` and `avsc/<kind>.changed.avsc` are the current schema with one change; a processor that is to
//! read their records names them in its stream's `schemas`.

use crate::generator::EventRecord;
use crate::stream::StreamKind;
use std::sync::LazyLock;
use tidewatch_schemas::datum::Datum;
use tidewatch_schemas::wire::{self, Framing};
use tidewatch_schemas::{Record, schema};

/// The value of the added field.
const ZONE: &str = "a";

struct Evolved {
    json: &'static str,
    fingerprint: u64,
}

impl Evolved {
    fn new(json: &'static str) -> Self {
        Self { json, fingerprint: schema::fingerprint(json).expect("a test parses every schema") }
    }
}

macro_rules! evolved {
    ($change:literal) => {
        LazyLock::new(|| {
            [
                Evolved::new(include_str!(concat!("../../avsc/service-call.", $change, ".avsc"))),
                Evolved::new(include_str!(concat!("../../avsc/infrastructure.", $change, ".avsc"))),
                Evolved::new(include_str!(concat!("../../avsc/beacon.", $change, ".avsc"))),
                Evolved::new(include_str!(concat!("../../avsc/check.", $change, ".avsc"))),
            ]
        })
    };
}

/// By the streams' numbers.
static ADDED: LazyLock<[Evolved; 4]> = evolved!("added");
static CHANGED: LazyLock<[Evolved; 4]> = evolved!("changed");

impl StreamKind {
    /// The schemas that a change in mid-stream brings: compatible (a field is added), incompatible (the entity's first field may be
    /// null, and the first measure is a text).
    pub fn evolved_schemas(self) -> [&'static str; 2] {
        [ADDED[self as usize].json, CHANGED[self as usize].json]
    }
}

fn stream_of(record: &EventRecord) -> StreamKind {
    match record {
        EventRecord::ServiceCall(_) => StreamKind::ServiceCalls,
        EventRecord::Infrastructure(_) => StreamKind::Infrastructure,
        EventRecord::Beacon(_) => StreamKind::Beacons,
        EventRecord::Check(_) => StreamKind::Checks,
    }
}

/// Appends a record with a field added.
pub(crate) fn encode_added(record: &EventRecord, framing: Framing, out: &mut Vec<u8>) {
    wire::write_header(framing, ADDED[stream_of(record) as usize].fingerprint, out);
    match record {
        EventRecord::ServiceCall(record) => record.encode(out),
        EventRecord::Infrastructure(record) => record.encode(out),
        EventRecord::Beacon(record) => record.encode(out),
        EventRecord::Check(record) => record.encode(out),
    }
    ZONE.to_owned().write(out);
}

/// Appends a record whose first measure is a text, and whose entity's first field is null if it is not to be known.
pub(crate) fn encode_changed(record: &EventRecord, is_entity_known: bool, framing: Framing, out: &mut Vec<u8>) {
    wire::write_header(framing, CHANGED[stream_of(record) as usize].fingerprint, out);
    let known = |name: &String| is_entity_known.then(|| name.clone());
    macro_rules! write {
        ($($field:expr),+) => {{ $($field.write(out);)+ }};
    }
    match record {
        EventRecord::ServiceCall(r) => write!(
            r.event_time,
            known(&r.service),
            r.instance,
            r.region,
            r.tenant,
            r.release,
            r.status,
            r.duration_ms.to_string(),
            r.bytes,
            r.trace_id
        ),
        EventRecord::Infrastructure(r) => write!(
            r.event_time,
            known(&r.host),
            r.pod,
            r.region,
            r.tenant,
            r.cpu_ratio.to_string(),
            r.memory_bytes,
            r.restarts,
            r.disk_ratio
        ),
        EventRecord::Beacon(r) => write!(
            r.event_time,
            known(&r.site),
            r.page,
            r.region,
            r.tenant,
            r.browser,
            r.load_ms.to_string(),
            r.errors,
            r.session_id
        ),
        EventRecord::Check(r) => write!(
            r.event_time,
            known(&r.check),
            r.location,
            r.region,
            r.tenant,
            r.success,
            r.response_ms.to_string(),
            r.status
        ),
    }
}
