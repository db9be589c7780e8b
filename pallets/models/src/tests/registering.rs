//! Registering bases and adapters.

use crate::{mock::*, Adapters, Bases, Error, Event, HoldReason, Name, Revisions};
use frame_support::{assert_noop, assert_ok, traits::fungible::InspectHold};
use openledger_primitives::{
    licence::Licence,
    revision::{ModelRef, RevisionStatus},
};
use sp_runtime::{DispatchError, DispatchResult, TokenError};

type Refused = Error<Test>;

fn register(who: u64, named: Name, manifest: [u8; 32], licence: Licence) -> DispatchResult {
    Models::register_base(
        signed(who),
        named,
        manifest,
        licence,
        PRICE,
        2 * PRICE,
        split(),
    )
}

#[test]
fn a_base_comes_with_its_terms_and_a_revision_of_its_own() {
    run(|| {
        assert_ok!(register(ALICE, name("small"), [9; 32], Licence::ALL));
        let base = Bases::<Test>::get(0).unwrap();
        assert_eq!(base.owner, ALICE);
        let revision = Revisions::<Test>::get(base.revision).unwrap();
        assert_eq!(revision.model, ModelRef::Base(0));
        assert_eq!(revision.facts.adapter_digest, [0; 32]);
        assert_eq!(revision.status, RevisionStatus::Live);
        assert!(revision.versions.is_empty());
        let terms = Models::terms_info(ModelRef::Base(0), None).unwrap();
        assert_eq!(terms.index, 0);
        assert_eq!(
            (terms.terms.price_in, terms.terms.price_out),
            (PRICE, 2 * PRICE)
        );
        assert_eq!(terms.terms.effective_from, 1);
        for event in [
            Event::<Test>::BaseRegistered {
                base: 0,
                revision: 0,
                owner: ALICE,
            },
            Event::<Test>::TermsSet {
                model: ModelRef::Base(0),
                terms: 0,
                effective_from: 1,
            },
        ] {
            System::assert_has_event(event.into());
        }
        assert!(Balances::balance_on_hold(&HoldReason::Deposit.into(), &ALICE) > 0);
    });
}

#[test]
fn an_adapter_stands_on_a_base() {
    run(|| {
        let adapter = adapter_of_bob();
        let stored = Adapters::<Test>::get(adapter).unwrap();
        assert_eq!((stored.owner, stored.base), (BOB, 0));
        System::assert_last_event(
            Event::<Test>::AdapterRegistered {
                adapter,
                base: 0,
                owner: BOB,
            }
            .into(),
        );
        assert!(Balances::balance_on_hold(&HoldReason::Deposit.into(), &BOB) > 0);
        assert_noop!(
            Models::register_adapter(signed(BOB), 7, name("x")),
            Refused::UnknownBase
        );
    });
}

#[test]
fn a_base_without_derived_works_takes_no_adapter() {
    run(|| {
        assert_ok!(register(
            ALICE,
            name("closed"),
            [9; 32],
            Licence::COMMERCIAL
        ));
        assert_noop!(
            Models::register_adapter(signed(BOB), 0, name("x")),
            Refused::DerivativesForbidden
        );
    });
}

#[test]
fn registering_is_refused_and_changes_nothing() {
    run(|| {
        let base = base_of_alice();
        for bad in [
            b"".as_slice(),
            b" ",
            b" padded",
            b"line\nbreak",
            b"\xff\xfe",
        ] {
            let bad: Name = bad.to_vec().try_into().unwrap();
            assert_noop!(
                register(ALICE, bad.clone(), [9; 32], Licence::ALL),
                Refused::BadName
            );
            assert_noop!(
                Models::register_adapter(signed(BOB), base, bad),
                Refused::BadName
            );
        }
        assert_noop!(
            register(ALICE, name("a"), [0; 32], Licence::ALL),
            Refused::DigestMissing
        );
        assert_noop!(
            register(ALICE, name("a"), [9; 32], Licence(1 << 8)),
            Refused::UnknownPermission
        );
        assert_noop!(
            register(ALICE, name("a"), [9; 32], Licence::DERIVATIVES),
            Refused::CommerceForbidden
        );
        assert_noop!(
            register(99, name("a"), [9; 32], Licence::ALL),
            TokenError::FundsUnavailable
        );
        assert_noop!(
            Models::register_adapter(RuntimeOrigin::root(), base, name("a")),
            DispatchError::BadOrigin
        );
    });
}

#[test]
fn a_free_base_needs_no_permission_for_commerce() {
    run(|| {
        assert_ok!(Models::register_base(
            signed(ALICE),
            name("free"),
            [9; 32],
            Licence::DERIVATIVES,
            0,
            0,
            split(),
        ));
    });
}
