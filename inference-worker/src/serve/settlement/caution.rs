//! What the worker does when the chain refuses a batch.
//!
//! A batch is accepted whole or not at all. What the chain would refuse is left out beforehand; should
//! it refuse all the same, over one of the lines, then the lanes of that batch are suspects: half of
//! them are tried at once, then half of what is left, until one lane stands alone. It is set aside, for
//! longer each time, is only ever tried alone again, and after [`PARK_AFTER`] refusals is parked: the
//! operator has to say that it be tried. So one bad lane costs a few tries, and never holds up what
//! others owe.

use openledger_chain::SubmitError;
use openledger_metering::{
    journal::{HeldLane, Hold},
    PreparedBatch,
};
use openledger_primitives::{batch::MAX_CLAIMS, Balance, BlockNumber, ChannelId, LaneIndex};
use std::collections::{BTreeMap, BTreeSet};

/// A lane.
pub type LaneId = (ChannelId, LaneIndex);

/// Blocks for which a lane is set aside at first; each refusal doubles them. To halve a full batch down
/// to one lane takes ten tries of a few blocks each.
const ASIDE: BlockNumber = 600;

/// Refusals of a lane alone after which it is parked.
const PARK_AFTER: u32 = 4;

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

/// What the next batch may be made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// Lanes that nothing is held against.
    Common,
    /// Lanes of a batch that was refused.
    Suspects,
    /// A lane that was refused before.
    Alone(LaneId),
}

/// What became of a batch's lanes: what the journal is to remember.
pub type Change = (LaneId, Option<Hold>);

/// See the module.
#[derive(Debug)]
pub struct Caution {
    /// Claims of the next common batch: halved for each bad lane found, doubled by a batch taken.
    size: u32,
    /// Lanes of the last refused batch that were not shown to be good since.
    suspects: BTreeSet<LaneId>,
    held: BTreeMap<LaneId, Held>,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    refusals: u32,
    /// Refusals and postponements: each doubles the time to the next try.
    times: u32,
    /// First block at which it is tried again; none when parked.
    until: Option<BlockNumber>,
}

impl Caution {
    /// Goes on from what the journal remembers.
    pub fn new(held: &[HeldLane]) -> Self {
        let held = held.iter().map(|one| {
            let held = match one.hold {
                Hold::Aside { refusals, until } => Held {
                    refusals,
                    times: refusals,
                    until: Some(until),
                },
                Hold::Parked { .. } => Held {
                    refusals: PARK_AFTER,
                    times: PARK_AFTER,
                    until: None,
                },
            };
            ((one.channel, one.lane), held)
        });
        Caution {
            size: MAX_CLAIMS,
            suspects: BTreeSet::new(),
            held: held.collect(),
        }
    }

    /// What to try first: suspects, while there are any, before what nothing is held against.
    pub fn first(&self) -> Pick {
        if self.suspects.is_empty() {
            Pick::Common
        } else {
            Pick::Suspects
        }
    }

    /// A lane that was refused and may be tried again, alone.
    pub fn due(&self, now: BlockNumber) -> Option<LaneId> {
        self.held
            .iter()
            .find(|(_, held)| held.until.is_some_and(|until| until <= now))
            .map(|(lane, _)| *lane)
    }

    /// Whether the lane may be in a batch of this kind.
    pub fn allows(&self, pick: Pick, lane: LaneId) -> bool {
        match pick {
            Pick::Common => !self.held.contains_key(&lane),
            Pick::Suspects => self.suspects.contains(&lane),
            Pick::Alone(one) => lane == one,
        }
    }

    /// Claims that a batch of this kind may have.
    pub fn max_claims(&self, pick: Pick) -> u32 {
        match pick {
            Pick::Common => self.size,
            Pick::Suspects => {
                let suspects = u32::try_from(self.suspects.len()).unwrap_or(MAX_CLAIMS);
                (suspects / 2).max(1)
            }
            Pick::Alone(_) => 1,
        }
    }

    /// Nothing can be claimed of what was picked. A suspect that owes nothing can never stand alone, so
    /// it is set aside without a try.
    pub fn nothing_in(
        &mut self,
        pick: Pick,
        now: BlockNumber,
        owed: impl Fn(LaneId) -> Balance,
    ) -> Vec<Change> {
        match pick {
            Pick::Common => Vec::new(),
            Pick::Suspects => std::mem::take(&mut self.suspects)
                .into_iter()
                .filter(|lane| owed(*lane) == 0)
                .map(|lane| self.postpone(lane, now))
                .collect(),
            Pick::Alone(lane) => vec![self.postpone(lane, now)],
        }
    }

    /// The chain took a batch: what is in it is good, and the next may be larger again.
    pub fn accepted(&mut self, batch: &PreparedBatch) -> Vec<Change> {
        self.size = self.size.saturating_mul(2).min(MAX_CLAIMS);
        let mut changes = Vec::new();
        for claim in &batch.claims {
            self.suspects.remove(&claim.key());
            if self.held.remove(&claim.key()).is_some() {
                changes.push((claim.key(), None));
            }
        }
        changes
    }

    /// The chain refused a batch. Gives the lane that is held for it, if it is known by now; nothing
    /// when no line is to blame.
    pub fn refused(
        &mut self,
        batch: &PreparedBatch,
        error: &SubmitError,
        now: BlockNumber,
    ) -> Refusal {
        let Some(why) = of_a_line(error) else {
            return Refusal::NotOfALine;
        };
        let [claim] = batch.claims.as_slice() else {
            self.suspects = batch.claims.iter().map(|claim| claim.key()).collect();
            return Refusal::OneOf(self.suspects.len());
        };
        self.suspects.clear();
        self.size = (self.size / 2).max(1);
        let lane = claim.key();
        let refusals = self.refusals(lane).saturating_add(1);
        let (_, aside) = self.postpone(lane, now);
        let Some(held) = self.held.get_mut(&lane) else {
            return Refusal::NotOfALine;
        };
        held.refusals = refusals;
        if refusals >= PARK_AFTER {
            held.until = None;
            let error = why.to_owned();
            return Refusal::Lane(lane, Hold::Parked { error });
        }
        let until = match aside {
            Some(Hold::Aside { until, .. }) => until,
            _ => now,
        };
        Refusal::Lane(lane, Hold::Aside { refusals, until })
    }

    /// Forgets what is held against lanes with nothing to claim any more.
    pub fn forget(&mut self, owes: impl Fn(LaneId) -> bool) -> Vec<Change> {
        let gone: Vec<LaneId> = self
            .held
            .keys()
            .filter(|lane| !owes(**lane))
            .copied()
            .collect();
        for lane in &gone {
            self.held.remove(lane);
        }
        gone.into_iter().map(|lane| (lane, None)).collect()
    }

    fn refusals(&self, lane: LaneId) -> u32 {
        self.held.get(&lane).map_or(0, |held| held.refusals)
    }

    fn postpone(&mut self, lane: LaneId, now: BlockNumber) -> Change {
        let held = self.held.entry(lane).or_insert(Held {
            refusals: 0,
            times: 0,
            until: None,
        });
        let blocks = ASIDE.saturating_mul(1u32.checked_shl(held.times).unwrap_or(u32::MAX));
        let until = now.saturating_add(blocks);
        held.times = held.times.saturating_add(1);
        held.until = Some(until);
        let refusals = held.refusals;
        (lane, Some(Hold::Aside { refusals, until }))
    }
}

/// What a refusal says of the lanes of its batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Nothing.
    NotOfALine,
    /// One of so many is bad.
    OneOf(usize),
    /// This one is, and is held.
    Lane(LaneId, Hold),
}

/// The error's name when a line of the batch is to blame.
fn of_a_line(error: &SubmitError) -> Option<&str> {
    match error {
        SubmitError::Dispatch(failure)
            if failure.pallet == "Settlement"
                && !NOT_OF_A_LINE.contains(&failure.error.as_str()) =>
        {
            Some(&failure.error)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::rounds::tests::refusal, *};
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

    #[test]
    fn no_lane_is_blamed_for_the_head_or_the_bond() {
        let mut caution = Caution::new(&[]);
        let invalid = SubmitError::Invalid {
            call: "Settlement.submit_batch".into(),
            reason: "cannot pay".into(),
        };
        let errors = NOT_OF_A_LINE.iter().map(|error| refusal(error));
        for error in errors.chain([invalid]) {
            let refused = caution.refused(&batch(0..1), &error, 5);
            assert_eq!(refused, Refusal::NotOfALine);
        }
        assert!(caution.allows(Pick::Common, (1, 0)));
        assert_eq!(caution.max_claims(Pick::Common), MAX_CLAIMS);
    }

    /// Each refusal doubles the time to the next try; the fourth is the last.
    #[test]
    fn a_lane_is_set_aside_for_longer_each_time_and_then_parked() {
        const BAD: LaneId = (1, 0);
        let mut caution = Caution::new(&[]);
        let mut now = 100;
        for (refusals, blocks) in [(1, ASIDE), (2, ASIDE * 2), (3, ASIDE * 4)] {
            let refused = caution.refused(&batch(0..1), &refusal("BadSignature"), now);
            let until = now + blocks;
            let hold = Hold::Aside { refusals, until };
            assert_eq!(refused, Refusal::Lane(BAD, hold.clone()));
            assert!(!caution.allows(Pick::Common, BAD));
            assert_eq!(caution.due(until - 1), None);
            assert_eq!(caution.due(until), Some(BAD));
            // A restart changes nothing of it.
            caution = Caution::new(&[HeldLane {
                channel: 1,
                lane: 0,
                hold,
                fees: 1,
            }]);
            now = until;
        }
        let parked = Hold::Parked {
            error: "BadSignature".into(),
        };
        let refused = caution.refused(&batch(0..1), &refusal("BadSignature"), now);
        assert_eq!(refused, Refusal::Lane(BAD, parked));
        assert_eq!(caution.due(BlockNumber::MAX), None);
    }

    /// A suspect that owes nothing makes no batch of its own: it goes without being tried.
    #[test]
    fn a_free_suspect_is_set_aside_untried() {
        let mut caution = Caution::new(&[]);
        let refused = caution.refused(&batch(0..2), &refusal("BadSignature"), 5);
        assert_eq!(refused, Refusal::OneOf(2));
        caution.accepted(&batch(0..1));
        assert_eq!(caution.first(), Pick::Suspects);
        let changes = caution.nothing_in(Pick::Suspects, 5, |_| 0);
        assert_eq!(changes.len(), 1);
        assert_eq!(caution.first(), Pick::Common);
        assert!(caution.allows(Pick::Common, (1, 0)));
        assert!(!caution.allows(Pick::Common, (1, 1)));
        // One that owes something waits for room, and is not blamed.
        caution.refused(&batch(4..6), &refusal("BadSignature"), 5);
        assert_eq!(caution.nothing_in(Pick::Suspects, 5, |_| 1), []);
        assert!(caution.allows(Pick::Common, (1, 4)));
    }
}
