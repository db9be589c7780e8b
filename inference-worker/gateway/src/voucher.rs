//! Vouchers and what they may cost.

use crate::GatewayError;
use openledger_economics::receipt_fee;
use openledger_primitives::{
    voucher::{request_commit, EvidenceClass, Voucher},
    Balance, BlockNumber, ChannelId, Digest, LaneIndex, RevisionId, Sequence, TermsIndex,
    FORMAT_VERSION,
};
use parity_scale_codec::{Decode, Encode};

/// Output tokens under one voucher: the most that is ever in doubt on a lane.
pub const CHUNK: u32 = 256;

/// Terms of a revision as they were when the request began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Terms {
    /// Index on chain.
    pub index: TermsIndex,
    /// Planck per 1,000 prompt tokens.
    pub price_in: Balance,
    /// Planck per 1,000 output tokens.
    pub price_out: Balance,
}

impl Terms {
    /// What so many tokens cost, planck.
    pub fn fee(&self, tokens_in: u32, tokens_out: u32) -> Result<Balance, GatewayError> {
        receipt_fee(tokens_in, tokens_out, self.price_in, self.price_out).ok_or_else(|| {
            GatewayError::bad(
                "price_overflow",
                "",
                "the fee of this request does not fit 128 bits",
            )
        })
    }
}

/// What the gateway's owner pays at most, planck per 1,000 tokens; no limit where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MaxPrice {
    /// For prompt tokens.
    pub input: Option<Balance>,
    /// For output tokens.
    pub output: Option<Balance>,
}

impl MaxPrice {
    /// Refuses terms that cost more.
    ///
    /// # Errors
    /// [`GatewayError::TooDear`].
    pub fn check(&self, model: &str, terms: &Terms) -> Result<(), GatewayError> {
        for (price, limit, of, option) in [
            (terms.price_in, self.input, "prompt", "--max-price-in"),
            (terms.price_out, self.output, "output", "--max-price-out"),
        ] {
            if let Some(limit) = limit.filter(|limit| price > *limit) {
                return Err(GatewayError::TooDear {
                    model: model.to_owned(),
                    price,
                    limit,
                    of,
                    option,
                });
            }
        }
        Ok(())
    }
}

/// Where a lane stands: what the next voucher builds on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Position {
    /// Sequence of the last receipt accepted; zero before the first.
    pub sequence: Sequence,
    /// Hash of that receipt; zero before the first.
    pub receipt: Digest,
    /// Cumulative charge after it, planck.
    pub cumulative: Balance,
}

/// What a voucher is for.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// Signing domain.
    pub domain: Digest,
    /// Channel.
    pub channel: ChannelId,
    /// Lane.
    pub lane: LaneIndex,
    /// Revision that must answer.
    pub revision: RevisionId,
    /// Terms that price it.
    pub terms: Terms,
    /// Prompt tokens; zero when an answer goes on.
    pub tokens_in: u32,
    /// Most output tokens, at most [`CHUNK`].
    pub max_out: u32,
    /// How the answer may be audited.
    pub evidence: EvidenceClass,
    /// Last block at which work may start.
    pub expiry: BlockNumber,
    /// Body of the request.
    pub body: &'a [u8],
    /// Salt of its commitment.
    pub salt: [u8; 32],
}

/// The voucher that follows `position` for `order`.
pub fn voucher(position: &Position, order: &Order<'_>) -> Result<Voucher, GatewayError> {
    let sequence = position.sequence.checked_add(1).ok_or_else(|| {
        GatewayError::Data("the lane's sequence is used up; use another lane".into())
    })?;
    Ok(Voucher {
        version: FORMAT_VERSION,
        domain: order.domain,
        channel: order.channel,
        lane: order.lane,
        sequence,
        prev_receipt: position.receipt,
        prev_cum: position.cumulative,
        max_fee: order.terms.fee(order.tokens_in, order.max_out)?,
        revision: order.revision,
        terms: order.terms.index,
        agent: None,
        request_commit: request_commit(&order.salt, order.body),
        chunk: CHUNK,
        max_in: order.tokens_in,
        max_out: order.max_out,
        evidence: order.evidence,
        expiry: order.expiry,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_costs_more_than_allowed_is_refused() {
        let terms = Terms {
            index: 0,
            price_in: 10,
            price_out: 20,
        };
        assert!(MaxPrice::default().check("m", &terms).is_ok());
        let limits = |input, output| MaxPrice {
            input: Some(input),
            output: Some(output),
        };
        assert!(limits(10, 20).check("m", &terms).is_ok());
        for (limits, option) in [
            (limits(9, 20), "--max-price-in"),
            (limits(10, 19), "--max-price-out"),
        ] {
            let error = limits.check("m", &terms).unwrap_err();
            assert_eq!((error.status(), error.code()), (402, "price_above_limit"));
            assert!(error.to_string().contains(option), "{error}");
        }
    }

    #[test]
    fn a_voucher_builds_on_the_last_receipt_and_covers_the_most_it_may_cost() {
        let position = Position {
            sequence: 4,
            receipt: [4; 32],
            cumulative: 1_000,
        };
        let order = Order {
            domain: [9; 32],
            channel: 7,
            lane: 2,
            revision: 3,
            terms: Terms {
                index: 1,
                price_in: 2_000,
                price_out: 10_000,
            },
            tokens_in: 12,
            max_out: 100,
            evidence: EvidenceClass::Open,
            expiry: 50,
            body: b"{}",
            salt: [1; 32],
        };
        let voucher = voucher(&position, &order).unwrap();
        assert_eq!((voucher.sequence, voucher.prev_cum), (5, 1_000));
        assert_eq!(voucher.prev_receipt, [4; 32]);
        assert_eq!(voucher.max_fee, 24 + 1_000);
        assert_eq!(voucher.request_commit, request_commit(&[1; 32], b"{}"));
        assert!(super::voucher(
            &Position {
                sequence: u64::MAX,
                ..position
            },
            &order
        )
        .is_err());
    }
}
