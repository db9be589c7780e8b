//! The performance-bond ledger as other pallets see it.

use frame_support::dispatch::DispatchResult;
use openledger_primitives::{Balance, BlockNumber};

/// Stake of one kind of actor: put up, reserved against what a batch could owe, thawed.
pub trait BondLedger<AccountId> {
    /// Adds `amount` of the account's free balance to its own bond.
    fn bond(who: &AccountId, amount: Balance) -> DispatchResult;
    /// Begins to thaw the whole own bond that is not already thawing.
    fn thaw_all(who: &AccountId) -> DispatchResult;
    /// Own bond that is not thawing, planck.
    fn own(who: &AccountId) -> Balance;
    /// Bond that counts for exposure: min(total, 5 × own), planck.
    fn usable(who: &AccountId) -> Balance;
    /// Part of the bond reserved, planck.
    fn reserved(who: &AccountId) -> Balance;
    /// Reserves `amount` of the usable bond. Fails when usable − reserved is less.
    fn reserve(who: &AccountId, amount: Balance) -> DispatchResult;
    /// Gives back at most `amount` of what is reserved.
    fn unreserve(who: &AccountId, amount: Balance);
    /// The bond answers for something until `block`: no withdrawal before it. Never moves back.
    fn liable_until(who: &AccountId, block: BlockNumber);
    /// The block until which the bond answers for something, as given to `liable_until`; 0 for none.
    fn last_liable(who: &AccountId) -> BlockNumber;
}
