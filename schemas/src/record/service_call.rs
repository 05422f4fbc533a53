//! What an application performance monitor sees of one request. Schema: `avsc/service-call/`.

use super::record;

/// One request served, as an application performance monitor sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceCall {
    /// When it happened, milliseconds since the epoch, UTC.
    pub event_time: i64,
    /// Service that was called.
    pub service: String,
    /// Instance of the service that served the call.
    pub instance: String,
    /// Region: APAC, EMEA or AMER in the shipped scenarios.
    pub region: String,
    /// Customer on whose behalf the call was made.
    pub tenant: String,
    /// Release of the service that was running.
    pub release: String,
    /// HTTP status code.
    pub status: i32,
    /// Time to serve the call, milliseconds.
    pub duration_ms: f64,
    /// Size of the response body, bytes.
    pub bytes: i64,
    /// W3C trace id, 16 bytes.
    pub trace_id: [u8; 16],
}

record!(
    "service-call",
    "tidewatch.service-call.v1",
    ServiceCall { event_time, service, instance, region, tenant, release, status, duration_ms, bytes, trace_id }
);
