//! Proofs that a row stands in a sealed version of a Datanet.

use crate::rows::Rows;
use openledger_primitives::{
    contribution::VersionLeaf, merkle, row::RowLeaf, ContributionId, Digest,
};
use parity_scale_codec::{Decode, Encode};

/// Row → content root → version root.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RowProof {
    /// The row.
    pub row: RowLeaf,
    /// Siblings up to the contribution's content root.
    pub row_path: Vec<Digest>,
    /// The contribution as the version holds it.
    pub contribution: VersionLeaf,
    /// Its position in the version, from 0.
    pub position: u32,
    /// Contributions in the version.
    pub count: u32,
    /// Siblings up to the version's root.
    pub version_path: Vec<Digest>,
}

/// Why a row has no proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The contribution has no such row.
    #[error("the contribution has no row {0}")]
    NoRow(u32),
    /// The version does not hold the contribution.
    #[error("the version does not hold contribution {0}")]
    NoContribution(ContributionId),
    /// The rows are not those that the version holds.
    #[error("these are not the rows that the version holds for contribution {0}")]
    OtherRows(ContributionId),
}

impl RowProof {
    /// Proves `row` of `rows`, which are those of `contribution`, in the version of these leaves.
    ///
    /// # Errors
    /// [`ProofError`].
    pub fn new(
        rows: &Rows,
        row: u32,
        contribution: ContributionId,
        version: &[VersionLeaf],
    ) -> Result<Self, ProofError> {
        let leaves = rows.leaves();
        let hashes: Vec<Digest> = leaves.iter().map(RowLeaf::hash).collect();
        let leaf = leaves.get(row as usize).ok_or(ProofError::NoRow(row))?;
        let row_path = merkle::prove(&hashes, row as usize).ok_or(ProofError::NoRow(row))?;
        let absent = ProofError::NoContribution(contribution);
        let position = version
            .iter()
            .position(|leaf| leaf.contribution == contribution)
            .ok_or(absent)?;
        let held = version.get(position).ok_or(absent)?;
        if held.content_root != merkle::root(&hashes) || held.rows as usize != hashes.len() {
            return Err(ProofError::OtherRows(contribution));
        }
        let owners: Vec<Digest> = version.iter().map(VersionLeaf::hash).collect();
        Ok(RowProof {
            row: *leaf,
            row_path,
            contribution: *held,
            position: position as u32,
            count: version.len() as u32,
            version_path: merkle::prove(&owners, position).ok_or(absent)?,
        })
    }

    /// Whether the proof leads to the root of a version.
    pub fn leads_to(&self, version_root: &Digest) -> bool {
        merkle::verify(
            &self.contribution.content_root,
            self.contribution.rows as usize,
            self.row.row as usize,
            self.row.hash(),
            &self.row_path,
        ) && merkle::verify(
            version_root,
            self.count as usize,
            self.position as usize,
            self.contribution.hash(),
            &self.version_path,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::Row;

    fn rows(name: &str, count: usize) -> Rows {
        Rows::new((0..count).map(|i| Row::new(&format!("{name} {i}"), []).unwrap())).unwrap()
    }

    #[test]
    fn every_row_is_proven_and_no_other() {
        let contributions = [rows("a", 1), rows("b", 5), rows("c", 8)];
        let version: Vec<VersionLeaf> = (10u64..)
            .zip(&contributions)
            .map(|(contribution, rows)| VersionLeaf {
                contribution,
                content_root: rows.content_root(),
                rows: rows.as_slice().len() as u32,
            })
            .collect();
        let hashes: Vec<Digest> = version.iter().map(VersionLeaf::hash).collect();
        let root = merkle::root(&hashes);
        for (id, rows) in (10u64..).zip(&contributions) {
            for row in 0..rows.as_slice().len() as u32 {
                let proof = RowProof::new(rows, row, id, &version).unwrap();
                assert!(proof.leads_to(&root));
                let mut other = proof.clone();
                other.contribution.contribution += 1;
                assert!(!other.leads_to(&root));
                let mut other = proof.clone();
                other.row.canonical[0] ^= 1;
                assert!(!other.leads_to(&root));
            }
        }
        let [a, b, _] = &contributions;
        assert_eq!(RowProof::new(a, 1, 10, &version), Err(ProofError::NoRow(1)));
        assert_eq!(
            RowProof::new(a, 0, 9, &version),
            Err(ProofError::NoContribution(9))
        );
        assert_eq!(
            RowProof::new(b, 0, 10, &version),
            Err(ProofError::OtherRows(10))
        );
    }
}
