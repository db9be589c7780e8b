//! Publishing and retiring revisions.

use crate::{mock::*, Adapters, Error, Event, Revisions, Versions, MAX_LIVE, MAX_RANK};
use frame_support::{assert_noop, assert_ok};
use openledger_primitives::{
    licence::Licence,
    revision::{ModelRef, RevisionFacts, RevisionStatus, Targets, VersionUse, MAX_VERSIONS},
};
use openledger_traits::{mocks::MockDatanets, ModelRegistry};
use sp_runtime::DispatchResult;

type Refused = Error<Test>;

fn try_publish(who: u64, adapter: u32, facts: RevisionFacts, on: Versions) -> DispatchResult {
    Models::publish_revision(signed(who), adapter, facts, on)
}

#[test]
fn a_revision_has_its_lineage_and_the_meet_of_the_licences() {
    run(|| {
        let adapter = adapter_of_bob();
        let revision = publish(adapter, &[0, 1]);
        let stored = Revisions::<Test>::get(revision).unwrap();
        assert_eq!(stored.model, ModelRef::Adapter(adapter));
        assert_eq!(stored.base, 0);
        assert_eq!(stored.licence, OPEN_LICENCE);
        assert_eq!(stored.royalty, 2 * ROYALTY);
        assert_eq!(stored.facts, facts());
        System::assert_last_event(
            Event::<Test>::RevisionPublished {
                revision,
                adapter,
                adapter_digest: [1; 32],
            }
            .into(),
        );
        assert!(Models::is_live(revision));
    });
}

#[test]
fn data_without_derived_works_cannot_be_trained_on() {
    run(|| {
        MockDatanets::add(2, Licence::COMMERCIAL, 0);
        MockDatanets::seal(2, 1);
        let adapter = adapter_of_bob();
        assert_noop!(
            try_publish(BOB, adapter, facts(), versions(&[0, 2])),
            Refused::DerivativesForbidden
        );
    });
}

#[test]
fn lineage_is_refused_when_it_does_not_hold() {
    run(|| {
        let adapter = adapter_of_bob();
        let refused = |on: Versions, error: Refused| {
            assert_noop!(try_publish(BOB, adapter, facts(), on), error);
        };
        refused(versions(&[]), Refused::NoVersions);
        refused(versions(&[0, 1, 0]), Refused::DatanetTwice);
        refused(versions(&[0, 5]), Refused::VersionNotLive);
        let with_grant = VersionUse {
            grant: Some(1),
            ..version(0)
        };
        refused(vec![with_grant].try_into().unwrap(), Refused::NoAccess);
        MockDatanets::quarantine(0, 1);
        refused(versions(&[0]), Refused::VersionNotLive);
        assert!(Versions::try_from(vec![version(1); MAX_VERSIONS as usize + 1]).is_err());
    });
}

#[test]
fn publishing_is_refused_without_the_facts_or_the_right() {
    run(|| {
        let adapter = adapter_of_bob();
        let refused = |facts, error: Refused| {
            assert_noop!(try_publish(BOB, adapter, facts, versions(&[0])), error);
        };
        let good = facts();
        for facts in [
            RevisionFacts {
                adapter_digest: [0; 32],
                ..good
            },
            RevisionFacts {
                manifest: [0; 32],
                ..good
            },
            RevisionFacts {
                index: [0; 32],
                ..good
            },
        ] {
            refused(facts, Refused::DigestMissing);
        }
        for facts in [
            RevisionFacts { rank: 0, ..good },
            RevisionFacts {
                rank: MAX_RANK + 1,
                ..good
            },
            RevisionFacts {
                targets: Targets(0),
                ..good
            },
            RevisionFacts {
                targets: Targets(1 << 7),
                ..good
            },
        ] {
            refused(facts, Refused::BadShape);
        }
        assert_noop!(
            try_publish(ALICE, adapter, good, versions(&[0])),
            Refused::NotOwner
        );
        assert_noop!(
            try_publish(BOB, 9, good, versions(&[0])),
            Refused::UnknownModel
        );
    });
}

#[test]
fn a_retired_revision_is_served_no_more_and_stays_known() {
    run(|| {
        let adapter = adapter_of_bob();
        assert_ok!(price(adapter, PRICE));
        let revision = publish(adapter, &[0]);
        assert_noop!(
            Models::retire_revision(signed(ALICE), revision),
            Refused::NotOwner
        );
        assert_ok!(Models::retire_revision(signed(BOB), revision));
        System::assert_last_event(Event::<Test>::RevisionRetired { revision }.into());
        assert!(!Models::is_live(revision));
        assert_eq!(
            Revisions::<Test>::get(revision).unwrap().status,
            RevisionStatus::Retired
        );
        assert!(Models::priced(revision, 0, 1).is_some());
        assert_noop!(
            Models::retire_revision(signed(BOB), revision),
            Refused::AlreadyRetired
        );
        assert_noop!(
            Models::retire_revision(signed(BOB), 99),
            Refused::UnknownRevision
        );
    });
}

#[test]
fn a_base_can_be_retired_by_its_owner() {
    run(|| {
        let base = base_of_alice();
        let revision = crate::Bases::<Test>::get(base).unwrap().revision;
        assert_ok!(Models::retire_revision(signed(ALICE), revision));
        assert!(!Models::is_live(revision));
    });
}

#[test]
fn at_most_sixteen_revisions_of_an_adapter_are_live() {
    run(|| {
        let adapter = adapter_of_bob();
        let first = publish(adapter, &[0]);
        for _ in 1..MAX_LIVE {
            publish(adapter, &[0]);
        }
        assert_noop!(
            try_publish(BOB, adapter, facts(), versions(&[0])),
            Refused::TooManyLive
        );
        assert_ok!(Models::retire_revision(signed(BOB), first));
        publish(adapter, &[0]);
        assert_eq!(
            Adapters::<Test>::get(adapter).unwrap().live.len(),
            MAX_LIVE as usize
        );
    });
}
