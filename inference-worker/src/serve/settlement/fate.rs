//! What became of a batch that was handed to the chain.
//!
//! A process may end between handing a batch over and hearing of it, and what stands in the best block
//! may be undone. So the answer comes from the finalized state, and by the batch's hash: the place of a
//! sequence number may have been taken by another batch.

use super::super::Service;
use anyhow::Result;
use openledger_chain::apis::settlement::{GetBatch, NextBatch};
use openledger_metering::PreparedBatch;
use openledger_primitives::{BatchSequence, Digest};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is in a finalized block.
    Included,
    /// Its place is not taken: it can be handed over, again.
    Open,
    /// Its place is taken and not known to be by it. Its receipts are to be claimed anew; those that
    /// were claimed after all are dropped when their lanes are looked at.
    Displaced,
}

/// Reads what became of the batch.
pub async fn fate(service: &Service, batch: &PreparedBatch) -> Result<Fate> {
    let worker = service.worker;
    let sequence = batch.header.sequence;
    let finalized = service.client.finalized_block().await?.hash;
    let client = &service.client;
    let (next, parent) = client.query_at(&NextBatch { worker }, &finalized).await?;
    let known = client
        .query_at(&GetBatch { worker, sequence }, &finalized)
        .await?;
    Ok(decide(batch, next, parent, known.map(|known| known.hash)))
}

/// `next` and `parent` are the next sequence of the worker and the hash of the batch before it; `known`
/// is the hash of the batch in this one's place while its liability lasts.
fn decide(
    batch: &PreparedBatch,
    next: BatchSequence,
    parent: Digest,
    known: Option<Digest>,
) -> Fate {
    let sequence = batch.header.sequence;
    if next <= sequence {
        return Fate::Open;
    }
    let last = (next == sequence.saturating_add(1)).then_some(parent);
    if last.or(known) == Some(batch.hash) {
        Fate::Included
    } else {
        Fate::Displaced
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openledger_primitives::{batch::BatchHeader, FORMAT_VERSION};

    const OURS: Digest = [1; 32];
    const OTHER: Digest = [2; 32];

    fn batch() -> PreparedBatch {
        PreparedBatch {
            header: BatchHeader {
                version: FORMAT_VERSION,
                sequence: 5,
                parent: [0; 32],
                epoch: 0,
                fee: 0,
                count: 0,
            },
            claims: Vec::new(),
            usage: Vec::new(),
            credits: Vec::new(),
            hash: OURS,
            leaves: Vec::new(),
        }
    }

    #[test]
    fn only_the_batch_itself_counts_as_included() {
        assert_eq!(decide(&batch(), 5, OTHER, None), Fate::Open);
        assert_eq!(decide(&batch(), 6, OURS, Some(OURS)), Fate::Included);
        assert_eq!(decide(&batch(), 6, OTHER, Some(OTHER)), Fate::Displaced);
        assert_eq!(decide(&batch(), 9, OTHER, Some(OURS)), Fate::Included);
        assert_eq!(decide(&batch(), 9, OTHER, Some(OTHER)), Fate::Displaced);
        assert_eq!(decide(&batch(), 9, OTHER, None), Fate::Displaced);
    }
}
