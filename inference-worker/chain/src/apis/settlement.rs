//! Quotes, channels, exposure.

use super::queries;
use crate::AccountId;
use openledger_primitives::{
    voucher::EvidenceClass, Balance, BatchSequence, BlockNumber, ChannelId, Digest, LaneIndex,
    PublicKey, RevisionId, Sequence, TermsIndex,
};
use parity_scale_codec::Decode;
use scale_info::TypeInfo;

/// Parts of a fee, planck.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Decode, TypeInfo)]
pub struct Parts {
    /// The worker's.
    pub worker: Balance,
    /// The developer's.
    pub developer: Balance,
    /// The holders'.
    pub holders: Balance,
    /// The contributors'.
    pub contributors: Balance,
    /// The protocol's.
    pub protocol: Balance,
}

/// What a call costs and who gets what of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Decode, TypeInfo)]
pub struct Quote {
    /// The terms.
    pub terms: TermsIndex,
    /// Planck per 1,000 prompt tokens.
    pub price_in: Balance,
    /// Planck per 1,000 output tokens.
    pub price_out: Balance,
    /// Planck.
    pub fee: Balance,
    /// The fee's parts.
    pub parts: Parts,
}

/// A lane of a channel as the chain has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Decode, TypeInfo)]
pub struct LaneInfo {
    /// Which.
    pub lane: LaneIndex,
    /// The first sequence that no batch has claimed.
    pub next_sequence: Sequence,
    /// Cumulative charge claimed, planck.
    pub cumulative: Balance,
    /// The signer that the lane was opened with.
    pub signer: PublicKey,
}

/// A key that may sign vouchers of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Decode, TypeInfo)]
pub struct SignerInfo {
    /// The key.
    pub key: PublicKey,
    /// Most that it may spend, planck.
    pub limit: Balance,
    /// What batches have claimed on its vouchers, planck.
    pub spent: Balance,
    /// Last block at which its vouchers count.
    pub valid_until: BlockNumber,
}

/// A part of a deposit that its consumer takes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Decode, TypeInfo)]
pub struct Cut {
    /// Planck; less is paid when claims leave less.
    pub amount: Balance,
    /// First block at which it is paid.
    pub effective: BlockNumber,
}

/// How far a channel has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Decode, TypeInfo)]
pub enum ChannelState {
    /// In use.
    #[codec(index = 0)]
    Open,
    /// Being closed.
    #[codec(index = 1)]
    Closing {
        /// Last block at which claims are accepted.
        claim_until: BlockNumber,
    },
}

/// A channel.
#[derive(Clone, Debug, PartialEq, Eq, Decode, TypeInfo)]
pub struct ChannelInfo {
    /// Who pays.
    pub consumer: AccountId,
    /// Who serves.
    pub worker: AccountId,
    /// What of the deposit new work can count on, planck: what neither claims nor a pending cut
    /// takes.
    pub free_deposit: Balance,
    /// What of the deposit claims can still take, planck: a pending cut is not out of it yet.
    pub deposit: Balance,
    /// What claims took so far, planck.
    pub escrowed: Balance,
    /// Its lanes, by index.
    pub lanes: Vec<LaneInfo>,
    /// Keys that may sign vouchers.
    pub signers: Vec<SignerInfo>,
    /// How answers may be audited.
    pub evidence: EvidenceClass,
    /// A cut of the deposit on its way.
    pub cut: Option<Cut>,
    /// How far it has come.
    pub state: ChannelState,
}

impl ChannelInfo {
    /// Whether new vouchers may be signed on it.
    pub fn is_open(&self) -> bool {
        self.state == ChannelState::Open
    }
}

/// What a worker has at stake, planck.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Decode, TypeInfo)]
pub struct Exposure {
    /// Bond that counts.
    pub usable: Balance,
    /// Own bond.
    pub own: Balance,
    /// Part of the bond reserved for batches.
    pub reserved: Balance,
    /// Fees of batches inside their challenge window.
    pub window_fees: Balance,
    /// Fees of batches still inside liability.
    pub liability_fees: Balance,
    /// The largest fee that the next batch may have.
    pub room: Balance,
}

/// Where a batch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Decode, TypeInfo)]
pub enum BatchState {
    /// Inside its window.
    #[codec(index = 0)]
    Submitted,
    /// Drawn for audit.
    #[codec(index = 1)]
    Drawn,
    /// Its influence credits are in.
    #[codec(index = 2)]
    Credited,
    /// Past its window: pages are being settled.
    #[codec(index = 3)]
    Finalizable,
    /// All its parts are earned; its bond still answers for it.
    #[codec(index = 4)]
    Settled,
    /// Proven false and undone.
    #[codec(index = 5)]
    Reversed,
}

/// A batch whose liability has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Decode, TypeInfo)]
pub struct BatchInfo {
    /// Its hash: what the batch after it names as its parent.
    pub hash: Digest,
    /// Sum of its fees, planck.
    pub fee: Balance,
    /// Receipts.
    pub count: u32,
    /// Block after which it can be settled.
    pub window_end: BlockNumber,
    /// Last block at which its bond answers for it.
    pub liability_end: BlockNumber,
    /// Where it stands.
    pub state: BatchState,
}

queries! { "SettlementApi":
    /// What a call of so many tokens costs at the terms, or at those now in effect.
    GetQuote = "quote" {
        /// Which revision.
        revision: RevisionId,
        /// At which terms.
        terms: Option<TermsIndex>,
        /// Prompt tokens.
        tokens_in: u32,
        /// Output tokens.
        tokens_out: u32,
    } -> Option<Quote>;
    /// The next batch of a worker and the hash it must name as its parent.
    NextBatch = "next_batch" {
        /// Whose.
        worker: AccountId,
    } -> (BatchSequence, Digest);
    /// A batch; `None` when unknown, or released after its liability.
    GetBatch = "batch" {
        /// Whose.
        worker: AccountId,
        /// Which.
        sequence: BatchSequence,
    } -> Option<BatchInfo>;
    /// A channel.
    GetChannel = "channel" {
        /// Which.
        channel: ChannelId,
    } -> Option<ChannelInfo>;
    /// What a worker has at stake.
    WorkerExposure = "worker_exposure" {
        /// Whose.
        worker: AccountId,
    } -> Exposure;
    /// The signing domain.
    Domain = "domain" {} -> Digest;
}
