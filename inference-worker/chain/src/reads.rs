//! Reads with a name.

use crate::{
    apis::{
        datanets::{Contribution, GetContribution, GetVersion, Version, VersionLeaves},
        models::{GetRevision, GetTerms, RevisionInfo, TermsInfo},
        payouts::{EarningInfo, GetEarnings, GetTotals, Pool, Totals},
        settlement::{
            BatchInfo, ChannelInfo, Exposure, GetBatch, GetChannel, GetQuote, NextBatch, Quote,
            WorkerExposure,
        },
        workers::{Find, GetWorker, ServedBy, WorkerInfo},
    },
    error::ChainError,
    AccountId, ChainClient,
};
use openledger_primitives::{
    contribution::VersionLeaf,
    licence::Licence,
    revision::{ModelRef, RevisionFacts, RevisionStatus, VersionUse},
    Balance, BaseId, BatchSequence, BlockNumber, ChannelId, ContributionId, DatanetId, Digest,
    RevisionId, TermsIndex, VersionIndex,
};
use parity_scale_codec::Decode;

/// What an account holds, planck.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccountBalance {
    /// Free to be spent, apart from the existential deposit.
    pub free: Balance,
    /// On hold for a reason: a channel's deposit, a bond.
    pub held: Balance,
}

/// `frame_system::AccountInfo` over `pallet_balances::AccountData`.
#[derive(Decode)]
struct AccountInfo {
    _nonce: u32,
    _consumers: u32,
    _providers: u32,
    _sufficients: u32,
    free: u128,
    reserved: u128,
    _frozen: u128,
    _flags: u128,
}

/// A revision as the chain stores it, up to what its runtime API does not tell.
#[derive(Decode)]
struct StoredRevision {
    _model: ModelRef,
    _base: BaseId,
    _facts: RevisionFacts,
    _versions: Vec<VersionUse>,
    _licence: Licence,
    _royalty: Balance,
    _published_at: BlockNumber,
    retired_at: Option<BlockNumber>,
    _status: RevisionStatus,
}

impl ChainClient {
    /// What the account holds.
    pub async fn balance(&self, account: AccountId) -> Result<AccountBalance, ChainError> {
        let info: Option<AccountInfo> =
            self.storage("System", "Account", &[account.into()]).await?;
        Ok(
            info.map_or_else(AccountBalance::default, |info| AccountBalance {
                free: info.free,
                held: info.reserved,
            }),
        )
    }

    /// The current epoch of BABE.
    pub async fn epoch_index(&self) -> Result<u64, ChainError> {
        Ok(self.storage("Babe", "EpochIndex", &[]).await?.unwrap_or(0))
    }

    /// Block at which a revision was retired; `None` when it was not.
    pub async fn retired_at(
        &self,
        revision: RevisionId,
    ) -> Result<Option<BlockNumber>, ChainError> {
        let stored: Option<StoredRevision> = self
            .storage("Models", "Revisions", &[revision.into()])
            .await?;
        Ok(stored.and_then(|stored| stored.retired_at))
    }

    /// Workers that serve a revision and are alive.
    pub async fn find_workers(&self, revision: RevisionId) -> Result<Vec<WorkerInfo>, ChainError> {
        self.query(&Find { revision }).await
    }

    /// What is known of a worker; `None` when it is not registered.
    pub async fn worker(&self, worker: AccountId) -> Result<Option<WorkerInfo>, ChainError> {
        self.query(&GetWorker { worker }).await
    }

    /// Revisions that a worker announces.
    pub async fn served_by(&self, worker: AccountId) -> Result<Vec<RevisionId>, ChainError> {
        self.query(&ServedBy { worker }).await
    }

    /// What a call costs at `terms`, or at those in effect; `None` when revision or terms are unknown.
    pub async fn quote(
        &self,
        revision: RevisionId,
        terms: Option<TermsIndex>,
        tokens_in: u32,
        tokens_out: u32,
    ) -> Result<Option<Quote>, ChainError> {
        self.query(&GetQuote {
            revision,
            terms,
            tokens_in,
            tokens_out,
        })
        .await
    }

    /// Sequence and parent that the worker's next batch must have.
    pub async fn next_batch(
        &self,
        worker: AccountId,
    ) -> Result<(BatchSequence, Digest), ChainError> {
        self.query(&NextBatch { worker }).await
    }

    /// A revision; `None` when it is unknown.
    pub async fn revision(&self, revision: RevisionId) -> Result<Option<RevisionInfo>, ChainError> {
        self.query(&GetRevision { revision }).await
    }

    /// Terms of a model by index, or those in effect now; `None` when there are none.
    pub async fn terms(
        &self,
        model: ModelRef,
        index: Option<TermsIndex>,
    ) -> Result<Option<TermsInfo>, ChainError> {
        self.query(&GetTerms { model, index }).await
    }

    /// A contribution.
    pub async fn contribution(
        &self,
        contribution: ContributionId,
    ) -> Result<Option<Contribution>, ChainError> {
        self.query(&GetContribution { contribution }).await
    }

    /// A sealed version of a Datanet.
    pub async fn version(
        &self,
        datanet: DatanetId,
        version: VersionIndex,
    ) -> Result<Option<Version>, ChainError> {
        self.query(&GetVersion { datanet, version }).await
    }

    /// The leaves of a version, in order.
    pub async fn version_leaves(
        &self,
        datanet: DatanetId,
        version: VersionIndex,
    ) -> Result<Vec<VersionLeaf>, ChainError> {
        self.query(&VersionLeaves { datanet, version }).await
    }

    /// Unattributed fees of a revision, planck.
    pub async fn pool(&self, revision: RevisionId) -> Result<Balance, ChainError> {
        self.query(&Pool { revision }).await
    }

    /// What an account is owed and has not claimed, the earliest to vest first.
    pub async fn earnings(&self, account: AccountId) -> Result<Vec<EarningInfo>, ChainError> {
        self.query(&GetEarnings { account }).await
    }

    /// Sums of all earnings since genesis.
    pub async fn payout_totals(&self) -> Result<Totals, ChainError> {
        self.query(&GetTotals {}).await
    }

    /// A channel; `None` when it is unknown or closed.
    pub async fn channel(&self, channel: ChannelId) -> Result<Option<ChannelInfo>, ChainError> {
        self.query(&GetChannel { channel }).await
    }

    /// What a worker has at stake against its bond.
    pub async fn worker_exposure(&self, worker: AccountId) -> Result<Exposure, ChainError> {
        self.query(&WorkerExposure { worker }).await
    }

    /// A batch; `None` when unknown, or when it was released.
    pub async fn batch(
        &self,
        worker: AccountId,
        sequence: BatchSequence,
    ) -> Result<Option<BatchInfo>, ChainError> {
        self.query(&GetBatch { worker, sequence }).await
    }
}
