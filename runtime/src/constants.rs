//! Figures that the runtime, the node and the tests share.

use crate::Balance;

/// One OPEN in planck.
pub const OPEN: Balance = 1_000_000_000_000;
/// Decimals of OPEN.
pub const DECIMALS: u8 = 12;
/// The token's symbol.
pub const TOKEN: &str = "OPEN";
/// All OPEN that exist at genesis, planck.
pub const TOTAL_SUPPLY: Balance = 1_000_000_000 * OPEN;
/// The prefix of the chain's addresses; not taken in the ss58 registry.
pub const SS58_PREFIX: u16 = 2609;
/// Least balance of an account, planck.
pub const EXISTENTIAL_DEPOSIT: Balance = OPEN / 1_000;
/// Fee per byte of a transaction, planck.
pub const FEE_PER_BYTE: Balance = OPEN / 1_000_000;
/// The most authorities of a session.
pub const MAX_AUTHORITIES: u32 = 100;
/// Sessions for which an equivocation can be proven: fourteen days of one hour each.
pub const REPORTABLE_SESSIONS: u32 = 14 * 24;

/// Deposit per item stored for an account, planck.
pub const DEPOSIT_PER_ITEM: Balance = OPEN / 10;
/// Deposit per byte stored for an account, planck.
pub const DEPOSIT_PER_BYTE: Balance = OPEN / 10_000;

/// What `items` stored for an account, `bytes` in all, cost as a deposit, planck.
pub const fn deposit(items: u32, bytes: u32) -> Balance {
    let items = (items as Balance).saturating_mul(DEPOSIT_PER_ITEM);
    let bytes = (bytes as Balance).saturating_mul(DEPOSIT_PER_BYTE);
    items.saturating_add(bytes)
}
