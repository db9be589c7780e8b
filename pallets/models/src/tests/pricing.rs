//! Terms: bounds, notice, royalties and licences.

use crate::{mock::*, Error, Event, MAX_PRICE};
use frame_support::{assert_noop, assert_ok};
use openledger_primitives::{licence::Licence, revision::ModelRef, terms::Split};
use openledger_traits::mocks::{MockDatanets, MockParameters};
use sp_runtime::DispatchResult;

type Refused = Error<Test>;

fn set(who: u64, adapter: u32, prices: (u128, u128), split: Split) -> DispatchResult {
    Models::set_terms(
        signed(who),
        ModelRef::Adapter(adapter),
        prices.0,
        prices.1,
        split,
    )
}

fn current(adapter: u32) -> Option<(u32, u128)> {
    Models::terms_info(ModelRef::Adapter(adapter), None)
        .map(|info| (info.index, info.terms.price_out))
}

#[test]
fn the_first_terms_are_immediate_and_later_ones_have_notice() {
    run(|| {
        let adapter = adapter_of_bob();
        assert_eq!(current(adapter), None);
        assert_ok!(price(adapter, PRICE));
        assert_eq!(current(adapter), Some((0, PRICE)));
        System::set_block_number(5);
        assert_ok!(price(adapter, 2 * PRICE));
        System::assert_last_event(
            Event::<Test>::TermsSet {
                model: ModelRef::Adapter(adapter),
                terms: 1,
                effective_from: 15,
            }
            .into(),
        );
        assert_eq!(current(adapter), Some((0, PRICE)));
        assert_noop!(price(adapter, 3 * PRICE), Refused::TermsPending);
        System::set_block_number(14);
        assert_eq!(current(adapter), Some((0, PRICE)));
        System::set_block_number(15);
        assert_eq!(current(adapter), Some((1, 2 * PRICE)));
        assert_ok!(price(adapter, 3 * PRICE));
        // What was agreed stays readable by its index.
        let first = Models::terms_info(ModelRef::Adapter(adapter), Some(0)).unwrap();
        assert_eq!(first.terms.price_in, PRICE);
    });
}

#[test]
fn terms_are_refused_out_of_bounds() {
    run(|| {
        let adapter = adapter_of_bob();
        let good = (PRICE, PRICE);
        let refused = |prices, split, error: Refused| {
            assert_noop!(set(BOB, adapter, prices, split), error);
        };
        refused(
            good,
            Split {
                developer: 200_001,
                ..split()
            },
            Refused::SplitNotWhole,
        );
        refused(
            good,
            Split {
                developer: u32::MAX,
                ..split()
            },
            Refused::SplitNotWhole,
        );
        refused(
            good,
            Split {
                worker: 499_999,
                developer: 200_001,
                ..split()
            },
            Refused::WorkerShareTooLow,
        );
        refused(
            good,
            Split {
                protocol: 49_999,
                developer: 200_001,
                ..split()
            },
            Refused::ProtocolShareTooLow,
        );
        refused((MAX_PRICE + 1, 0), split(), Refused::PriceTooHigh);
        refused((0, MAX_PRICE + 1), split(), Refused::PriceTooHigh);
        assert_noop!(set(ALICE, adapter, good, split()), Refused::NotOwner);
        assert_noop!(set(BOB, 9, good, split()), Refused::UnknownModel);
        MockParameters::mutate(|set| set.models.min_worker_ppm = 500_001);
        refused(good, split(), Refused::WorkerShareTooLow);
    });
}

/// A fifth of a price is the contributors'.
#[test]
fn contributors_get_the_highest_royalty_of_live_revisions() {
    run(|| {
        let adapter = adapter_of_bob();
        publish(adapter, &[0]);
        let dear = publish(adapter, &[0, 1]);
        for prices in [(10 * ROYALTY - 1, PRICE), (PRICE, 10 * ROYALTY - 1)] {
            assert_noop!(set(BOB, adapter, prices, split()), Refused::BelowRoyalty);
        }
        assert_ok!(Models::retire_revision(signed(BOB), dear));
        assert_noop!(price(adapter, 5 * ROYALTY - 1), Refused::BelowRoyalty);
        // Nor does it help to ask more and to give the contributors' part to somebody else.
        let greedy = Split {
            developer: 400_000,
            contributors: 0,
            ..split()
        };
        let dear = (100 * PRICE, 100 * PRICE);
        assert_noop!(set(BOB, adapter, dear, greedy), Refused::BelowRoyalty);
        assert_ok!(price(adapter, 5 * ROYALTY));
        // A dearer Datanet cannot come in below its royalty either.
        assert_noop!(
            Models::publish_revision(signed(BOB), adapter, facts(), versions(&[1])),
            Refused::BelowRoyalty
        );
    });
}

#[test]
fn terms_to_come_bind_a_new_revision_too() {
    run(|| {
        let adapter = adapter_of_bob();
        assert_ok!(price(adapter, PRICE));
        assert_ok!(price(adapter, 0));
        assert_noop!(
            Models::publish_revision(signed(BOB), adapter, facts(), versions(&[0])),
            Refused::BelowRoyalty
        );
    });
}

#[test]
fn what_forbids_commerce_is_served_free_or_not_at_all() {
    run(|| {
        MockDatanets::add(2, Licence::DERIVATIVES, 0);
        MockDatanets::seal(2, 1);
        let adapter = adapter_of_bob();
        let revision = publish(adapter, &[2]);
        for prices in [(1, 0), (0, 1)] {
            assert_noop!(
                set(BOB, adapter, prices, split()),
                Refused::CommerceForbidden
            );
        }
        assert_ok!(price(adapter, 0));
        assert_ok!(Models::retire_revision(signed(BOB), revision));
        assert_ok!(price(adapter, PRICE));
        System::set_block_number(100);
        assert_noop!(
            Models::publish_revision(signed(BOB), adapter, facts(), versions(&[2])),
            Refused::CommerceForbidden
        );
    });
}
