//! Who validates: the accounts of genesis, whatever they or others do with session keys.

mod common;

use common::{account, preset, signed};
use frame_support::assert_ok;
use openledger_runtime::{AccountId, Runtime, Session, SessionKeys};
use sp_keyring::{Ed25519Keyring, Sr25519Keyring};

fn keys(sr: Sr25519Keyring, ed: Ed25519Keyring) -> SessionKeys {
    SessionKeys {
        grandpa: ed.public().into(),
        babe: sr.public().into(),
        authority_discovery: sr.public().into(),
    }
}

type Manager = <Runtime as pallet_session::Config>::SessionManager;

/// Whom the next session that is planned has; none when it has those of the one before.
fn planned() -> Option<Vec<AccountId>> {
    <Manager as pallet_session::SessionManager<AccountId>>::new_session(9)
}

fn set_keys(who: Sr25519Keyring, ed: Ed25519Keyring) {
    // As the call leaves them, which asks for a proof of ownership before.
    pallet_session::NextKeys::<Runtime>::insert(account(who), keys(who, ed));
}

#[test]
fn who_purged_its_keys_comes_back_and_nobody_else_comes_in() {
    preset("local_testnet").execute_with(|| {
        let (alice, bob) = (account(Sr25519Keyring::Alice), account(Sr25519Keyring::Bob));
        let mut both = vec![alice.clone(), bob.clone()];
        both.sort();
        assert_eq!(planned(), Some(both.clone()));

        set_keys(Sr25519Keyring::Charlie, Ed25519Keyring::Charlie);
        assert_eq!(planned(), Some(both.clone()));

        assert_ok!(Session::purge_keys(signed(Sr25519Keyring::Bob)));
        assert_eq!(planned(), Some(vec![alice]));
        set_keys(Sr25519Keyring::Bob, Ed25519Keyring::Bob);
        assert_eq!(planned(), Some(both.clone()));

        // With all keys gone, those who validate go on; a stranger with keys does not take over.
        for who in [Sr25519Keyring::Alice, Sr25519Keyring::Bob] {
            assert_ok!(Session::purge_keys(signed(who)));
        }
        assert_eq!(planned(), None);
    });
}
