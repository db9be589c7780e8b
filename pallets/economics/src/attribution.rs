//! Who is paid for an answer, and how much: the payout rule of span attribution (tier 0).
//!
//! Integers only: off chain and on chain compute the same lines to the unit.
//!
//! The score of a contribution is the unigram information, in millibits, of the kept spans of the
//! answer that stand in it; a span that stands in several contributions is divided equally among
//! them, what does not divide going to the lowest identifiers. With `S` the sum of all scores and
//! `s_ref` the reference information of an answer of this length, the data share paid is
//! `A = min(1, S / s_ref)` and a contribution's part of it `s / S`: together `s / max(S, s_ref)`.
//! What is not attributed is never spread over those who are.
//!
//! Two properties keep it from being gamed. Scores are sums over spans, so that dividing one's rows
//! among many identities divides the score and creates none: `clip` therefore bounds the span and
//! not the contribution, which an identity more would evade. And shares are rounded cumulatively in
//! the order of identifiers, so that any run of identifiers is paid exactly what one in its place
//! would be; identities scattered among others differ from that by less than one part per million
//! each.

use crate::split::share;
use alloc::{collections::BTreeMap, vec::Vec};
use openledger_primitives::{
    receipt::{Attribution, CreditReason},
    revision::AttributionParams,
    terms::PPM,
    Balance, ContributionId,
};

/// A span of an answer that is kept, and who holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldSpan {
    /// Unigram information of its tokens, millibits.
    pub millibits: u32,
    /// Contributions in whose rows it stands. Order and repetition do not matter.
    pub holders: Vec<ContributionId>,
}

/// What one contribution earns by one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreditAmount {
    /// The contribution.
    pub contribution: ContributionId,
    /// Why.
    pub reason: CreditReason,
    /// Planck.
    pub amount: Balance,
}

/// The lines of an answer of `output_tokens` tokens: sorted by contribution, none of zero, at most
/// `params.top`, together at most one million parts.
///
/// Spans below `params.min_millibits` and spans that nobody holds count nothing. Contributions
/// beyond the top are not paid and their part is not given to others.
pub fn attribute_spans(
    spans: &[HeldSpan],
    output_tokens: u32,
    params: &AttributionParams,
) -> Vec<Attribution> {
    let reference =
        u128::from(params.reference_millibits).saturating_mul(u128::from(output_tokens));
    let clip = share(reference, params.clip_ppm);
    let scores = scores(spans, params.min_millibits, clip);

    // Both sides of the fraction carry the factor α in parts per million.
    let alpha = u128::from(params.alpha_ppm.min(PPM));
    let sum = scores
        .values()
        .fold(0u128, |sum, score| sum.saturating_add(*score));
    let whole = sum
        .saturating_mul(alpha)
        .max(reference.saturating_mul(PPM.into()));
    let paid = top(&scores, params.top);

    let mut below = 0u128;
    let mut lines = Vec::new();
    for (contribution, score) in scores {
        let from = ppm_of(below, alpha, whole);
        below = below.saturating_add(score);
        let ppm = ppm_of(below, alpha, whole).saturating_sub(from);
        if ppm > 0 && paid.contains(&contribution) {
            lines.push(Attribution {
                contribution,
                ppm,
                reason: CreditReason::Span,
            });
        }
    }
    lines
}

/// What the lines of one answer credit: ⌊contributors' part × ppm / 1,000,000⌋ each, planck, lines
/// of nothing left out. Their sum is at most `contributors_part` when the parts sum to at most one
/// million.
pub fn credit_amounts(contributors_part: Balance, lines: &[Attribution]) -> Vec<CreditAmount> {
    lines
        .iter()
        .map(|line| CreditAmount {
            contribution: line.contribution,
            reason: line.reason,
            amount: share(contributors_part, line.ppm),
        })
        .filter(|credit| credit.amount > 0)
        .collect()
}

/// Millibits of each contribution that holds a span.
fn scores(spans: &[HeldSpan], min_millibits: u32, clip: u128) -> BTreeMap<ContributionId, u128> {
    let mut scores = BTreeMap::new();
    for span in spans {
        if span.millibits < min_millibits {
            continue;
        }
        let mut holders = span.holders.clone();
        holders.sort_unstable();
        holders.dedup();
        let worth = u128::from(span.millibits).min(clip);
        let count = holders.len() as u128;
        let each = worth.checked_div(count).unwrap_or(0);
        let mut rest = worth.checked_rem(count).unwrap_or(0);
        for holder in holders {
            let extra = rest.min(1);
            rest = rest.saturating_sub(extra);
            let score: &mut u128 = scores.entry(holder).or_default();
            *score = score.saturating_add(each).saturating_add(extra);
        }
    }
    scores
}

/// The `count` contributions of the highest scores, the lower identifier first among equals; sorted.
fn top(scores: &BTreeMap<ContributionId, u128>, count: u16) -> Vec<ContributionId> {
    let mut ranked: Vec<(u128, ContributionId)> =
        scores.iter().map(|(id, score)| (*score, *id)).collect();
    ranked.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    ranked.truncate(count.into());
    let mut ids: Vec<ContributionId> = ranked.into_iter().map(|(_, id)| id).collect();
    ids.sort_unstable();
    ids
}

/// Parts per million that `score` is of `whole`, rounded down; zero of nothing.
fn ppm_of(score: u128, alpha: u128, whole: u128) -> u32 {
    score
        .saturating_mul(alpha)
        .saturating_mul(PPM.into())
        .checked_div(whole)
        .and_then(|ppm| u32::try_from(ppm).ok())
        .unwrap_or(0)
        .min(PPM)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    fn span(millibits: u32, holders: &[ContributionId]) -> HeldSpan {
        HeldSpan {
            millibits,
            holders: holders.to_vec(),
        }
    }

    fn params() -> AttributionParams {
        AttributionParams {
            min_millibits: 1_000,
            ..AttributionParams::default()
        }
    }

    fn lines(spans: &[HeldSpan], tokens: u32) -> Vec<(ContributionId, u32)> {
        attribute_spans(spans, tokens, &params())
            .iter()
            .map(|line| (line.contribution, line.ppm))
            .collect()
    }

    /// Vectors that any other implementation must reproduce. At the default reference of 2,000
    /// millibits a token.
    #[test]
    fn vectors() {
        // Nothing found, nothing paid.
        assert_eq!(lines(&[], 10), vec![]);
        assert_eq!(lines(&[span(50_000, &[])], 10), vec![]);
        // Below the least information.
        assert_eq!(lines(&[span(999, &[1])], 10), vec![]);
        // 10,000 of 20,000 millibits: half is paid, half is not attributed.
        assert_eq!(lines(&[span(10_000, &[4])], 10), vec![(4, 500_000)]);
        // More than the reference: all of it, in proportion.
        assert_eq!(
            lines(&[span(20_000, &[4]), span(10_000, &[2])], 10),
            vec![(2, 333_333), (4, 666_667)]
        );
        // A shared span is divided; 10,001 = 5,001 + 5,000.
        assert_eq!(
            lines(&[span(10_001, &[9, 3, 9])], 10),
            vec![(3, 250_050), (9, 250_000)]
        );
        // A third each of everything: rounding is cumulative, nothing is lost.
        assert_eq!(
            lines(&[span(15_000, &[1, 2, 3]), span(15_000, &[2, 1, 3])], 10),
            vec![(1, 333_333), (2, 333_333), (3, 333_334)]
        );
        // One span counts at most the reference.
        assert_eq!(
            lines(&[span(4_000_000, &[1]), span(20_000, &[2])], 10),
            vec![(1, 500_000), (2, 500_000)]
        );
        // Half weight on spans.
        let half = AttributionParams {
            alpha_ppm: 500_000,
            ..params()
        };
        let halved = attribute_spans(&[span(10_000, &[4])], 10, &half);
        assert_eq!(halved[0].ppm, 250_000);
        assert_eq!(attribute_spans(&[span(10_000, &[4])], 0, &params()), vec![]);
    }

    #[test]
    fn amounts_are_floored() {
        let line = |contribution, ppm| Attribution {
            contribution,
            ppm,
            reason: CreditReason::Span,
        };
        let amounts = |part| -> Vec<_> {
            credit_amounts(part, &[line(1, 333_333), line(2, 666_667), line(3, 0)])
                .iter()
                .map(|credit| (credit.contribution, credit.amount))
                .collect()
        };
        assert_eq!(amounts(1_000), vec![(1, 333), (2, 666)]);
        assert_eq!(amounts(2), vec![(2, 1)]);
        assert_eq!(amounts(0), vec![]);
        let most = amounts(u128::MAX);
        assert!(most[0].1.checked_add(most[1].1).is_some() && most[1].1 > u128::MAX / 2);
    }

    #[test]
    fn those_beyond_the_top_are_not_paid_and_nobody_gets_their_part() {
        let spans: Vec<_> = (0..4).map(|id| span(10_000 + id as u32, &[id])).collect();
        let two = AttributionParams { top: 2, ..params() };
        let all = attribute_spans(&spans, 10, &params());
        let some = attribute_spans(&spans, 10, &two);
        assert_eq!(some, all[2..]);
    }

    /// Nobody is paid for an answer that repeats what everybody holds more than for a fact of theirs.
    #[test]
    fn junk_dilution() {
        let alone = lines(&[span(40_000, &[1])], 10);
        let mut holders: Vec<ContributionId> = (0..100).collect();
        holders.push(1);
        let with_junk = lines(&[span(40_000, &[1]), span(1_000, &holders)], 10);
        assert_eq!(alone, vec![(1, 1_000_000)]);
        assert!(with_junk.iter().any(|(id, ppm)| *id == 1 && *ppm > 950_000));
    }

    fn spans(ids: u64) -> impl Strategy<Value = Vec<HeldSpan>> {
        let one = (0u32..90_000, prop::collection::vec(0..ids, 0..6))
            .prop_map(|(millibits, holders)| span(millibits, &holders));
        prop::collection::vec(one, 0..24)
    }

    fn total(lines: &[Attribution]) -> u64 {
        lines.iter().map(|line| u64::from(line.ppm)).sum()
    }

    proptest! {
        #[test]
        fn lines_are_sorted_and_never_above_the_whole(
            spans in spans(40), tokens in 0u32..400, top in 0u16..40, part in any::<u128>(),
            alpha in 0u32..=PPM, clip in 0u32..=PPM,
        ) {
            let params = AttributionParams { alpha_ppm: alpha, clip_ppm: clip, top, ..params() };
            let lines = attribute_spans(&spans, tokens, &params);
            prop_assert!(lines.windows(2).all(|pair| pair[0].contribution < pair[1].contribution));
            prop_assert!(lines.iter().all(|line| line.ppm > 0));
            prop_assert!(lines.len() <= usize::from(top));
            prop_assert!(total(&lines) <= u64::from(PPM));
            let credited: Option<u128> = credit_amounts(part, &lines).iter()
                .try_fold(0u128, |sum, credit| sum.checked_add(credit.amount));
            prop_assert!(credited.is_some_and(|sum| sum <= part));
        }

        #[test]
        fn row_permutation(spans in spans(20), tokens in 0u32..400, turn in 0usize..24) {
            let mut turned = spans.clone();
            let by = turn.min(turned.len());
            turned.rotate_left(by);
            for span in &mut turned {
                span.holders.reverse();
            }
            prop_assert_eq!(lines(&spans, tokens), lines(&turned, tokens));
        }

        /// One account against the same rows over 2, 5 and 50: the ratio is exactly one.
        #[test]
        fn sybil_split(spans in spans(12), tokens in 1u32..400, attacker in 0u64..12) {
            let unbounded = AttributionParams { top: u16::MAX, ..params() };
            for identities in [2u64, 5, 50] {
                let place = |id: u64| id * 100;
                let honest: Vec<_> = spans.iter().map(|one| {
                    let holders: Vec<_> = one.holders.iter().map(|id| place(*id)).collect();
                    span(one.millibits, &holders)
                }).collect();
                // Each passage stands in one row, and each row goes to one of the identities.
                let split: Vec<_> = honest.iter().enumerate().map(|(row, one)| {
                    let holders: Vec<_> = one.holders.iter().map(|id| {
                        if *id == place(attacker) { id + row as u64 % identities } else { *id }
                    }).collect();
                    span(one.millibits, &holders)
                }).collect();
                let before = attribute_spans(&honest, tokens, &unbounded);
                let after = attribute_spans(&split, tokens, &unbounded);
                let of = |lines: &[Attribution], ours: bool| -> u64 {
                    let range = place(attacker)..place(attacker) + identities;
                    lines.iter().filter(|line| range.contains(&line.contribution) == ours)
                        .map(|line| u64::from(line.ppm)).sum()
                };
                prop_assert_eq!(of(&before, true), of(&after, true));
                let others = |lines: &[Attribution]| -> Vec<Attribution> {
                    lines.iter().filter(|line| {
                        !(place(attacker)..place(attacker) + identities).contains(&line.contribution)
                    }).copied().collect()
                };
                prop_assert_eq!(others(&before), others(&after));
                prop_assert_eq!(of(&before, false), of(&after, false));
            }
        }

        /// Repeating one's own rows inside a contribution earns nothing more.
        #[test]
        fn self_duplicate(spans in spans(12), tokens in 1u32..400, times in 2usize..6) {
            let repeated: Vec<_> = spans.iter().map(|one| {
                span(one.millibits, &one.holders.repeat(times))
            }).collect();
            prop_assert_eq!(lines(&spans, tokens), lines(&repeated, tokens));
        }
    }
}
