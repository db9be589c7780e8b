//! How often this worker must settle and give a sign of life, by the rules of the chain it serves on.

use anyhow::{ensure, Result};
use openledger_chain::{
    apis::protocol::{
        BondParameters, ConsensusParameters, GetBonds, GetConsensus, GetSettlement,
        SettlementParameters,
    },
    ChainClient,
};
use openledger_primitives::BlockNumber;
use std::time::Duration;

/// Longest time between batches when the chain's windows allow more, seconds.
const USUAL: u64 = 3_600;

/// Blocks kept for a batch to be included, or refused and made anew.
const SLACK: BlockNumber = 8;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Blocks after its expiry in which a voucher can be claimed.
    pub voucher_grace: BlockNumber,
    /// Blocks within which an answer given now is surely claimed, should one batch fail.
    pub claim_margin: BlockNumber,
    /// Time between batches.
    pub settle_every: Duration,
    /// Blocks between heartbeats.
    pub heartbeat_every: BlockNumber,
}

impl Rules {
    /// Reads the rules. `settle_every` is what the operator asked for, in seconds; without it the
    /// longest time that is safe is taken, up to an hour.
    pub async fn read(client: &ChainClient, settle_every: Option<u64>) -> Result<Self> {
        let consensus = client.query(&GetConsensus {}).await?;
        let settlement = client.query(&GetSettlement {}).await?;
        let bonds = client.query(&GetBonds {}).await?;
        Self::of(&consensus, &settlement, &bonds, settle_every)
    }

    fn of(
        consensus: &ConsensusParameters,
        settlement: &SettlementParameters,
        bonds: &BondParameters,
        settle_every: Option<u64>,
    ) -> Result<Self> {
        let slot = consensus.slot_duration.max(1);
        let within = settlement.claim_within();
        // Two periods, so that what misses one batch is in the next, and the slack.
        let longest_blocks = (within.saturating_sub(SLACK) / 2).max(1);
        let longest = (u64::from(longest_blocks).saturating_mul(slot) / 1_000).max(1);
        let period = settle_every.unwrap_or(longest.min(USUAL)).max(1);
        ensure!(
            period <= longest,
            "--settle-every {period} is too long: on this chain an answer must be claimed within {within} \
             blocks ({} s), whatever its consumer does; choose at most {longest}, or leave the option out",
            u64::from(within).saturating_mul(slot) / 1_000,
        );
        let blocks = period.saturating_mul(1_000).div_ceil(slot);
        let blocks = BlockNumber::try_from(blocks).unwrap_or(BlockNumber::MAX);
        Ok(Rules {
            voucher_grace: settlement.voucher_grace,
            claim_margin: blocks.saturating_mul(2).saturating_add(SLACK),
            settle_every: Duration::from_secs(period),
            heartbeat_every: (bonds.heartbeat_grace / 4).max(1),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(slot: u64, within: BlockNumber, asked: Option<u64>) -> Result<Rules> {
        let consensus = ConsensusParameters {
            slot_duration: slot,
            epoch_length: 20,
        };
        let settlement = SettlementParameters {
            challenge_window: 20,
            evidence_window: 10,
            close_delay: within.saturating_add(20),
            revoke_delay: within,
            voucher_grace: within.saturating_add(1),
            lane_deposit: 1,
            min_channel_deposit: 1,
            fork_nonce: 0,
        };
        let bonds = BondParameters {
            min_worker_bond: 1,
            thaw: 60,
            heartbeat_grace: 100,
        };
        Rules::of(&consensus, &settlement, &bonds, asked)
    }

    #[test]
    fn short_windows_make_short_periods() {
        let quick = rules(3_000, 20, None).unwrap();
        assert_eq!(quick.settle_every, Duration::from_secs(18));
        assert_eq!(quick.claim_margin, 20);
        assert_eq!((quick.voucher_grace, quick.heartbeat_every), (21, 25));
        let public = rules(6_000, 100_000, None).unwrap();
        assert_eq!(public.settle_every, Duration::from_secs(3_600));
        assert_eq!(public.claim_margin, 1_208);
    }

    #[test]
    fn a_period_that_would_lose_answers_is_refused() {
        assert_eq!(
            rules(3_000, 20, Some(5)).unwrap().settle_every,
            Duration::from_secs(5)
        );
        let error = rules(3_000, 20, Some(19)).unwrap_err().to_string();
        assert!(error.contains("choose at most 18"), "{error}");
    }
}
