//! The files of an index.

use crate::error::{corrupt, SpanError};
use openledger_primitives::{ContributionId, DatanetId, Digest, VersionIndex};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub(crate) const FORMAT: u32 = 1;
/// The file of an index that holds the digests of the others.
pub const HEADER: &str = "index.json";
pub(crate) const TEXT: &str = "text.bin";
pub(crate) const SUFFIXES: &str = "suffixes.bin";
pub(crate) const PREVIOUS: &str = "previous.bin";
pub(crate) const UNIGRAMS: &str = "unigrams.bin";
pub(crate) const ROWS: &str = "rows.bin";
pub(crate) const ROW_BYTES: usize = 24;

/// Where a row stands. Its order is the canonical order of the corpus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowKey {
    /// Datanet.
    pub datanet: DatanetId,
    /// Version of the Datanet.
    pub version: VersionIndex,
    /// Contribution of the version.
    pub contribution: ContributionId,
    /// Row of the contribution, from 0.
    pub row: u32,
}

/// A version that an index is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRef {
    /// Datanet.
    pub datanet: DatanetId,
    /// Version.
    pub version: VersionIndex,
    /// Root of the version.
    #[serde(with = "hex_digest")]
    pub root: Digest,
}

/// `index.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    pub format: u32,
    pub vocabulary: u32,
    #[serde(with = "hex_digest")]
    pub tokenizer: Digest,
    pub versions: Vec<VersionRef>,
    /// Positions of the text, separators included.
    pub positions: u32,
    pub rows: u32,
    pub files: BTreeMap<String, FileDigest>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileDigest {
    #[serde(with = "hex_digest")]
    pub digest: Digest,
    pub bytes: u64,
}

impl Header {
    /// Bytes of a token in `text.bin`.
    pub(crate) fn width(&self) -> usize {
        width(self.vocabulary)
    }

    /// The size that each file must have.
    pub(crate) fn sizes(&self) -> [(&'static str, u64); 5] {
        let positions = u64::from(self.positions);
        [
            (TEXT, positions * self.width() as u64),
            (SUFFIXES, positions * 4),
            (PREVIOUS, positions * 4),
            (UNIGRAMS, u64::from(self.vocabulary) * 4),
            (ROWS, u64::from(self.rows) * ROW_BYTES as u64),
        ]
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, SpanError> {
        let header: Header =
            serde_json::from_slice(bytes).map_err(|error| corrupt(HEADER, error.to_string()))?;
        if header.format != FORMAT {
            return Err(corrupt(HEADER, format!("format {}", header.format)));
        }
        if header.vocabulary == 0 || header.vocabulary > (1 << 31) - 2 {
            return Err(SpanError::Vocabulary(header.vocabulary));
        }
        if header.positions > crate::builder::MAX_TOKENS {
            return Err(SpanError::TooManyTokens);
        }
        for (name, bytes) in header.sizes() {
            let listed = header.files.get(name);
            if listed.is_none_or(|file| file.bytes != bytes) {
                return Err(corrupt(HEADER, format!("{name} must have {bytes} bytes")));
            }
        }
        Ok(header)
    }
}

/// Ids below 65,536 leave `u16::MAX` or less for the separator.
pub(crate) fn width(vocabulary: u32) -> usize {
    if vocabulary <= u32::from(u16::MAX) {
        2
    } else {
        4
    }
}

pub(crate) fn u32_at(bytes: &[u8], index: usize) -> Option<u32> {
    let from = index.checked_mul(4)?;
    let word = bytes.get(from..from.checked_add(4)?)?;
    Some(u32::from_le_bytes(word.try_into().ok()?))
}

mod hex_digest {
    use openledger_primitives::Digest;
    use serde::{de::Error, Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(digest: &Digest, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex::encode(digest))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Digest, D::Error> {
        let text = String::deserialize(from)?;
        let mut digest = Digest::default();
        hex::decode_to_slice(text, &mut digest).map_err(D::Error::custom)?;
        Ok(digest)
    }
}
