//! Whether a span index may decide who earns.
//!
//! The index is published by the developer, who could put rows of contributions into it that had no
//! part in the training, their own for one: every answer would pay them. Its claims are held against
//! what the chain has sealed.

use anyhow::{ensure, Result};
use openledger_primitives::{
    contribution::VersionLeaf, ContributionId, DatanetId, Digest, VersionIndex,
};
use openledger_spans::{Index, RowKey, VersionRef};
use std::collections::HashMap;

/// A version that the revision lists, as sealed.
#[derive(Clone, Debug)]
pub(super) struct Sealed {
    pub(super) datanet: DatanetId,
    pub(super) version: VersionIndex,
    pub(super) root: Digest,
    pub(super) leaves: Vec<VersionLeaf>,
}

/// Refuses an index that is not over exactly the versions, in the tokens of the base.
pub(super) fn check(index: &Index, tokenizer: &Digest, versions: &[Sealed]) -> Result<()> {
    ensure!(
        index.tokenizer() == tokenizer,
        "the span index holds tokens of the tokenizer 0x{}, the base has 0x{}",
        hex::encode(index.tokenizer()),
        hex::encode(tokenizer),
    );
    claims(index.versions(), index.rows(), versions)
}

/// What the index claims to hold.
fn claims(
    over: &[VersionRef],
    rows: impl Iterator<Item = RowKey>,
    versions: &[Sealed],
) -> Result<()> {
    for one in over {
        let listed = versions.iter().any(|sealed| {
            (sealed.datanet, sealed.version, sealed.root) == (one.datanet, one.version, one.root)
        });
        ensure!(
            listed,
            "the span index is over version {} of Datanet {}, which the revision does not list with \
             this root",
            one.version,
            one.datanet
        );
    }
    for sealed in versions {
        ensure!(
            over.iter()
                .any(|one| (one.datanet, one.version) == (sealed.datanet, sealed.version)),
            "the span index leaves out version {} of Datanet {}, which the revision lists",
            sealed.version,
            sealed.datanet
        );
    }
    let sealed: HashMap<(DatanetId, VersionIndex, ContributionId), u32> = versions
        .iter()
        .flat_map(|one| {
            one.leaves
                .iter()
                .map(|leaf| ((one.datanet, one.version, leaf.contribution), leaf.rows))
        })
        .collect();
    for key in rows {
        let rows = sealed.get(&(key.datanet, key.version, key.contribution));
        ensure!(
            rows.is_some_and(|rows| key.row < *rows),
            "the span index has row {} of contribution {} in version {} of Datanet {}, where no such \
             row is sealed",
            key.row,
            key.contribution,
            key.version,
            key.datanet
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use openledger_spans::Builder;

    const TOKENIZER: Digest = [7; 32];

    fn key(version: VersionIndex, contribution: ContributionId, row: u32) -> RowKey {
        RowKey {
            datanet: 1,
            version,
            contribution,
            row,
        }
    }

    fn sealed() -> Vec<Sealed> {
        let leaf = |contribution, rows| VersionLeaf {
            contribution,
            content_root: [0; 32],
            rows,
        };
        vec![Sealed {
            datanet: 1,
            version: 2,
            root: [3; 32],
            leaves: vec![leaf(10, 1), leaf(11, 2)],
        }]
    }

    /// Why an index over these versions and rows is refused.
    fn refusal(versions: &[(VersionIndex, u8)], rows: &[RowKey]) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let versions = versions
            .iter()
            .map(|(version, root)| VersionRef {
                datanet: 1,
                version: *version,
                root: [*root; 32],
            })
            .collect();
        let mut builder = Builder::new(100, TOKENIZER, versions).unwrap();
        for row in rows {
            builder.add(*row, [[1, 2, 3]]).unwrap();
        }
        let path = folder.path().join("index");
        builder.build(&path).unwrap();
        let index = Index::open(&path).unwrap();
        let result = check(&index, &TOKENIZER, &sealed());
        result.err().map(|error| error.to_string())
    }

    #[test]
    fn an_index_over_what_is_sealed_is_taken() {
        let rows = [key(2, 10, 0), key(2, 11, 0), key(2, 11, 1)];
        assert_eq!(refusal(&[(2, 3)], &rows), None);
    }

    #[test]
    fn rows_that_are_not_sealed_are_refused() {
        let poisoned = refusal(&[(2, 3)], &[key(2, 10, 0), key(2, 99, 0)]).unwrap();
        assert!(poisoned.contains("contribution 99"), "{poisoned}");
        let beyond = refusal(&[(2, 3)], &[key(2, 10, 0), key(2, 10, 1)]).unwrap();
        assert!(beyond.contains("row 1 of contribution 10"), "{beyond}");
    }

    #[test]
    fn other_versions_are_refused() {
        let more = refusal(&[(2, 3), (4, 3)], &[key(2, 10, 0)]).unwrap();
        assert!(more.contains("does not list"), "{more}");
        let other = refusal(&[(2, 9)], &[key(2, 10, 0)]).unwrap();
        assert!(other.contains("this root"), "{other}");
        let none = claims(&[], std::iter::empty(), &sealed()).unwrap_err();
        assert!(none.to_string().contains("leaves out"), "{none}");
    }

    #[test]
    fn tokens_of_another_tokenizer_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let version = VersionRef {
            datanet: 1,
            version: 2,
            root: [3; 32],
        };
        let mut builder = Builder::new(100, [8; 32], vec![version]).unwrap();
        builder.add(key(2, 10, 0), [[1]]).unwrap();
        builder.build(&folder.path().join("index")).unwrap();
        let index = Index::open(&folder.path().join("index")).unwrap();
        let error = check(&index, &TOKENIZER, &sealed()).unwrap_err();
        assert!(error.to_string().contains("tokenizer"), "{error}");
    }
}
