//! Giving a call a nonce and getting it into the node's pool.

use super::{Placed, Shared, Watch};
use crate::{
    apis::system::AccountNonce,
    calls::EncodedCall,
    client::query_on,
    connection::Connection,
    error::{ChainError, SubmitError},
    pool::Refusal,
    signing::{sign, Signed},
};
use std::{collections::BTreeSet, sync::Arc};
use subxt::rpcs::Error as RpcError;

/// What the node did with a transaction.
pub(super) enum Handed {
    /// It is in the pool, watched.
    Watched(Watch),
    /// The pool refused it.
    Refused(Refusal),
    /// The connection broke: nobody knows.
    Unknown,
}

/// Tries of a fresh call that the pool refuses for a reason that may pass.
const TRIES: u32 = 40;
/// Tries with a fresh signature when the pool finds the signature bad.
const SIGNATURES: u32 = 3;

impl Shared {
    /// Hands a transaction to the node.
    pub(super) async fn hand(&self, connection: &Connection, signed: &Signed) -> Handed {
        match connection
            .rpc
            .author_submit_and_watch_extrinsic(&signed.bytes)
            .await
        {
            Ok(watch) => Handed::Watched(watch),
            Err(RpcError::User(error)) => Handed::Refused(Refusal::from(&error)),
            Err(error) => {
                connection.error("a transaction", error);
                connection.mark_broken();
                Handed::Unknown
            }
        }
    }

    /// Signs the call with the account's next nonce and gets it into the pool. An error means that
    /// the call is not, and will not be, applied.
    pub(super) async fn place(&self, call: &EncodedCall) -> Result<Placed, SubmitError> {
        let mut reserved = self.reserved.lock().await;
        let mut bad_signatures = 0;
        let mut last = String::from("the node gave no reason");
        for _ in 0..TRIES {
            let connection = self.client.link.connection(None).await?;
            let (nonce, signed) = match self.sign_next(&connection, call, &reserved).await {
                Ok(signed) => signed,
                Err(error) if Shared::is_fatal(&error) => return Err(error.into()),
                // Not encodable by this runtime, or the node is away: the next connection tells.
                Err(error) => {
                    last = error.to_string();
                    self.pause().await;
                    continue;
                }
            };
            let placed = |watch| Placed {
                nonce,
                signed: vec![signed.clone()],
                watch,
            };
            match self.hand(&connection, &signed).await {
                Handed::Watched(watch) => {
                    reserved.insert(nonce);
                    return Ok(placed(Some(watch)));
                }
                Handed::Unknown | Handed::Refused(Refusal::AlreadyImported) => {
                    reserved.insert(nonce);
                    return Ok(placed(None));
                }
                // Taken by a transaction of another program: the nonce after it will do.
                Handed::Refused(Refusal::Outdated | Refusal::Outbid) => {
                    last = "the account's nonces are being used by another program".into();
                }
                Handed::Refused(Refusal::BadProof) if bad_signatures < SIGNATURES => {
                    bad_signatures += 1;
                    last = "the node does not accept the signature".into();
                }
                Handed::Refused(Refusal::TryLater(reason)) => last = reason,
                Handed::Refused(Refusal::BadProof) => {
                    return Err(self.invalid(call, "the node does not accept the signature"))
                }
                Handed::Refused(Refusal::Invalid(reason)) => {
                    return Err(self.invalid(call, &reason))
                }
            }
            self.pause().await;
        }
        Err(self.invalid(call, &last))
    }

    async fn sign_next(
        &self,
        connection: &Arc<Connection>,
        call: &EncodedCall,
        reserved: &BTreeSet<u32>,
    ) -> Result<(u32, Signed), ChainError> {
        let best = connection.best_hash().await?;
        let account = self.key.account();
        let included = query_on(connection, &AccountNonce { account }, best).await?;
        let nonce = reserved
            .last()
            .map_or(included, |last| included.max(last.saturating_add(1)));
        let signed = sign(connection, &self.key, call, nonce, self.options.tip).await?;
        Ok((nonce, signed))
    }

    pub(super) fn invalid(&self, call: &EncodedCall, reason: &str) -> SubmitError {
        SubmitError::Invalid {
            call: call.label(),
            reason: reason.to_owned(),
        }
    }

    pub(super) async fn pause(&self) {
        tokio::time::sleep(self.options.poll).await;
    }
}
