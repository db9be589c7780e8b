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

#[cfg(feature = "runtime-benchmarks")]
mod benchmarking;
mod exposure;
#[cfg(any(feature = "std", feature = "try-runtime"))]
mod invariants;
mod ledger;
#[cfg(test)]
mod mock;
mod refusal;
mod stake;
#[cfg(test)]
mod tests;
pub mod weights;

pub use ledger::{Ledger, PendingSlashes, Pool, Thaw, LEVERAGE, MAX_THAWS};
pub use pallet::*;
pub use refusal::Refusal;
pub use weights::WeightInfo;

/// The pallet itself: storage, events, errors and calls.
// What the macros write for genesis and metadata expects.
#[allow(clippy::expect_used)]
#[frame_support::pallet]
pub mod pallet {
    use super::*;
    use frame_support::{
        pallet_prelude::*,
        traits::fungible::{Inspect, MutateHold},
    };
    use frame_system::pallet_prelude::*;
    use openledger_primitives::{Balance, BlockNumber};

    const STORAGE_VERSION: StorageVersion = StorageVersion::new(1);

    /// The ledger of one kind of bonded actor.
    #[pallet::pallet]
    #[pallet::storage_version(STORAGE_VERSION)]
    pub struct Pallet<T, I = ()>(_);

    /// What the pallet needs of the runtime.
    #[pallet::config]
    pub trait Config<I: 'static = ()>: frame_system::Config {
        /// Reasons for holds of the runtime.
        type RuntimeHoldReason: From<HoldReason<I>>;
        /// The token that is staked.
        type Currency: Inspect<Self::AccountId, Balance = Balance>
            + MutateHold<Self::AccountId, Reason = Self::RuntimeHoldReason>;
        /// Blocks of thaw.
        type Thaw: Get<BlockNumber>;
        /// Weights of the calls.
        type WeightInfo: WeightInfo;
    }

    /// Why tokens are on hold.
    #[pallet::composite_enum]
    pub enum HoldReason<I: 'static = ()> {
        /// They are an account's own stake, thawing or not.
        #[codec(index = 0)]
        Stake,
    }

    /// The bond of each account that has one.
    #[pallet::storage]
    pub type Ledgers<T: Config<I>, I: 'static = ()> =
        StorageMap<_, Blake2_128Concat, T::AccountId, Ledger>;

    /// What happened.
    #[pallet::event]
    #[pallet::generate_deposit(pub(super) fn deposit_event)]
    pub enum Event<T: Config<I>, I: 'static = ()> {
        /// An account added `amount` planck to its own stake, which is now `own`.
        Bonded {
            /// The account.
            who: T::AccountId,
            /// Planck added.
            amount: Balance,
            /// Own stake after it, planck.
            own: Balance,
        },
        /// Own stake began to thaw.
        ThawBegun {
            /// The account.
            who: T::AccountId,
            /// Planck.
            amount: Balance,
            /// First block at which it may be withdrawn, liabilities permitting.
            ends: BlockNumber,
        },
        /// Thawed stake became free.
        Withdrawn {
            /// The account.
            who: T::AccountId,
            /// Planck.
            amount: Balance,
        },
        /// Part of the bond was reserved for what the account could owe.
        Reserved {
            /// The account.
            who: T::AccountId,
            /// Planck.
            amount: Balance,
        },
        /// Part of the reservation was given back.
        Unreserved {
            /// The account.
            who: T::AccountId,
            /// Planck.
            amount: Balance,
        },
    }

    /// Why a call is refused.
    #[pallet::error]
    pub enum Error<T, I = ()> {
        /// The amount is zero: name how many planck you mean.
        ZeroAmount,
        /// The sum would exceed 128 bits: no account has that much.
        Overflow,
        /// The account has no bond: put one up with `bond_more`.
        NotBonded,
        /// More than the own stake that is not thawing already: ask for less.
        MoreThanBonded,
        /// The rest would not cover what is reserved for unfinished work: wait until it is
        /// released, or ask for less.
        Reserved,
        /// Sixteen thaws are running: withdraw those that are over, or wait for the first to end.
        TooManyThaws,
        /// Nothing has thawed long enough: the `ThawBegun` event says when.
        NothingToWithdraw,
        /// The bond still answers for work that can be challenged: wait until `last_liable`.
        Liable,
        /// A slash of this bond is announced and not yet applied: wait until it is decided.
        SlashPending,
        /// The usable bond that is not reserved is smaller than what must be reserved: bond more,
        /// or submit less at once.
        BondTooSmall,
    }

    #[pallet::hooks]
    impl<T: Config<I>, I: 'static> Hooks<BlockNumberFor<T>> for Pallet<T, I> {
        #[cfg(feature = "try-runtime")]
        fn try_state(_: BlockNumberFor<T>) -> Result<(), sp_runtime::TryRuntimeError> {
            Self::do_try_state()
        }
    }

    #[pallet::call]
    impl<T: Config<I>, I: 'static> Pallet<T, I> {
        /// Adds `amount` planck of the caller's free balance to its own stake.
        ///
        /// Emits `Bonded`. Errors: `ZeroAmount`, `Overflow`, and the token's own when the free
        /// balance is too small.
        #[pallet::call_index(0)]
        #[pallet::weight(T::WeightInfo::bond_more())]
        pub fn bond_more(origin: OriginFor<T>, amount: Balance) -> DispatchResult {
            let who = ensure_signed(origin)?;
            Self::do_bond(&who, amount)
        }

        /// Begins to thaw `amount` planck of the caller's own stake. It no longer counts for
        /// exposure, and can be withdrawn when the thaw and every liability are over.
        ///
        /// Emits `ThawBegun`. Errors: `NotBonded`, `ZeroAmount`, `MoreThanBonded`, `Reserved`,
        /// `TooManyThaws`.
        #[pallet::call_index(1)]
        #[pallet::weight(T::WeightInfo::thaw())]
        pub fn thaw(origin: OriginFor<T>, amount: Balance) -> DispatchResult {
            let who = ensure_signed(origin)?;
            Self::do_thaw(&who, amount)
        }

        /// Frees all of the caller's stake whose thaw is over.
        ///
        /// Emits `Withdrawn`. Errors: `NotBonded`, `SlashPending`, `NothingToWithdraw`, `Liable`.
        #[pallet::call_index(2)]
        #[pallet::weight(T::WeightInfo::withdraw())]
        pub fn withdraw(origin: OriginFor<T>) -> DispatchResult {
            let who = ensure_signed(origin)?;
            Self::do_withdraw(&who)
        }
    }
}
