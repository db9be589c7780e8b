//! The Prometheus page.

use anyhow::{Context, Result};
use metrics_exporter_prometheus::PrometheusBuilder;
use openledger_http::metrics;
use std::net::SocketAddr;

/// Serves the metrics at `address`, into which engine and worker record; gives the address that listens.
pub async fn install(address: SocketAddr) -> Result<SocketAddr> {
    let handle = metrics::install(PrometheusBuilder::new())?;
    openledger_engine::describe_metrics();
    metrics::serve(address, handle)
        .await
        .with_context(|| format!("serve metrics on {address}"))
}
