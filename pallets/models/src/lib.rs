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
mod bounds;
#[cfg(any(feature = "std", feature = "try-runtime"))]
mod invariants;
#[cfg(test)]
mod mock;
mod pricing;
mod publishing;
mod registering;
mod registry;
pub mod runtime_api;
#[cfg(test)]
mod tests;
mod types;
pub mod weights;

#[cfg(feature = "runtime-benchmarks")]
pub use benchmarking::BenchmarkHelper;
pub use bounds::AttributionBounds;
pub use pallet::*;
pub use types::{Adapter, Base, Name, Revision, Versions, MAX_LIVE, MAX_NAME, MAX_PRICE, MAX_RANK};
pub use weights::WeightInfo;

/// The pallet itself: storage, events, errors and calls.
// What the macros write for genesis and metadata expects.
#[allow(clippy::expect_used)]
#[frame_support::pallet]
pub mod pallet {
    use super::*;
    use frame_support::{
        pallet_prelude::*,
        traits::{Consideration, Footprint},
    };
    use frame_system::pallet_prelude::*;
    use openledger_primitives::{
        licence::Licence,
        revision::{ModelRef, RevisionFacts},
        terms::{Split, Terms},
        AdapterId, Balance, BaseId, BlockNumber, Digest, RevisionId, TermsIndex,
    };
    use openledger_traits::{DatanetRegistry, Parameters};

    const STORAGE_VERSION: StorageVersion = StorageVersion::new(1);

    /// The registry of models.
    #[pallet::pallet]
    #[pallet::storage_version(STORAGE_VERSION)]
    pub struct Pallet<T>(_);

    /// What the pallet needs of the runtime.
    #[pallet::config]
    pub trait Config: frame_system::Config {
        /// Where Datanets and their versions stand.
        type Datanets: DatanetRegistry<Self::AccountId>;
        /// The deposit that is left for the storage of a base, an adapter or a revision.
        type Consideration: Consideration<Self::AccountId, Footprint>;
        /// Bounds on the constants of the payout rule.
        type AttributionBounds: Get<AttributionBounds>;
        /// Protocol parameters.
        type Parameters: Parameters;
        /// Weights of the calls.
        type WeightInfo: WeightInfo;
        /// What the benchmarks need of the other pallets.
        #[cfg(feature = "runtime-benchmarks")]
        type BenchmarkHelper: BenchmarkHelper;
    }

    /// Why tokens are on hold.
    #[pallet::composite_enum]
    pub enum HoldReason {
        /// They are the deposit for the storage of a model or a revision.
        #[codec(index = 0)]
        Deposit,
    }

    /// Identifier of the next base.
    #[pallet::storage]
    pub type NextBase<T: Config> = StorageValue<_, BaseId, ValueQuery>;

    /// Identifier of the next adapter.
    #[pallet::storage]
    pub type NextAdapter<T: Config> = StorageValue<_, AdapterId, ValueQuery>;

    /// Identifier of the next revision.
    #[pallet::storage]
    pub type NextRevision<T: Config> = StorageValue<_, RevisionId, ValueQuery>;

    /// Bases.
    #[pallet::storage]
    pub type Bases<T: Config> = StorageMap<_, Twox64Concat, BaseId, Base<T::AccountId>>;

    /// Adapters.
    #[pallet::storage]
    pub type Adapters<T: Config> = StorageMap<_, Twox64Concat, AdapterId, Adapter<T::AccountId>>;

    /// Revisions, live and retired: what was served settles.
    #[pallet::storage]
    pub type Revisions<T: Config> = StorageMap<_, Twox64Concat, RevisionId, Revision>;

    /// Deposit of each base and adapter.
    #[pallet::storage]
    pub type Deposits<T: Config> = StorageMap<_, Twox64Concat, ModelRef, T::Consideration>;

    /// Deposit of each revision of an adapter.
    #[pallet::storage]
    pub type RevisionDeposits<T: Config> =
        StorageMap<_, Twox64Concat, RevisionId, T::Consideration>;

    /// Number of entries in each model's terms.
    #[pallet::storage]
    pub type TermsCount<T: Config> = StorageMap<_, Twox64Concat, ModelRef, TermsIndex, ValueQuery>;

    /// Terms of each model, append-only.
    #[pallet::storage]
    pub type TermsList<T: Config> =
        StorageDoubleMap<_, Twox64Concat, ModelRef, Twox64Concat, TermsIndex, Terms<BlockNumber>>;

    /// What happened.
    #[pallet::event]
    #[pallet::generate_deposit(pub(super) fn deposit_event)]
    pub enum Event<T: Config> {
        /// A base model was registered, and its revision without an adapter published.
        BaseRegistered {
            /// The base.
            base: BaseId,
            /// Its revision.
            revision: RevisionId,
            /// Who registered it.
            owner: T::AccountId,
        },
        /// An adapter was registered.
        AdapterRegistered {
            /// The adapter.
            adapter: AdapterId,
            /// Its base.
            base: BaseId,
            /// Its developer.
            owner: T::AccountId,
        },
        /// A revision of an adapter was published.
        RevisionPublished {
            /// The revision.
            revision: RevisionId,
            /// The adapter.
            adapter: AdapterId,
            /// Digest of its weights' manifest.
            adapter_digest: Digest,
        },
        /// Terms were appended.
        TermsSet {
            /// The model.
            model: ModelRef,
            /// Index of the entry.
            terms: TermsIndex,
            /// First block at which a voucher may name it.
            effective_from: BlockNumber,
        },
        /// A revision was retired: it is served no more, and what was served settles.
        RevisionRetired {
            /// The revision.
            revision: RevisionId,
        },
    }

    /// Why a call is refused.
    #[pallet::error]
    pub enum Error<T> {
        /// No base has this identifier: the `BaseRegistered` event names it.
        UnknownBase,
        /// No adapter or base has this identifier.
        UnknownModel,
        /// No revision has this identifier: the `RevisionPublished` event names it.
        UnknownRevision,
        /// Only the model's owner may do this.
        NotOwner,
        /// The name is empty, not UTF-8, has control characters or space around it.
        BadName,
        /// A digest that is needed is zero: weights, training manifest, index, or null model where
        /// influence counts.
        DigestMissing,
        /// The licence has a bit that is not defined.
        UnknownPermission,
        /// Base or data forbid derived works: train on others.
        DerivativesForbidden,
        /// Base or data forbid use for which money is taken: set both prices to 0.
        CommerceForbidden,
        /// Of a price, contributors get less than the royalty of a Datanet behind a live revision:
        /// raise both prices, or the contributors' part.
        BelowRoyalty,
        /// A price exceeds the whole supply.
        PriceTooHigh,
        /// The shares do not sum to 1,000,000.
        SplitNotWhole,
        /// The worker's share is below `min_worker_ppm`.
        WorkerShareTooLow,
        /// The protocol's share is below `min_protocol_ppm`.
        ProtocolShareTooLow,
        /// The latest terms are not in effect yet: wait until they are.
        TermsPending,
        /// A revision of an adapter names at least one version that it was trained on.
        NoVersions,
        /// A Datanet is named twice: name its latest version only.
        DatanetTwice,
        /// A version is unknown, not sealed or not live.
        VersionNotLive,
        /// The developer has no access to a version, or names a grant where none is needed.
        NoAccess,
        /// Rank or target modules are empty or out of bounds.
        BadShape,
        /// A constant of the payout rule is out of the governed bounds.
        AttributionOutOfBounds,
        /// Sixteen revisions of the adapter are live: retire one.
        TooManyLive,
        /// The revision is retired already.
        AlreadyRetired,
        /// All identifiers are given out.
        NoMoreIds,
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
        /// Registers a base model by the digest of its manifest, with the terms at which it is
        /// served without an adapter. Prices are planck per 1,000 tokens. A deposit is taken.
        ///
        /// Emits `BaseRegistered` and `TermsSet`. Errors: `BadName`, `DigestMissing`,
        /// `UnknownPermission`, `NoMoreIds`, those of `set_terms`, and the deposit's.
        #[pallet::call_index(0)]
        #[pallet::weight(T::WeightInfo::register_base())]
        pub fn register_base(
            origin: OriginFor<T>,
            name: Name,
            manifest: Digest,
            licence: Licence,
            price_in: Balance,
            price_out: Balance,
            split: Split,
        ) -> DispatchResult {
            let owner = ensure_signed(origin)?;
            let prices = (price_in, price_out);
            Self::do_register_base(owner, name, manifest, licence, prices, split)
        }

        /// Registers an adapter on a base. It can be served when it has a revision and terms. A
        /// deposit is taken.
        ///
        /// Emits `AdapterRegistered`. Errors: `BadName`, `UnknownBase`, `DerivativesForbidden`,
        /// `NoMoreIds`, and the deposit's.
        #[pallet::call_index(1)]
        #[pallet::weight(T::WeightInfo::register_adapter())]
        pub fn register_adapter(origin: OriginFor<T>, base: BaseId, name: Name) -> DispatchResult {
            let owner = ensure_signed(origin)?;
            Self::do_register_adapter(owner, base, name)
        }

        /// Publishes a revision of the caller's adapter: its digests, the constants of its payout
        /// rule, and the sealed versions it was trained on. A deposit is taken.
        ///
        /// Emits `RevisionPublished`. Errors: `UnknownModel`, `NotOwner`, `DigestMissing`,
        /// `BadShape`, `AttributionOutOfBounds`, `NoVersions`, `DatanetTwice`, `VersionNotLive`,
        /// `NoAccess`, `DerivativesForbidden`, `CommerceForbidden`, `BelowRoyalty`, `TooManyLive`,
        /// `NoMoreIds`, and the deposit's.
        #[pallet::call_index(2)]
        #[pallet::weight(T::WeightInfo::publish_revision(versions.len() as u32))]
        pub fn publish_revision(
            origin: OriginFor<T>,
            adapter: AdapterId,
            facts: RevisionFacts,
            versions: Versions,
        ) -> DispatchResult {
            let who = ensure_signed(origin)?;
            Self::do_publish(&who, adapter, facts, versions)
        }

        /// Appends terms to the caller's model. The first are in effect at once, later ones after
        /// `terms_notice` blocks. Prices are planck per 1,000 tokens; of both, the contributors'
        /// part is at least the royalty of every Datanet behind a live revision.
        ///
        /// Emits `TermsSet`. Errors: `UnknownModel`, `NotOwner`, `SplitNotWhole`,
        /// `WorkerShareTooLow`, `ProtocolShareTooLow`, `PriceTooHigh`, `TermsPending`,
        /// `CommerceForbidden`, `BelowRoyalty`, `NoMoreIds`.
        #[pallet::call_index(3)]
        #[pallet::weight(T::WeightInfo::set_terms())]
        pub fn set_terms(
            origin: OriginFor<T>,
            model: ModelRef,
            price_in: Balance,
            price_out: Balance,
            split: Split,
        ) -> DispatchResult {
            let who = ensure_signed(origin)?;
            Self::do_set_terms(&who, model, (price_in, price_out), split)
        }

        /// Retires a revision of the caller's model. It is served no more; what was served settles.
        ///
        /// Emits `RevisionRetired`. Errors: `UnknownRevision`, `UnknownModel`, `NotOwner`,
        /// `AlreadyRetired`.
        #[pallet::call_index(4)]
        #[pallet::weight(T::WeightInfo::retire_revision())]
        pub fn retire_revision(origin: OriginFor<T>, revision: RevisionId) -> DispatchResult {
            let who = ensure_signed(origin)?;
            Self::do_retire(&who, revision)
        }
    }
}
