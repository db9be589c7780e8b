//! All parameters together, and what makes them valid.

use crate::Invalid;
use openledger_primitives::{terms::PPM, Balance, BlockNumber};
use openledger_traits::{
    BondParameters, ConsensusParameters, DatanetParameters, ModelParameters, PayoutParameters,
    SettlementParameters,
};

/// Longest window or delay, blocks: about two years of six-second slots. Keeps sums of block
/// numbers far from overflow.
pub const MAX_WINDOW: BlockNumber = 10_000_000;
/// Least share of the protocol, parts per million.
pub const MIN_PROTOCOL_PPM: u32 = 50_000;
/// Least share of the worker, parts per million.
pub const MIN_WORKER_PPM: u32 = 500_000;
/// Least share of the protocol's part that is burned, parts per million.
pub const MIN_BURN_PPM: u32 = 500_000;
/// Contributions that a version may add at most.
pub const MAX_VERSION_SIZE: u32 = 256;

const OPEN: Balance = 1_000_000_000_000;
const MINUTE: BlockNumber = 10;
const HOUR: BlockNumber = 60 * MINUTE;
const DAY: BlockNumber = 24 * HOUR;

/// All parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterSet {
    /// Slots and epochs.
    pub consensus: ConsensusParameters,
    /// Settlement.
    pub settlement: SettlementParameters,
    /// Bonds.
    pub bonds: BondParameters,
    /// Datanets.
    pub datanets: DatanetParameters,
    /// Models.
    pub models: ModelParameters,
    /// Payouts.
    pub payouts: PayoutParameters,
}

impl ParameterSet {
    /// What a public chain of six-second slots begins with.
    pub const fn public_chain() -> Self {
        ParameterSet {
            consensus: ConsensusParameters {
                slot_duration: 6_000,
                epoch_length: 600,
            },
            settlement: SettlementParameters {
                challenge_window: DAY,
                evidence_window: 6 * HOUR,
                close_delay: 7 * DAY,
                revoke_delay: 7 * DAY,
                voucher_grace: 7 * DAY,
                lane_deposit: OPEN / 10,
                min_channel_deposit: OPEN,
                fork_nonce: 0,
            },
            bonds: BondParameters {
                min_worker_bond: 1_000 * OPEN,
                thaw: 14 * DAY,
                heartbeat_grace: 10 * MINUTE,
            },
            datanets: DatanetParameters {
                min_contribution_bond: OPEN,
                max_contributions_per_version: 256,
            },
            models: ModelParameters {
                min_worker_ppm: MIN_WORKER_PPM,
                min_protocol_ppm: MIN_PROTOCOL_PPM,
                terms_notice: DAY,
            },
            payouts: PayoutParameters {
                contributor_vesting: DAY,
                protocol_burn_ppm: MIN_BURN_PPM,
            },
        }
    }

    /// Checks every rule.
    pub fn check(&self) -> Result<(), Invalid> {
        self.check_consensus()?;
        self.check_windows()?;
        self.check_amounts()?;
        self.check_shares()?;
        self.check_together()
    }

    /// Checks that this set may follow `before`.
    pub fn check_after(&self, before: &ParameterSet) -> Result<(), Invalid> {
        self.check()?;
        must(
            self.settlement.fork_nonce >= before.settlement.fork_nonce,
            Invalid::ForkNonceLowered,
        )
    }

    fn check_consensus(&self) -> Result<(), Invalid> {
        let consensus = &self.consensus;
        must(
            (1_000..=60_000).contains(&consensus.slot_duration),
            Invalid::SlotDuration,
        )?;
        must(
            (4..=28_800).contains(&consensus.epoch_length),
            Invalid::EpochLength,
        )
    }

    fn check_windows(&self) -> Result<(), Invalid> {
        let settlement = &self.settlement;
        let windows = [
            settlement.challenge_window,
            settlement.evidence_window,
            settlement.close_delay,
            settlement.revoke_delay,
            settlement.voucher_grace,
            self.bonds.thaw,
            self.bonds.heartbeat_grace,
            self.models.terms_notice,
            self.payouts.contributor_vesting,
        ];
        must(
            windows.iter().all(|window| *window > 0),
            Invalid::ZeroWindow,
        )?;
        must(
            windows.iter().all(|window| *window <= MAX_WINDOW),
            Invalid::WindowTooLong,
        )
    }

    fn check_amounts(&self) -> Result<(), Invalid> {
        let amounts = [
            self.settlement.lane_deposit,
            self.settlement.min_channel_deposit,
            self.bonds.min_worker_bond,
            self.datanets.min_contribution_bond,
        ];
        must(
            amounts.iter().all(|amount| *amount > 0),
            Invalid::ZeroDeposit,
        )?;
        must(
            (1..=MAX_VERSION_SIZE).contains(&self.datanets.max_contributions_per_version),
            Invalid::VersionSize,
        )
    }

    fn check_shares(&self) -> Result<(), Invalid> {
        let models = &self.models;
        must(
            models.min_worker_ppm >= MIN_WORKER_PPM,
            Invalid::WorkerShare,
        )?;
        must(
            models.min_protocol_ppm >= MIN_PROTOCOL_PPM,
            Invalid::ProtocolShare,
        )?;
        must(
            models
                .min_worker_ppm
                .checked_add(models.min_protocol_ppm)
                .is_some_and(|sum| sum <= PPM),
            Invalid::Shares,
        )?;
        must(
            (MIN_BURN_PPM..=PPM).contains(&self.payouts.protocol_burn_ppm),
            Invalid::BurnShare,
        )
    }

    fn check_together(&self) -> Result<(), Invalid> {
        let settlement = &self.settlement;
        let liability = settlement
            .challenge_window
            .saturating_add(settlement.evidence_window);
        must(self.bonds.thaw >= liability, Invalid::ThawTooShort)?;
        must(
            settlement.revoke_delay <= settlement.close_delay,
            Invalid::RevokeAfterClose,
        )
    }
}

fn must(holds: bool, otherwise: Invalid) -> Result<(), Invalid> {
    holds.then_some(()).ok_or(otherwise)
}
