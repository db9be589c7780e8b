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
mod discovery;
#[cfg(any(feature = "std", feature = "try-runtime"))]
mod invariants;
mod keys;
mod life;
#[cfg(test)]
mod mock;
pub mod runtime_api;
mod serving;
#[cfg(test)]
mod tests;
mod types;
pub mod weights;

#[cfg(feature = "runtime-benchmarks")]
pub use benchmarking::BenchmarkHelper;
pub use pallet::*;
pub use types::{
    Capability, Endpoint, Served, ServiceKey, ServiceKeys, Standing, Worker, MAX_ENDPOINT,
    MAX_ENGINE, MAX_KEYS, MAX_SERVED,
};
pub use weights::WeightInfo;

/// The pallet itself: storage, events, errors and calls.
// What the macros write for genesis and metadata expects.
#[allow(clippy::expect_used)]
#[frame_support::pallet]
pub mod pallet {
    use super::*;
    use frame_support::pallet_prelude::*;
    use frame_system::pallet_prelude::*;
    use openledger_primitives::{Balance, BlockNumber, KeyIndex, RevisionId};
    use openledger_traits::{BondLedger, ModelRegistry, Parameters};

    const STORAGE_VERSION: StorageVersion = StorageVersion::new(1);

    /// The registry of workers.
    #[pallet::pallet]
    #[pallet::storage_version(STORAGE_VERSION)]
    pub struct Pallet<T>(_);

    /// What the pallet needs of the runtime.
    #[pallet::config]
    pub trait Config: frame_system::Config {
        /// Where workers' bonds stand.
        type Bonds: BondLedger<Self::AccountId>;
        /// Where revisions stand.
        type Models: ModelRegistry<Self::AccountId>;
        /// Protocol parameters.
        type Parameters: Parameters;
        /// Weights of the calls.
        type WeightInfo: WeightInfo;
        /// What the benchmarks need of the other pallets.
        #[cfg(feature = "runtime-benchmarks")]
        type BenchmarkHelper: BenchmarkHelper<Self::AccountId>;
    }

    /// Registered workers.
    #[pallet::storage]
    pub type Workers<T: Config> = StorageMap<_, Blake2_128Concat, T::AccountId, Worker>;

    /// Service keys of each worker, the oldest first.
    #[pallet::storage]
    pub type Keys<T: Config> =
        StorageMap<_, Blake2_128Concat, T::AccountId, ServiceKeys<T::AccountId>, ValueQuery>;

    /// The worker of each service key, and the key's index.
    #[pallet::storage]
    pub type KeyOwner<T: Config> =
        StorageMap<_, Blake2_128Concat, T::AccountId, (T::AccountId, KeyIndex)>;

    /// Index that the next service key of a worker that left gets, should it join again.
    #[pallet::storage]
    pub type NextKey<T: Config> =
        StorageMap<_, Blake2_128Concat, T::AccountId, KeyIndex, ValueQuery>;

    /// Revisions that each worker announces, ascending.
    #[pallet::storage]
    pub type Serving<T: Config> = StorageMap<_, Blake2_128Concat, T::AccountId, Served, ValueQuery>;

    /// Workers by the revision that they announce.
    #[pallet::storage]
    pub type Providers<T: Config> =
        StorageDoubleMap<_, Twox64Concat, RevisionId, Blake2_128Concat, T::AccountId, ()>;

    /// What happened.
    #[pallet::event]
    #[pallet::generate_deposit(pub(super) fn deposit_event)]
    pub enum Event<T: Config> {
        /// A worker joined with a bond and its first service key, which has index 0.
        Joined {
            /// The worker.
            worker: T::AccountId,
            /// The key.
            service_key: T::AccountId,
        },
        /// A worker has a new service key.
        ServiceKeySet {
            /// The worker.
            worker: T::AccountId,
            /// Index by which receipts name the key.
            index: KeyIndex,
            /// The key.
            key: T::AccountId,
            /// First block at which the key before it is not valid any more.
            previous_valid_until: BlockNumber,
        },
        /// A worker replaced what it announces.
        Serving {
            /// The worker.
            worker: T::AccountId,
            /// Number of distinct revisions that it announces now.
            revisions: u32,
        },
        /// A worker gave a sign of life.
        Heartbeat {
            /// The worker.
            worker: T::AccountId,
        },
        /// A worker changed its endpoint or capability.
        Updated {
            /// The worker.
            worker: T::AccountId,
        },
        /// A worker takes on no new work.
        Draining {
            /// The worker.
            worker: T::AccountId,
        },
        /// A worker left; its whole bond thaws.
        Left {
            /// The worker.
            worker: T::AccountId,
        },
    }

    /// Why a call is refused.
    #[pallet::error]
    pub enum Error<T> {
        /// The account is neither a registered worker nor a service key in force: join first, or
        /// use the current key.
        NotWorker,
        /// The account is registered already: use `update`, `set_service_key` or `serve`.
        AlreadyJoined,
        /// The own bond is below `min_worker_bond`: bond more.
        BondTooSmall,
        /// The service key is the worker's own account: generate a key of its own for the service.
        KeyIsOwnAccount,
        /// The key is, or was lately, some worker's: generate a new one.
        KeyInUse,
        /// Sixteen keys are remembered and none is old enough to be forgotten: change keys less
        /// often.
        TooManyKeys,
        /// The endpoint is not `http://` or `https://` followed by printable ASCII.
        BadEndpoint,
        /// Memory, batch size or engine name is empty, or the name is not printable ASCII.
        BadCapability,
        /// A revision is unknown or retired: leave it out.
        UnknownRevision,
        /// The worker is draining: it can only leave.
        AlreadyDraining,
        /// The worker must `drain` before it leaves.
        NotDraining,
        /// Part of the bond is reserved, or it still answers for work that can be challenged: wait
        /// until the last batch is settled and its liability over.
        Liable,
        /// What it delivered before it began to drain may still be claimed: submit it, and wait
        /// until the shortest of `voucher_grace`, `revoke_delay` and `close_delay` is over.
        MayBecomeLiable,
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
        /// Registers the caller as a worker. Adds `bond` planck to its own bond, which must then be
        /// at least `min_worker_bond`; `service_key` becomes its key 0.
        ///
        /// Emits `Joined`. Errors: `AlreadyJoined`, `BadEndpoint`, `BadCapability`,
        /// `KeyIsOwnAccount`, `KeyInUse`, `BondTooSmall`, and those of the bond.
        #[pallet::call_index(0)]
        #[pallet::weight(T::WeightInfo::join())]
        pub fn join(
            origin: OriginFor<T>,
            bond: Balance,
            service_key: T::AccountId,
            endpoint: Endpoint,
            capability: Capability,
        ) -> DispatchResult {
            let who = ensure_signed(origin)?;
            Self::do_join(&who, bond, &service_key, endpoint, capability)
        }

        /// Appends a service key. The one before it stays valid for `voucher_grace` blocks, so that
        /// what it signed can be submitted.
        ///
        /// Emits `ServiceKeySet`. Errors: `NotWorker`, `KeyIsOwnAccount`, `KeyInUse`,
        /// `TooManyKeys`.
        #[pallet::call_index(1)]
        #[pallet::weight(T::WeightInfo::set_service_key())]
        pub fn set_service_key(origin: OriginFor<T>, key: T::AccountId) -> DispatchResult {
            let who = ensure_signed(origin)?;
            Self::do_set_service_key(&who, &key)
        }

        /// Replaces the revisions that the worker announces. Repetitions are ignored; an empty list
        /// takes everything off offer. The caller is the worker or its service key.
        ///
        /// Emits `Serving`. Errors: `NotWorker`, `AlreadyDraining`, `UnknownRevision`.
        #[pallet::call_index(2)]
        #[pallet::weight(T::WeightInfo::serve(revisions.len() as u32, MAX_SERVED))]
        pub fn serve(origin: OriginFor<T>, revisions: Served) -> DispatchResultWithPostInfo {
            let worker = Self::acting_for(ensure_signed(origin)?)?;
            let new = revisions.len() as u32;
            let old = Self::do_serve(&worker, revisions)?;
            Ok(Some(T::WeightInfo::serve(new, old)).into())
        }

        /// A sign of life. A worker that gives none for `heartbeat_grace` blocks is not offered to
        /// consumers. The caller is the worker or its service key.
        ///
        /// Emits `Heartbeat`. Errors: `NotWorker`.
        #[pallet::call_index(3)]
        #[pallet::weight(T::WeightInfo::heartbeat())]
        pub fn heartbeat(origin: OriginFor<T>) -> DispatchResult {
            let worker = Self::acting_for(ensure_signed(origin)?)?;
            Self::do_heartbeat(&worker)
        }

        /// Takes on no new work: everything the caller announces goes off offer and no channel can
        /// be opened to it. What it has is served, submitted and settled as before.
        ///
        /// Emits `Draining`. Errors: `NotWorker`, `AlreadyDraining`.
        #[pallet::call_index(4)]
        #[pallet::weight(T::WeightInfo::drain(MAX_SERVED))]
        pub fn drain(origin: OriginFor<T>) -> DispatchResultWithPostInfo {
            let who = ensure_signed(origin)?;
            let old = Self::do_drain(&who)?;
            Ok(Some(T::WeightInfo::drain(old)).into())
        }

        /// Removes the caller from the registry and thaws its whole bond, once everything that it
        /// delivered before it began to drain was claimed or lapsed, and nothing can be disputed.
        ///
        /// Emits `Left`. Errors: `NotWorker`, `NotDraining`, `Liable`, `MayBecomeLiable`, and those
        /// of the thaw.
        #[pallet::call_index(5)]
        #[pallet::weight(T::WeightInfo::leave())]
        pub fn leave(origin: OriginFor<T>) -> DispatchResult {
            let who = ensure_signed(origin)?;
            Self::do_leave(&who)
        }

        /// Changes the caller's endpoint and capability.
        ///
        /// Emits `Updated`. Errors: `NotWorker`, `BadEndpoint`, `BadCapability`.
        #[pallet::call_index(6)]
        #[pallet::weight(T::WeightInfo::update())]
        pub fn update(
            origin: OriginFor<T>,
            endpoint: Endpoint,
            capability: Capability,
        ) -> DispatchResult {
            let who = ensure_signed(origin)?;
            Self::do_update(&who, endpoint, capability)
        }
    }
}
