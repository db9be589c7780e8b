//! Making, signing and checking receipts.

use crate::signature::{verify, SignedVoucher};
use openledger_economics::receipt_fee;
use openledger_primitives::{
    receipt::{output_commit, Outcome, Receipt},
    Balance, Digest, PublicKey, Signature,
};
use parity_scale_codec::{Decode, Encode};
use thiserror::Error;

/// A receipt and its signature: what travels, hex, in `openledger.receipt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SignedReceipt {
    /// The receipt.
    pub receipt: Receipt,
    /// Over [`Receipt::hash`], by the worker's service key.
    pub signature: Signature,
}

impl SignedReceipt {
    /// Signs a receipt.
    pub fn sign(receipt: Receipt, sign: impl FnOnce(&Digest) -> Signature) -> Self {
        SignedReceipt {
            signature: sign(&receipt.hash()),
            receipt,
        }
    }

    /// Decodes exactly; trailing bytes are refused.
    pub fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let signed = Self::decode(&mut bytes).ok()?;
        bytes.is_empty().then_some(signed)
    }
}

/// Tokens charged, and what they cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Charge {
    /// Prompt tokens.
    pub tokens_in: u32,
    /// Output tokens.
    pub tokens_out: u32,
    /// Planck.
    pub fee: Balance,
}

impl Charge {
    /// The charge of an answer. `canonical` is the count of the canonical tokenisation of the text
    /// delivered: tokens beyond it, such as those of a text that could be said in fewer, are not
    /// billed. A failed answer costs nothing.
    pub fn of(
        outcome: Outcome,
        tokens_in: u32,
        generated: u32,
        canonical: u32,
        price_in: Balance,
        price_out: Balance,
    ) -> Option<Self> {
        if outcome == Outcome::Failed {
            return Some(Charge::default());
        }
        let tokens_out = generated.min(canonical);
        let fee = receipt_fee(tokens_in, tokens_out, price_in, price_out)?;
        Some(Charge {
            tokens_in,
            tokens_out,
            fee,
        })
    }
}

/// What the consumer knows by itself about an answer.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The voucher that it signed.
    pub voucher: &'a SignedVoucher,
    /// The worker's account.
    pub worker: [u8; 32],
    /// Service keys of the worker that are valid on chain.
    pub service_keys: &'a [PublicKey],
    /// Prompt tokens, counted by itself.
    pub tokens_in: u32,
    /// Count of the canonical tokenisation of the text received.
    pub canonical_out: u32,
    /// Planck per 1,000 prompt tokens.
    pub price_in: Balance,
    /// Planck per 1,000 output tokens.
    pub price_out: Balance,
    /// Text received, UTF-8.
    pub output: &'a [u8],
    /// Salt of the output commitment.
    pub output_salt: &'a [u8; 32],
}

/// Why a receipt is not accepted. The consumer does not sign on top of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReceiptFault {
    /// Not by this worker.
    #[error("the receipt is not signed by a service key of the worker")]
    Signature,
    /// Other account.
    #[error("the receipt names another worker")]
    Worker,
    /// Other voucher.
    #[error("the receipt is for another voucher")]
    Voucher,
    /// Other chain or format.
    #[error("the receipt is of another chain or format")]
    Domain,
    /// Prompt count.
    #[error("the receipt charges {charged} prompt tokens, the prompt has {counted}")]
    TokensIn {
        /// In the receipt.
        charged: u32,
        /// Counted here.
        counted: u32,
    },
    /// Output count.
    #[error("the receipt charges {charged} output tokens, the text has {counted}")]
    TokensOut {
        /// In the receipt.
        charged: u32,
        /// Counted here.
        counted: u32,
    },
    /// Fee.
    #[error("the receipt charges {charged} planck, its tokens cost {priced}")]
    Fee {
        /// In the receipt.
        charged: Balance,
        /// Tokens × terms.
        priced: Balance,
    },
    /// Above the voucher.
    #[error("the receipt charges {charged} planck, the voucher allows {max_fee}")]
    MaxFee {
        /// In the receipt.
        charged: Balance,
        /// In the voucher.
        max_fee: Balance,
    },
    /// Sum.
    #[error("the receipt's cumulative charge does not follow from the voucher's")]
    Cumulative,
    /// Commitment.
    #[error("the receipt commits to another text than the one delivered")]
    Output,
}

impl ReceiptFault {
    /// Short name for metrics: `tokens_out`.
    pub fn code(&self) -> &'static str {
        match self {
            ReceiptFault::Signature => "signature",
            ReceiptFault::Worker => "worker",
            ReceiptFault::Voucher => "voucher",
            ReceiptFault::Domain => "domain",
            ReceiptFault::TokensIn { .. } => "tokens_in",
            ReceiptFault::TokensOut { .. } => "tokens_out",
            ReceiptFault::Fee { .. } => "fee",
            ReceiptFault::MaxFee { .. } => "max_fee",
            ReceiptFault::Cumulative => "cumulative",
            ReceiptFault::Output => "output",
        }
    }
}

/// Checks a receipt against what the consumer counted by itself.
pub fn verify_receipt(signed: &SignedReceipt, expected: &Expected<'_>) -> Result<(), ReceiptFault> {
    let receipt = &signed.receipt;
    let voucher = &expected.voucher.voucher;
    if receipt.version != voucher.version || receipt.domain != voucher.domain {
        return Err(ReceiptFault::Domain);
    }
    if receipt.voucher != voucher.hash() {
        return Err(ReceiptFault::Voucher);
    }
    if receipt.worker != expected.worker {
        return Err(ReceiptFault::Worker);
    }
    let hash = receipt.hash();
    if !expected
        .service_keys
        .iter()
        .any(|key| verify(key, &hash, &signed.signature))
    {
        return Err(ReceiptFault::Signature);
    }
    let failed = receipt.outcome == Outcome::Failed;
    let counted_in = if failed { 0 } else { expected.tokens_in };
    if receipt.tokens_in != counted_in {
        return Err(ReceiptFault::TokensIn {
            charged: receipt.tokens_in,
            counted: counted_in,
        });
    }
    let counted_out = if failed { 0 } else { expected.canonical_out };
    if receipt.tokens_out > counted_out {
        return Err(ReceiptFault::TokensOut {
            charged: receipt.tokens_out,
            counted: counted_out,
        });
    }
    let priced = receipt_fee(
        receipt.tokens_in,
        receipt.tokens_out,
        expected.price_in,
        expected.price_out,
    )
    .unwrap_or(Balance::MAX);
    if receipt.fee != priced {
        return Err(ReceiptFault::Fee {
            charged: receipt.fee,
            priced,
        });
    }
    if receipt.fee > voucher.max_fee {
        return Err(ReceiptFault::MaxFee {
            charged: receipt.fee,
            max_fee: voucher.max_fee,
        });
    }
    if Some(receipt.cum) != voucher.prev_cum.checked_add(receipt.fee) {
        return Err(ReceiptFault::Cumulative);
    }
    if receipt.output_commit != output_commit(expected.output_salt, expected.output) {
        return Err(ReceiptFault::Output);
    }
    Ok(())
}
