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

/// What `items` stored under one account, `bytes` in all, cost as a deposit, planck.
pub const fn deposit(items: u32, bytes: u32) -> Balance {
    let items = (items as Balance).saturating_mul(OPEN / 10);
    let bytes = (bytes as Balance).saturating_mul(OPEN / 10_000);
    items.saturating_add(bytes)
}
