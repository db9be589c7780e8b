#![doc = include_str!("../README.md")]
#![cfg_attr(not(feature = "std"), no_std)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::panic
    )
)]

extern crate alloc;

#[cfg(feature = "runtime-benchmarks")]
mod benchmarking;
mod claims;
#[cfg(any(feature = "std", feature = "try-runtime"))]
mod invariants;
mod ledger;
#[cfg(test)]
mod mock;
mod pots;
pub mod runtime_api;
#[cfg(test)]
mod tests;
mod types;
pub mod weights;

pub use pallet::*;
pub use types::{Owed, Totals, VestsAt};
pub use weights::WeightInfo;

/// Earnings that one claim pays at most.
pub const MAX_PAID: u32 = 64;

/// The pallet itself: storage, events, errors and calls.
// What the macros write for genesis and metadata expects.
#[allow(clippy::expect_used)]
#[frame_support::pallet]
pub mod pallet {
    use super::*;
    use frame_support::{
        pallet_prelude::*,
        traits::fungible::{Inspect, Mutate},
        PalletId,
    };
    use frame_system::pallet_prelude::*;
    use openledger_primitives::{Balance, BatchSequence, BlockNumber, Digest, RevisionId};
    use openledger_traits::{Parameters, Role};

    const STORAGE_VERSION: StorageVersion = StorageVersion::new(1);

    /// The ledger of earnings.
    #[pallet::pallet]
    #[pallet::storage_version(STORAGE_VERSION)]
    pub struct Pallet<T>(_);

    /// What the pallet needs of the runtime.
    #[pallet::config]
    pub trait Config: frame_system::Config {
        /// The token in which fees are paid.
        type Currency: Inspect<Self::AccountId, Balance = Balance> + Mutate<Self::AccountId>;
        /// Names the keyless accounts.
        #[pallet::constant]
        type PalletId: Get<PalletId>;
        /// Protocol parameters.
        type Parameters: Parameters;
        /// Weights of the calls.
        type WeightInfo: WeightInfo;
    }

    /// What is owed: by account, by the block at which it vests (ascending), by what it is for.
    #[pallet::storage]
    pub type Earnings<T: Config> = StorageNMap<
        _,
        (
            NMapKey<Blake2_128Concat, T::AccountId>,
            NMapKey<Identity, VestsAt>,
            NMapKey<Identity, Digest>,
        ),
        Owed<T::AccountId>,
    >;

    /// Unattributed fees of each revision, planck.
    #[pallet::storage]
    pub type Pools<T: Config> = StorageMap<_, Twox64Concat, RevisionId, Balance, ValueQuery>;

    /// Sums since genesis.
    #[pallet::storage]
    pub type Sums<T: Config> = StorageValue<_, Totals, ValueQuery>;

    /// Gives the pots the least balance.
    #[pallet::genesis_config]
    #[derive(frame_support::DefaultNoBound)]
    pub struct GenesisConfig<T: Config> {
        /// The runtime.
        #[serde(skip)]
        pub _runtime: core::marker::PhantomData<T>,
    }

    #[pallet::genesis_build]
    impl<T: Config> BuildGenesisConfig for GenesisConfig<T> {
        fn build(&self) {
            Pallet::<T>::found_pots();
        }
    }

    /// What happened.
    #[pallet::event]
    #[pallet::generate_deposit(pub(super) fn deposit_event)]
    pub enum Event<T: Config> {
        /// An account is owed more.
        Earned {
            /// Who earns.
            account: T::AccountId,
            /// In which role.
            role: Role,
            /// Planck.
            amount: Balance,
            /// Worker whose batch paid.
            worker: T::AccountId,
            /// That batch.
            batch: BatchSequence,
            /// Revision that answered.
            revision: RevisionId,
            /// Block from which it can be claimed.
            vests_at: BlockNumber,
        },
        /// An earning was paid.
        Paid {
            /// Who earned.
            account: T::AccountId,
            /// In which role.
            role: Role,
            /// Planck.
            amount: Balance,
            /// Worker whose batch paid.
            worker: T::AccountId,
            /// That batch.
            batch: BatchSequence,
            /// Revision that answered.
            revision: RevisionId,
        },
        /// An account claimed; a `Paid` for each earning stands before it.
        Claimed {
            /// Who.
            account: T::AccountId,
            /// Planck in all.
            amount: Balance,
        },
        /// The unattributed part of a fee went to a revision's pool.
        Pooled {
            /// Which.
            revision: RevisionId,
            /// Planck.
            amount: Balance,
        },
        /// The protocol's part of a fee was taken.
        ProtocolPaid {
            /// Planck burned.
            burned: Balance,
            /// Planck kept.
            kept: Balance,
        },
    }

    /// Why a call is refused.
    #[pallet::error]
    pub enum Error<T> {
        /// Nothing is owed to the account: `PayoutsApi.earnings` lists what is.
        NothingToClaim,
        /// Nothing has vested yet: wait until the first `vests_at` of `PayoutsApi.earnings`.
        NothingVested,
        /// What has vested is less than a new account must hold: wait for more, or put a balance
        /// on the account first. The earnings stay.
        BelowMinimum,
        /// A sum would exceed 128 bits: no such amount exists.
        Overflow,
    }

    #[pallet::hooks]
    impl<T: Config> Hooks<BlockNumberFor<T>> for Pallet<T> {
        #[cfg(feature = "try-runtime")]
        fn try_state(_: BlockNumberFor<T>) -> Result<(), sp_runtime::TryRuntimeError> {
            Self::do_try_state()
        }
    }

    #[pallet::call]
    impl<T: Config> Pallet<T> {
        /// Pays what the caller earned and has vested, the earliest first, at most 64 earnings.
        ///
        /// Emits `Paid` for each and `Claimed` for the sum. Errors: `NothingToClaim`,
        /// `NothingVested`, `BelowMinimum`.
        #[pallet::call_index(0)]
        #[pallet::weight(T::WeightInfo::claim(MAX_PAID))]
        pub fn claim(origin: OriginFor<T>) -> DispatchResultWithPostInfo {
            let who = ensure_signed(origin)?;
            let paid = Self::do_claim(&who)?;
            Ok(Some(T::WeightInfo::claim(paid)).into())
        }
    }
}
