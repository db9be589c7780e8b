//! The span index over the rows of sealed versions. Whoever publishes a revision builds it, and whoever
//! serves the revision builds it again to compare: the same rows give the same bytes.

use anyhow::{ensure, Context, Result};
use openledger_primitives::{ContributionId, Digest};
use openledger_spans::{Builder, RowKey, VersionRef, HEADER};
use openledger_store::Rows;
use openledger_text::TextModel;
use std::path::Path;

/// A version and the rows of its contributions.
pub struct Version<'a> {
    /// Which, and its root.
    pub of: VersionRef,
    /// Rows by contribution.
    pub contributions: Vec<(ContributionId, &'a Rows)>,
}

/// An index over `versions` in the tokens of `text`, whose tokenizer file has the digest `tokenizer`.
pub fn builder(
    text: &TextModel,
    tokenizer: Digest,
    mut versions: Vec<Version<'_>>,
) -> Result<Builder> {
    versions.sort_by_key(|version| (version.of.datanet, version.of.version));
    let vocabulary = u32::try_from(text.tokenizer().vocab_size())?;
    let refs = versions.iter().map(|version| version.of).collect();
    let mut builder = Builder::new(vocabulary, tokenizer, refs)?;
    for version in &mut versions {
        version.contributions.sort_by_key(|(id, _)| *id);
        for (contribution, rows) in &version.contributions {
            for (number, row) in rows.as_slice().iter().enumerate() {
                let texts = row
                    .texts()
                    .map(|passage| text.tokenizer().encode(passage, false))
                    .collect::<Result<Vec<_>, _>>()?;
                let key = RowKey {
                    datanet: version.of.datanet,
                    version: version.of.version,
                    contribution: *contribution,
                    row: u32::try_from(number)?,
                };
                builder.add(key, &texts)?;
            }
        }
    }
    Ok(builder)
}

/// Refuses the index whose `index.json` is `published` unless it is the one that `builder` builds: that
/// file has the digests of the others. `scratch` is a folder for building it.
pub fn ensure_is(published: &[u8], builder: &Builder, scratch: &Path) -> Result<()> {
    let built = tempfile::tempdir_in(scratch).context("a folder for the index")?;
    let folder = built.path().join("index");
    builder.build(&folder)?;
    let path = folder.join(HEADER);
    let head = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    ensure!(
        published == head,
        "the span index is not the one over the rows of the revision's versions: it would credit \
         others for its answers"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> std::path::PathBuf {
        Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo test sets it"))
            .join("factory/base")
    }

    fn rows(texts: &[&str]) -> Rows {
        let lines: String = texts
            .iter()
            .map(|text| format!("{{\"text\":\"{text}\"}}\n"))
            .collect();
        Rows::import(lines.as_bytes()).unwrap()
    }

    fn index(owners: [ContributionId; 2], first: &Rows, second: &Rows) -> Builder {
        let text = TextModel::from_dir(&base()).unwrap();
        let versions = vec![Version {
            of: VersionRef {
                datanet: 0,
                version: 1,
                root: [1; 32],
            },
            contributions: vec![(owners[0], first), (owners[1], second)],
        }];
        builder(&text, [2; 32], versions).unwrap()
    }

    #[test]
    fn rows_given_to_another_contribution_make_another_index() {
        let scratch = tempfile::tempdir().unwrap();
        let published = scratch.path().join("published");
        let (one, other) = (
            rows(&["The bridge was built in 1874."]),
            rows(&["It has 9 arches."]),
        );
        index([3, 5], &one, &other).build(&published).unwrap();
        let published = std::fs::read(published.join(HEADER)).unwrap();
        ensure_is(&published, &index([3, 5], &one, &other), scratch.path()).unwrap();
        // All credit to contribution 5; or a row that was never contributed.
        for forged in [
            index([5, 3], &one, &other),
            index([3, 5], &one, &rows(&["It has 8 arches."])),
        ] {
            let error = ensure_is(&published, &forged, scratch.path()).unwrap_err();
            assert!(error.to_string().contains("credit others"), "{error}");
        }
    }
}
