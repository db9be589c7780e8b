//! Bringing a lane and the worker's view of it together, after a lost answer or a restart.

use crate::{
    check::{check_undelivered, Rejection, Signer},
    lanes::{LaneState, Owed, Pending, UNDER_WAY},
    upstream::LaneReport,
    voucher::Position,
};
use openledger_metering::{verify, ReceiptFault, SignedReceipt, SignedVoucher};
use openledger_primitives::{ChannelId, KeyIndex, LaneIndex, PublicKey, Sequence};

/// What a comparison with the worker's report comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reconciled {
    /// The voucher in doubt was not used: the lane stands where it stood.
    Unused,
    /// The voucher in doubt was used; its receipt is acceptable by itself. Whether it is put up with
    /// is for [`Breakage`](super::Breakage) to say.
    Accepted(Box<SignedReceipt>),
    /// The worker has work of this lane under way: ask again.
    Working,
    /// Its receipt names a service key that is not in force as far as is known here, which is late
    /// when a key was just set: ask again.
    KeyUnknown(KeyIndex),
    /// Gateway and worker cannot be brought together.
    Parked(String),
}

/// Settles a voucher in doubt by the worker's report of its lane.
pub fn settle(
    position: &Position,
    pending: &Pending,
    report: &LaneReport,
    signer: &Signer,
) -> Reconciled {
    if report.in_flight {
        return Reconciled::Working;
    }
    // A worker that lost its records goes on from where the chain stands, or refuses the next voucher.
    if report.sequence == position.sequence || report.sequence == 0 {
        return Reconciled::Unused;
    }
    if report.sequence != pending.voucher.sequence {
        return Reconciled::Parked(format!(
            "the worker is at sequence {}, this gateway signed {}",
            report.sequence, pending.voucher.sequence
        ));
    }
    if report
        .voucher
        .is_some_and(|signed| signed.voucher.hash() != pending.voucher.hash())
    {
        return Reconciled::Parked("the worker holds another voucher of this sequence".into());
    }
    let Some(signed) = report.receipt else {
        return Reconciled::Parked("the worker used the voucher and shows no receipt".into());
    };
    if signed.receipt.voucher != pending.voucher.hash() {
        return Reconciled::Parked(Rejection::from(ReceiptFault::Voucher).to_string());
    }
    // Without the delivered text its commitment cannot be checked; what it may charge can.
    let bound = match pending.owed {
        Owed::Signed => pending.voucher.max_out,
        Owed::AtMost(tokens) => tokens,
        Owed::Broken(delivered) => delivered.saturating_add(UNDER_WAY),
        Owed::Nothing if signed.receipt.fee != 0 => {
            return Reconciled::Parked(format!(
                "the worker charges {} planck for a request that it did not answer",
                signed.receipt.fee
            ));
        }
        Owed::Nothing => 0,
    };
    match check_undelivered(&signed, pending, signer, bound) {
        Ok(()) => Reconciled::Accepted(Box::new(signed)),
        Err(Rejection::Key(index)) => Reconciled::KeyUnknown(index),
        Err(rejection) => Reconciled::Parked(rejection.to_string()),
    }
}

/// A lane of which this gateway knows nothing, as far as chain and worker agree on it: the worker's
/// last voucher must be by this gateway's own key, its receipt must follow from it, and it must not
/// lie before what the chain has settled. Only for a lane that has no record here: over a record it
/// would acknowledge what was never checked.
pub fn adopt(
    channel: ChannelId,
    lane: LaneIndex,
    settled: (Sequence, u128),
    report: &LaneReport,
    own_key: &PublicKey,
    signer: &Signer,
) -> Result<LaneState, String> {
    if report.sequence == 0 {
        return if settled == (0, 0) {
            Ok(LaneState::default())
        } else {
            Err(format!(
                "the worker knows nothing of the lane, the chain has settled {} requests",
                settled.0
            ))
        };
    }
    let (Some(own), Some(signed)) = (&report.voucher, &report.receipt) else {
        return Err("the worker shows no voucher and receipt".into());
    };
    let voucher = &own.voucher;
    if !is_own(own, channel, lane, own_key) {
        return Err("the worker's last voucher is not by this gateway's key".into());
    }
    if voucher.sequence != report.sequence || report.sequence < settled.0 {
        return Err(format!(
            "the worker is at sequence {}, its voucher at {}, the chain at {}",
            report.sequence, voucher.sequence, settled.0
        ));
    }
    let receipt = &signed.receipt;
    let key = signer.key.ok_or("the worker's key is not in force")?;
    if receipt.voucher != voucher.hash()
        || !verify(&key, &receipt.hash(), &signed.signature)
        || receipt.tokens_in > voucher.max_in
        || receipt.tokens_out > voucher.max_out
        || receipt.fee > voucher.max_fee
        || voucher.prev_cum.checked_add(receipt.fee) != Some(receipt.cum)
    {
        return Err("the worker's last receipt does not follow from its voucher".into());
    }
    if receipt.cum < settled.1 {
        return Err("the worker's cumulative charge lies below what the chain has settled".into());
    }
    Ok(LaneState {
        position: Position {
            sequence: voucher.sequence,
            receipt: receipt.hash(),
            cumulative: receipt.cum,
        },
        pending: None,
        parked: None,
    })
}

fn is_own(
    signed: &SignedVoucher,
    channel: ChannelId,
    lane: LaneIndex,
    own_key: &PublicKey,
) -> bool {
    signed.voucher.channel == channel
        && signed.voucher.lane == lane
        && verify(own_key, &signed.voucher.hash(), &signed.signature)
}
