//! What a receipt must satisfy before it is acknowledged.
//!
//! The rules are [`verify_receipt`]'s, the code that the worker tests itself with; here is what only
//! a consumer knows: which key the receipt names, and the attributions that came with it.

use crate::lanes::Pending;
use openledger_metering::{verify_receipt, Expected, ReceiptFault, SignedReceipt, SignedVoucher};
use openledger_primitives::{
    receipt::{attribution_root, Attribution, Outcome},
    Balance, PublicKey,
};

/// Why a receipt is not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// There is none, or it does not decode.
    #[error("the answer ended without a readable receipt: {0}")]
    Missing(String),
    /// The worker has no such service key in force.
    #[error("the worker has no service key {0} in force on chain")]
    Key(u16),
    /// It does not follow from the voucher, the terms and the text.
    #[error(transparent)]
    Fault(#[from] ReceiptFault),
    /// A failure is charged.
    #[error("the receipt charges {0} planck for a failure")]
    FailureCharged(Balance),
    /// The attribution root is not of the attributions delivered.
    #[error("the receipt commits to other attributions than those delivered")]
    Attribution,
}

impl Rejection {
    /// Machine-readable cause, also the label of the metric.
    pub fn code(&self) -> &'static str {
        match self {
            Rejection::Missing(_) => "receipt_missing",
            Rejection::Key(_) => "receipt_key",
            Rejection::FailureCharged(_) => "receipt_failure_charged",
            Rejection::Attribution => "receipt_attribution",
            Rejection::Fault(fault) => match fault {
                ReceiptFault::Signature => "receipt_signature",
                ReceiptFault::Worker => "receipt_worker",
                ReceiptFault::Voucher => "receipt_voucher",
                ReceiptFault::Domain => "receipt_domain",
                ReceiptFault::TokensIn { .. } => "receipt_tokens_in",
                ReceiptFault::TokensOut { .. } => "receipt_tokens_out",
                ReceiptFault::Fee { .. } => "receipt_fee",
                ReceiptFault::MaxFee { .. } => "receipt_max_fee",
                ReceiptFault::Cumulative => "receipt_cumulative",
                ReceiptFault::Output => "receipt_output",
            },
        }
    }
}

/// The worker as the chain has it, at the time of the check.
#[derive(Clone, Copy, Debug)]
pub struct Signer {
    /// Its account.
    pub worker: [u8; 32],
    /// The service key that the receipt names, if it is in force.
    pub key: Option<PublicKey>,
}

/// What this program saw of the answer.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// Text delivered under the voucher.
    pub text: &'a str,
    /// Its tokens, by the model's tokenizer.
    pub tokens_out: u32,
    /// Salt of the output commitment.
    pub salt: [u8; 32],
    /// Attributions delivered with the receipt.
    pub attributions: &'a [Attribution],
}

/// Checks a receipt against the voucher that was signed for it and the answer that came with it.
pub fn check(
    signed: &SignedReceipt,
    pending: &Pending,
    signer: &Signer,
    delivery: &Delivery<'_>,
) -> Result<(), Rejection> {
    let receipt = &signed.receipt;
    if receipt.outcome == Outcome::Failed {
        // It charges nothing for nothing; what was shown before it failed is not committed to.
        return check_undelivered(signed, pending, signer, 0);
    }
    verify(signed, pending, signer, delivery)?;
    let mut sorted = delivery.attributions.to_vec();
    sorted.sort_by_key(|line| (line.contribution, line.reason));
    if receipt.attribution_root != attribution_root(&sorted) {
        return Err(Rejection::Attribution);
    }
    Ok(())
}

/// Checks a receipt whose answer was not received to its end: everything but the commitment to the
/// text. At most `tokens_out` output tokens may be charged.
pub fn check_undelivered(
    signed: &SignedReceipt,
    pending: &Pending,
    signer: &Signer,
    tokens_out: u32,
) -> Result<(), Rejection> {
    let receipt = &signed.receipt;
    if receipt.outcome == Outcome::Failed && receipt.fee != 0 {
        return Err(Rejection::FailureCharged(receipt.fee));
    }
    let unknown = Delivery {
        text: "",
        tokens_out,
        salt: [0; 32],
        attributions: &[],
    };
    // The commitment is what is checked last, so only a receipt that passes all else gets there.
    match verify(signed, pending, signer, &unknown) {
        Err(Rejection::Fault(ReceiptFault::Output)) => Ok(()),
        verdict => verdict,
    }
}

fn verify(
    signed: &SignedReceipt,
    pending: &Pending,
    signer: &Signer,
    delivery: &Delivery<'_>,
) -> Result<(), Rejection> {
    let key = signer.key.ok_or(Rejection::Key(signed.receipt.key))?;
    verify_receipt(
        signed,
        &Expected {
            voucher: &SignedVoucher {
                voucher: pending.voucher,
                signature: pending.signature,
            },
            worker: signer.worker,
            service_keys: &[key],
            tokens_in: pending.tokens_in,
            canonical_out: delivery.tokens_out.min(pending.voucher.max_out),
            price_in: pending.terms.price_in,
            price_out: pending.terms.price_out,
            output: delivery.text.as_bytes(),
            output_salt: &delivery.salt,
        },
    )?;
    Ok(())
}
