//! Closing channels.

use super::kit::*;
use crate::{mock::*, Channels, Error, Event, Lanes};
use frame_support::{assert_noop, assert_ok};

fn alice() -> RuntimeOrigin {
    RuntimeOrigin::signed(ALICE)
}

#[test]
fn closing_waits_for_claims_and_then_leaves_nothing_behind() {
    run(|| {
        let id = open(ALICE, 10 * OPEN, 3);
        assert_noop!(
            Settlement::finish_close(alice(), id),
            Error::<Test>::ChannelIsOpen
        );
        assert_noop!(
            Settlement::close_channel(RuntimeOrigin::signed(WORKER), id),
            Error::<Test>::NotConsumer
        );
        assert_ok!(Settlement::close_channel(alice(), id));
        System::assert_last_event(
            Event::ChannelClosing {
                channel: id,
                claim_until: 21,
            }
            .into(),
        );
        go_to(21);
        assert_ok!(submit(&batch(&[answer(id)])));
        assert_noop!(
            Settlement::finish_close(alice(), id),
            Error::<Test>::ClaimsOpen
        );
        go_to(22);
        assert_ok!(Settlement::finish_close(RuntimeOrigin::signed(BOB), id));
        System::assert_last_event(
            Event::ChannelClosed {
                channel: id,
                returned: 9 * OPEN + 3 * (OPEN / 10),
            }
            .into(),
        );
        assert!(!Channels::<Test>::contains_key(id));
        assert_eq!(Lanes::<Test>::iter().count(), 0);
        assert_eq!(Balances::free_balance(ALICE), RICH - OPEN);
        assert_eq!(System::consumers(&ALICE), 0);
        assert_noop!(
            Settlement::finish_close(alice(), id),
            Error::<Test>::UnknownChannel
        );
    });
}

#[test]
fn a_closing_channel_takes_nothing_new() {
    run(|| {
        let id = open(ALICE, OPEN, 1);
        assert_ok!(Settlement::close_channel(alice(), id));
        let closing = Error::<Test>::ChannelIsClosing;
        assert_noop!(Settlement::close_channel(alice(), id), closing);
        let closing = Error::<Test>::ChannelIsClosing;
        assert_noop!(Settlement::deposit(alice(), id, OPEN), closing);
        let closing = Error::<Test>::ChannelIsClosing;
        assert_noop!(Settlement::add_lanes(alice(), id, 1), closing);
        let closing = Error::<Test>::ChannelIsClosing;
        assert_noop!(
            Settlement::add_signer(alice(), id, key(2), OPEN, 99),
            closing
        );
        let closing = Error::<Test>::ChannelIsClosing;
        assert_noop!(Settlement::cut_deposit(alice(), id, 1), closing);
        // Revoking still protects.
        assert_ok!(Settlement::revoke_signer(alice(), id, key(1)));
    });
}

#[test]
fn nothing_is_claimed_after_the_close() {
    run(|| {
        let id = open(ALICE, OPEN, 1);
        let late = batch(&[answer(id)]);
        assert_ok!(Settlement::close_channel(alice(), id));
        go_to(22);
        refused(&late, Error::ClaimsOver);
        assert_ok!(Settlement::finish_close(alice(), id));
        refused(&late, Error::UnknownChannel);
    });
}
