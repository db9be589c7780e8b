//! The rows of a contribution: one object of JSON lines, `{"text": …, "qa": [[question, answer], …]}`,
//! `qa` left out where there is none.

use crate::{
    error::StoreError,
    objects::Store,
    row::{Pair, Row, RowError},
};
use openledger_primitives::{
    contribution::{Provenance, Submission},
    licence::Licence,
    merkle,
    row::RowLeaf,
    sketch, Digest,
};
use serde::Deserialize;
use std::collections::BTreeSet;

/// Most rows of a contribution.
pub const MAX_ROWS: usize = 1 << 20;
/// Most bytes of a rows object.
pub const MAX_ROWS_BYTES: u64 = 256 << 20;

/// Rows in canonical form and order, none twice, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows(Vec<Row>);

/// Why bytes or rows are no contribution.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// There is no row.
    #[error("no rows")]
    Empty,
    /// More rows than [`MAX_ROWS`].
    #[error("more than {MAX_ROWS} rows")]
    TooMany,
    /// The rows object would exceed [`MAX_ROWS_BYTES`].
    #[error("more than {MAX_ROWS_BYTES} bytes")]
    TooLarge,
    /// A line that is not the JSON of a row.
    #[error("line {line}: {source}")]
    Json {
        /// Line, from 1.
        line: usize,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// A line whose texts cannot be a row.
    #[error("line {line}: {source}")]
    Row {
        /// Line, from 1.
        line: usize,
        /// Why.
        source: RowError,
    },
    /// A stored line that is not in canonical form.
    #[error("line {line} is not in canonical form")]
    NotCanonical {
        /// Line, from 1.
        line: usize,
    },
    /// A stored row that repeats an earlier one.
    #[error("line {line} repeats an earlier row")]
    Repeated {
        /// Line, from 1.
        line: usize,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    text: String,
    #[serde(default)]
    qa: Vec<Pair>,
}

impl Rows {
    /// The rows in the order given; one that repeats an earlier one is left out.
    ///
    /// # Errors
    /// [`RowsError::Empty`], [`RowsError::TooMany`].
    pub fn new(rows: impl IntoIterator<Item = Row>) -> Result<Self, RowsError> {
        let mut seen = BTreeSet::new();
        let mut kept = Vec::new();
        for row in rows {
            if seen.insert(row.hash()) {
                if kept.len() == MAX_ROWS {
                    return Err(RowsError::TooMany);
                }
                kept.push(row);
            }
        }
        if kept.is_empty() {
            return Err(RowsError::Empty);
        }
        Ok(Rows(kept))
    }

    /// Reads JSON lines that anybody may have written and brings them to canonical form. Empty lines
    /// are skipped.
    ///
    /// # Errors
    /// [`RowsError`], with the line.
    pub fn import(jsonl: &[u8]) -> Result<Self, RowsError> {
        let rows = parse(jsonl, false)?;
        Self::new(rows)
    }

    /// Reads a rows object. Unlike [`Rows::import`] it refuses what [`Rows::to_jsonl`] would not
    /// have written, so that one list of rows has one digest.
    ///
    /// # Errors
    /// [`RowsError`], with the line.
    pub fn from_jsonl(jsonl: &[u8]) -> Result<Self, RowsError> {
        let rows = parse(jsonl, true)?;
        let mut seen = BTreeSet::new();
        for (index, row) in rows.iter().enumerate() {
            if !seen.insert(row.hash()) {
                return Err(RowsError::Repeated { line: index + 1 });
            }
        }
        Self::new(rows)
    }

    /// The bytes of the rows object.
    pub fn to_jsonl(&self) -> Vec<u8> {
        let mut jsonl = String::new();
        for row in &self.0 {
            jsonl.push_str(&row.line());
            jsonl.push('\n');
        }
        jsonl.into_bytes()
    }

    /// The rows.
    pub fn as_slice(&self) -> &[Row] {
        &self.0
    }

    /// Leaves of the content root.
    pub fn leaves(&self) -> Vec<RowLeaf> {
        (0u32..).zip(&self.0).map(|(i, row)| row.leaf(i)).collect()
    }

    /// Merkle root over the leaves.
    pub fn content_root(&self) -> Digest {
        let hashes: Vec<Digest> = self.leaves().iter().map(RowLeaf::hash).collect();
        merkle::root(&hashes)
    }

    /// Canonical bytes of all rows.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|row| row.length() as u64).sum()
    }

    /// What is submitted to the chain for these rows, kept in the store under `locator`.
    pub fn submission(
        &self,
        locator: Digest,
        provenance: Provenance,
        rights: Digest,
        licence: Licence,
    ) -> Submission {
        Submission {
            content_root: self.content_root(),
            sketch_scheme: sketch::SCHEME,
            rows: self.0.len() as u32,
            bytes: self.bytes(),
            provenance,
            rights,
            licence,
            locator,
        }
    }

    /// Whether these are the rows that a contribution on chain names.
    pub fn are_of(&self, submission: &Submission) -> bool {
        self.0.len() as u64 == u64::from(submission.rows)
            && self.bytes() == submission.bytes
            && self.content_root() == submission.content_root
    }
}

impl Store {
    /// Stores rows and returns the digest of the object: the contribution's locator.
    ///
    /// # Errors
    /// As [`Store::put`]; [`RowsError::TooLarge`].
    pub fn put_rows(&self, rows: &Rows) -> Result<Digest, StoreError> {
        let jsonl = rows.to_jsonl();
        if jsonl.len() as u64 > MAX_ROWS_BYTES {
            return Err(StoreError::Rows {
                digest: crate::digest_of(&jsonl),
                source: RowsError::TooLarge,
            });
        }
        self.put(&jsonl)
    }

    /// The rows under a locator.
    ///
    /// # Errors
    /// As [`Store::get`]; [`StoreError::Rows`] for an object that is not one of rows.
    pub fn rows(&self, locator: &Digest) -> Result<Rows, StoreError> {
        Rows::from_jsonl(&self.get_bounded(locator, MAX_ROWS_BYTES)?).map_err(|source| {
            StoreError::Rows {
                digest: *locator,
                source,
            }
        })
    }
}

fn parse(jsonl: &[u8], canonical: bool) -> Result<Vec<Row>, RowsError> {
    if jsonl.len() as u64 > MAX_ROWS_BYTES {
        return Err(RowsError::TooLarge);
    }
    let mut rows = Vec::new();
    let body = jsonl.strip_suffix(b"\n");
    if canonical && body.is_none() {
        return Err(RowsError::Empty);
    }
    for (index, bytes) in body.unwrap_or(jsonl).split(|b| *b == b'\n').enumerate() {
        let line = index + 1;
        if !canonical && bytes.trim_ascii().is_empty() {
            continue;
        }
        let read: Line =
            serde_json::from_slice(bytes).map_err(|source| RowsError::Json { line, source })?;
        let row =
            Row::new(&read.text, read.qa).map_err(|source| RowsError::Row { line, source })?;
        if canonical && row.line().as_bytes() != bytes {
            return Err(RowsError::NotCanonical { line });
        }
        if rows.len() == MAX_ROWS {
            return Err(RowsError::TooMany);
        }
        rows.push(row);
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITTEN: &str = "{\"text\":\"Ada  wrote.\",\"qa\":[[\"Who wrote?\",\" Ada wrote.\"]]}\n\n{\"text\":\"Two\"}\n{\"text\":\" Two \"}\n";

    #[test]
    fn imported_rows_are_canonical_and_distinct() {
        let rows = Rows::import(WRITTEN.as_bytes()).unwrap();
        assert_eq!(rows.as_slice().len(), 2);
        let jsonl = rows.to_jsonl();
        assert_eq!(
            String::from_utf8(jsonl.clone()).unwrap(),
            "{\"text\":\"Ada wrote.\",\"qa\":[[\"Who wrote?\",\"Ada wrote.\"]]}\n{\"text\":\"Two\"}\n"
        );
        assert_eq!(Rows::from_jsonl(&jsonl).unwrap(), rows);
    }

    #[test]
    fn a_rows_object_has_one_form() {
        for text in [
            "",
            "\n",
            "{\"text\":\"a\"}",
            "{\"text\":\" a\"}\n",
            "{\"text\": \"a\"}\n",
            "{\"text\":\"a\",\"qa\":[]}\n",
            "{\"text\":\"a\"}\n\n",
            "{\"text\":\"a\"}\n{\"text\":\"a\"}\n",
            "{\"text\":\"a\",\"more\":1}\n",
            "{\"text\":\"\\u0061\"}\n",
        ] {
            assert!(Rows::from_jsonl(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(matches!(
            Rows::import(b"{\"text\":\"a\"}\n{\"text\":1}\n"),
            Err(RowsError::Json { line: 2, .. })
        ));
    }

    #[test]
    fn a_submission_names_its_rows_only() {
        let rows = Rows::import(WRITTEN.as_bytes()).unwrap();
        let submission = rows.submission([3; 32], Provenance::Original, [0; 32], Licence::ALL);
        assert_eq!(submission.rows, 2);
        assert_eq!(
            submission.bytes,
            "Ada wrote.\nWho wrote?\nAda wrote.".len() as u64 + 3
        );
        assert!(rows.are_of(&submission));
        let other = Rows::new([Row::new("Two", []).unwrap()]).unwrap();
        assert!(!other.are_of(&submission));
        let turned = Rows::new(rows.as_slice().iter().rev().cloned()).unwrap();
        assert!(!turned.are_of(&submission));
    }
}
