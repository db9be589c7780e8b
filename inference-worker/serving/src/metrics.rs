//! The Prometheus page, with the buckets of histograms.

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// Seconds, from a quick token to a long wait.
const SECONDS: [f64; 22] = [
    0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0,
    7.5, 10.0, 20.0, 40.0, 80.0, 160.0,
];

/// Counts, from one to a full step.
const COUNTS: [f64; 14] = [
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0,
];

/// A recorder whose histograms have buckets, as the metrics' names promise.
///
/// # Errors
/// Never with these buckets.
pub fn builder() -> Result<PrometheusBuilder, BuildError> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Full("vllm:iteration_tokens_total".into()), &COUNTS)?
        .set_buckets_for_metric(Matcher::Prefix("openledger_step_".into()), &COUNTS)
}

/// Makes everything in this process record into them.
///
/// # Errors
/// When something else in the process records already.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    openledger_http::metrics::install(builder()?)
}
