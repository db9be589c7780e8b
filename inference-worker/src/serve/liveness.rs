//! Keeps the worker announced: what it serves, and that it lives.
//!
//! Four tasks, none of which waits for another: an announcement waits for finality and a revision
//! for its files, and meanwhile blocks must be seen and heartbeats sent.

use super::{
    catalog::{backoff::Backoff, Follower, Pins},
    Service,
};
use anyhow::Result;
use futures::StreamExt;
use openledger_chain::calls::{
    workers::{Heartbeat, Serve},
    Call,
};
use openledger_primitives::{BlockNumber, RevisionId};
use std::{future::Future, time::Duration};
use tokio::{sync::watch, task::JoinSet};

/// Waits between attempts to announce.
const FIRST_WAIT: Duration = Duration::from_secs(6);
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// Follows new blocks: freshens what is known, picks up revisions, announces them, and sends
/// heartbeats. Returns only when one of these has ended, which none should: says which.
pub async fn run(service: Service, follower: Follower, pins: Pins) -> &'static str {
    let (saw, blocks) = watch::channel(service.facts.best_block());
    let (serves, serving) = watch::channel(revisions(&service));
    let mut tasks = JoinSet::new();
    tasks.spawn(named("watching blocks", watch_blocks(service.clone(), saw)));
    tasks.spawn(named("heartbeats", beat(service.clone(), blocks.clone())));
    tasks.spawn(named(
        "following revisions",
        follow(service.clone(), follower, pins, blocks, serves),
    ));
    tasks.spawn(named("announcing", announce(service, serving)));
    match tasks.join_next().await {
        Some(Ok(name)) => name,
        _ => "a task of the worker's life (it panicked)",
    }
}

async fn named(name: &'static str, task: impl Future<Output = ()>) -> &'static str {
    task.await;
    name
}

async fn watch_blocks(service: Service, saw: watch::Sender<BlockNumber>) {
    let mut blocks = service.client.best_block_numbers();
    while let Some(number) = blocks.next().await {
        service.facts.saw_block(number);
        saw.send_replace(number);
    }
}

async fn follow(
    service: Service,
    mut follower: Follower,
    mut pins: Pins,
    mut blocks: watch::Receiver<BlockNumber>,
    serves: watch::Sender<Vec<RevisionId>>,
) {
    while blocks.changed().await.is_ok() {
        if let Err(error) = follower.follow(&service.catalog).await {
            tracing::warn!(%error, "revisions are followed again at the next block");
        }
        // Also after an error: what was done of the round counts.
        pins.apply(&service.catalog, &service.engine);
        let now = revisions(&service);
        serves.send_if_modified(|serving| {
            let changed = *serving != now;
            *serving = now;
            changed
        });
    }
}

fn revisions(service: &Service) -> Vec<RevisionId> {
    let served = service.catalog.all();
    served.iter().map(|one| one.revision).collect()
}

async fn beat(service: Service, mut blocks: watch::Receiver<BlockNumber>) {
    let mut last = None;
    loop {
        let now = *blocks.borrow_and_update();
        if is_due(last, now, service.rules.heartbeat_every) {
            last = Some(now);
            match service.submitter.queue(Heartbeat {}.encoded()).await {
                // Not waited for: the next one is due although finality stands still.
                Ok(pending) => drop(tokio::spawn(async {
                    if let Err(error) = pending.await {
                        tracing::warn!(%error, "heartbeat");
                    }
                })),
                Err(error) => tracing::warn!(%error, "heartbeat"),
            }
        }
        if blocks.changed().await.is_err() {
            return;
        }
    }
}

/// The first at once: how long ago an earlier run sent its last is not known.
fn is_due(last: Option<BlockNumber>, now: BlockNumber, every: BlockNumber) -> bool {
    last.is_none_or(|last| now.saturating_sub(last) >= every)
}

async fn announce(service: Service, mut serving: watch::Receiver<Vec<RevisionId>>) {
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    loop {
        let revisions = serving.borrow_and_update().clone();
        match announced(&service, revisions).await {
            Ok(()) => {
                backoff.reset();
                if serving.changed().await.is_err() {
                    return;
                }
            }
            Err(error) => {
                let wait = backoff.wait();
                tracing::warn!(
                    seconds = wait.as_secs(),
                    "not announced, tried again: {error:#}"
                );
                tokio::time::sleep(wait).await;
            }
        }
    }
}

/// Makes the chain list just these revisions; costs nothing when it does already.
async fn announced(service: &Service, revisions: Vec<RevisionId>) -> Result<()> {
    let mut listed = service.client.served_by(service.worker).await?;
    listed.sort_unstable();
    if listed == revisions {
        return Ok(());
    }
    let call = Serve { revisions };
    let outcome = service.submitter.submit(&call).await?;
    tracing::info!(revisions = ?call.revisions, block = outcome.number, "announced");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::is_due;

    #[test]
    fn heartbeats_are_due_at_once_and_then_every_period() {
        assert!(is_due(None, 100, 25));
        assert!(!is_due(Some(100), 124, 25));
        assert!(is_due(Some(100), 125, 25));
        // A reorg lowers the number.
        assert!(!is_due(Some(100), 99, 25));
    }
}
