//! Versions, their roots, and proofs against them.

use crate::{mock::*, Error, Event, Queue, Ranges, Stage, Version, Versions};
use frame_support::{assert_noop, assert_ok};
use openledger_primitives::{
    contribution::VersionLeaf, inclusion::ContributionProof, merkle, Digest,
};
use openledger_traits::mocks::MockParameters;

type Refused = Error<Test>;

fn root_of(leaves: &[VersionLeaf]) -> Digest {
    let hashes: Vec<Digest> = leaves.iter().map(VersionLeaf::hash).collect();
    merkle::root(&hashes)
}

fn leaf(contribution: u64, seed: u64) -> VersionLeaf {
    VersionLeaf {
        contribution,
        content_root: content_root(&rows(seed, 3)),
        rows: 3,
    }
}

#[test]
fn a_version_is_the_root_over_what_was_admitted() {
    run(|| {
        let datanet = founded();
        let one = admitted(ALICE, datanet, 1);
        let two = admitted(BOB, datanet, 2);
        System::set_block_number(4);
        seal(datanet);
        let leaves = vec![leaf(one, 1), leaf(two, 2)];
        assert_eq!(Datanets::version_leaves(datanet, 1), leaves);
        let root = root_of(&leaves);
        assert_eq!(
            Versions::<Test>::get(datanet, 1),
            Some(Version {
                root,
                count: 2,
                sealed_at: 4,
                status: crate::Status::Live
            })
        );
        System::assert_last_event(
            Event::<Test>::VersionSealed {
                datanet,
                version: 1,
                root,
                count: 2,
            }
            .into(),
        );
        assert_eq!(Queue::<Test>::iter().count(), 0);
    });
}

#[test]
fn a_later_version_has_all_that_the_earlier_had() {
    run(|| {
        let datanet = founded();
        let one = admitted(ALICE, datanet, 1);
        seal(datanet);
        let first = Versions::<Test>::get(datanet, 1).unwrap();
        let two = admitted(BOB, datanet, 2);
        seal(datanet);
        assert_eq!(Versions::<Test>::get(datanet, 1), Some(first));
        assert_eq!(Datanets::version_leaves(datanet, 1), vec![leaf(one, 1)]);
        assert_eq!(
            Datanets::version_leaves(datanet, 2),
            vec![leaf(one, 1), leaf(two, 2)]
        );
        assert_eq!(
            crate::Contributions::<Test>::get(two).unwrap().stage,
            Stage::Sealed {
                version: 2,
                position: 1
            }
        );
    });
}

#[test]
fn sealing_is_bounded_and_goes_on_where_it_stopped() {
    run(|| {
        MockParameters::mutate(|set| set.datanets.max_contributions_per_version = 2);
        let datanet = founded();
        let ids: Vec<u64> = (0..5).map(|seed| admitted(ALICE, datanet, seed)).collect();
        for (version, count) in [(1, 2), (2, 4), (3, 5)] {
            seal(datanet);
            assert_eq!(
                Versions::<Test>::get(datanet, version).unwrap().count,
                count
            );
        }
        let sealed: Vec<u64> = Datanets::version_leaves(datanet, 3)
            .iter()
            .map(|leaf| leaf.contribution)
            .collect();
        assert_eq!(sealed, ids);
    });
}

#[test]
fn sealing_nothing_is_refused_and_so_is_sealing_by_others() {
    run(|| {
        let datanet = founded();
        contributed(ALICE, datanet, 1);
        assert_noop!(
            Datanets::seal_version(signed(OWNER), datanet),
            Refused::NothingToSeal
        );
        assert_noop!(
            Datanets::seal_version(signed(OWNER), 9),
            Refused::UnknownDatanet
        );
        admit(datanet, &[0]);
        assert_noop!(
            Datanets::seal_version(signed(ALICE), datanet),
            Refused::NotOwner
        );
        assert_ok!(Datanets::seal_version(signed(OWNER), datanet));
        assert_noop!(
            Datanets::seal_version(signed(OWNER), datanet),
            Refused::NothingToSeal
        );
    });
}

#[test]
fn every_row_of_a_version_is_proven_and_no_other() {
    run(|| {
        let datanet = founded();
        for seed in 0..5 {
            admitted(ALICE, datanet, seed);
        }
        seal(datanet);
        admitted(BOB, datanet, 5);
        seal(datanet);
        let leaves = Datanets::version_leaves(datanet, 2);
        for (position, leaf) in leaves.iter().enumerate() {
            let rows = rows(leaf.contribution, 3);
            for row in 0..rows.len() {
                let proof = ContributionProof::build(&rows, row, &leaves, position).unwrap();
                assert!(Datanets::verify_row(datanet, 2, &proof));
                // Another version has another root.
                assert!(!Datanets::verify_row(datanet, 1, &proof));
                let mut forged = proof;
                forged.row.canonical = [9; 32];
                assert!(!Datanets::verify_row(datanet, 2, &forged));
            }
        }
        assert_eq!(Datanets::version_leaves(datanet, 3), vec![]);
    });
}

#[test]
fn the_chain_proves_a_contribution_to_programs() {
    run(|| {
        let datanet = founded();
        for seed in 0..5 {
            admitted(ALICE, datanet, seed);
        }
        seal(datanet);
        let late = admitted(BOB, datanet, 5);
        let version = Versions::<Test>::get(datanet, 1).unwrap();
        let (position, path) = Datanets::prove_contribution(datanet, 1, 3).unwrap();
        let hash = leaf(3, 3).hash();
        assert!(merkle::verify(
            &version.root,
            version.count as usize,
            position as usize,
            hash,
            &path
        ));
        assert_eq!(Datanets::prove_contribution(datanet, 1, late), None);
        seal(datanet);
        // It stands in the second version only.
        assert_eq!(Datanets::prove_contribution(datanet, 1, late), None);
        assert!(Datanets::prove_contribution(datanet, 2, late).is_some());
        assert_eq!(Ranges::<Test>::get(datanet).count(), 6);
    });
}
