//! A validator that votes twice is reported and proven.

mod common;

use common::preset;
use finality_grandpa::{Equivocation as TwoVotes, Prevote};
use frame_support::{
    assert_noop, assert_ok,
    traits::{KeyOwnerProofSystem, OnInitialize},
};
use openledger_runtime::{
    BlockNumber, Grandpa, Hash, Header, Historical, Runtime, RuntimeOrigin, Session, System,
};
use sp_consensus_grandpa::{
    localized_payload, AuthorityId, AuthoritySignature, Equivocation, EquivocationProof, Message,
    RoundNumber, SetId, KEY_TYPE,
};
use sp_keyring::Ed25519Keyring;
use sp_session::MembershipProof;

type Vote = Prevote<Hash, BlockNumber>;

fn vote(byte: u8) -> Vote {
    Prevote {
        target_hash: Hash::repeat_byte(byte),
        target_number: 10,
    }
}

fn signed(key: Ed25519Keyring, round: RoundNumber, set: SetId, vote: &Vote) -> AuthoritySignature {
    let payload = localized_payload(round, set, &Message::<Header>::Prevote(vote.clone()));
    key.sign(&payload).into()
}

fn double_vote(
    key: Ed25519Keyring,
    one: Vote,
    other: Vote,
) -> EquivocationProof<Hash, BlockNumber> {
    let (round, set) = (1, 0);
    EquivocationProof::new(
        set,
        Equivocation::Prevote(TwoVotes {
            round_number: round,
            identity: key.public().into(),
            first: (one.clone(), signed(key, round, set, &one)),
            second: (other.clone(), signed(key, round, set, &other)),
        }),
    )
}

fn ownership(key: Ed25519Keyring) -> MembershipProof {
    Historical::prove((KEY_TYPE, AuthorityId::from(key.public()))).expect("a validator's key")
}

#[test]
fn grandpa_should_record_the_offence_when_a_validator_voted_twice() {
    preset("local_testnet").execute_with(|| {
        Session::on_initialize(1);
        assert_ok!(Grandpa::report_equivocation_unsigned(
            RuntimeOrigin::none(),
            Box::new(double_vote(Ed25519Keyring::Bob, vote(1), vote(2))),
            ownership(Ed25519Keyring::Bob),
        ));
        assert_eq!(pallet_offences::Reports::<Runtime>::iter().count(), 1);
        // Of two validators none may be disabled: more than a third would be gone.
        assert_eq!(Session::disabled_validators(), Vec::<u32>::new());
        assert!(System::events()
            .iter()
            .any(|record| matches!(record.event, openledger_runtime::RuntimeEvent::Offences(_))));
    });
}

#[test]
fn grandpa_should_refuse_the_report_when_both_votes_are_one() {
    preset("local_testnet").execute_with(|| {
        assert_noop!(
            Grandpa::report_equivocation_unsigned(
                RuntimeOrigin::none(),
                Box::new(double_vote(Ed25519Keyring::Bob, vote(1), vote(1))),
                ownership(Ed25519Keyring::Bob),
            ),
            pallet_grandpa::Error::<Runtime>::InvalidEquivocationProof
        );
    });
}
