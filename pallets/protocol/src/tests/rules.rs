//! Every rule, by a set that breaks it alone.

use crate::{Invalid, ParameterSet};
use openledger_traits::mocks;

fn broken(change: impl FnOnce(&mut ParameterSet)) -> Result<(), Invalid> {
    let mut set = ParameterSet::public_chain();
    change(&mut set);
    set.check()
}

#[test]
fn the_public_chain_is_valid() {
    assert_eq!(ParameterSet::public_chain().check(), Ok(()));
}

#[test]
fn the_parameters_that_other_pallets_test_with_are_valid() {
    let mocks::ParameterSet {
        consensus,
        settlement,
        bonds,
        datanets,
        models,
        payouts,
    } = Default::default();
    let set = ParameterSet {
        consensus,
        settlement,
        bonds,
        datanets,
        models,
        payouts,
    };
    assert_eq!(set.check(), Ok(()));
}

#[test]
fn each_rule_refuses() {
    use Invalid::*;
    type Change = fn(&mut ParameterSet);
    let cases: [(Invalid, Change); 24] = [
        (SlotDuration, |set| set.consensus.slot_duration = 999),
        (SlotDuration, |set| set.consensus.slot_duration = 60_001),
        (EpochLength, |set| set.consensus.epoch_length = 3),
        (EpochLength, |set| set.consensus.epoch_length = 28_801),
        (ZeroWindow, |set| set.settlement.challenge_window = 0),
        (ZeroWindow, |set| set.settlement.evidence_window = 0),
        (ZeroWindow, |set| set.settlement.close_delay = 0),
        (ZeroWindow, |set| set.settlement.voucher_grace = 0),
        (ZeroWindow, |set| set.bonds.heartbeat_grace = 0),
        (ZeroWindow, |set| set.payouts.contributor_vesting = 0),
        (WindowTooLong, |set| set.bonds.thaw = 10_000_001),
        (WindowTooLong, |set| set.models.terms_notice = u32::MAX),
        (ZeroDeposit, |set| set.settlement.lane_deposit = 0),
        (ZeroDeposit, |set| set.settlement.min_channel_deposit = 0),
        (ZeroDeposit, |set| set.bonds.min_worker_bond = 0),
        (ZeroDeposit, |set| set.datanets.min_contribution_bond = 0),
        (ThawTooShort, |set| {
            set.bonds.thaw = set.settlement.challenge_window + set.settlement.evidence_window - 1
        }),
        (RevokeAfterClose, |set| {
            set.settlement.revoke_delay = set.settlement.close_delay + 1
        }),
        (VersionSize, |set| {
            set.datanets.max_contributions_per_version = 0
        }),
        (VersionSize, |set| {
            set.datanets.max_contributions_per_version = 257
        }),
        (WorkerShare, |set| set.models.min_worker_ppm = 499_999),
        (ProtocolShare, |set| set.models.min_protocol_ppm = 49_999),
        (Shares, |set| set.models.min_worker_ppm = 950_001),
        (BurnShare, |set| set.payouts.protocol_burn_ppm = 1_000_001),
    ];
    for (expected, change) in cases {
        assert_eq!(broken(change), Err(expected));
    }
    assert_eq!(
        broken(|set| set.payouts.protocol_burn_ppm = 499_999),
        Err(BurnShare)
    );
    assert_eq!(
        broken(|set| set.models.min_worker_ppm = u32::MAX),
        Err(Shares)
    );
}
