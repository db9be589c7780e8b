//! The bond of one account: its stored format and the transitions on it, free of any effect.

use crate::Refusal;
use frame_support::{traits::ConstU32, BoundedVec};
use openledger_primitives::{Balance, BlockNumber};
use parity_scale_codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use scale_info::TypeInfo;

/// Thaws that an account may have running.
pub const MAX_THAWS: u32 = 16;
/// Usable bond is at most this many times the own bond, so that delegations cannot replace it.
pub const LEVERAGE: Balance = 5;

/// Delegations: shares of a balance that stands in a keyless account, so that a slash changes one
/// number.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Encode,
    Decode,
    DecodeWithMemTracking,
    MaxEncodedLen,
    TypeInfo,
)]
pub struct Pool {
    /// Shares issued.
    pub shares: u128,
    /// What they are worth together, planck.
    pub balance: Balance,
}

/// Stake on its way out.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Encode,
    Decode,
    DecodeWithMemTracking,
    MaxEncodedLen,
    TypeInfo,
)]
pub struct Thaw {
    /// Block at which the thaw began.
    pub start: BlockNumber,
    /// Shares of the pool that thaw; 0 for own stake.
    pub shares: u128,
    /// Own stake that thaws, planck.
    pub balance: Balance,
}

/// Slashes announced and not yet applied.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Encode,
    Decode,
    DecodeWithMemTracking,
    MaxEncodedLen,
    TypeInfo,
)]
pub struct PendingSlashes {
    /// How many.
    pub count: u32,
    /// Their sum, planck.
    pub amount: Balance,
}

/// The bond of one account.
#[derive(
    Clone,
    Debug,
    Default,
    PartialEq,
    Eq,
    Encode,
    Decode,
    DecodeWithMemTracking,
    MaxEncodedLen,
    TypeInfo,
)]
pub struct Ledger {
    /// Own stake that does not thaw, planck. Together with what thaws it is on hold on the account.
    pub own: Balance,
    /// Stake that others delegated.
    pub pool: Pool,
    /// Thaws, the oldest first.
    pub thawing: BoundedVec<Thaw, ConstU32<MAX_THAWS>>,
    /// Part of the usable bond that is reserved for what the account could owe, planck.
    pub reserved: Balance,
    /// Slashes not yet applied. While there is one, nothing is withdrawn.
    pub pending_slashes: PendingSlashes,
    /// The bond answers for something before this block.
    pub last_liable: BlockNumber,
}

impl Ledger {
    /// Own and delegated stake that does not thaw, planck.
    pub fn total(&self) -> Balance {
        self.own.saturating_add(self.pool.balance)
    }

    /// Stake that counts for exposure: min(total, 5 × own), planck.
    pub fn usable(&self) -> Balance {
        self.total().min(self.own.saturating_mul(LEVERAGE))
    }

    /// Own stake that thaws, planck.
    pub fn thawing_own(&self) -> Balance {
        self.thawing
            .iter()
            .fold(0, |sum: Balance, thaw| sum.saturating_add(thaw.balance))
    }

    /// What is on hold on the account, planck.
    pub fn held(&self) -> Balance {
        self.own.saturating_add(self.thawing_own())
    }

    /// Whether nothing is left to keep.
    pub fn is_empty(&self) -> bool {
        self.held() == 0
            && self.pool == Pool::default()
            && self.thawing.is_empty()
            && self.reserved == 0
            && self.pending_slashes.count == 0
    }

    /// Adds own stake.
    pub fn bond(&mut self, amount: Balance) -> Result<(), Refusal> {
        if amount == 0 {
            return Err(Refusal::ZeroAmount);
        }
        self.own = self.own.checked_add(amount).ok_or(Refusal::Overflow)?;
        Ok(())
    }

    /// Begins to thaw own stake at block `now`. What is reserved must stay covered.
    pub fn thaw(&mut self, amount: Balance, now: BlockNumber) -> Result<(), Refusal> {
        if amount == 0 {
            return Err(Refusal::ZeroAmount);
        }
        let mut next = self.clone();
        next.own = next
            .own
            .checked_sub(amount)
            .ok_or(Refusal::MoreThanBonded)?;
        if next.usable() < next.reserved {
            return Err(Refusal::Reserved);
        }
        match next.thawing.last_mut() {
            // Thaws begun in one block end in one block.
            Some(last) if last.start == now && last.shares == 0 => {
                last.balance = last.balance.checked_add(amount).ok_or(Refusal::Overflow)?;
            }
            _ => next
                .thawing
                .try_push(Thaw {
                    start: now,
                    shares: 0,
                    balance: amount,
                })
                .map_err(|_| Refusal::TooManyThaws)?,
        }
        *self = next;
        Ok(())
    }

    /// Takes out own stake that thawed for `thaw` blocks. Returns planck to release.
    pub fn withdraw(&mut self, now: BlockNumber, thaw: BlockNumber) -> Result<Balance, Refusal> {
        if self.pending_slashes.count > 0 {
            return Err(Refusal::SlashPending);
        }
        let ripe = |entry: &Thaw| entry.shares == 0 && entry.start.saturating_add(thaw) <= now;
        let amount = self
            .thawing
            .iter()
            .filter(|entry| ripe(entry))
            .fold(0, |sum: Balance, entry| sum.saturating_add(entry.balance));
        if amount == 0 {
            return Err(Refusal::NothingToWithdraw);
        }
        if now < self.last_liable {
            return Err(Refusal::Liable);
        }
        self.thawing.retain(|entry| !ripe(entry));
        Ok(amount)
    }

    /// Reserves part of the usable stake.
    pub fn reserve(&mut self, amount: Balance) -> Result<(), Refusal> {
        let reserved = self.reserved.checked_add(amount).ok_or(Refusal::Overflow)?;
        if reserved > self.usable() {
            return Err(Refusal::BondTooSmall);
        }
        self.reserved = reserved;
        Ok(())
    }

    /// Gives back at most `amount` of what is reserved. Returns planck given back.
    pub fn unreserve(&mut self, amount: Balance) -> Balance {
        let given = amount.min(self.reserved);
        self.reserved = self.reserved.saturating_sub(given);
        given
    }
}
