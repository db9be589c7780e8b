//! Proofs that a row stands in a sealed version of a Datanet: the row's leaf in its contribution's
//! content root, and the contribution's leaf in the version's root.

use crate::{contribution::VersionLeaf, hash::Digest, merkle, row::RowLeaf};
use alloc::vec::Vec;
use parity_scale_codec::{Decode, DecodeWithMemTracking, Encode};
use scale_info::TypeInfo;

/// A row with its path to the root of a version.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, TypeInfo)]
pub struct ContributionProof {
    /// The row; its own index says where in the contribution it stands.
    pub row: RowLeaf,
    /// Siblings from the row up to the content root.
    pub row_path: Vec<Digest>,
    /// The contribution, with its content root and number of rows.
    pub leaf: VersionLeaf,
    /// Position of the contribution among the version's leaves, from 0.
    pub position: u32,
    /// Siblings from the contribution up to the version's root.
    pub leaf_path: Vec<Digest>,
}

impl ContributionProof {
    /// Proves row `row` of the contribution at `position`. `rows` are all rows of that
    /// contribution, `leaves` all leaves of the version. `None` out of bounds.
    pub fn build(
        rows: &[RowLeaf],
        row: usize,
        leaves: &[VersionLeaf],
        position: usize,
    ) -> Option<Self> {
        let row_hashes: Vec<Digest> = rows.iter().map(RowLeaf::hash).collect();
        let leaf_hashes: Vec<Digest> = leaves.iter().map(VersionLeaf::hash).collect();
        Some(ContributionProof {
            row: *rows.get(row)?,
            row_path: merkle::prove(&row_hashes, row)?,
            leaf: *leaves.get(position)?,
            position: u32::try_from(position).ok()?,
            leaf_path: merkle::prove(&leaf_hashes, position)?,
        })
    }

    /// Whether the row stands in the version with this root over `count` contributions.
    pub fn verify(&self, root: &Digest, count: u32) -> bool {
        merkle::verify(
            &self.leaf.content_root,
            self.leaf.rows as usize,
            self.row.row as usize,
            self.row.hash(),
            &self.row_path,
        ) && merkle::verify(
            root,
            count as usize,
            self.position as usize,
            self.leaf.hash(),
            &self.leaf_path,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn contribution(id: u64, rows: u32) -> (Vec<RowLeaf>, VersionLeaf) {
        let rows: Vec<RowLeaf> = (0..rows)
            .map(|row| RowLeaf::new(row, format!("row {row} of {id}").as_bytes(), 0))
            .collect();
        let hashes: Vec<Digest> = rows.iter().map(RowLeaf::hash).collect();
        let leaf = VersionLeaf {
            contribution: id,
            content_root: merkle::root(&hashes),
            rows: rows.len() as u32,
        };
        (rows, leaf)
    }

    proptest! {
        #[test]
        fn every_row_is_proven_and_nothing_else(
            sizes in prop::collection::vec(1u32..9, 1..9),
            which in any::<prop::sample::Index>(),
            row in any::<prop::sample::Index>(),
        ) {
            let built: Vec<_> = sizes
                .iter()
                .enumerate()
                .map(|(id, rows)| contribution(id as u64, *rows))
                .collect();
            let leaves: Vec<VersionLeaf> = built.iter().map(|(_, leaf)| *leaf).collect();
            let hashes: Vec<Digest> = leaves.iter().map(VersionLeaf::hash).collect();
            let root = merkle::root(&hashes);
            let count = leaves.len() as u32;
            let position = which.index(built.len());
            let rows = &built[position].0;
            let proof =
                ContributionProof::build(rows, row.index(rows.len()), &leaves, position).unwrap();
            prop_assert!(proof.verify(&root, count));

            let mut forged = proof.clone();
            forged.row.tokens += 1;
            prop_assert!(!forged.verify(&root, count));
            let mut moved = proof.clone();
            moved.leaf.contribution += 1;
            prop_assert!(!moved.verify(&root, count));
            let mut longer = proof.clone();
            longer.leaf_path.push([0; 32]);
            prop_assert!(!longer.verify(&root, count));
            prop_assert!(!proof.verify(&merkle::EMPTY, count));
        }
    }
}
