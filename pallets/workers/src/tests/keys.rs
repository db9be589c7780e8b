//! Service keys and their history.

use crate::{mock::*, Error, Event, KeyOwner, MAX_KEYS};
use frame_support::{assert_noop, assert_ok};
use openledger_traits::{mocks::MockParameters, Parameters, WorkerRegistry};

type Refused = Error<Test>;

fn alice() -> RuntimeOrigin {
    RuntimeOrigin::signed(ALICE)
}

/// A key may be replaced because it was stolen: its receipts stay good for a while, it acts no more.
#[test]
fn a_replaced_key_acts_no_more() {
    run(|| {
        join(ALICE, ALICE_KEY);
        System::set_block_number(5);
        assert_ok!(Workers::set_service_key(alice(), 13));
        let ends = 5 + MockParameters::settlement().voucher_grace;
        System::assert_last_event(
            Event::<Test>::ServiceKeySet {
                worker: ALICE,
                index: 1,
                key: 13,
                previous_valid_until: ends,
            }
            .into(),
        );
        assert_eq!(Workers::worker_of_key(&ALICE_KEY), None);
        assert_eq!(Workers::worker_of_key(&13), Some((ALICE, 1)));
        assert_noop!(
            Workers::heartbeat(RuntimeOrigin::signed(ALICE_KEY)),
            Refused::NotWorker
        );
        assert_ok!(Workers::heartbeat(RuntimeOrigin::signed(13)));
        let old = Workers::info(ALICE).unwrap().service_keys[0].clone();
        assert!(old.is_valid(ends - 1) && !old.is_valid(ends));
    });
}

#[test]
fn the_history_tells_when_each_key_was_valid() {
    run(|| {
        join(ALICE, ALICE_KEY);
        System::set_block_number(5);
        assert_ok!(Workers::set_service_key(alice(), 13));
        System::set_block_number(6);
        assert_ok!(Workers::set_service_key(alice(), 14));
        let grace = MockParameters::settlement().voucher_grace;
        let ranges: Vec<_> = Workers::info(ALICE)
            .unwrap()
            .service_keys
            .iter()
            .map(|key| (key.index, key.account, key.from, key.until))
            .collect();
        assert_eq!(
            ranges,
            vec![
                (0, ALICE_KEY, 1, Some(5 + grace)),
                (1, 13, 5, Some(6 + grace)),
                (2, 14, 6, None),
            ]
        );
    });
}

#[test]
fn one_key_belongs_to_one_worker() {
    run(|| {
        join(ALICE, ALICE_KEY);
        join(BOB, BOB_KEY);
        for taken in [ALICE_KEY, BOB_KEY, BOB] {
            assert_noop!(Workers::set_service_key(alice(), taken), Refused::KeyInUse);
        }
        assert_noop!(
            Workers::set_service_key(alice(), ALICE),
            Refused::KeyIsOwnAccount
        );
        assert_noop!(
            Workers::set_service_key(RuntimeOrigin::signed(ALICE_KEY), 20),
            Refused::NotWorker
        );
    });
}

#[test]
fn keys_are_forgotten_only_when_nothing_they_signed_can_be_challenged() {
    run(|| {
        join(ALICE, ALICE_KEY);
        for key in 1..u64::from(MAX_KEYS) {
            assert_ok!(Workers::set_service_key(alice(), 100 + key));
        }
        assert_noop!(Workers::set_service_key(alice(), 200), Refused::TooManyKeys);
        let windows = MockParameters::settlement();
        let forgotten =
            1 + 2 * windows.voucher_grace + windows.challenge_window + windows.evidence_window;
        System::set_block_number(u64::from(forgotten) - 1);
        assert_noop!(Workers::set_service_key(alice(), 200), Refused::TooManyKeys);
        System::set_block_number(u64::from(forgotten));
        assert_ok!(Workers::set_service_key(alice(), 200));
        assert!(!KeyOwner::<Test>::contains_key(ALICE_KEY));
        assert_eq!(Workers::worker_of_key(&200), Some((ALICE, MAX_KEYS as u16)));
    });
}
