//! What tokens cost, and which sums of fees are possible for sums of tokens.

use openledger_primitives::Balance;

/// Tokens that a price is quoted for.
pub const PRICED_TOKENS: Balance = 1_000;

/// Thousandths of a planck that tokens cost: in · price_in + out · price_out, prices in planck per
/// 1,000 tokens; `None` on overflow.
pub fn milli_fee(
    tokens_in: u64,
    tokens_out: u64,
    price_in: Balance,
    price_out: Balance,
) -> Option<Balance> {
    let input = Balance::from(tokens_in).checked_mul(price_in)?;
    let output = Balance::from(tokens_out).checked_mul(price_out)?;
    input.checked_add(output)
}

/// Fee of one receipt, planck: ⌊(in · price_in + out · price_out) / 1000⌋; `None` on overflow.
pub fn receipt_fee(
    tokens_in: u32,
    tokens_out: u32,
    price_in: Balance,
    price_out: Balance,
) -> Option<Balance> {
    milli_fee(tokens_in.into(), tokens_out.into(), price_in, price_out)?.checked_div(PRICED_TOKENS)
}

/// Whether `count` receipts over so many tokens in all can sum to `fee`. Each receipt's fee is
/// floored on its own, so the sum is at most ⌊total/1000⌋ and misses total/1000 by at most 999/1000
/// of a planck a receipt. `false` on overflow.
pub fn fee_is_possible(
    fee: Balance,
    count: u32,
    tokens_in: u64,
    tokens_out: u64,
    price_in: Balance,
    price_out: Balance,
) -> bool {
    let Some(total) = milli_fee(tokens_in, tokens_out, price_in, price_out) else {
        return false;
    };
    let most_lost = Balance::from(count).saturating_mul(PRICED_TOKENS.saturating_sub(1));
    fee.checked_mul(PRICED_TOKENS)
        .and_then(|charged| total.checked_sub(charged))
        .is_some_and(|lost| lost <= most_lost)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// (tokens in, tokens out, price in, price out, fee).
    const VECTORS: [(u32, u32, Balance, Balance, Option<Balance>); 7] = [
        (0, 0, 1, 1, Some(0)),
        (999, 0, 1, 0, Some(0)),
        (1_000, 0, 1, 0, Some(1)),
        (600, 400, 1, 1, Some(1)),
        (37, 256, 2_000_000_000, 8_000_000_000, Some(2_122_000_000)),
        (1, 0, u128::MAX, 0, Some(u128::MAX / 1_000)),
        (1, 1, u128::MAX, 1, None),
    ];

    #[test]
    fn receipts_cost_what_the_vectors_say() {
        for (tokens_in, tokens_out, price_in, price_out, fee) in VECTORS {
            assert_eq!(receipt_fee(tokens_in, tokens_out, price_in, price_out), fee);
        }
    }

    #[test]
    fn a_fee_off_by_one_planck_is_impossible() {
        // One receipt of 37 in, 256 out: exact.
        assert!(fee_is_possible(2_122, 1, 37, 256, 2_000, 8_000));
        assert!(!fee_is_possible(2_123, 1, 37, 256, 2_000, 8_000));
        assert!(!fee_is_possible(2_121, 1, 37, 256, 2_000, 8_000));
        // No receipt, no fee and no tokens.
        assert!(fee_is_possible(0, 0, 0, 0, 1, 1));
        assert!(!fee_is_possible(0, 0, 1, 0, 1, 0));
        assert!(!fee_is_possible(0, 1, u64::MAX, 0, u128::MAX, 0));
        assert!(!fee_is_possible(u128::MAX, 1, 1, 0, 1, 0));
    }

    proptest! {
        #[test]
        fn honest_sums_are_possible(
            receipts in prop::collection::vec((0u32..5_000, 0u32..5_000), 0..40),
            price_in in 0u128..1_000_000,
            price_out in 0u128..1_000_000,
        ) {
            let (mut fee, mut tokens_in, mut tokens_out) = (0, 0u64, 0u64);
            for (input, output) in &receipts {
                fee += receipt_fee(*input, *output, price_in, price_out).unwrap();
                tokens_in += u64::from(*input);
                tokens_out += u64::from(*output);
            }
            let count = receipts.len() as u32;
            let possible = |fee| fee_is_possible(fee, count, tokens_in, tokens_out, price_in, price_out);
            prop_assert!(possible(fee));
            // Above the floor of the whole, never.
            let most = milli_fee(tokens_in, tokens_out, price_in, price_out).unwrap() / 1_000;
            prop_assert!(!possible(most + 1));
        }
    }
}
