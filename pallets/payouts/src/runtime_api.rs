//! What programs outside the chain ask about earnings.

use crate::{Config, Earnings, Pallet, Pools, Sums, Totals};
use alloc::vec::Vec;
use openledger_primitives::{Balance, BatchSequence, BlockNumber, RevisionId};
use openledger_traits::Role;
use parity_scale_codec::{Codec, Decode, Encode};
use scale_info::TypeInfo;

/// Earnings that one answer lists at most.
pub const MAX_LISTED: usize = 1_024;

/// An earning as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
pub struct EarningInfo<AccountId> {
    /// In which role, and why where there is a choice.
    pub role: Role,
    /// Planck.
    pub amount: Balance,
    /// Worker whose batch paid.
    pub worker: AccountId,
    /// That batch.
    pub batch: BatchSequence,
    /// Revision that answered.
    pub revision: RevisionId,
    /// Block from which it can be claimed.
    pub vests_at: BlockNumber,
    /// Whether `claim` would pay it now.
    pub vested: bool,
}

impl<T: Config> Pallet<T> {
    /// What the account is owed and has not claimed, the earliest to vest first, at most
    /// [`MAX_LISTED`].
    pub fn earnings_of(account: &T::AccountId) -> Vec<EarningInfo<T::AccountId>> {
        let now = Self::now();
        Earnings::<T>::iter_prefix((account,))
            .take(MAX_LISTED)
            .map(|((vests_at, _), owed)| EarningInfo {
                role: owed.role,
                amount: owed.amount,
                worker: owed.worker,
                batch: owed.batch,
                revision: owed.revision,
                vests_at: vests_at.block(),
                vested: vests_at.block() <= now,
            })
            .collect()
    }

    /// The revision's pool, planck.
    pub fn pool_of(revision: RevisionId) -> Balance {
        Pools::<T>::get(revision)
    }

    /// Sums since genesis.
    pub fn totals() -> Totals {
        Sums::<T>::get()
    }
}

sp_api::decl_runtime_apis! {
    /// Tells what was earned and why.
    #[api_version(1)]
    pub trait PayoutsApi<AccountId> where AccountId: Codec {
        /// What the account is owed, the earliest to vest first, at most 1,024.
        fn earnings(account: AccountId) -> Vec<EarningInfo<AccountId>>;
        /// The unattributed fees of a revision, planck.
        fn pool(revision: RevisionId) -> Balance;
        /// Sums since genesis.
        fn totals() -> Totals;
    }
}
