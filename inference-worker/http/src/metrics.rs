//! The Prometheus page.

use crate::front::Front;
use crate::limits::Limits;
use axum::routing::get;
use axum::Router;
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;

/// Connections at most where there is only the page: for a few scrapers and a person.
const CONNECTIONS: usize = 32;

/// How often what was recorded is summed up. What is not scraped would grow without end otherwise.
const UPKEEP: Duration = Duration::from_secs(5);

/// Makes everything in this process record, once; what is recorded comes from the handle. Wants a runtime.
///
/// # Errors
/// When something else in the process records already.
pub fn install(builder: PrometheusBuilder) -> Result<PrometheusHandle, BuildError> {
    let handle = builder.install_recorder()?;
    let upkeep = handle.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP).await;
            upkeep.run_upkeep();
        }
    });
    Ok(handle)
}

/// `/metrics` alone.
pub fn page<S: Clone + Send + Sync + 'static>(handle: PrometheusHandle) -> Router<S> {
    Router::new().route(
        "/metrics",
        get(move || {
            let handle = handle.clone();
            async move { handle.render() }
        }),
    )
}

/// Serves the page alone at an address from now on; gives the address that it listens on.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve(address: SocketAddr, handle: PrometheusHandle) -> std::io::Result<SocketAddr> {
    let limits = Limits {
        connections: CONNECTIONS,
        ..Limits::default()
    };
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let front = Front::new(listener, limits, page(handle));
    tokio::spawn(async move { front.wait_for(std::future::pending::<()>()).await });
    Ok(address)
}
