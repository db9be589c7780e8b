//! Replacing parameters.

use crate::{mock::*, Error, Event, ParameterSet};
use frame_support::{assert_noop, assert_ok};
use sp_runtime::DispatchError::BadOrigin;

fn set() -> ParameterSet {
    ParameterSet::public_chain()
}

#[test]
fn the_admin_replaces_each_struct() {
    run(|| {
        let mut wanted = set();
        wanted.settlement.challenge_window = 100;
        wanted.bonds.min_worker_bond += 1;
        wanted.datanets.min_contribution_bond += 1;
        wanted.models.min_worker_ppm = 600_000;
        wanted.payouts.protocol_burn_ppm = 700_000;
        let root = RuntimeOrigin::root;
        assert_ok!(Protocol::set_settlement(root(), wanted.settlement));
        assert_ok!(Protocol::set_bonds(root(), wanted.bonds));
        assert_ok!(Protocol::set_datanets(root(), wanted.datanets));
        assert_ok!(Protocol::set_models(root(), wanted.models));
        assert_ok!(Protocol::set_payouts(root(), wanted.payouts));
        assert_eq!(Protocol::in_force(), wanted);
        System::assert_has_event(
            Event::SettlementSet {
                parameters: wanted.settlement,
            }
            .into(),
        );
        System::assert_has_event(
            Event::PayoutsSet {
                parameters: wanted.payouts,
            }
            .into(),
        );
    });
}

#[test]
fn nobody_else_does() {
    run(|| {
        let user = || RuntimeOrigin::signed(1);
        assert_noop!(
            Protocol::set_settlement(user(), set().settlement),
            BadOrigin
        );
        assert_noop!(Protocol::set_bonds(user(), set().bonds), BadOrigin);
        assert_noop!(Protocol::set_datanets(user(), set().datanets), BadOrigin);
        assert_noop!(Protocol::set_models(user(), set().models), BadOrigin);
        assert_noop!(
            Protocol::set_payouts(RuntimeOrigin::none(), set().payouts),
            BadOrigin
        );
    });
}

#[test]
fn a_struct_is_checked_against_those_that_stay() {
    run(|| {
        // Valid alone; with the thaw in force it is not.
        let mut settlement = set().settlement;
        settlement.challenge_window = set().bonds.thaw;
        assert_noop!(
            Protocol::set_settlement(RuntimeOrigin::root(), settlement),
            Error::<Test>::ThawTooShort
        );
        let mut models = set().models;
        models.min_protocol_ppm = 600_000;
        assert_noop!(
            Protocol::set_models(RuntimeOrigin::root(), models),
            Error::<Test>::Shares
        );
    });
}

#[test]
fn the_fork_nonce_never_falls() {
    run(|| {
        let mut settlement = set().settlement;
        settlement.fork_nonce = 2;
        assert_ok!(Protocol::set_settlement(RuntimeOrigin::root(), settlement));
        settlement.fork_nonce = 1;
        assert_noop!(
            Protocol::set_settlement(RuntimeOrigin::root(), settlement),
            Error::<Test>::ForkNonceLowered
        );
    });
}
