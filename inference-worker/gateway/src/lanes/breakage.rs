//! What a worker charged for text that did not come, and how much of that is put up with.
//!
//! An answer that breaks off may have had tokens under way, so its receipt may charge up to
//! [`UNDER_WAY`] output tokens beyond those that came. What it charges beyond those, and for the
//! prompt, is *lost*. All that is lost to a worker stays within one part in [`PART`] of what was
//! charged for whole answers and for text that came, and [`ANSWERS`] answers as dear as the dearest
//! that broke off, this one included:
//!
//! ```text
//! lost + this ≤ delivered / 25 + 8 × max over broken answers of fee(prompt, 128)
//! ```
//!
//! It is counted in planck, so that cheap answers that come whole earn nothing for dear ones that do
//! not, and by worker, so that neither another lane nor another channel begins it anew.

use super::{Owed, Pending};
use crate::voucher::Terms;
use openledger_economics::receipt_fee;
use openledger_primitives::{
    receipt::{Outcome, Receipt},
    Balance,
};
use parity_scale_codec::{Decode, Encode};

/// Output tokens that may have been under way, and charged, when an answer broke off.
pub const UNDER_WAY: u32 = 128;
/// Of what was charged for what came, one part in so many may be lost.
pub const PART: Balance = 25;
/// Answers that may be lost beside that part.
pub const ANSWERS: Balance = 8;

/// A sum of charges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Charged {
    /// Output tokens.
    pub tokens: u64,
    /// Planck, prompts included.
    pub fee: Balance,
}

impl Charged {
    fn plus(self, tokens: u32, fee: Balance) -> Self {
        Charged {
            tokens: self.tokens.saturating_add(tokens.into()),
            fee: self.fee.saturating_add(fee),
        }
    }
}

/// The charges of one worker that this gateway acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Breakage {
    /// For whole answers, and for the text of others that came.
    pub delivered: Charged,
    /// For text that did not come, and for prompts of answers that broke off.
    pub lost: Charged,
    /// Answers that broke off and were charged.
    pub answers: u64,
    /// What the dearest of these may have been charged when nothing came: its prompt and
    /// [`UNDER_WAY`] output tokens, planck.
    pub dearest: Balance,
}

/// How much of an answer came, for the worker's account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// All of it, checked.
    Whole,
    /// A part; the worker, or the way to it, broke it off, or this program ended before it did.
    Part {
        /// Output tokens that came.
        delivered: u32,
        /// Prompt tokens under the voucher.
        tokens_in: u32,
        /// Terms of the voucher.
        terms: Terms,
    },
    /// What the worker does not answer for: the client left, or the gateway's owner pays knowingly.
    Aside,
}

impl Came {
    /// What came under a voucher that is settled by the worker's report.
    pub fn under(pending: &Pending) -> Self {
        let delivered = match pending.owed {
            Owed::Signed => 0,
            Owed::Broken(delivered) => delivered,
            Owed::AtMost(_) | Owed::Nothing => return Came::Aside,
        };
        Came::Part {
            delivered,
            tokens_in: pending.tokens_in,
            terms: pending.terms,
        }
    }

    /// What came of an answer of so many output tokens that was received to its end. A worker that
    /// broke it off of itself earns nothing by it; where the request may have made it
    /// (`is_excused`), it answers for nothing either, or whoever asks could have lanes parked.
    pub fn received(outcome: Outcome, delivered: u32, pending: &Pending, is_excused: bool) -> Self {
        match outcome {
            Outcome::Cancelled if is_excused => Came::Aside,
            Outcome::Cancelled => Came::Part {
                delivered,
                tokens_in: pending.tokens_in,
                terms: pending.terms,
            },
            Outcome::Complete | Outcome::Length | Outcome::Failed => Came::Whole,
        }
    }
}

/// More would be lost to a worker than is put up with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer broke off and its receipt charges {charged} planck for what did not come; {lost} planck were lost to the worker in this way before, and {limit} may be (1/{PART} of what it charged for what came, and {ANSWERS} answers as dear as the dearest that broke off)")]
pub struct Overdrawn {
    /// Planck that this receipt charges for what did not come.
    pub charged: Balance,
    /// Planck lost before.
    pub lost: Balance,
    /// Planck that may be lost.
    pub limit: Balance,
}

impl Breakage {
    /// The account after a receipt is acknowledged.
    ///
    /// # Errors
    /// [`Overdrawn`] when the receipt must not be.
    pub fn after(self, receipt: &Receipt, came: &Came) -> Result<Self, Overdrawn> {
        match *came {
            Came::Aside => Ok(self),
            Came::Whole => Ok(Breakage {
                delivered: self.delivered.plus(receipt.tokens_out, receipt.fee),
                ..self
            }),
            Came::Part {
                delivered,
                tokens_in,
                terms,
            } => {
                // A fee that does not fit leaves nothing to the worker.
                let fee = |tokens_in, tokens_out| {
                    receipt_fee(tokens_in, tokens_out, terms.price_in, terms.price_out)
                        .unwrap_or_default()
                };
                let came = delivered.min(receipt.tokens_out);
                let paid = fee(0, came).min(receipt.fee);
                let charged = receipt.fee.saturating_sub(paid);
                let dearest = self.dearest.max(fee(tokens_in, UNDER_WAY));
                let limit =
                    (self.delivered.fee / PART).saturating_add(ANSWERS.saturating_mul(dearest));
                if charged > 0 && self.lost.fee.saturating_add(charged) > limit {
                    return Err(Overdrawn {
                        charged,
                        lost: self.lost.fee,
                        limit,
                    });
                }
                let missing = receipt.tokens_out.saturating_sub(came);
                Ok(Breakage {
                    delivered: self.delivered.plus(came, paid),
                    lost: self.lost.plus(missing, charged),
                    answers: self.answers.saturating_add(u64::from(charged > 0)),
                    dearest,
                })
            }
        }
    }
}
