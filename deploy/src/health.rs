//! The HTTP endpoint: `/metrics` for Prometheus, `/live` and `/ready` for whoever runs us, `/watermarks` for who waits for a window.
//!
//! It answers from memory on a thread of its own and waits for no role, but for the first answer of `/watermarks`: the processor
//! counts open windows only once somebody has asked.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;

/// How often the recorder folds what its histograms collected.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// How often, and how many times, it is seen whether the processor has counted.
const COUNTED_EVERY: Duration = Duration::from_millis(50);
const COUNTED_TRIES: u32 = 60;

/// Says why the roles are not ready, if they are not.
pub(crate) type Readiness = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Says where event time stands, once that is known.
pub(crate) type Explanation = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// What the pages say.
pub(crate) struct Pages {
    /// `/metrics`.
    pub metrics: PrometheusHandle,
    /// `/ready`.
    pub ready: Readiness,
    /// `/watermarks`; `None` if there is no answer yet.
    pub watermarks: Explanation,
}

/// Serves at `address`, for as long as the process lives; returns the address that it got.
///
/// # Errors
/// If the address is taken or not ours.
pub(crate) fn serve(address: SocketAddr, pages: Pages) -> anyhow::Result<SocketAddr> {
    let Pages { metrics, ready, watermarks } = pages;
    let failed = || format!("cannot listen at telemetry.listen = \"{address}\" (\"off\" to go without)");
    let listener = std::net::TcpListener::bind(address).with_context(failed)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let upkeep = metrics.clone();
    let routes = Router::new()
        .route("/metrics", get(move || async move { metrics.render() }))
        .route("/live", get(|| async { "live\n" }))
        .route("/watermarks", get(move || explain(watermarks)))
        .route(
            "/ready",
            get(move || async move {
                match ready() {
                    Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
                    Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
                }
            }),
        );
    std::thread::Builder::new().name("http".to_owned()).spawn(move || {
        runtime.block_on(async move {
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(UPKEEP_EVERY).await;
                    upkeep.run_upkeep();
                }
            });
            let served = match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => axum::serve(listener, routes).await,
                Err(error) => Err(error),
            };
            if let Err(error) = served {
                tracing::error!(%error, "the HTTP endpoint ended");
            }
        });
    })?;
    Ok(address)
}

async fn explain(watermarks: Explanation) -> (StatusCode, String) {
    for _ in 0..COUNTED_TRIES {
        if let Some(text) = watermarks() {
            return (StatusCode::OK, text);
        }
        tokio::time::sleep(COUNTED_EVERY).await;
    }
    let text =
        "no answer from the processor yet: it waits for its group or its broker, or reads its state back; ask again\n";
    (StatusCode::SERVICE_UNAVAILABLE, text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;
    use std::sync::atomic::{AtomicBool, Ordering};

    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn pages(metrics: PrometheusHandle, ready: Readiness) -> Pages {
        // As a processor does: it has an answer once it was asked.
        let was_asked = AtomicBool::new(false);
        let noon = move || was_asked.swap(true, Ordering::Relaxed).then(|| "noon\n".to_owned());
        Pages { metrics, ready, watermarks: Arc::new(noon) }
    }

    #[test]
    fn answers_metrics_live_and_ready() {
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || metrics::counter!("tidewatch_test_total").increment(3));
        let is_ready = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&is_ready);
        let ready: Readiness =
            Arc::new(move || asked.load(Ordering::Relaxed).then_some(()).ok_or("not yet".to_owned()));
        let address = serve("127.0.0.1:0".parse().unwrap(), pages(recorder.handle(), ready)).unwrap();
        assert!(get(address, "/metrics").contains("tidewatch_test_total 3"));
        assert!(get(address, "/live").starts_with("HTTP/1.1 200"));
        let answer = get(address, "/ready");
        assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with("not yet\n"), "{answer}");
        is_ready.store(true, Ordering::Relaxed);
        assert!(get(address, "/ready").starts_with("HTTP/1.1 200"));
        assert!(get(address, "/watermarks").ends_with("noon\n"));
        assert!(get(address, "/nothing").starts_with("HTTP/1.1 404"));
    }

    #[test]
    fn a_taken_address_names_the_setting() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let handle = PrometheusBuilder::new().build_recorder().handle();
        let error = serve(address, pages(handle, Arc::new(|| Ok(())))).unwrap_err().to_string();
        assert!(error.contains("telemetry.listen"), "{error}");
    }
}
