//! Well-known accounts of chains that are only for trying things.

use crate::{
    constants::{EXISTENTIAL_DEPOSIT, TOTAL_SUPPLY},
    AccountId, Balance, Payouts, SessionKeys, Settlement,
};
use alloc::vec::Vec;
use sp_keyring::{Ed25519Keyring, Sr25519Keyring};

/// Genesis entry of a validator whose keys are all derived from one well-known name.
pub fn validator(
    sr25519: Sr25519Keyring,
    ed25519: Ed25519Keyring,
) -> (AccountId, AccountId, SessionKeys) {
    let account = sr25519.to_account_id();
    let keys = SessionKeys {
        grandpa: ed25519.public().into(),
        babe: sr25519.public().into(),
        authority_discovery: sr25519.public().into(),
    };
    (account.clone(), account, keys)
}

/// The whole supply: to each keyless account of the protocol what keeps it alive, and the rest in
/// equal parts to the well-known accounts, the first of which takes the remainder.
pub fn endowed() -> Vec<(AccountId, Balance)> {
    let pots = [
        Settlement::escrow(),
        Payouts::pot(),
        Payouts::protocol_pot(),
    ];
    let kept = EXISTENTIAL_DEPOSIT.saturating_mul(pots.len() as Balance);
    let supply = TOTAL_SUPPLY.saturating_sub(kept);

    let accounts: Vec<AccountId> = Sr25519Keyring::well_known()
        .map(|key| key.to_account_id())
        .collect();
    let count = accounts.len() as Balance;
    let each = supply.checked_div(count).unwrap_or_default();
    let rest = supply.saturating_sub(each.saturating_mul(count));
    let rich = accounts.into_iter().enumerate().map(|(index, account)| {
        let extra = if index == 0 { rest } else { 0 };
        (account, each.saturating_add(extra))
    });
    rich.chain(pots.map(|pot| (pot, EXISTENTIAL_DEPOSIT)))
        .collect()
}
