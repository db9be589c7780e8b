//! The presets give the chains that they promise.

mod common;

use common::{account, check_invariants, development, preset};
use frame_support::traits::Get;
use openledger_runtime::{
    configs::{EpochDuration, SlotDuration},
    constants::TOTAL_SUPPLY,
    genesis, Balances, Runtime, Session, SessionKeys,
};
use sp_keyring::{Ed25519Keyring, Sr25519Keyring};

#[test]
fn every_preset_should_hold_the_whole_supply_and_be_valid_when_built() {
    for name in genesis::preset_names() {
        preset(name.as_ref()).execute_with(|| {
            assert_eq!(Balances::total_issuance(), TOTAL_SUPPLY, "{name}");
            check_invariants();
        });
    }
}

#[test]
fn development_should_have_quick_slots_and_one_validator_when_built() {
    development().execute_with(|| {
        assert_eq!(SlotDuration::get(), 3_000);
        assert_eq!(EpochDuration::get(), 20);
        assert_eq!(Session::validators(), [account(Sr25519Keyring::Alice)]);
        assert_eq!(
            pallet_sudo::Key::<Runtime>::get(),
            Some(account(Sr25519Keyring::Alice))
        );
    });
}

#[test]
fn local_testnet_should_have_slots_of_a_public_chain_and_two_validators_when_built() {
    preset("local_testnet").execute_with(|| {
        assert_eq!(SlotDuration::get(), 6_000);
        assert_eq!(EpochDuration::get(), 600);
        let mut expected = vec![account(Sr25519Keyring::Alice), account(Sr25519Keyring::Bob)];
        expected.sort();
        let mut validators = Session::validators();
        validators.sort();
        assert_eq!(validators, expected);
    });
}

#[test]
fn validators_should_carry_their_own_keys_when_built() {
    preset("local_testnet").execute_with(|| {
        for (sr25519, ed25519) in [
            (Sr25519Keyring::Alice, Ed25519Keyring::Alice),
            (Sr25519Keyring::Bob, Ed25519Keyring::Bob),
        ] {
            let expected = SessionKeys {
                grandpa: ed25519.public().into(),
                babe: sr25519.public().into(),
                authority_discovery: sr25519.public().into(),
            };
            let keys = pallet_session::NextKeys::<Runtime>::get(account(sr25519));
            assert_eq!(keys, Some(expected));
        }
    });
}

#[test]
fn no_key_should_have_sudo_when_no_preset_is_taken() {
    let config = openledger_runtime::RuntimeGenesisConfig::default();
    assert_eq!(config.sudo.key, None);
}
