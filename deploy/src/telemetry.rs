//! Logs by tracing, metrics by a Prometheus recorder.
//!
//! Logs go to standard error, or to a file while live lines own the terminal; results alone go to standard output.

use std::fs::File;
use std::io::IsTerminal as _;
use std::path::Path;
use std::sync::Mutex;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use crate::settings::{LogFormat, SettingsError, TelemetrySettings};

/// Bounds of all duration histograms, seconds: from a millisecond to a minute.
const BUCKETS_SECONDS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

/// Reads log directives.
///
/// # Errors
/// Directives that are none.
pub(crate) fn filter(directives: &str) -> Result<EnvFilter, SettingsError> {
    EnvFilter::builder().parse(directives).map_err(|_| {
        let problem = format!("telemetry.log = \"{directives}\" is no log level; write error, warn, info, debug, trace, or \"info,tidewatch_sink=debug\"");
        SettingsError::Invalid(problem)
    })
}

/// Begins to log, to `file` if there is one. Of several calls in a process the first counts.
///
/// # Errors
/// Directives that are none, or a file that cannot be written.
pub(crate) fn log(settings: &TelemetrySettings, file: Option<&Path>, colour: bool) -> anyhow::Result<()> {
    let filter = filter(&settings.log)?;
    let (writer, ansi) = match file {
        Some(path) => (BoxMakeWriter::new(Mutex::new(File::create(path)?)), false),
        None => (BoxMakeWriter::new(crate::live::AboveLines::default), colour && std::io::stderr().is_terminal()),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(ansi);
    let _ = match settings.log_format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    Ok(())
}

/// Installs the recorder of all metrics, and tells it what they mean.
///
/// # Errors
/// If another recorder is installed.
pub(crate) fn record_metrics() -> anyhow::Result<PrometheusHandle> {
    let recorder = PrometheusBuilder::new().set_buckets(&BUCKETS_SECONDS)?.build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder)?;
    tidewatch_topic_io::metrics::describe();
    tidewatch_producer::metrics::describe();
    tidewatch_processor::metrics::describe();
    tidewatch_sink::metrics::describe();
    crate::score::describe();
    Ok(handle)
}
