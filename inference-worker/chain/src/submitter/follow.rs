//! Watching a call to finality, and finding out what became of it when the watch ends early.

use super::{place::Handed, report, Job, Placed, Shared, Watch};
use crate::{
    apis::system::AccountNonce,
    client::query_on,
    connection::Connection,
    error::{ChainError, SubmitError},
    outcome::{self, Outcome},
    pool::Refusal,
    signing::sign,
};
use std::sync::Arc;
use subxt::{
    rpcs::methods::legacy::{NumberOrHex, TransactionStatus},
    utils::H256,
};

/// What to do with a call whose fate is not known from its watch. Decided by [`decide`] from what
/// the chain shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The nonce is used in finalized state: look who used it.
    Search,
    /// It is in a block, or may be: wait for finality.
    Wait,
    /// Hand the same bytes to the node again.
    Resubmit,
    /// Sign again with the same nonce.
    Resign,
    /// Nothing signed for this nonce can be included any more, and nonces before it are free: take
    /// a new one.
    Renumber,
}

/// What the chain shows about a call's nonce.
#[derive(Clone, Copy, Debug)]
struct View {
    finalized: u32,
    finalized_nonce: u32,
    best_nonce: u32,
    spec_version: u32,
    /// The lowest nonce of all calls under way.
    lowest_reserved: u32,
}

/// The rule of the module: see [`super`].
fn decide(nonce: u32, dies: u32, signed_for: u32, view: &View) -> Step {
    if view.finalized_nonce > nonce {
        Step::Search
    } else if view.best_nonce > nonce {
        Step::Wait
    } else if view.finalized >= dies {
        if view.finalized_nonce < nonce && view.lowest_reserved == nonce {
            Step::Renumber
        } else {
            Step::Resign
        }
    } else if view.spec_version != signed_for {
        Step::Resign
    } else {
        Step::Resubmit
    }
}

impl Shared {
    /// Sees a placed call through, whatever happens, and reports.
    pub(super) async fn follow(self: Arc<Self>, job: Job, mut placed: Placed) {
        let result = loop {
            if let Some(watch) = placed.watch.take() {
                if let Some(block) = self.watch(watch).await {
                    match self.read_block(&job, &placed.hashes(), block).await {
                        Ok(Some(outcome)) => break outcome,
                        Ok(None) => {}
                        Err(error) if Shared::is_fatal(&error) => break Err(error.into()),
                        Err(error) => tracing::debug!(%error, "asking again"),
                    }
                }
            }
            match self.resolve(&job, &mut placed).await {
                Ok(Some(result)) => break result,
                Ok(None) => {}
                Err(error) if Shared::is_fatal(&error) => break Err(error.into()),
                Err(error) => tracing::debug!(%error, "asking again"),
            }
            if placed.watch.is_none() {
                self.pause().await;
            }
        };
        self.reserved.lock().await.remove(&placed.nonce);
        report(job, result);
    }

    /// Follows a watch; returns the finalized block that has the transaction, or nothing when the
    /// watch ends otherwise or falls silent.
    async fn watch(&self, mut watch: Watch) -> Option<H256> {
        loop {
            let status = tokio::time::timeout(self.options.silence, watch.next()).await;
            match status {
                Ok(Some(Ok(TransactionStatus::Finalized(block)))) => return Some(block),
                Ok(Some(Ok(
                    TransactionStatus::Future
                    | TransactionStatus::Ready
                    | TransactionStatus::Broadcast(_)
                    | TransactionStatus::InBlock(_)
                    | TransactionStatus::Retracted(_),
                ))) => {}
                Ok(Some(Ok(other))) => {
                    tracing::debug!(status = ?other, "watch ended");
                    return None;
                }
                Ok(Some(Err(_)) | None) | Err(_) => return None,
            }
        }
    }

    /// Reads the call's outcome in a finalized block; nothing when the block has none of its
    /// transactions.
    async fn read_block(
        &self,
        job: &Job,
        hashes: &[[u8; 32]],
        block: H256,
    ) -> Result<Option<Result<Outcome, SubmitError>>, ChainError> {
        let connection = self.client.link.connection(None).await?;
        let Some((index, hash)) = outcome::find_in_block(&connection, block, hashes).await? else {
            return Ok(None);
        };
        match outcome::read(&connection, &job.call, block, index, hash).await {
            Err(SubmitError::Chain(error)) => Err(error),
            result => Ok(Some(result)),
        }
    }

    /// Asks the chain about a call whose watch has ended and takes the next step.
    async fn resolve(
        &self,
        job: &Job,
        placed: &mut Placed,
    ) -> Result<Option<Result<Outcome, SubmitError>>, ChainError> {
        let connection = self.client.link.connection(None).await?;
        let view = self.view(&connection).await?;
        let born = placed.signed.iter().map(|signed| signed.born).min();
        let Some(last) = placed.signed.last().cloned() else {
            return Ok(Some(Err(self.invalid(&job.call, "it was never signed"))));
        };
        let dies = placed
            .signed
            .iter()
            .map(|signed| signed.dies)
            .max()
            .unwrap_or(last.dies);
        match decide(placed.nonce, dies, last.spec_version, &view) {
            Step::Wait => Ok(None),
            Step::Search => {
                let from = born.unwrap_or(last.born);
                let to = view.finalized.min(dies);
                let hashes = placed.hashes();
                for number in (from..=to).rev() {
                    let Some(block) = canonical(&connection, number).await? else {
                        continue;
                    };
                    if let Some(result) = self.read_block(job, &hashes, block).await? {
                        return Ok(Some(result));
                    }
                }
                tracing::warn!(call = %job.call.label(), nonce = placed.nonce, "nonce was used by another transaction, taking the next");
                self.renumber(job, placed).await
            }
            Step::Renumber => self.renumber(job, placed).await,
            Step::Resign => {
                let signed = sign(
                    &connection,
                    &self.key,
                    &job.call,
                    placed.nonce,
                    self.options.tip,
                )
                .await?;
                placed.signed.push(signed.clone());
                match self.hand(&connection, &signed).await {
                    Handed::Watched(watch) => placed.watch = Some(watch),
                    // Every earlier signature is dead, and this one was never taken.
                    Handed::Refused(Refusal::Invalid(reason)) if view.finalized >= dies => {
                        return Ok(Some(Err(self.invalid(&job.call, &reason))));
                    }
                    Handed::Refused(_) | Handed::Unknown => {}
                }
                Ok(None)
            }
            Step::Resubmit => {
                match self.hand(&connection, &last).await {
                    Handed::Watched(watch) => placed.watch = Some(watch),
                    Handed::Refused(Refusal::BadProof) => {
                        // The anchor block was reverted: it can never be included now.
                        let signed = sign(
                            &connection,
                            &self.key,
                            &job.call,
                            placed.nonce,
                            self.options.tip,
                        )
                        .await?;
                        if let Handed::Watched(watch) = self.hand(&connection, &signed).await {
                            placed.watch = Some(watch);
                        }
                        placed.signed.push(signed);
                    }
                    Handed::Refused(_) | Handed::Unknown => {}
                }
                Ok(None)
            }
        }
    }

    /// Gives the call a new nonce: what was signed for the old one can never be included.
    async fn renumber(
        &self,
        job: &Job,
        placed: &mut Placed,
    ) -> Result<Option<Result<Outcome, SubmitError>>, ChainError> {
        self.reserved.lock().await.remove(&placed.nonce);
        match self.place(&job.call).await {
            Ok(fresh) => {
                *placed = fresh;
                Ok(None)
            }
            Err(SubmitError::Chain(error)) => Err(error),
            Err(error) => Ok(Some(Err(error))),
        }
    }

    async fn view(&self, connection: &Arc<Connection>) -> Result<View, ChainError> {
        let account = self.key.account();
        let finalized_hash = connection.finalized_hash().await?;
        let best = connection.best_hash().await?;
        let finalized_nonce =
            query_on(connection, &AccountNonce { account }, finalized_hash).await?;
        let best_nonce = query_on(connection, &AccountNonce { account }, best).await?;
        let lowest_reserved = self.reserved.lock().await.first().copied().unwrap_or(0);
        Ok(View {
            finalized: connection.number(finalized_hash).await?,
            finalized_nonce,
            best_nonce,
            spec_version: connection.at(best).await?.spec_version(),
            lowest_reserved,
        })
    }
}

/// The canonical block of a number that is finalized.
async fn canonical(connection: &Connection, number: u32) -> Result<Option<H256>, ChainError> {
    connection
        .rpc
        .chain_get_block_hash(Some(NumberOrHex::Number(u64::from(number))))
        .await
        .map_err(|error| connection.error("a block's hash", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A call with nonce 5, valid to block 100, signed for runtime 1, nothing included yet.
    const QUIET: View = View {
        finalized: 50,
        finalized_nonce: 5,
        best_nonce: 5,
        spec_version: 1,
        lowest_reserved: 5,
    };

    fn step(view: View) -> Step {
        decide(5, 100, 1, &view)
    }

    #[test]
    fn a_dropped_call_is_handed_in_again_as_it_is() {
        assert_eq!(step(QUIET), Step::Resubmit);
    }

    #[test]
    fn a_call_in_an_unfinalized_block_is_left_alone() {
        let view = View {
            best_nonce: 6,
            ..QUIET
        };
        assert_eq!(step(view), Step::Wait);
        // Even when its last valid block has passed: it may be in one that finalizes.
        let view = View {
            finalized: 200,
            ..view
        };
        assert_eq!(step(view), Step::Wait);
    }

    #[test]
    fn a_used_nonce_is_looked_up_before_anything_else() {
        let view = View {
            finalized_nonce: 6,
            best_nonce: 6,
            finalized: 200,
            spec_version: 2,
            ..QUIET
        };
        assert_eq!(step(view), Step::Search);
    }

    #[test]
    fn an_upgrade_or_an_expiry_signs_again_with_the_same_nonce() {
        let view = View {
            spec_version: 2,
            ..QUIET
        };
        assert_eq!(step(view), Step::Resign);
        let view = View {
            finalized: 100,
            ..QUIET
        };
        assert_eq!(step(view), Step::Resign);
    }

    #[test]
    fn a_call_behind_a_gap_moves_down_only_when_it_is_dead() {
        let gap = View {
            finalized_nonce: 3,
            best_nonce: 3,
            ..QUIET
        };
        assert_eq!(step(gap), Step::Resubmit);
        let dead = View {
            finalized: 100,
            ..gap
        };
        assert_eq!(step(dead), Step::Renumber);
        // Not while an earlier call of ours may still fill the gap.
        let filled = View {
            lowest_reserved: 3,
            ..dead
        };
        assert_eq!(step(filled), Step::Resign);
    }
}
