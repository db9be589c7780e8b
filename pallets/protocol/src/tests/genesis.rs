//! What genesis puts in force, and what it refuses.

use crate::{mock::*, GenesisConfig, ParameterSet};
use openledger_traits::Parameters;

#[test]
fn genesis_puts_its_parameters_in_force() {
    let mut set = ParameterSet::public_chain();
    set.settlement.challenge_window = 20;
    set.consensus.slot_duration = 3_000;
    ext_with(set).execute_with(|| {
        assert_eq!(Protocol::in_force(), set);
        assert_eq!(<Protocol as Parameters>::settlement(), set.settlement);
        assert_eq!(<Protocol as Parameters>::consensus(), set.consensus);
        assert_eq!(<Protocol as Parameters>::bonds(), set.bonds);
        assert_eq!(<Protocol as Parameters>::datanets(), set.datanets);
        assert_eq!(<Protocol as Parameters>::models(), set.models);
        assert_eq!(<Protocol as Parameters>::payouts(), set.payouts);
        Protocol::do_try_state().unwrap();
    });
}

#[test]
fn the_default_genesis_is_the_public_chain() {
    let genesis = GenesisConfig::<Test>::default();
    assert_eq!(ParameterSet::from(&genesis), ParameterSet::public_chain());
}

#[test]
#[should_panic(
    expected = "protocol parameters of genesis: a bond thaws no faster than challenge window + evidence window"
)]
fn a_genesis_that_contradicts_itself_does_not_build() {
    let mut set = ParameterSet::public_chain();
    set.bonds.thaw = 1;
    ext_with(set);
}
