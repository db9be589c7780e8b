//! What programs outside ask.

use super::kit::*;
use crate::mock::*;
use frame_support::assert_ok;
use openledger_economics::split_fee;
use openledger_primitives::domain::domain;
use openledger_traits::mocks::MockParameters;

#[test]
fn a_quote_is_what_settlement_will_charge_and_split() {
    run(|| {
        let quote = Settlement::quote(ADAPTER, Some(0), 100, 450).unwrap();
        assert_eq!((quote.fee, quote.terms), (OPEN, 0));
        assert_eq!((quote.price_in, quote.price_out), (PRICE_IN, PRICE_OUT));
        assert_eq!(quote.parts, split_fee(OPEN, &SPLIT));
        // The latest in effect.
        Tables::price(ADAPTER, 2, 5, 5, 10);
        assert_eq!(Settlement::quote(ADAPTER, None, 1, 1).unwrap().terms, 1);
        go_to(10);
        assert_eq!(Settlement::quote(ADAPTER, None, 1, 1).unwrap().terms, 2);
        assert_eq!(Settlement::quote(ADAPTER, Some(3), 1, 1), None);
        assert_eq!(Settlement::quote(99, None, 1, 1), None);
        Tables::price(ADAPTER, 3, u128::MAX, 0, 0);
        assert_eq!(Settlement::quote(ADAPTER, Some(3), 2, 1), None);
    });
}

#[test]
fn a_channel_is_read_with_its_lanes() {
    run(|| {
        let id = open(ALICE, 10 * OPEN, 2);
        let second = Answer {
            lane: 1,
            ..answer(id)
        };
        assert_ok!(submit(&batch(&[second.clone(), second])));
        let info = Settlement::channel_info(id).unwrap();
        assert_eq!((info.consumer, info.worker), (ALICE, WORKER));
        assert_eq!((info.free_deposit, info.escrowed), (8 * OPEN, 2 * OPEN));
        let lanes: Vec<_> = info
            .lanes
            .iter()
            .map(|lane| (lane.lane, lane.next_sequence, lane.cumulative))
            .collect();
        assert_eq!(lanes, [(0, 1, 0), (1, 3, 2 * OPEN)]);
        assert!(info.lanes.iter().all(|lane| lane.signer == key(1)));
        assert_eq!(Settlement::channel_info(9), None);
    });
}

#[test]
fn the_domain_is_of_genesis_and_fork() {
    run(|| {
        let genesis: [u8; 32] = System::block_hash(0).into();
        assert_eq!(Settlement::signing_domain(), domain(&genesis, 0));
        MockParameters::mutate(|set| set.settlement.fork_nonce = 3);
        assert_eq!(Settlement::signing_domain(), domain(&genesis, 3));
    });
}
