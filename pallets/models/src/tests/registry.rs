//! What other pallets and programs are told.

use crate::mock::*;
use frame_support::assert_ok;
use openledger_primitives::revision::{ModelRef, RevisionStatus};
use openledger_traits::{mocks::MockParameters, ModelRegistry, Parameters};

#[test]
fn a_revision_is_priced_at_the_terms_that_a_voucher_names() {
    run(|| {
        let adapter = adapter_of_bob();
        let revision = publish(adapter, &[0, 1]);
        assert_eq!(Models::priced(revision, 0, 1), None);
        assert_ok!(price(adapter, PRICE));
        assert_ok!(price(adapter, 2 * PRICE));
        let priced = Models::priced(revision, 0, 1).unwrap();
        assert_eq!(priced.model, ModelRef::Adapter(adapter));
        assert_eq!(priced.developer, BOB);
        assert_eq!(priced.terms.price_in, PRICE);
        assert_eq!(priced.versions, versions(&[0, 1]));
        // Terms to come are not yet to be named; superseded ones still settle.
        assert_eq!(Models::priced(revision, 1, 10), None);
        assert!(Models::priced(revision, 1, 11).is_some());
        assert!(Models::priced(revision, 0, 11).is_some());
        assert_eq!(Models::priced(revision, 2, 11), None);
        assert_eq!(Models::priced(99, 0, 1), None);
    });
}

/// Terms that were superseded before a revision appeared were never checked against it.
#[test]
fn old_terms_below_a_later_royalty_price_nothing() {
    run(|| {
        let adapter = adapter_of_bob();
        assert_ok!(price(adapter, 0));
        assert_ok!(price(adapter, PRICE));
        System::set_block_number(11);
        let revision = publish(adapter, &[0]);
        assert_eq!(Models::priced(revision, 0, 11), None);
        assert!(Models::priced(revision, 1, 11).is_some());
    });
}

#[test]
fn superseded_terms_and_retired_revisions_are_accepted_for_a_while() {
    run(|| {
        let adapter = adapter_of_bob();
        let revision = publish(adapter, &[0]);
        assert_ok!(price(adapter, PRICE));
        assert_eq!(Models::accepted_until(revision, 0), u32::MAX);
        assert_ok!(price(adapter, 2 * PRICE));
        let grace = MockParameters::settlement().voucher_grace;
        // The second terms take effect at block 11.
        assert_eq!(Models::accepted_until(revision, 0), 11 + grace);
        assert_eq!(Models::accepted_until(revision, 1), u32::MAX);
        System::set_block_number(20);
        assert_ok!(Models::retire_revision(
            RuntimeOrigin::signed(BOB),
            revision
        ));
        assert_eq!(Models::accepted_until(revision, 0), 11 + grace);
        assert_eq!(Models::accepted_until(revision, 1), 20 + grace);
        assert_eq!(Models::accepted_until(99, 0), 0);
    });
}

#[test]
fn a_new_voucher_names_the_latest_terms_in_effect() {
    run(|| {
        let adapter = adapter_of_bob();
        let revision = publish(adapter, &[0]);
        assert_eq!(Models::terms_in_force(revision, 1), None);
        assert_ok!(price(adapter, PRICE));
        assert_ok!(price(adapter, 2 * PRICE));
        assert_eq!(Models::terms_in_force(revision, 10), Some(0));
        assert_eq!(Models::terms_in_force(revision, 11), Some(1));
        assert_eq!(Models::terms_in_force(99, 11), None);
    });
}

#[test]
fn terms_of_another_model_price_nothing() {
    run(|| {
        let adapter = adapter_of_bob();
        let unpriced = publish(adapter, &[0]);
        // The base has terms 0; the adapter has none.
        assert_eq!(Models::priced(unpriced, 0, 1), None);
        assert!(Models::priced(0, 0, 1).is_some());
    });
}

#[test]
fn programs_read_all_that_serving_needs() {
    run(|| {
        let adapter = adapter_of_bob();
        let revision = publish(adapter, &[1]);
        let info = Models::revision_info(revision).unwrap();
        assert_eq!(info.name, name("harbour"));
        assert_eq!(info.base_name, name("small"));
        assert_eq!(info.base_manifest, [9; 32]);
        assert_eq!(info.base_revision, 0);
        assert_eq!(info.developer, BOB);
        assert_eq!(info.terms, None);
        assert_eq!(info.status, RevisionStatus::Live);
        assert_ok!(price(adapter, PRICE));
        assert_eq!(Models::revision_info(revision).unwrap().terms, Some(0));
        let base = Models::revision_info(0).unwrap();
        assert_eq!(base.name, name("small"));
        assert_eq!(base.developer, ALICE);
        assert_eq!(base.facts.adapter_digest, [0; 32]);
        assert!(!Models::is_live(99));
        assert_eq!(Models::revision_info(99), None);
    });
}
