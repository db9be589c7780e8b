//! What the worker does when the chain refuses a batch.
//!
//! A batch is accepted whole or not at all. What the chain would refuse is left out beforehand; should
//! it refuse all the same, over one of the lines, then the next batch is half as large, until the lane
//! at fault stands alone and is set aside. One bad line never holds up what others owe.

use openledger_chain::SubmitError;
use openledger_metering::PreparedBatch;
use openledger_primitives::{batch::MAX_CLAIMS, ChannelId, LaneIndex};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// How long a lane at fault is left out before it is tried again.
const ASIDE: Duration = Duration::from_secs(3600);

/// Errors of `submit_batch` that no line of the batch is to blame for.
const NOT_OF_A_LINE: &[&str] = &[
    "NotWorker",
    "HeaderVersion",
    "BatchSequence",
    "BatchParent",
    "BatchEpoch",
    "TooManyBatches",
    "WindowExposure",
    "LiabilityExposure",
    "ReservationExposure",
];

/// See the module.
#[derive(Debug)]
pub struct Caution {
    max_claims: u32,
    aside: HashMap<(ChannelId, LaneIndex), Instant>,
}

impl Default for Caution {
    fn default() -> Self {
        Caution {
            max_claims: MAX_CLAIMS,
            aside: HashMap::new(),
        }
    }
}

impl Caution {
    /// Claims that the next batch may have.
    pub fn max_claims(&self) -> u32 {
        self.max_claims
    }

    /// Whether the lane may be in a batch.
    pub fn allows(&self, channel: ChannelId, lane: LaneIndex) -> bool {
        self.aside
            .get(&(channel, lane))
            .is_none_or(|since| since.elapsed() >= ASIDE)
    }

    /// The chain took a batch: the next may be larger again.
    pub fn accepted(&mut self) {
        self.max_claims = self.max_claims.saturating_mul(2).min(MAX_CLAIMS);
    }

    /// The chain refused a batch. Returns the lane that is set aside for it, if it is known by now.
    pub fn refused(
        &mut self,
        batch: &PreparedBatch,
        error: &SubmitError,
    ) -> Option<(ChannelId, LaneIndex)> {
        if !of_a_line(error) {
            return None;
        }
        if let [claim] = batch.claims.as_slice() {
            self.aside.insert(claim.key(), Instant::now());
            self.max_claims = MAX_CLAIMS;
            return Some(claim.key());
        }
        let claims = u32::try_from(batch.claims.len()).unwrap_or(MAX_CLAIMS);
        self.max_claims = (claims / 2).max(1);
        None
    }
}

fn of_a_line(error: &SubmitError) -> bool {
    match error {
        SubmitError::Dispatch(failure) => {
            failure.pallet == "Settlement" && !NOT_OF_A_LINE.contains(&failure.error.as_str())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openledger_chain::DispatchFailure;
    use openledger_primitives::{
        batch::{BatchHeader, Claim},
        voucher::{EvidenceClass, Voucher},
        Signature, FORMAT_VERSION,
    };

    fn batch(lanes: std::ops::Range<u16>) -> PreparedBatch {
        let claims: Vec<Claim> = lanes.map(claim).collect();
        PreparedBatch {
            header: BatchHeader {
                version: FORMAT_VERSION,
                sequence: 1,
                parent: [0; 32],
                epoch: 0,
                fee: 0,
                count: claims.len() as u32,
            },
            claims,
            usage: Vec::new(),
            credits: Vec::new(),
            hash: [0; 32],
            leaves: Vec::new(),
        }
    }

    fn claim(lane: u16) -> Claim {
        let voucher = Voucher {
            version: FORMAT_VERSION,
            domain: [0; 32],
            channel: 1,
            lane,
            sequence: 1,
            prev_receipt: [0; 32],
            prev_cum: 0,
            max_fee: 0,
            revision: 0,
            terms: 0,
            agent: None,
            request_commit: [0; 32],
            chunk: 1,
            max_in: 1,
            max_out: 1,
            evidence: EvidenceClass::Open,
            expiry: 0,
        };
        Claim {
            channel: 1,
            lane,
            sequence_to: 1,
            cumulative: 0,
            voucher,
            signature: Signature([0; 64]),
            subroot: [0; 32],
            count: 1,
        }
    }

    fn refusal(error: &str) -> SubmitError {
        SubmitError::Dispatch(Box::new(DispatchFailure {
            call: "Settlement.submit_batch".into(),
            pallet: "Settlement".into(),
            error: error.into(),
            docs: String::new(),
            block: [0; 32],
        }))
    }

    /// Sixteen lanes, one of them bad: the worker comes down to it, sets it aside, and the rest goes
    /// through.
    #[test]
    fn a_bad_lane_is_found_and_set_aside() {
        const BAD: u16 = 5;
        let mut caution = Caution::default();
        let mut paid = std::collections::BTreeSet::new();
        for _ in 0..20 {
            let open: Vec<u16> = (0..16)
                .filter(|lane| !paid.contains(lane) && caution.allows(1, *lane))
                .take(caution.max_claims() as usize)
                .collect();
            let Some((first, last)) = open.first().zip(open.last()) else {
                break;
            };
            let mut one = batch(*first..last + 1);
            one.claims.retain(|claim| open.contains(&claim.lane));
            if open.contains(&BAD) {
                let aside = caution.refused(&one, &refusal("BadSignature"));
                assert!(aside.is_none() || aside == Some((1, BAD)));
            } else {
                caution.accepted();
                paid.extend(open);
            }
        }
        assert_eq!(paid.len(), 15);
        assert!(!paid.contains(&BAD) && !caution.allows(1, BAD));
    }

    #[test]
    fn no_lane_is_blamed_for_the_head_or_the_bond() {
        let mut caution = Caution::default();
        for error in NOT_OF_A_LINE {
            assert_eq!(caution.refused(&batch(0..1), &refusal(error)), None);
        }
        let invalid = SubmitError::Invalid {
            call: "Settlement.submit_batch".into(),
            reason: "cannot pay".into(),
        };
        assert_eq!(caution.refused(&batch(0..1), &invalid), None);
        assert!(caution.allows(1, 0));
        assert_eq!(caution.max_claims(), MAX_CLAIMS);
    }
}
