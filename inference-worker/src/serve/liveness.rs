//! Keeps the worker announced: what it serves, and that it lives.

use super::{catalog::Follower, Service};
use anyhow::Result;
use futures::StreamExt;
use openledger_chain::calls::workers::{Heartbeat, Serve};

/// Follows new blocks until the process ends: freshens what is known, picks up revisions, announces
/// them, and sends heartbeats.
pub async fn run(service: Service, mut follower: Follower) {
    let mut blocks = service.client.best_block_numbers();
    let mut announced: Option<Vec<u64>> = None;
    let mut last_beat = service.facts.best_block();
    while let Some(number) = blocks.next().await {
        service.facts.saw_block(number);
        if let Err(error) = follower.follow(&service.catalog).await {
            tracing::warn!("revisions could not be followed: {error:#}");
            continue;
        }
        let serving: Vec<u64> = service
            .catalog
            .all()
            .iter()
            .map(|one| one.revision)
            .collect();
        if announced.as_ref() != Some(&serving) && !serving.is_empty() {
            match announce(&service, serving.clone()).await {
                Ok(()) => announced = Some(serving),
                Err(error) => tracing::warn!("not announced: {error:#}"),
            }
        }
        if number.saturating_sub(last_beat) >= service.rules.heartbeat_every {
            last_beat = number;
            let service = service.clone();
            tokio::spawn(async move {
                if let Err(error) = service.submitter.submit(&Heartbeat {}).await {
                    tracing::warn!(%error, "heartbeat");
                }
            });
        }
    }
}

async fn announce(service: &Service, revisions: Vec<u64>) -> Result<()> {
    let outcome = service
        .submitter
        .submit(&Serve {
            revisions: revisions.clone(),
        })
        .await?;
    tracing::info!(?revisions, block = outcome.number, "announced");
    Ok(())
}
