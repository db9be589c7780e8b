//! How long usage at given terms is accepted.
//!
//! The chain refuses a batch with usage at terms that were superseded, or of a revision that was
//! retired, longer than `voucher_grace` ago.

use anyhow::Result;
use openledger_chain::{
    apis::models::{GetRevision, GetTerms},
    ChainClient, ChainError,
};
use openledger_primitives::{revision::RevisionStatus, BlockNumber, RevisionId, TermsIndex};

/// Last block at which usage of the revision at the terms is accepted, as of block `at`; 0 when there is
/// no such revision.
pub async fn accepted_until(
    client: &ChainClient,
    revision: RevisionId,
    terms: TermsIndex,
    grace: BlockNumber,
    at: &[u8; 32],
) -> Result<BlockNumber> {
    let Some(info) = client.query_at(&GetRevision { revision }, at).await? else {
        return Ok(0);
    };
    let superseded = match terms.checked_add(1) {
        Some(next) => {
            let next = GetTerms {
                model: info.model,
                index: Some(next),
            };
            let next = client.query_at(&next, at).await?;
            next.map(|next| next.terms.effective_from)
        }
        None => None,
    };
    // A revision is retired once: the best block has the number of any block that knows of it.
    let retired = match info.status {
        RevisionStatus::Retired => match client.retired_at(revision).await {
            // A runtime that stores revisions in another way: should the terms be over, the chain says so.
            Err(error @ ChainError::Decode { .. }) => {
                tracing::warn!(revision, %error, "when the revision was retired cannot be read");
                None
            }
            retired => retired?,
        },
        _ => None,
    };
    Ok(over(superseded, retired, grace))
}

fn over(
    superseded: Option<BlockNumber>,
    retired: Option<BlockNumber>,
    grace: BlockNumber,
) -> BlockNumber {
    superseded
        .unwrap_or(BlockNumber::MAX)
        .min(retired.unwrap_or(BlockNumber::MAX))
        .saturating_add(grace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_over_a_grace_after_what_ended_them_first() {
        assert_eq!(over(None, None, 20), BlockNumber::MAX);
        assert_eq!(over(Some(11), None, 20), 31);
        assert_eq!(over(None, Some(12), 20), 32);
        assert_eq!(over(Some(11), Some(12), 20), 31);
        assert_eq!(over(Some(13), Some(12), 20), 32);
    }
}
