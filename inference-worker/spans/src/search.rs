//! Finding the passages of an answer that stand in the corpus, and who holds them.

use crate::{format::RowKey, index::Index};
use openledger_economics::attribution::{attribute_spans, HeldSpan};
use openledger_primitives::{receipt::Attribution, revision::AttributionParams, ContributionId};
use std::cmp::Ordering;

/// Spans that are kept of any answer at least; above 160 tokens, a twentieth of its tokens.
pub const KEPT_AT_LEAST: usize = 8;

/// A passage of an answer that stands in the corpus and in no longer one that does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// First token of the answer.
    pub start: usize,
    /// Tokens.
    pub length: usize,
    /// Unigram information, millibits.
    pub millibits: u32,
    /// Who holds it, sorted by contribution.
    pub holders: Vec<Holder>,
}

/// A contribution that holds a span, and one place where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The contribution.
    pub contribution: ContributionId,
    /// A row of it in which the span stands.
    pub source: Source,
}

/// A passage of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The row.
    pub row: RowKey,
    /// Which text of the row, from 0 in the order in which they were indexed, empty ones not counted.
    pub text: usize,
    /// First token of the passage in that text.
    pub offset: usize,
}

impl Index {
    /// The spans of an answer that count: maximal, with at least `min_millibits`, the most
    /// informative ⌈tokens / 20⌉ but [`KEPT_AT_LEAST`] at least. Sorted by information, the most
    /// first; among equals by start.
    pub fn match_output(&self, output: &[u32], min_millibits: u32) -> Vec<Span> {
        let mut kept: Vec<(u32, usize, usize)> = self
            .maximal_spans(output)
            .into_iter()
            .map(|(start, length)| {
                let tokens = output.get(start..start + length).unwrap_or_default();
                (self.information_of(tokens), start, length)
            })
            .filter(|(millibits, ..)| *millibits >= min_millibits)
            .collect();
        kept.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        kept.truncate(output.len().div_ceil(20).max(KEPT_AT_LEAST));
        kept.into_iter()
            .map(|(millibits, start, length)| Span {
                start,
                length,
                millibits,
                holders: self.holders(output.get(start..start + length).unwrap_or_default()),
            })
            .collect()
    }

    /// The attribution lines of an answer of these tokens, and the spans they follow from.
    ///
    /// `output_tokens` is what the receipt charges: with it the reference is checked by others.
    pub fn attribute(
        &self,
        output: &[u32],
        output_tokens: u32,
        params: &AttributionParams,
    ) -> (Vec<Attribution>, Vec<Span>) {
        let spans = self.match_output(output, params.min_millibits);
        let held: Vec<HeldSpan> = spans
            .iter()
            .map(|span| HeldSpan {
                millibits: span.millibits,
                holders: span.holders.iter().map(|h| h.contribution).collect(),
            })
            .collect();
        (attribute_spans(&held, output_tokens, params), spans)
    }

    /// Unigram information of tokens, millibits.
    pub fn information_of(&self, tokens: &[u32]) -> u32 {
        tokens
            .iter()
            .fold(0u32, |sum, id| sum.saturating_add(self.information(*id)))
    }

    /// (start, length) of every passage that stands in the corpus and is not inside a longer one, in
    /// order. One search a token.
    pub(crate) fn maximal_spans(&self, output: &[u32]) -> Vec<(usize, usize)> {
        let mut spans = Vec::new();
        let mut reached = 0usize;
        for start in 0..output.len() {
            let length = self.longest_prefix(known(output.get(start..), self.vocabulary()));
            if length > 0 && start + length > reached {
                spans.push((start, length));
            }
            reached = reached.max(start + length);
        }
        spans
    }

    /// Length of the longest prefix of `query` that stands in the corpus: the longer common prefix
    /// with the two neighbours of where the query would stand in the suffix array.
    fn longest_prefix(&self, query: &[u32]) -> usize {
        let place = self.lower_bound(query);
        let neighbour = |place: Option<usize>| {
            place
                .filter(|place| *place < self.positions())
                .map_or(0, |place| self.common_prefix(query, place).0)
        };
        neighbour(place.checked_sub(1)).max(neighbour(Some(place)))
    }

    /// Who holds a passage.
    fn holders(&self, passage: &[u32]) -> Vec<Holder> {
        let from = self.lower_bound(passage);
        let to = self.upper_bound(passage);
        let mut holders = Vec::new();
        self.list_owners(from, to, &mut |place| {
            let position = self.suffix(place);
            if let Some((start, row)) = self.row_at(position) {
                let (text, offset) = self.text_and_offset(start as usize, position as usize);
                holders.push(Holder {
                    contribution: row.contribution,
                    source: Source { row, text, offset },
                });
            }
        });
        holders.sort_by_key(|holder| holder.contribution);
        holders.dedup_by_key(|holder| holder.contribution);
        holders
    }

    /// Which text of the row that begins at `start` holds `position`, and where in it.
    fn text_and_offset(&self, start: usize, position: usize) -> (usize, usize) {
        let separator = self.vocabulary();
        let before = (start..position).rev();
        let offset = before
            .clone()
            .take_while(|at| self.token(*at) != Some(separator))
            .count();
        let text = before
            .filter(|at| self.token(*at) == Some(separator))
            .count();
        (text, offset)
    }

    /// Places before which every suffix is below the query.
    fn lower_bound(&self, query: &[u32]) -> usize {
        self.partition(|place| self.common_prefix(query, place).1 == Ordering::Less)
    }

    /// Places before which every suffix is below the query or begins with it.
    fn upper_bound(&self, query: &[u32]) -> usize {
        self.partition(|place| {
            let (common, order) = self.common_prefix(query, place);
            order == Ordering::Less || common == query.len()
        })
    }

    fn partition(&self, below: impl Fn(usize) -> bool) -> usize {
        let (mut from, mut to) = (0usize, self.positions());
        while from < to {
            let middle = from + (to - from) / 2;
            if below(middle) {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        from
    }

    /// Common prefix of the query with the suffix at a place, and the suffix's order against the
    /// query. A suffix that begins with the query is not below it.
    fn common_prefix(&self, query: &[u32], place: usize) -> (usize, Ordering) {
        let position = self.suffix(place) as usize;
        for (offset, wanted) in query.iter().enumerate() {
            match self.token(position + offset) {
                Some(found) if found == *wanted => {}
                Some(found) => return (offset, found.cmp(wanted)),
                None => return (offset, Ordering::Less),
            }
        }
        (query.len(), Ordering::Greater)
    }
}

/// The tokens up to the first that the vocabulary does not have.
fn known(tokens: Option<&[u32]>, vocabulary: u32) -> &[u32] {
    let tokens = tokens.unwrap_or_default();
    let end = tokens.iter().position(|id| *id >= vocabulary);
    tokens
        .get(..end.unwrap_or(tokens.len()))
        .unwrap_or_default()
}
