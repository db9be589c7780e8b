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
mod genesis;
mod invalid;
#[cfg(test)]
mod mock;
pub mod runtime_api;
mod set;
#[cfg(test)]
mod tests;
pub mod weights;

pub use invalid::Invalid;
pub use pallet::*;
pub use set::ParameterSet;
pub use weights::WeightInfo;

/// The pallet itself: storage, events, errors and calls.
// What the macros write for genesis and metadata expects.
#[allow(clippy::expect_used)]
#[frame_support::pallet]
pub mod pallet {
    use super::*;
    use frame_support::pallet_prelude::*;
    use frame_system::pallet_prelude::*;
    use openledger_traits::{
        BondParameters, ConsensusParameters, DatanetParameters, ModelParameters, PayoutParameters,
        SettlementParameters,
    };

    const STORAGE_VERSION: StorageVersion = StorageVersion::new(1);

    /// The keeper of the parameters.
    #[pallet::pallet]
    #[pallet::storage_version(STORAGE_VERSION)]
    pub struct Pallet<T>(_);

    /// What the pallet needs of the runtime.
    #[pallet::config]
    pub trait Config: frame_system::Config {
        /// Who may replace parameters.
        type AdminOrigin: EnsureOrigin<Self::RuntimeOrigin>;
        /// Weights of the calls.
        type WeightInfo: WeightInfo;
    }

    /// Slots and epochs.
    #[pallet::storage]
    pub type Consensus<T> = StorageValue<_, ConsensusParameters, ValueQuery>;

    /// Settlement.
    #[pallet::storage]
    pub type Settlement<T> = StorageValue<_, SettlementParameters, ValueQuery>;

    /// Bonds.
    #[pallet::storage]
    pub type Bonds<T> = StorageValue<_, BondParameters, ValueQuery>;

    /// Datanets.
    #[pallet::storage]
    pub type Datanets<T> = StorageValue<_, DatanetParameters, ValueQuery>;

    /// Models.
    #[pallet::storage]
    pub type Models<T> = StorageValue<_, ModelParameters, ValueQuery>;

    /// Payouts.
    #[pallet::storage]
    pub type Payouts<T> = StorageValue<_, PayoutParameters, ValueQuery>;

    /// The parameters at the start. The default is what a public chain of six-second slots begins
    /// with.
    #[pallet::genesis_config]
    pub struct GenesisConfig<T: Config> {
        /// Slots and epochs.
        pub consensus: ConsensusParameters,
        /// Settlement.
        pub settlement: SettlementParameters,
        /// Bonds.
        pub bonds: BondParameters,
        /// Datanets.
        pub datanets: DatanetParameters,
        /// Models.
        pub models: ModelParameters,
        /// Payouts.
        pub payouts: PayoutParameters,
        /// The runtime.
        #[serde(skip)]
        pub _runtime: core::marker::PhantomData<T>,
    }

    impl<T: Config> Default for GenesisConfig<T> {
        fn default() -> Self {
            ParameterSet::public_chain().into()
        }
    }

    #[pallet::genesis_build]
    impl<T: Config> BuildGenesisConfig for GenesisConfig<T> {
        // The one place to stop a chain whose parameters contradict each other: before it is.
        #[allow(clippy::panic)]
        fn build(&self) {
            let set = ParameterSet::from(self);
            if let Err(invalid) = set.check() {
                panic!("protocol parameters of genesis: {invalid}");
            }
            Pallet::<T>::store(&set);
        }
    }

    /// What happened.
    #[pallet::event]
    #[pallet::generate_deposit(pub(super) fn deposit_event)]
    pub enum Event<T: Config> {
        /// The settlement parameters were replaced.
        SettlementSet {
            /// Now in force.
            parameters: SettlementParameters,
        },
        /// The bond parameters were replaced.
        BondsSet {
            /// Now in force.
            parameters: BondParameters,
        },
        /// The Datanet parameters were replaced.
        DatanetsSet {
            /// Now in force.
            parameters: DatanetParameters,
        },
        /// The model parameters were replaced.
        ModelsSet {
            /// Now in force.
            parameters: ModelParameters,
        },
        /// The payout parameters were replaced.
        PayoutsSet {
            /// Now in force.
            parameters: PayoutParameters,
        },
    }

    /// Why parameters are refused.
    #[pallet::error]
    pub enum Error<T> {
        /// A slot takes 1,000 to 60,000 ms.
        SlotDuration,
        /// An epoch has 4 to 28,800 slots.
        EpochLength,
        /// Every window and delay is at least one block.
        ZeroWindow,
        /// Every window and delay is at most 10,000,000 blocks.
        WindowTooLong,
        /// Deposits and bonds are above zero.
        ZeroDeposit,
        /// The fork nonce never falls: signatures that it voided must stay void.
        ForkNonceLowered,
        /// A bond thaws no faster than challenge window + evidence window: it answers for batches
        /// until then.
        ThawTooShort,
        /// A revocation takes no longer than closing, or closing would undercut it.
        RevokeAfterClose,
        /// A version adds 1 to 65,536 contributions.
        VersionSize,
        /// A worker's share is at least half: otherwise fees leave the chain.
        WorkerShare,
        /// The protocol's share is at least 5 %: otherwise paying oneself is free.
        ProtocolShare,
        /// The least shares exceed one million together: no split could satisfy them.
        Shares,
        /// At least half of the protocol's part is burned, at most all of it.
        BurnShare,
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
        /// Replaces the settlement parameters.
        ///
        /// Emits `SettlementSet`. Errors: those of the fields, `ForkNonceLowered`, `ThawTooShort`,
        /// `RevokeAfterClose`.
        #[pallet::call_index(0)]
        #[pallet::weight(T::WeightInfo::set())]
        pub fn set_settlement(
            origin: OriginFor<T>,
            parameters: SettlementParameters,
        ) -> DispatchResult {
            T::AdminOrigin::ensure_origin(origin)?;
            Self::replace(|set| set.settlement = parameters)?;
            Self::deposit_event(Event::SettlementSet { parameters });
            Ok(())
        }

        /// Replaces the bond parameters.
        ///
        /// Emits `BondsSet`. Errors: those of the fields, `ThawTooShort`.
        #[pallet::call_index(1)]
        #[pallet::weight(T::WeightInfo::set())]
        pub fn set_bonds(origin: OriginFor<T>, parameters: BondParameters) -> DispatchResult {
            T::AdminOrigin::ensure_origin(origin)?;
            Self::replace(|set| set.bonds = parameters)?;
            Self::deposit_event(Event::BondsSet { parameters });
            Ok(())
        }

        /// Replaces the Datanet parameters.
        ///
        /// Emits `DatanetsSet`. Errors: `ZeroDeposit`, `VersionSize`.
        #[pallet::call_index(2)]
        #[pallet::weight(T::WeightInfo::set())]
        pub fn set_datanets(origin: OriginFor<T>, parameters: DatanetParameters) -> DispatchResult {
            T::AdminOrigin::ensure_origin(origin)?;
            Self::replace(|set| set.datanets = parameters)?;
            Self::deposit_event(Event::DatanetsSet { parameters });
            Ok(())
        }

        /// Replaces the model parameters.
        ///
        /// Emits `ModelsSet`. Errors: `WorkerShare`, `ProtocolShare`, `Shares`, `ZeroWindow`,
        /// `WindowTooLong`.
        #[pallet::call_index(3)]
        #[pallet::weight(T::WeightInfo::set())]
        pub fn set_models(origin: OriginFor<T>, parameters: ModelParameters) -> DispatchResult {
            T::AdminOrigin::ensure_origin(origin)?;
            Self::replace(|set| set.models = parameters)?;
            Self::deposit_event(Event::ModelsSet { parameters });
            Ok(())
        }

        /// Replaces the payout parameters.
        ///
        /// Emits `PayoutsSet`. Errors: `BurnShare`, `ZeroWindow`, `WindowTooLong`.
        #[pallet::call_index(4)]
        #[pallet::weight(T::WeightInfo::set())]
        pub fn set_payouts(origin: OriginFor<T>, parameters: PayoutParameters) -> DispatchResult {
            T::AdminOrigin::ensure_origin(origin)?;
            Self::replace(|set| set.payouts = parameters)?;
            Self::deposit_event(Event::PayoutsSet { parameters });
            Ok(())
        }
    }
}
