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

/// A recorder whose histograms have buckets, as the metrics' names promise, and whose metrics are those of the
/// model `base`. Adapters have no label: there may be thousands of them.
///
/// # Errors
/// Never with these buckets.
pub fn builder(base: &str) -> Result<PrometheusBuilder, BuildError> {
    PrometheusBuilder::new()
        .add_global_label("model_name", base)
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Full("vllm:iteration_tokens_total".into()), &COUNTS)?
        .set_buckets_for_metric(Matcher::Prefix("openledger_step_".into()), &COUNTS)
}

/// Makes everything in this process record into them.
///
/// # Errors
/// When something else in the process records already.
pub fn install(base: &str) -> Result<PrometheusHandle, BuildError> {
    let handle = openledger_http::metrics::install(builder(base)?)?;
    describe();
    Ok(handle)
}

fn describe() {
    openledger_engine::describe_metrics();
    ::metrics::describe_gauge!(
        REFUSED,
        "Adapters that could not be loaded at the start, and were not since."
    );
}

/// How many adapters are refused.
pub(crate) const REFUSED: &str = "openledger_refused_adapters";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_should_be_described_and_name_the_base() {
        let recorder = builder("tiny").unwrap().build_recorder();
        let page = recorder.handle();
        ::metrics::with_local_recorder(&recorder, || {
            describe();
            ::metrics::gauge!("vllm:num_requests_running").set(3.0);
        });
        let page = page.render();
        assert!(page.contains("# HELP vllm:num_requests_running "), "{page}");
        assert!(
            page.contains("vllm:num_requests_running{model_name=\"tiny\"} 3"),
            "{page}"
        );
    }
}
