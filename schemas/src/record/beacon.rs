//! One page view, as a visitor's browser reports it. Schema: `avsc/beacon/`.

use super::record;

/// One page view, as a visitor's browser reports it.
#[derive(Debug, Clone, PartialEq)]
pub struct Beacon {
    /// When it happened, milliseconds since the epoch, UTC.
    pub event_time: i64,
    /// Site's host name.
    pub site: String,
    /// Page's path template, without parameters.
    pub page: String,
    /// Region the visitor is in.
    pub region: String,
    /// Customer that owns the site.
    pub tenant: String,
    /// Browser family.
    pub browser: String,
    /// Navigation start to load event, milliseconds.
    pub load_ms: f64,
    /// Uncaught script errors during the view.
    pub errors: i32,
    /// Random id of the visitor's session, 16 bytes.
    pub session_id: [u8; 16],
}

record!(
    "beacon",
    "tidewatch.beacon.v1",
    Beacon { event_time, site, page, region, tenant, browser, load_ms, errors, session_id }
);
