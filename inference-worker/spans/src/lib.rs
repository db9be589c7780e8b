//! Span attribution: a suffix-array index over Datanet versions and its search.
//!
//! The corpus of a revision is the texts of all rows of its versions, each followed by a separator,
//! as token ids of the base model. For every position of an answer one search finds the longest
//! passage from there that stands in the corpus; passages not inside a longer one are *maximal*,
//! and those with enough unigram information are kept. What they are worth to whom is the payout
//! rule of `openledger_economics::attribution`.
//!
//! An index is a folder of little-endian files, described by `index.json`:
//!
//! | file | holds |
//! | --- | --- |
//! | `text.bin` | token ids, `u16` below 65,536 ids, else `u32`; the separator is the id after the last |
//! | `suffixes.bin` | suffix array, `u32` |
//! | `previous.bin` | for each suffix, 1 + the place of the one before it of the same contribution, `u32`; 0 for the first |
//! | `unigrams.bin` | −log₂ p of each token id in millibits, `u32` |
//! | `rows.bin` | for each row: first position, row, datanet, version `u32`; contribution `u64` |
//!
//! `previous.bin` lists the distinct contributions of an interval of the suffix array in time that
//! grows with their number and not with the occurrences (Muthukrishnan 2002). With 16-bit ids an
//! index takes 10 bytes a token.

mod bits;
mod builder;
mod error;
mod format;
mod index;
mod listing;
mod search;

pub use builder::{Builder, MAX_TOKENS};
pub use error::SpanError;
pub use format::{RowKey, VersionRef, HEADER};
pub use index::Index;
pub use search::{Holder, Source, Span, KEPT_AT_LEAST};
