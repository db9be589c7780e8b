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

mod admission;
#[cfg(feature = "runtime-benchmarks")]
mod benchmarking;
mod contributing;
mod founding;
#[cfg(any(feature = "std", feature = "try-runtime"))]
mod invariants;
#[cfg(test)]
mod mock;
mod registry;
pub mod runtime_api;
mod sealing;
#[cfg(test)]
mod tests;
mod types;
pub mod weights;

pub use pallet::*;
pub use types::{Admission, Contribution, DataKind, Datanet, RejectReason, Stage, Status, Version};
pub use weights::WeightInfo;

/// Contributions that one call admits at most.
pub const MAX_ADMIT: u32 = 64;
/// Contributions that one version adds at most, whatever the parameter says.
pub const MAX_SEAL: u32 = 256;

/// The pallet itself: storage, events, errors and calls.
// What the macros write for genesis and metadata expects; a call takes what it needs.
#[allow(clippy::expect_used, clippy::too_many_arguments)]
#[frame_support::pallet]
pub mod pallet {
    use super::*;
    use crate::founding::Charter;
    use frame_support::{
        pallet_prelude::*,
        traits::{
            fungible::{Inspect, MutateHold},
            Consideration, Footprint,
        },
    };
    use frame_system::pallet_prelude::*;
    use openledger_primitives::{
        contribution::Submission, licence::Licence, merkle::Range, Balance, BlockNumber,
        ContributionId, DatanetId, Digest, VersionIndex,
    };
    use openledger_traits::Parameters;
    use sp_runtime::SaturatedConversion;

    const STORAGE_VERSION: StorageVersion = StorageVersion::new(1);

    /// The registry of Datanets.
    #[pallet::pallet]
    #[pallet::storage_version(STORAGE_VERSION)]
    pub struct Pallet<T>(_);

    /// What the pallet needs of the runtime.
    #[pallet::config]
    pub trait Config: frame_system::Config {
        /// Reasons for holds of the runtime.
        type RuntimeHoldReason: From<HoldReason>;
        /// The token in which contributions are bonded.
        type Currency: Inspect<Self::AccountId, Balance = Balance>
            + MutateHold<Self::AccountId, Reason = Self::RuntimeHoldReason>;
        /// The deposit that a founder leaves for the storage of a Datanet.
        type Consideration: Consideration<Self::AccountId, Footprint>;
        /// Protocol parameters.
        type Parameters: Parameters;
        /// Weights of the calls.
        type WeightInfo: WeightInfo;
    }

    /// Why tokens are on hold.
    #[pallet::composite_enum]
    pub enum HoldReason {
        /// They bond a contribution that waits for its admission.
        #[codec(index = 0)]
        ContributionBond,
        /// They are the deposit for the storage of a Datanet.
        #[codec(index = 1)]
        Deposit,
    }

    /// Identifier of the next Datanet.
    #[pallet::storage]
    pub type NextDatanet<T: Config> = StorageValue<_, DatanetId, ValueQuery>;

    /// Identifier of the next contribution.
    #[pallet::storage]
    pub type NextContribution<T: Config> = StorageValue<_, ContributionId, ValueQuery>;

    /// Datanets.
    #[pallet::storage]
    pub type Datanets<T: Config> = StorageMap<_, Twox64Concat, DatanetId, Datanet<T::AccountId>>;

    /// The deposit of each Datanet.
    #[pallet::storage]
    pub type Deposits<T: Config> = StorageMap<_, Twox64Concat, DatanetId, T::Consideration>;

    /// Contributions.
    #[pallet::storage]
    pub type Contributions<T: Config> =
        StorageMap<_, Twox64Concat, ContributionId, Contribution<T::AccountId>>;

    /// The contribution that holds a content root in a Datanet.
    #[pallet::storage]
    pub type ContentRoots<T: Config> =
        StorageDoubleMap<_, Twox64Concat, DatanetId, Blake2_128Concat, Digest, ContributionId>;

    /// What is admitted and not yet sealed, by position in the Datanet's queue.
    #[pallet::storage]
    pub type Queue<T: Config> =
        StorageDoubleMap<_, Twox64Concat, DatanetId, Twox64Concat, u32, ContributionId>;

    /// The Merkle mountain range of each Datanet.
    #[pallet::storage]
    pub type Ranges<T: Config> = StorageMap<_, Twox64Concat, DatanetId, Range, ValueQuery>;

    /// The contribution behind each leaf of a Datanet's range.
    #[pallet::storage]
    pub type Leaves<T: Config> =
        StorageDoubleMap<_, Twox64Concat, DatanetId, Twox64Concat, u32, ContributionId>;

    /// Sealed versions.
    #[pallet::storage]
    pub type Versions<T: Config> =
        StorageDoubleMap<_, Twox64Concat, DatanetId, Twox64Concat, VersionIndex, Version>;

    /// What happened.
    #[pallet::event]
    #[pallet::generate_deposit(pub(super) fn deposit_event)]
    pub enum Event<T: Config> {
        /// A Datanet was founded.
        Created {
            /// The Datanet.
            datanet: DatanetId,
            /// Its founder and owner.
            owner: T::AccountId,
        },
        /// Rows were contributed and wait for admission.
        Contributed {
            /// The Datanet.
            datanet: DatanetId,
            /// The contribution.
            contribution: ContributionId,
            /// Who contributed.
            owner: T::AccountId,
            /// Merkle root over the rows.
            content_root: Digest,
            /// Rows.
            rows: u32,
        },
        /// A contribution was admitted and its bond given back; the next version takes it in.
        Admitted {
            /// The Datanet.
            datanet: DatanetId,
            /// The contribution.
            contribution: ContributionId,
        },
        /// A contribution was not admitted; its bond was given back.
        Rejected {
            /// The Datanet.
            datanet: DatanetId,
            /// The contribution.
            contribution: ContributionId,
            /// Why.
            reason: RejectReason,
        },
        /// A version was sealed.
        VersionSealed {
            /// The Datanet.
            datanet: DatanetId,
            /// The version.
            version: VersionIndex,
            /// Merkle root over its contributions.
            root: Digest,
            /// Contributions.
            count: u32,
        },
        /// A contribution was taken back by its contributor; it earns nothing any more.
        Withdrawn {
            /// The Datanet.
            datanet: DatanetId,
            /// The contribution.
            contribution: ContributionId,
        },
    }

    /// Why a call is refused.
    #[pallet::error]
    pub enum Error<T> {
        /// No Datanet has this identifier: the `Created` event names it.
        UnknownDatanet,
        /// No contribution has this identifier: the `Contributed` event names it.
        UnknownContribution,
        /// Only the Datanet's owner may do this.
        NotOwner,
        /// Only who contributed may take a contribution back.
        NotContributor,
        /// The contribution is of another Datanet: name that one.
        OtherDatanet,
        /// The contribution was decided on already.
        NotPending,
        /// The contribution was taken back already.
        AlreadyWithdrawn,
        /// The list is empty: name what is admitted.
        NothingNamed,
        /// Nothing is admitted that is not sealed: admit contributions first.
        NothingToSeal,
        /// The Datanet has a contribution with this content root: contribute other rows.
        AlreadyContributed,
        /// There are no rows, or their root is the empty one.
        Empty,
        /// The bytes are zero, or more than 4,096 a row: split long rows.
        BadSize,
        /// The rows were sketched by an unknown scheme: use scheme 1.
        UnknownSketchScheme,
        /// The digest under which the rows can be fetched is missing.
        LocatorMissing,
        /// Licensed rows need the digest of the evidence of rights.
        RightsMissing,
        /// The licence has a bit that is not defined.
        UnknownPermission,
        /// The contribution permits less than the Datanet promises: contribute it to a Datanet with
        /// a narrower licence.
        LicenceTooNarrow,
        /// The contribution bond is below the least that the protocol asks.
        BondTooLow,
        /// Private Datanets open with access control: set `private` to false.
        PrivateUnavailable,
        /// Prices of access open with access control: set `access_price` to 0.
        PricedUnavailable,
        /// Admission by membership or stake opens with curation: use open admission.
        AdmissionUnavailable,
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

    impl<T: Config> Pallet<T> {
        /// The current block.
        pub(crate) fn now() -> BlockNumber {
            frame_system::Pallet::<T>::block_number().saturated_into()
        }
    }

    #[pallet::call]
    impl<T: Config> Pallet<T> {
        /// Founds a Datanet. Kind and licence never change. A deposit for its storage is taken.
        /// `min_royalty` is the least that contributors get, in planck, of the price of 1,000 tokens
        /// of any model trained on it.
        ///
        /// Emits `Created`. Errors: `UnknownPermission`, `BondTooLow`, `PrivateUnavailable`,
        /// `PricedUnavailable`, `AdmissionUnavailable`, `NoMoreIds`, and the deposit's.
        #[pallet::call_index(0)]
        #[pallet::weight(T::WeightInfo::create())]
        #[allow(clippy::too_many_arguments)]
        pub fn create(
            origin: OriginFor<T>,
            kind: DataKind,
            licence: Licence,
            schema: Digest,
            admission: Admission,
            access_price: Balance,
            min_royalty: Balance,
            contribution_bond: Balance,
            private: bool,
        ) -> DispatchResult {
            let owner = ensure_signed(origin)?;
            let charter = Charter {
                kind,
                licence,
                schema,
                admission,
                access_price,
                min_royalty,
                contribution_bond,
                private,
            };
            Self::do_create(owner, charter)
        }

        /// Contributes rows by their Merkle root. The contribution bond is put on hold until the
        /// owner decides.
        ///
        /// Emits `Contributed`. Errors: `UnknownDatanet`, `Empty`, `BadSize`,
        /// `UnknownSketchScheme`, `LocatorMissing`, `RightsMissing`, `UnknownPermission`,
        /// `LicenceTooNarrow`, `AlreadyContributed`, `NoMoreIds`, and the token's own.
        #[pallet::call_index(1)]
        #[pallet::weight(T::WeightInfo::contribute())]
        pub fn contribute(
            origin: OriginFor<T>,
            datanet: DatanetId,
            submission: Submission,
        ) -> DispatchResult {
            let owner = ensure_signed(origin)?;
            Self::do_contribute(owner, datanet, submission)
        }

        /// Admits contributions and gives their bonds back. All or none.
        ///
        /// Emits `Admitted` for each. Errors: `NothingNamed`, `UnknownDatanet`, `NotOwner`,
        /// `UnknownContribution`, `OtherDatanet`, `NotPending`.
        #[pallet::call_index(2)]
        #[pallet::weight(T::WeightInfo::admit(contributions.len() as u32))]
        pub fn admit(
            origin: OriginFor<T>,
            datanet: DatanetId,
            contributions: BoundedVec<ContributionId, ConstU32<MAX_ADMIT>>,
        ) -> DispatchResult {
            let who = ensure_signed(origin)?;
            Self::do_admit(&who, datanet, &contributions)
        }

        /// Refuses a contribution with a reason and gives its bond back.
        ///
        /// Emits `Rejected`. Errors: `UnknownDatanet`, `NotOwner`, `UnknownContribution`,
        /// `OtherDatanet`, `NotPending`.
        #[pallet::call_index(3)]
        #[pallet::weight(T::WeightInfo::reject())]
        pub fn reject(
            origin: OriginFor<T>,
            datanet: DatanetId,
            contribution: ContributionId,
            reason: RejectReason,
        ) -> DispatchResult {
            let who = ensure_signed(origin)?;
            Self::do_reject(&who, datanet, contribution, reason)
        }

        /// Seals the oldest of what is admitted into a new version, at most
        /// `max_contributions_per_version` of it; call again for the rest.
        ///
        /// Emits `VersionSealed`. Errors: `UnknownDatanet`, `NotOwner`, `NothingToSeal`,
        /// `NoMoreIds`.
        #[pallet::call_index(4)]
        #[pallet::weight(T::WeightInfo::seal_version(Pallet::<T>::seal_limit()))]
        pub fn seal_version(
            origin: OriginFor<T>,
            datanet: DatanetId,
        ) -> DispatchResultWithPostInfo {
            let who = ensure_signed(origin)?;
            let added = Self::do_seal(&who, datanet)?;
            Ok(Some(T::WeightInfo::seal_version(added)).into())
        }

        /// Takes a contribution back. What is not sealed is forgotten and its bond given back; what
        /// is sealed stays in the roots, and earns nothing any more.
        ///
        /// Emits `Withdrawn`. Errors: `UnknownContribution`, `NotContributor`, `AlreadyWithdrawn`.
        #[pallet::call_index(5)]
        #[pallet::weight(T::WeightInfo::withdraw())]
        pub fn withdraw(origin: OriginFor<T>, contribution: ContributionId) -> DispatchResult {
            let who = ensure_signed(origin)?;
            Self::do_withdraw(&who, contribution)
        }
    }
}
