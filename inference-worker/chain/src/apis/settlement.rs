//! Quotes, channels, exposure.

use super::queries;
use crate::AccountId;
use openledger_primitives::{
    Balance, BatchSequence, ChannelId, Digest, LaneIndex, PublicKey, RevisionId, Sequence,
    TermsIndex,
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
    /// The signing domain.
    Domain = "domain" {} -> Digest;
}

/// A channel's identifier, for methods that take one.
pub type Channel = ChannelId;
