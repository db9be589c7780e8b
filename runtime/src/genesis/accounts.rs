//! Well-known accounts of chains that are only for trying things.

use crate::{constants::TOTAL_SUPPLY, AccountId, Balance, SessionKeys};
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

/// The whole supply in equal parts to the well-known accounts; the remainder to the first.
pub fn endowed() -> Vec<(AccountId, Balance)> {
    let accounts: Vec<AccountId> = Sr25519Keyring::well_known()
        .map(|key| key.to_account_id())
        .collect();
    let count = accounts.len() as Balance;
    let each = TOTAL_SUPPLY.checked_div(count).unwrap_or_default();
    let rest = TOTAL_SUPPLY.saturating_sub(each.saturating_mul(count));
    accounts
        .into_iter()
        .enumerate()
        .map(|(index, account)| {
            let extra = if index == 0 { rest } else { 0 };
            (account, each.saturating_add(extra))
        })
        .collect()
}
