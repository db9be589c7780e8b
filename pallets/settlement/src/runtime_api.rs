//! What programs outside the chain ask about settlement.

use crate::{
    BatchState, Batches, Channel, ChannelSigner, ChannelState, Channels, Config, Cut, Lanes, Pallet,
};
use alloc::vec::Vec;
use openledger_economics::{receipt_fee, Parts};
use openledger_primitives::{
    voucher::EvidenceClass, Balance, BatchSequence, BlockNumber, ChannelId, Digest, LaneIndex,
    PublicKey, RevisionId, Sequence, TermsIndex,
};
use openledger_traits::ModelRegistry;
use parity_scale_codec::{Codec, Decode, Encode};
use scale_info::TypeInfo;

/// What a call costs and who gets what of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
pub struct Quote {
    /// The terms.
    pub terms: TermsIndex,
    /// Planck per 1,000 prompt tokens.
    pub price_in: Balance,
    /// Planck per 1,000 output tokens.
    pub price_out: Balance,
    /// Planck.
    pub fee: Balance,
    /// Who gets what of the fee, as settlement splits it.
    pub parts: Parts,
}

/// A lane of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
pub struct LaneInfo {
    /// Which.
    pub lane: LaneIndex,
    /// First sequence that no batch has claimed.
    pub next_sequence: Sequence,
    /// Cumulative charge claimed, planck.
    pub cumulative: Balance,
    /// The signer whose vouchers it takes.
    pub signer: PublicKey,
}

/// A channel with its lanes.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
pub struct ChannelInfo<AccountId> {
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
    /// Lanes, by index.
    pub lanes: Vec<LaneInfo>,
    /// Signers.
    pub signers: Vec<ChannelSigner>,
    /// How answers may be audited.
    pub evidence: EvidenceClass,
    /// A cut of the deposit on its way.
    pub cut: Option<Cut>,
    /// Open or closing.
    pub state: ChannelState,
}

/// What a worker's bond answers for, planck.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
pub struct ExposureInfo {
    /// Bond that counts.
    pub usable: Balance,
    /// Own bond that does not thaw.
    pub own: Balance,
    /// Reserved for batches.
    pub reserved: Balance,
    /// Fees of batches not yet settled.
    pub window_fees: Balance,
    /// Fees of batches not yet released.
    pub liability_fees: Balance,
    /// Largest fee that the next batch may have.
    pub room: Balance,
}

/// A batch whose liability has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
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

impl<T: Config> Pallet<T> {
    /// What a call of so many tokens costs now at `terms`, or at the latest in effect.
    pub fn quote(
        revision: RevisionId,
        terms: Option<TermsIndex>,
        tokens_in: u32,
        tokens_out: u32,
    ) -> Option<Quote> {
        let now = Self::now();
        let terms = terms.or_else(|| T::Models::terms_in_force(revision, now))?;
        let priced = T::Models::priced(revision, terms, now)?;
        let (price_in, price_out) = (priced.terms.price_in, priced.terms.price_out);
        let fee = receipt_fee(tokens_in, tokens_out, price_in, price_out)?;
        Some(Quote {
            terms,
            price_in,
            price_out,
            fee,
            parts: Self::parts(fee, &priced),
        })
    }

    /// A channel with its lanes.
    pub fn channel_info(id: ChannelId) -> Option<ChannelInfo<T::AccountId>> {
        let channel = Channels::<T>::get(id)?;
        let free_deposit = channel.free();
        let lanes = (0..channel.lanes)
            .filter_map(|index| {
                let lane = Lanes::<T>::get(id, index)?;
                Some(LaneInfo {
                    lane: index,
                    next_sequence: lane.next_sequence,
                    cumulative: lane.cumulative,
                    signer: lane.signer,
                })
            })
            .collect();
        let Channel {
            consumer,
            worker,
            deposit,
            escrowed,
            signers,
            evidence,
            cut,
            state,
            ..
        } = channel;
        Some(ChannelInfo {
            consumer,
            worker,
            free_deposit,
            deposit,
            escrowed,
            lanes,
            signers: signers.into_inner(),
            evidence,
            cut,
            state,
        })
    }

    /// A batch; `None` when unknown, or when its liability has ended and it was released.
    pub fn batch_info(worker: &T::AccountId, sequence: BatchSequence) -> Option<BatchInfo> {
        let batch = Batches::<T>::get(worker, sequence)?;
        Some(BatchInfo {
            hash: batch.hash,
            fee: batch.fee,
            count: batch.count,
            window_end: batch.window_end,
            liability_end: batch.liability_end,
            state: batch.state,
        })
    }

    /// What a worker's bond answers for.
    pub fn worker_exposure(worker: &T::AccountId) -> ExposureInfo {
        let exposure = Self::exposure(worker);
        ExposureInfo {
            usable: exposure.usable,
            own: exposure.own,
            reserved: exposure.reserved,
            window_fees: exposure.window_fees,
            liability_fees: exposure.liability_fees,
            room: exposure.room(),
        }
    }
}

sp_api::decl_runtime_apis! {
    /// Reads what consumers and workers need to deal with one another.
    #[api_version(1)]
    pub trait SettlementApi<AccountId> where AccountId: Codec {
        /// What a call of so many tokens costs at the terms, or at the latest in effect.
        fn quote(
            revision: RevisionId,
            terms: Option<TermsIndex>,
            tokens_in: u32,
            tokens_out: u32,
        ) -> Option<Quote>;
        /// A channel with its lanes.
        fn channel(channel: ChannelId) -> Option<ChannelInfo<AccountId>>;
        /// What a worker's bond answers for.
        fn worker_exposure(worker: AccountId) -> ExposureInfo;
        /// The signing domain of this chain and fork.
        fn domain() -> Digest;
        /// The next batch of a worker and the hash that it names as its parent.
        fn next_batch(worker: AccountId) -> (BatchSequence, Digest);
        /// A batch; `None` when unknown, or when its liability has ended and it was released.
        fn batch(worker: AccountId, sequence: BatchSequence) -> Option<BatchInfo>;
    }
}
