//! Founding a Datanet.

use crate::{mock::*, Admission, DataKind, Datanets as Stored, Error, Event, HoldReason};
use frame_support::{assert_noop, assert_ok, traits::fungible::InspectHold};
use openledger_primitives::licence::Licence;
use sp_runtime::{DispatchError, DispatchResult, TokenError};

type Refused = Error<Test>;

struct Choice {
    licence: Licence,
    admission: Admission,
    access_price: u128,
    contribution_bond: u128,
    private: bool,
}

fn good() -> Choice {
    Choice {
        licence: Licence::ALL,
        admission: Admission::Open,
        access_price: 0,
        contribution_bond: OPEN,
        private: false,
    }
}

fn create(who: u64, choice: Choice) -> DispatchResult {
    Datanets::create(
        signed(who),
        DataKind::Text,
        choice.licence,
        [7; 32],
        choice.admission,
        choice.access_price,
        0,
        choice.contribution_bond,
        choice.private,
    )
}

#[test]
fn a_founder_leaves_a_deposit_and_owns_the_datanet() {
    run(|| {
        assert_ok!(create(OWNER, good()));
        let datanet = Stored::<Test>::get(0).unwrap();
        assert_eq!(datanet.owner, OWNER);
        assert_eq!(datanet.kind, DataKind::Text);
        assert_eq!(datanet.licence, Licence::ALL);
        System::assert_last_event(
            Event::<Test>::Created {
                datanet: 0,
                owner: OWNER,
            }
            .into(),
        );
        let deposit = Balances::balance_on_hold(&HoldReason::Deposit.into(), &OWNER);
        assert_eq!(
            deposit,
            OPEN + u128::from(Datanets::footprint().size) * OPEN / 1_000
        );
        assert_ok!(create(OWNER, good()));
        assert_eq!(Stored::<Test>::iter().count(), 2);
    });
}

#[test]
fn founding_is_refused_and_changes_nothing() {
    run(|| {
        let refused = |choice, error: Refused| {
            assert_noop!(create(OWNER, choice), error);
        };
        refused(
            Choice {
                licence: Licence(1 << 9),
                ..good()
            },
            Refused::UnknownPermission,
        );
        refused(
            Choice {
                contribution_bond: OPEN - 1,
                ..good()
            },
            Refused::BondTooLow,
        );
        refused(
            Choice {
                private: true,
                ..good()
            },
            Refused::PrivateUnavailable,
        );
        refused(
            Choice {
                access_price: 1,
                ..good()
            },
            Refused::PricedUnavailable,
        );
        for admission in [Admission::Members, Admission::Staked] {
            refused(
                Choice {
                    admission,
                    ..good()
                },
                Refused::AdmissionUnavailable,
            );
        }
        assert_noop!(create(99, good()), TokenError::FundsUnavailable);
        assert_noop!(
            Datanets::withdraw(RuntimeOrigin::none(), 0),
            DispatchError::BadOrigin
        );
    });
}
