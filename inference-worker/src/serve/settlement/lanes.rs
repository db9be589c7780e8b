//! What the chain says of the lanes that have receipts to claim.

use super::{
    super::{
        facts::{of_info, Channel},
        Service,
    },
    caution::LaneId,
    terms::accepted_until,
};
use anyhow::Result;
use openledger_chain::{apis::settlement::GetChannel, BlockRef};
use openledger_metering::{journal::PendingLane, ChainLane};
use openledger_primitives::{
    Balance, BlockNumber, ChannelId, LaneIndex, RevisionId, Sequence, TermsIndex,
};
use std::collections::{hash_map::Entry, HashMap};

/// Last block at which usage of each revision and terms is accepted.
pub type Terms = HashMap<(RevisionId, TermsIndex), BlockNumber>;

/// Lanes with receipts in no batch, by channel and index.
pub struct Pending {
    /// Those that can be claimed.
    pub lanes: HashMap<LaneId, ChainLane>,
    /// Fees of the receipts of all of them, planck.
    pub owed: HashMap<LaneId, Balance>,
    /// Terms of their receipts.
    pub terms: Terms,
}

/// Reads what the chain says of the lanes that have receipts to claim. Writes off what never can be
/// claimed again, and tells the journal which lanes have lapsed.
///
/// Lanes are chosen by the best block, and given up by the finalized one: a block that is undone may
/// have closed a channel, but not one that is finalized.
pub async fn pending(service: &Service) -> Result<Pending> {
    let reader = service.clone();
    let found = tokio::task::spawn_blocking(move || reader.journal.pending_lanes()).await??;
    let best = service.client.best_block().await?;
    let mut final_state = FinalState::new(service).await?;
    let mut pending = Pending {
        lanes: HashMap::new(),
        owed: HashMap::new(),
        terms: Terms::new(),
    };
    let mut lapsed = Vec::new();
    for one in found {
        for (revision, terms) in one.terms.keys() {
            if let Entry::Vacant(unknown) = pending.terms.entry((*revision, *terms)) {
                let (client, grace) = (&service.client, service.rules.voucher_grace);
                unknown.insert(accepted_until(client, *revision, *terms, grace, &best.hash).await?);
            }
        }
        // Asked for each lane, answered once a block.
        let channel = service.facts.channel(one.channel).await?;
        let now = service.facts.best_block();
        if is_lost(&one, channel.as_ref(), now) && final_state.is_lost(&one).await? {
            write_off(service, &one).await?;
            continue;
        }
        if let Some(from) = over_from(&one, &pending.terms, now) {
            if let Some(from) = final_state.over_from(&one, from).await? {
                cut_off(service, &one, from).await?;
                if from <= one.first {
                    continue;
                }
            }
        }
        if has_lapsed(&one, service.rules.voucher_grace, final_state.block.number) {
            lapsed.push((one.channel, one.lane, one.last));
        }
        let key = (one.channel, one.lane);
        pending.owed.insert(key, one.fees);
        let state = channel.and_then(|channel| on_chain(&channel, one.lane));
        if let Some(state) = state {
            if one.first < state.next_sequence {
                final_state.drop_claimed(&one).await?;
            }
            pending.lanes.insert(key, state);
        }
    }
    service.journal.set_lapsed(lapsed.into_iter());
    Ok(pending)
}

/// What the finalized block says, asked only of lanes for which the best block gives a reason.
struct FinalState<'a> {
    service: &'a Service,
    block: BlockRef,
    channels: HashMap<ChannelId, Option<Channel>>,
}

impl<'a> FinalState<'a> {
    async fn new(service: &'a Service) -> Result<Self> {
        Ok(FinalState {
            service,
            block: service.client.finalized_block().await?,
            channels: HashMap::new(),
        })
    }

    async fn channel(&mut self, channel: ChannelId) -> Result<Option<&Channel>> {
        if !self.channels.contains_key(&channel) {
            let query = GetChannel { channel };
            let client = &self.service.client;
            let info = client.query_at(&query, &self.block.hash).await?;
            self.channels.insert(channel, info.as_ref().map(of_info));
        }
        Ok(self.channels.get(&channel).and_then(Option::as_ref))
    }

    async fn is_lost(&mut self, pending: &PendingLane) -> Result<bool> {
        let now = self.block.number;
        let channel = self.channel(pending.channel).await?;
        Ok(is_lost(pending, channel, now))
    }

    /// First sequence from `from` on whose terms are over for good.
    async fn over_from(
        &mut self,
        pending: &PendingLane,
        from: Sequence,
    ) -> Result<Option<Sequence>> {
        let mut terms = Terms::new();
        for ((revision, index), first) in &pending.terms {
            if *first >= from {
                let (client, at) = (&self.service.client, &self.block.hash);
                let grace = self.service.rules.voucher_grace;
                let until = accepted_until(client, *revision, *index, grace, at).await?;
                terms.insert((*revision, *index), until);
            }
        }
        Ok(over_from(pending, &terms, self.block.number))
    }

    /// Drops from the pending receipts those that a finalized batch has claimed: the journal was brought
    /// back from a backup, or another batch took the place of the one that they were noted in.
    async fn drop_claimed(&mut self, pending: &PendingLane) -> Result<()> {
        let PendingLane {
            channel,
            lane,
            first,
            ..
        } = *pending;
        let settled = self.channel(channel).await?;
        let settled = settled.and_then(|channel| channel.lane(lane));
        if let Some(below) = settled
            .map(|lane| lane.next_sequence)
            .filter(|next| *next > first)
        {
            let writer = self.service.clone();
            tokio::task::spawn_blocking(move || writer.journal.drop_claimed(channel, lane, below))
                .await??;
        }
        Ok(())
    }
}

fn on_chain(channel: &Channel, lane: LaneIndex) -> Option<ChainLane> {
    let lane = channel.lane(lane)?;
    Some(ChainLane {
        next_sequence: lane.next_sequence,
        cumulative: lane.cumulative,
        deposit: channel.deposit,
        signer: lane.signer,
        signer_room: lane.signer_room,
        claim_until: channel.claim_until.min(lane.valid_until),
        cut_from: channel.cut_from,
    })
}

/// Whether no claim on the lane will ever be accepted again: its channel is gone or takes no more
/// claims, or its signer ran out.
///
/// A node that is still catching up shows a past in which the channel was not open yet; from that
/// nothing follows.
fn is_lost(pending: &PendingLane, channel: Option<&Channel>, now: BlockNumber) -> bool {
    if now < pending.latest_start {
        return false;
    }
    let Some(channel) = channel else {
        return true;
    };
    let signed_until = channel
        .lane(pending.lane)
        .map_or(0, |lane| lane.valid_until);
    channel.claim_until.min(signed_until) < now
}

/// First sequence whose terms are over: neither it nor what follows on the lane will ever be accepted.
/// Terms of which nothing is known are taken to go on.
fn over_from(pending: &PendingLane, terms: &Terms, now: BlockNumber) -> Option<Sequence> {
    if now < pending.latest_start {
        return None;
    }
    pending
        .terms
        .iter()
        .filter(|(key, _)| terms.get(*key).is_some_and(|until| *until < now))
        .map(|(_, first)| *first)
        .min()
}

/// Whether no voucher of the lane can carry a claim any more. The next one can: with it, all before it
/// are claimed.
fn has_lapsed(pending: &PendingLane, grace: BlockNumber, now: BlockNumber) -> bool {
    pending.last_expiry.saturating_add(grace) < now
}

async fn write_off(service: &Service, lane: &PendingLane) -> Result<()> {
    let writer = service.clone();
    let PendingLane { channel, lane, .. } = *lane;
    let fees =
        tokio::task::spawn_blocking(move || writer.journal.write_off(channel, lane)).await??;
    count_lapsed(fees);
    tracing::error!(
        channel,
        lane,
        %fees,
        "receipts can no longer be claimed: their channel closed, or its signer ran out, before they \
         were in a batch. Settle more often, and keep the worker running"
    );
    Ok(())
}

async fn cut_off(service: &Service, lane: &PendingLane, from: Sequence) -> Result<()> {
    let writer = service.clone();
    let PendingLane { channel, lane, .. } = *lane;
    let fees =
        tokio::task::spawn_blocking(move || writer.journal.cut_off(channel, lane, from)).await??;
    count_lapsed(fees);
    tracing::error!(
        channel,
        lane,
        from,
        %fees,
        "receipts can no longer be claimed: their terms were superseded, or their revision retired, too \
         long before they were in a batch; the lane takes no more work. Settle more often, and keep the \
         worker running"
    );
    Ok(())
}

fn count_lapsed(fees: Balance) {
    metrics::counter!("openledger_lapsed_planck_total")
        .increment(u64::try_from(fees).unwrap_or(u64::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::facts::tests::channel;

    fn lane() -> PendingLane {
        PendingLane {
            channel: 1,
            lane: 0,
            first: 1,
            last: 3,
            receipts: 3,
            fees: 5,
            latest_start: 50,
            last_expiry: 80,
            terms: [((7, 0), 1), ((7, 1), 2), ((8, 0), 3)].into(),
        }
    }

    #[test]
    fn only_what_no_block_to_come_can_claim_is_lost() {
        let open = channel(BlockNumber::MAX, 200);
        assert!(!is_lost(&lane(), Some(&open), 200));
        assert!(is_lost(&lane(), Some(&open), 201));
        let closing = channel(100, 200);
        assert!(!is_lost(&lane(), Some(&closing), 100));
        assert!(is_lost(&lane(), Some(&closing), 101));
        assert!(is_lost(&lane(), None, 50));
    }

    #[test]
    fn a_node_that_catches_up_proves_nothing() {
        assert!(!is_lost(&lane(), None, 49));
        assert!(!is_lost(&lane(), Some(&channel(10, 10)), 49));
        let terms = Terms::from([((7, 0), 0)]);
        assert_eq!(over_from(&lane(), &terms, 49), None);
        assert_eq!(over_from(&lane(), &terms, 50), Some(1));
    }

    #[test]
    fn a_lane_is_over_from_the_first_receipt_whose_terms_are() {
        let terms = Terms::from([((7, 0), BlockNumber::MAX), ((7, 1), 100), ((8, 0), 90)]);
        assert_eq!(over_from(&lane(), &terms, 90), None);
        assert_eq!(over_from(&lane(), &terms, 91), Some(3));
        assert_eq!(over_from(&lane(), &terms, 101), Some(2));
    }

    #[test]
    fn a_lane_has_lapsed_when_its_last_voucher_has() {
        assert!(!has_lapsed(&lane(), 20, 100));
        assert!(has_lapsed(&lane(), 20, 101));
    }
}
