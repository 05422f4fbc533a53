//! One synthetic check of an endpoint from one location. Schema: `avsc/check/`.

use super::record;

/// One synthetic check of an endpoint from one location.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// When it happened, milliseconds since the epoch, UTC.
    pub event_time: i64,
    /// Check's name.
    pub check: String,
    /// Location that ran the check.
    pub location: String,
    /// Region of the location.
    pub region: String,
    /// Customer that owns the endpoint.
    pub tenant: String,
    /// Whether every assertion of the check held.
    pub success: bool,
    /// Time to the complete response, milliseconds.
    pub response_ms: f64,
    /// HTTP status code; 0 when there was no response.
    pub status: i32,
}

record!(
    "check",
    "tidewatch.check.v1",
    Check { event_time, check, location, region, tenant, success, response_ms, status }
);
