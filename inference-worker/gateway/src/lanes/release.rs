//! Taking a parked lane back into use, and what that costs.

use super::{adopt, LaneState};
use crate::{check::Signer, upstream::LaneReport};
use openledger_metering::{SignedReceipt, SignedVoucher};
use openledger_primitives::{Balance, ChannelId, LaneIndex, PublicKey, Sequence};

/// What taking a lane back comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// The lane afterwards.
    pub state: LaneState,
    /// Planck that the next voucher acknowledges beyond what is acknowledged now.
    pub costs: Balance,
    /// The receipt that is acknowledged by it, though it was refused, with its voucher.
    pub pays: Option<(SignedVoucher, SignedReceipt)>,
}

/// What it takes to go on with a parked lane: nothing where the worker stands where this gateway does;
/// else the worker's last receipt must be acknowledged, if this gateway's key signed for it at all.
///
/// # Errors
/// Why the lane cannot be used again.
pub fn release(
    channel: ChannelId,
    lane: LaneIndex,
    state: &LaneState,
    settled: (Sequence, Balance),
    report: &LaneReport,
    own_key: &PublicKey,
    signer: &Signer,
) -> Result<Release, String> {
    if state.parked.is_none() {
        return Err("it is not parked".into());
    }
    if report.in_flight {
        return Err("the worker is not done with a request on it; try again later".into());
    }
    let position = state.position;
    let last = report.receipt.map(|signed| signed.receipt.hash());
    let stands =
        report.sequence == position.sequence && last.unwrap_or_default() == position.receipt;
    // A worker that lost its records goes on from where the chain stands.
    let lost = report.sequence == 0 && settled == (position.sequence, position.cumulative);
    if stands || lost {
        return Ok(Release {
            state: LaneState {
                position,
                pending: None,
                parked: None,
            },
            costs: 0,
            pays: None,
        });
    }
    if report.sequence <= position.sequence {
        return Err(format!(
            "the worker is at sequence {}, before this gateway's {}",
            report.sequence, position.sequence
        ));
    }
    let adopted = adopt(channel, lane, settled, report, own_key, signer)?;
    let costs = adopted
        .position
        .cumulative
        .checked_sub(position.cumulative)
        .ok_or("the worker's cumulative charge lies below what was acknowledged")?;
    Ok(Release {
        state: adopted,
        costs,
        pays: report.voucher.zip(report.receipt),
    })
}
