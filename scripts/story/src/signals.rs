//! Being asked to end.

use anyhow::Result;
use tokio::signal::unix::{signal, SignalKind};

/// Waits for Ctrl-C or SIGTERM, and says which. What runs then is ended by those who dropped it:
/// a default handler would leave node, worker and gateway behind.
pub async fn asked_to_end() -> Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    tokio::select! {
        asked = tokio::signal::ctrl_c() => asked.map(|()| "Ctrl-C").map_err(Into::into),
        _ = terminate.recv() => Ok("SIGTERM"),
        _ = hang_up.recv() => Ok("SIGHUP"),
    }
}
