//! Whether a voucher pays for a request. Pure: the caller brings what chain and journal say.

use crate::signature::{verify, SignedVoucher};
use openledger_economics::receipt_fee;
use openledger_primitives::{
    voucher::{request_commit, EvidenceClass},
    Balance, BlockNumber, Digest, PublicKey, RevisionId, Sequence, TermsIndex, FORMAT_VERSION,
};
use parity_scale_codec::{Decode, Encode};
use thiserror::Error;

/// Where a lane stands: the last receipt on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct LaneHead {
    /// Sequence of the last receipt; 0 before the first.
    pub sequence: Sequence,
    /// Cumulative charge after it, planck.
    pub cumulative: Balance,
    /// Its hash; zero before the first.
    pub receipt: Digest,
}

/// What a voucher is held against.
#[derive(Clone, Copy, Debug)]
pub struct VoucherContext<'a> {
    /// Signing domain of the chain.
    pub domain: Digest,
    /// Best block known.
    pub now: BlockNumber,
    /// Signer of the lane on chain; `None` when it was revoked or ran out.
    pub signer: Option<PublicKey>,
    /// What the signer may still spend that no unsettled receipt has used up yet, planck.
    pub signer_room: Balance,
    /// Deposit of the channel that no unsettled receipt has used up yet, planck.
    pub free_deposit: Balance,
    /// Fees that the worker's bond still covers, planck.
    pub exposure_room: Balance,
    /// The lane.
    pub head: LaneHead,
    /// Revision that the request names.
    pub revision: RevisionId,
    /// Terms in force or announced that this worker accepts for it.
    pub terms: TermsIndex,
    /// Planck per 1,000 prompt tokens at these terms.
    pub price_in: Balance,
    /// Planck per 1,000 output tokens at these terms.
    pub price_out: Balance,
    /// Prompt tokens of the request, counted here.
    pub tokens_in: u32,
    /// Evidence class of the channel.
    pub evidence: EvidenceClass,
    /// Salt of the request commitment.
    pub salt: &'a [u8; 32],
    /// Body of the request, byte for byte.
    pub body: &'a [u8],
}

/// Why a voucher is not accepted. Nothing was consumed: the same sequence can be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Unknown format.
    #[error("voucher format {0} is not understood; this worker reads format {FORMAT_VERSION}")]
    Version(u8),
    /// Signed for another chain or fork.
    #[error("the voucher is signed for another chain or fork")]
    Domain,
    /// No signer.
    #[error("the lane has no valid signer on chain: it was revoked, ran out, or was never set")]
    NoSigner,
    /// Signature.
    #[error("the voucher's signature is not the lane signer's")]
    Signature,
    /// Sequence.
    #[error("the lane is at sequence {expected}, the voucher has {given}")]
    Sequence {
        /// The next one on this lane.
        expected: Sequence,
        /// The voucher's.
        given: Sequence,
    },
    /// Last receipt.
    #[error("the voucher does not stand on the lane's last receipt; read it from /openledger/channels/{{channel}}/lanes/{{lane}}")]
    PreviousReceipt,
    /// Revision.
    #[error("the voucher pays for revision {voucher}, the request names {request}")]
    Revision {
        /// In the voucher.
        voucher: RevisionId,
        /// Of the request's model.
        request: RevisionId,
    },
    /// Terms.
    #[error("the voucher names terms {voucher}, in force are {current}")]
    Terms {
        /// In the voucher.
        voucher: TermsIndex,
        /// In force.
        current: TermsIndex,
    },
    /// Commitment.
    #[error("the voucher commits to another request than the one sent")]
    Request,
    /// Expired.
    #[error("the voucher expired at block {expiry}; it is block {now}")]
    Expired {
        /// Last block at which work may start.
        expiry: BlockNumber,
        /// Best block.
        now: BlockNumber,
    },
    /// Evidence class.
    #[error("the voucher's evidence class is not the channel's")]
    Evidence,
    /// Prompt is longer than paid for.
    #[error("the prompt has {tokens} tokens, the voucher pays for {max_in}")]
    PromptTokens {
        /// Counted here.
        tokens: u32,
        /// In the voucher.
        max_in: u32,
    },
    /// Nothing to generate.
    #[error("the voucher pays for no output token")]
    NoOutput,
    /// Not enough for the first token.
    #[error("max_fee {max_fee} is below {needed}, the price of the prompt and one token")]
    MaxFee {
        /// In the voucher.
        max_fee: Balance,
        /// Least.
        needed: Balance,
    },
    /// Deposit.
    #[error(
        "the channel has {free} planck left, the voucher may charge {max_fee}; add to the deposit"
    )]
    Deposit {
        /// Left.
        free: Balance,
        /// In the voucher.
        max_fee: Balance,
    },
    /// The signer's limit.
    #[error("the lane's signer may spend {room} planck more, the voucher may charge {max_fee}; add a signer with a higher limit and lanes for it")]
    SignerLimit {
        /// Left.
        room: Balance,
        /// In the voucher.
        max_fee: Balance,
    },
    /// Bond.
    #[error("this worker's bond covers {room} planck more, the voucher may charge {max_fee}; try later or elsewhere")]
    Exposure {
        /// Left.
        room: Balance,
        /// In the voucher.
        max_fee: Balance,
    },
}

impl Refusal {
    /// Short name for programs: `voucher_signature`.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::Version(_) => "voucher_version",
            Refusal::Domain => "voucher_domain",
            Refusal::NoSigner => "voucher_no_signer",
            Refusal::Signature => "voucher_signature",
            Refusal::Sequence { .. } => "voucher_sequence",
            Refusal::PreviousReceipt => "voucher_previous_receipt",
            Refusal::Revision { .. } => "voucher_revision",
            Refusal::Terms { .. } => "voucher_terms",
            Refusal::Request => "voucher_request",
            Refusal::Expired { .. } => "voucher_expired",
            Refusal::Evidence => "voucher_evidence",
            Refusal::PromptTokens { .. } => "voucher_prompt_tokens",
            Refusal::NoOutput => "voucher_no_output",
            Refusal::MaxFee { .. } => "voucher_max_fee",
            Refusal::Deposit { .. } => "voucher_deposit",
            Refusal::SignerLimit { .. } => "voucher_signer_limit",
            Refusal::Exposure { .. } => "voucher_exposure",
        }
    }
}

/// Checks a voucher and gives the most output tokens that it pays for.
///
/// The cheap checks come first, the signature last of those that need no money.
pub fn admit(signed: &SignedVoucher, context: &VoucherContext<'_>) -> Result<u32, Refusal> {
    let voucher = &signed.voucher;
    if voucher.version != FORMAT_VERSION {
        return Err(Refusal::Version(voucher.version));
    }
    if voucher.domain != context.domain {
        return Err(Refusal::Domain);
    }
    let expected = context.head.sequence.saturating_add(1);
    if voucher.sequence != expected {
        return Err(Refusal::Sequence {
            expected,
            given: voucher.sequence,
        });
    }
    if voucher.prev_receipt != context.head.receipt || voucher.prev_cum != context.head.cumulative {
        return Err(Refusal::PreviousReceipt);
    }
    if voucher.revision != context.revision {
        return Err(Refusal::Revision {
            voucher: voucher.revision,
            request: context.revision,
        });
    }
    if voucher.terms != context.terms {
        return Err(Refusal::Terms {
            voucher: voucher.terms,
            current: context.terms,
        });
    }
    if voucher.evidence != context.evidence {
        return Err(Refusal::Evidence);
    }
    if context.now > voucher.expiry {
        return Err(Refusal::Expired {
            expiry: voucher.expiry,
            now: context.now,
        });
    }
    if voucher.request_commit != request_commit(context.salt, context.body) {
        return Err(Refusal::Request);
    }
    let signer = context.signer.ok_or(Refusal::NoSigner)?;
    if !verify(&signer, &voucher.hash(), &signed.signature) {
        return Err(Refusal::Signature);
    }
    if context.tokens_in > voucher.max_in {
        return Err(Refusal::PromptTokens {
            tokens: context.tokens_in,
            max_in: voucher.max_in,
        });
    }
    let limit = voucher.max_out.min(voucher.chunk);
    if limit == 0 {
        return Err(Refusal::NoOutput);
    }
    let max_fee = voucher.max_fee;
    if max_fee > context.free_deposit {
        return Err(Refusal::Deposit {
            free: context.free_deposit,
            max_fee,
        });
    }
    if max_fee > context.signer_room {
        return Err(Refusal::SignerLimit {
            room: context.signer_room,
            max_fee,
        });
    }
    if max_fee > context.exposure_room {
        return Err(Refusal::Exposure {
            room: context.exposure_room,
            max_fee,
        });
    }
    let fee_of = |tokens_out: u32| {
        receipt_fee(
            context.tokens_in,
            tokens_out,
            context.price_in,
            context.price_out,
        )
        .unwrap_or(Balance::MAX)
    };
    if fee_of(1) > max_fee {
        return Err(Refusal::MaxFee {
            max_fee,
            needed: fee_of(1),
        });
    }
    // The largest number of tokens whose fee stays within what the consumer signed for.
    let (mut fits, mut beyond) = (1, limit.saturating_add(1));
    while beyond - fits > 1 {
        let middle = fits + (beyond - fits) / 2;
        if fee_of(middle) <= max_fee {
            fits = middle;
        } else {
            beyond = middle;
        }
    }
    Ok(fits)
}
