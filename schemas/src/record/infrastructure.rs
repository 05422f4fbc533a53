//! One sample of a host's or pod's resources. Schema: `avsc/infrastructure/`.

use super::record;

/// One sample of a host's or pod's resources.
#[derive(Debug, Clone, PartialEq)]
pub struct Infrastructure {
    /// When it happened, milliseconds since the epoch, UTC.
    pub event_time: i64,
    /// Host name.
    pub host: String,
    /// Pod name; empty for a sample of the host itself.
    pub pod: String,
    /// Region the host is in.
    pub region: String,
    /// Customer whose workload the pod runs.
    pub tenant: String,
    /// CPU in use as a share of the limit; 1.0 is all of it.
    pub cpu_ratio: f64,
    /// Resident memory, bytes.
    pub memory_bytes: i64,
    /// Container restarts since the previous sample.
    pub restarts: i32,
    /// Disk space in use as a share of capacity; 1.0 is full.
    pub disk_ratio: f64,
}

record!(
    "infrastructure",
    "tidewatch.infrastructure.v1",
    Infrastructure { event_time, host, pod, region, tenant, cpu_ratio, memory_bytes, restarts, disk_ratio }
);
