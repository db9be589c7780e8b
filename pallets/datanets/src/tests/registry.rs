//! What other pallets are told.

use crate::{mock::*, Status, Versions};
use frame_support::assert_ok;
use openledger_primitives::{
    contribution::{Provenance, Submission},
    licence::Licence,
    revision::VersionUse,
};
use openledger_traits::DatanetRegistry;

fn named(datanet: u32, version: u32) -> VersionUse {
    VersionUse {
        datanet,
        version,
        grant: None,
    }
}

#[test]
fn a_contribution_is_credited_through_the_versions_it_stands_in() {
    run(|| {
        let (datanet, other) = (founded(), founded());
        let one = admitted(ALICE, datanet, 1);
        assert_eq!(Datanets::credited_owner(one, &[named(datanet, 1)]), None);
        seal(datanet);
        let two = admitted(BOB, datanet, 2);
        seal(datanet);
        admitted(BOB, other, 3);
        seal(other);
        let owner = |id, versions: &[VersionUse]| Datanets::credited_owner(id, versions);
        assert_eq!(owner(one, &[named(datanet, 1)]), Some(ALICE));
        assert_eq!(owner(one, &[named(datanet, 2)]), Some(ALICE));
        assert_eq!(owner(two, &[named(datanet, 1)]), None);
        assert_eq!(owner(two, &[named(other, 1), named(datanet, 2)]), Some(BOB));
        assert_eq!(owner(one, &[named(other, 1)]), None);
        assert_eq!(owner(one, &[named(datanet, 3)]), None);
        assert_eq!(owner(one, &[]), None);
        assert_eq!(owner(99, &[named(datanet, 2)]), None);
        let sealed = |id, version| Datanets::is_sealed_in(id, &[named(datanet, version)]);
        assert!(sealed(one, 1) && sealed(one, 2) && sealed(two, 2));
        assert!(!sealed(two, 1) && !sealed(one, 3) && !sealed(99, 1));
        assert!(!Datanets::is_sealed_in(one, &[named(other, 1)]));
    });
}

#[test]
fn what_is_withdrawn_quarantined_or_public_earns_nobody_anything() {
    run(|| {
        let datanet = founded();
        let withdrawn = admitted(ALICE, datanet, 1);
        let standing = admitted(ALICE, datanet, 2);
        let public = crate::NextContribution::<Test>::get();
        let commons = Submission {
            provenance: Provenance::Public,
            ..submission(3)
        };
        assert_ok!(Datanets::contribute(signed(BOB), datanet, commons));
        admit(datanet, &[public]);
        seal(datanet);
        let versions = [named(datanet, 1)];
        assert_ok!(Datanets::withdraw(signed(ALICE), withdrawn));
        assert_eq!(Datanets::credited_owner(withdrawn, &versions), None);
        assert_eq!(Datanets::credited_owner(public, &versions), None);
        assert_eq!(Datanets::credited_owner(standing, &versions), Some(ALICE));
        Versions::<Test>::mutate(datanet, 1, |version| {
            version.as_mut().unwrap().status = Status::Quarantined;
        });
        assert!(!Datanets::version_is_live(&versions[0]));
        assert_eq!(Datanets::credited_owner(standing, &versions), None);
        // They are in the version all the same.
        for id in [withdrawn, public, standing] {
            assert!(Datanets::is_sealed_in(id, &versions));
        }
    });
}

#[test]
fn versions_licence_and_royalty_are_told() {
    run(|| {
        let datanet = founded();
        admitted(ALICE, datanet, 1);
        assert!(!Datanets::version_is_live(&named(datanet, 1)));
        seal(datanet);
        assert!(Datanets::version_is_live(&named(datanet, 1)));
        assert!(!Datanets::version_is_live(&named(datanet, 0)));
        assert!(!Datanets::version_is_live(&named(datanet, 2)));
        assert!(Datanets::may_use(&BOB, &named(datanet, 1)));
        assert!(!Datanets::may_use(&BOB, &named(9, 1)));
        assert!(!Datanets::may_use(
            &BOB,
            &VersionUse {
                grant: Some(1),
                ..named(datanet, 1)
            }
        ));
        assert_eq!(
            Datanets::licence(datanet),
            Some(Licence(Licence::COMMERCIAL.0 | Licence::DERIVATIVES.0))
        );
        assert_eq!(Datanets::licence(9), None);
        assert_eq!(Datanets::min_royalty(datanet), ROYALTY);
        assert_eq!(Datanets::min_royalty(9), 0);
    });
}
