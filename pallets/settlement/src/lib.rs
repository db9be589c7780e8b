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

mod agenda;
mod batches;
#[cfg(feature = "runtime-benchmarks")]
mod benchmarking;
mod channels;
mod claims;
mod closing;
mod escrow;
mod exposure;
mod finalize;
#[cfg(any(feature = "std", feature = "try-runtime"))]
mod invariants;
mod lines;
#[cfg(test)]
mod mock;
pub mod runtime_api;
mod signers;
#[cfg(test)]
mod tests;
mod types;
pub mod weights;

#[cfg(feature = "runtime-benchmarks")]
pub use benchmarking::BenchmarkHelper;
pub use pallet::*;
pub use types::{
    Account, Batch, BatchState, Channel, ChannelSigner, ChannelState, Cut, Due, Lane, Line, Page,
    MAX_LANES, MAX_OPEN_BATCHES, MAX_RELEASED, MAX_SIGNERS,
};
pub use weights::WeightInfo;

/// The pallet itself: storage, events, errors and calls.
// What the macros write for genesis and metadata expects.
#[allow(clippy::expect_used)]
#[frame_support::pallet]
pub mod pallet {
    use super::*;
    use frame_support::{
        pallet_prelude::*,
        traits::fungible::{Inspect, Mutate, MutateHold},
        PalletId,
    };
    use frame_system::pallet_prelude::*;
    use openledger_primitives::{
        batch::{BatchHeader, Claim, Credit, Usage, MAX_CLAIMS, MAX_CREDITS, MAX_USAGE, PAGE},
        voucher::EvidenceClass,
        Balance, BatchSequence, BlockNumber, ChannelId, LaneIndex, PublicKey,
    };
    use openledger_traits::{
        BondLedger, DatanetRegistry, Earnings, ModelRegistry, Parameters, WorkerRegistry,
    };

    const STORAGE_VERSION: StorageVersion = StorageVersion::new(1);

    /// Channels and batches.
    #[pallet::pallet]
    #[pallet::storage_version(STORAGE_VERSION)]
    pub struct Pallet<T>(_);

    /// What the pallet needs of the runtime.
    #[pallet::config]
    pub trait Config: frame_system::Config {
        /// Reasons for holds of the runtime.
        type RuntimeHoldReason: From<HoldReason>;
        /// The token in which fees are paid.
        type Currency: Inspect<Self::AccountId, Balance = Balance>
            + Mutate<Self::AccountId>
            + MutateHold<Self::AccountId, Reason = Self::RuntimeHoldReason>;
        /// Names the escrow account.
        #[pallet::constant]
        type PalletId: Get<PalletId>;
        /// Where workers' bonds stand.
        type Bonds: BondLedger<Self::AccountId>;
        /// Where workers and their keys stand.
        type Workers: WorkerRegistry<Self::AccountId>;
        /// Where revisions and their terms stand.
        type Models: ModelRegistry<Self::AccountId>;
        /// Where contributions and their owners stand.
        type Datanets: DatanetRegistry<Self::AccountId>;
        /// Where parts of fees go.
        type Earnings: Earnings<Self::AccountId>;
        /// Protocol parameters.
        type Parameters: Parameters;
        /// The epoch of the chain.
        type CurrentEpoch: Get<u64>;
        /// Weights of the calls.
        type WeightInfo: WeightInfo;
        /// What the benchmarks need of the other pallets.
        #[cfg(feature = "runtime-benchmarks")]
        type BenchmarkHelper: BenchmarkHelper<Self::AccountId>;
    }

    /// Why tokens are on hold.
    #[pallet::composite_enum]
    pub enum HoldReason {
        /// They pay for a channel's answers, or are the deposit for its lanes.
        #[codec(index = 0)]
        Channel,
    }

    /// The next channel's identifier.
    #[pallet::storage]
    pub type NextChannel<T> = StorageValue<_, ChannelId, ValueQuery>;

    /// Channels.
    #[pallet::storage]
    pub type Channels<T: Config> = StorageMap<_, Twox64Concat, ChannelId, Channel<T::AccountId>>;

    /// Lanes of each channel.
    #[pallet::storage]
    pub type Lanes<T> = StorageDoubleMap<_, Twox64Concat, ChannelId, Twox64Concat, LaneIndex, Lane>;

    /// What is known of each worker's batches.
    #[pallet::storage]
    pub type Accounts<T: Config> =
        StorageMap<_, Blake2_128Concat, T::AccountId, Account, ValueQuery>;

    /// Batches of each worker, until their liability is released.
    #[pallet::storage]
    pub type Batches<T: Config> =
        StorageDoubleMap<_, Blake2_128Concat, T::AccountId, Twox64Concat, BatchSequence, Batch>;

    /// Lines of each batch that wait to be settled.
    #[pallet::storage]
    pub type Pages<T: Config> = StorageNMap<
        _,
        (
            NMapKey<Blake2_128Concat, T::AccountId>,
            NMapKey<Twox64Concat, BatchSequence>,
            NMapKey<Twox64Concat, u32>,
        ),
        Page<T::AccountId>,
    >;

    /// Batches by the block from which something is to be done for them, ascending.
    #[pallet::storage]
    pub type Agenda<T: Config> =
        StorageDoubleMap<_, Identity, Due, Blake2_128Concat, (T::AccountId, BatchSequence), ()>;

    /// Gives the escrow account the least balance.
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
            Pallet::<T>::found_escrow();
        }
    }

    /// What happened.
    #[pallet::event]
    #[pallet::generate_deposit(pub(super) fn deposit_event)]
    pub enum Event<T: Config> {
        /// A channel was opened.
        ChannelOpened {
            /// Which.
            channel: ChannelId,
            /// Who pays.
            consumer: T::AccountId,
            /// Who serves.
            worker: T::AccountId,
            /// Planck that claims can take.
            deposit: Balance,
        },
        /// A channel's deposit grew.
        Deposited {
            /// Which.
            channel: ChannelId,
            /// Planck added.
            amount: Balance,
        },
        /// A channel has a signer more.
        SignerAdded {
            /// Which channel.
            channel: ChannelId,
            /// sr25519.
            key: PublicKey,
            /// Most that may be charged on its vouchers, planck.
            limit: Balance,
            /// Last block at which its vouchers can be claimed.
            valid_until: BlockNumber,
        },
        /// A signer was revoked.
        SignerRevoked {
            /// Which channel.
            channel: ChannelId,
            /// sr25519.
            key: PublicKey,
            /// Last block at which its vouchers can be claimed.
            valid_until: BlockNumber,
        },
        /// A channel has more lanes.
        LanesAdded {
            /// Which channel.
            channel: ChannelId,
            /// Lanes now.
            lanes: LaneIndex,
            /// Key whose vouchers the new ones take.
            signer: PublicKey,
        },
        /// A consumer takes back part of a deposit.
        DepositCut {
            /// Which channel.
            channel: ChannelId,
            /// Planck.
            amount: Balance,
            /// First block at which it is paid.
            effective: BlockNumber,
        },
        /// A cut of a deposit was paid.
        CutPaid {
            /// Which channel.
            channel: ChannelId,
            /// Planck.
            amount: Balance,
        },
        /// A consumer asked to close a channel.
        ChannelClosing {
            /// Which.
            channel: ChannelId,
            /// Last block at which vouchers can be claimed.
            claim_until: BlockNumber,
        },
        /// A channel is gone.
        ChannelClosed {
            /// Which.
            channel: ChannelId,
            /// Planck freed on the consumer's account, the lanes' deposits among them.
            returned: Balance,
        },
        /// A batch was accepted.
        BatchSubmitted {
            /// Whose.
            worker: T::AccountId,
            /// Which.
            sequence: BatchSequence,
            /// Sum of its fees, planck.
            fee: Balance,
            /// Receipts.
            count: u32,
            /// Block after which it can be settled.
            window_end: BlockNumber,
        },
        /// A page of a batch was settled.
        BatchPageSettled {
            /// Whose.
            worker: T::AccountId,
            /// Which batch.
            sequence: BatchSequence,
            /// Page, from 0.
            page: u32,
            /// Planck that left escrow.
            amount: Balance,
        },
        /// A batch was settled to the end.
        BatchFinalized {
            /// Whose.
            worker: T::AccountId,
            /// Which.
            sequence: BatchSequence,
            /// Sum of its fees, planck.
            fee: Balance,
        },
        /// The owner of a credited contribution cannot be paid any more: the credit went to the
        /// revision's pool.
        CreditPooled {
            /// Which revision's pool.
            revision: openledger_primitives::RevisionId,
            /// The contribution.
            contribution: openledger_primitives::ContributionId,
            /// Planck.
            amount: Balance,
        },
        /// The bond answers for a batch no more.
        LiabilityReleased {
            /// Whose.
            worker: T::AccountId,
            /// Which batch.
            sequence: BatchSequence,
            /// Planck of the reservation given back.
            reserved: Balance,
        },
        /// A step of a batch failed on its own and is tried again later.
        BatchPostponed {
            /// Whose.
            worker: T::AccountId,
            /// Which batch.
            sequence: BatchSequence,
            /// Block from which it is tried again.
            due: BlockNumber,
            /// Why it failed.
            error: DispatchError,
        },
    }

    /// Why a call is refused.
    #[pallet::error]
    pub enum Error<T> {
        // Channels.
        /// No channel has this identifier: it was never opened, or is closed.
        UnknownChannel,
        /// Only the channel's consumer may do this.
        NotConsumer,
        /// The channel is closing: open another one.
        ChannelIsClosing,
        /// The channel is not closing: ask to close it first.
        ChannelIsOpen,
        /// Vouchers can still be claimed: wait until `claim_until` is over.
        ClaimsOpen,
        /// The worker is not registered, or takes on nothing new: `WorkersApi.find` lists others.
        WorkerInactive,
        /// The worker announces no evidence class as high as this: its capability says how high.
        EvidenceAboveOffered,
        /// The deposit is below `min_channel_deposit`.
        DepositBelowMinimum,
        /// The amount is zero: name how many planck you mean.
        ZeroAmount,
        /// A channel has 1 to 256 lanes.
        LaneCount,
        /// The block named is in the past.
        AlreadyOver,
        /// The channel has eight signers: revoke one and wait until it is not valid any more.
        TooManySigners,
        /// The key is one of the channel's signers already.
        SignerExists,
        /// The key is none of the channel's signers.
        UnknownSigner,
        /// No signer of the channel is valid that new lanes could name: add one.
        NoValidSigner,
        /// More than the deposit.
        CutAboveDeposit,
        /// A cut of the deposit is on its way: finish it first.
        CutPending,
        /// No cut of the deposit is on its way.
        NoCut,
        /// The cut is not effective yet: the `DepositCut` event says when.
        CutNotEffective,

        // The head of a batch.
        /// The caller is neither the worker nor its current service key.
        NotWorker,
        /// The header's format version is not the one that this chain knows.
        HeaderVersion,
        /// The header's sequence is not the next: `SettlementApi.next_batch` says which is.
        BatchSequence,
        /// The header does not name the batch before it: `SettlementApi.next_batch` says its hash.
        BatchParent,
        /// The header names neither this epoch nor the one before.
        BatchEpoch,
        /// The batch claims nothing, or fees of zero: wait until there is something to be paid.
        EmptyBatch,
        /// Too many batches wait for their release: call `settle_page` and `release_liability`.
        TooManyBatches,
        /// A sum would exceed what its type holds.
        Overflow,
        /// Claims do not sum to the header's fee.
        ClaimsDifferFromFee,
        /// Usage does not sum to the header's fee.
        UsageDiffersFromFee,
        /// Claims and usage do not count as many receipts as the header.
        CountsDiffer,
        /// Fees inside the challenge window would exceed half of the own bond: wait until a batch
        /// is settled, bond more, or submit less.
        WindowExposure,
        /// Fees inside liability would exceed half of the usable bond: wait until a batch is
        /// released, bond more, or submit less.
        LiabilityExposure,
        /// Twice the batch's fee is not free in the usable bond: bond more, or submit less.
        ReservationExposure,

        // Claims.
        /// Claims are not sorted by (channel, lane), or one lane is claimed twice.
        ClaimsUnsorted,
        /// The channel is another worker's.
        ForeignChannel,
        /// The channel's time for claims is over.
        ClaimsOver,
        /// The channel has no such lane.
        UnknownLane,
        /// The sequence was claimed before.
        SequenceRepeated,
        /// The claim's count is not that of the sequences from the first unclaimed to its last.
        SequenceCount,
        /// The cumulative charge is below what was claimed before.
        CumulativeFell,
        /// The voucher's format version is not the one that this chain knows.
        VoucherVersion,
        /// The voucher was signed for another chain or another fork of it.
        VoucherDomain,
        /// The voucher is of another channel.
        VoucherChannel,
        /// The voucher is of another lane.
        VoucherLane,
        /// The voucher is of another sequence than the claim's last.
        VoucherSequence,
        /// The voucher names another evidence class than the channel.
        VoucherEvidence,
        /// The cumulative charge is below what the voucher acknowledges.
        BelowAcknowledged,
        /// The cumulative charge is above what the voucher acknowledges plus its `max_fee`.
        FeeAboveMax,
        /// The voucher expired, and its time for claims is over.
        VoucherExpired,
        /// The revision and terms of the voucher are in no usage line.
        VoucherNotInUsage,
        /// The lane's signer is not valid any more.
        SignerExpired,
        /// The charge exceeds what the signer may spend.
        SignerLimit,
        /// The signature is not the lane's signer's over the voucher.
        BadSignature,
        /// The charge exceeds the channel's deposit.
        DepositTooSmall,

        // Usage and credits.
        /// Usage is not sorted by (revision, terms), or a line stands twice.
        UsageUnsorted,
        /// No such revision, or no such terms of it in effect.
        UnknownRevision,
        /// The terms were superseded, or the revision was retired, longer than `voucher_grace` ago.
        TermsOver,
        /// The line's fee cannot be the sum of its receipts' tokens at the terms.
        FeeNotTokensTimesPrice,
        /// The line stands for no receipt, or credits nothing.
        EmptyLine,
        /// Credits are not sorted by (revision, contribution, reason), or a line stands twice.
        CreditsUnsorted,
        /// The credit is of a revision that the batch does not use.
        CreditWithoutUsage,
        /// Credits with this reason do not come with the batch.
        CreditReason,
        /// The contribution is in none of the versions that the revision was trained on.
        CreditOutsideVersions,
        /// Credits of a revision exceed the contributors' part of its fees.
        CreditsAboveShare,

        // Finalization.
        /// The worker has no such batch: it was never submitted, or is released.
        UnknownBatch,
        /// The batch is inside its window: wait until `window_end` is over.
        WindowOpen,
        /// A dispute of the batch is open.
        Disputed,
        /// The batch is settled.
        AlreadySettled,
        /// Nothing is to be released: the oldest batch is not settled, or its liability goes on.
        NothingToRelease,
    }

    #[pallet::hooks]
    impl<T: Config> Hooks<BlockNumberFor<T>> for Pallet<T> {
        /// Settles pages and releases liability with what the block leaves.
        fn on_idle(_: BlockNumberFor<T>, remaining: Weight) -> Weight {
            Self::work_off(remaining)
        }

        /// A batch as large as its format allows fits into a block.
        fn integrity_test() {
            let largest = Self::batch_weight(MAX_CLAIMS, MAX_USAGE, MAX_CREDITS);
            let normal = T::BlockWeights::get()
                .get(frame_support::dispatch::DispatchClass::Normal)
                .max_extrinsic
                .unwrap_or(Weight::MAX);
            assert!(
                largest.all_lte(normal),
                "the largest batch weighs {largest:?}, a block takes {normal:?}"
            );
        }

        #[cfg(feature = "try-runtime")]
        fn try_state(_: BlockNumberFor<T>) -> Result<(), sp_runtime::TryRuntimeError> {
            Self::do_try_state()
        }
    }

    #[pallet::call]
    impl<T: Config> Pallet<T> {
        /// Opens a channel to `worker`: holds `deposit` planck and a deposit per lane on the
        /// caller's account. Vouchers of `signer` are accepted on its lanes up to `limit` planck
        /// and until block `valid_until`. All of them name the class `evidence`, which is at most
        /// what the worker announces.
        ///
        /// Emits `ChannelOpened`. Errors: `WorkerInactive`, `EvidenceAboveOffered`,
        /// `DepositBelowMinimum`, `LaneCount`, `AlreadyOver`, `Overflow`, and the token's own when
        /// the balance is too small.
        #[pallet::call_index(0)]
        #[pallet::weight(T::WeightInfo::open_channel((*lanes).into()))]
        #[allow(clippy::too_many_arguments)]
        pub fn open_channel(
            origin: OriginFor<T>,
            worker: T::AccountId,
            deposit: Balance,
            lanes: LaneIndex,
            signer: PublicKey,
            limit: Balance,
            valid_until: BlockNumber,
            evidence: EvidenceClass,
        ) -> DispatchResult {
            let consumer = ensure_signed(origin)?;
            let signer = ChannelSigner {
                key: signer,
                limit,
                spent: 0,
                valid_until,
            };
            Self::do_open_channel(consumer, worker, deposit, lanes, signer, evidence)
        }

        /// Adds `amount` planck to the deposit of the caller's channel.
        ///
        /// Emits `Deposited`. Errors: `UnknownChannel`, `NotConsumer`, `ChannelIsClosing`,
        /// `ZeroAmount`, `Overflow`, and the token's own when the balance is too small.
        #[pallet::call_index(1)]
        #[pallet::weight(T::WeightInfo::deposit())]
        pub fn deposit(
            origin: OriginFor<T>,
            channel: ChannelId,
            amount: Balance,
        ) -> DispatchResult {
            let consumer = ensure_signed(origin)?;
            Self::do_deposit(&consumer, channel, amount)
        }

        /// Adds a signer to the caller's channel. Signers that are not valid any more make room.
        ///
        /// Emits `SignerAdded`. Errors: `UnknownChannel`, `NotConsumer`, `ChannelIsClosing`,
        /// `AlreadyOver`, `SignerExists`, `TooManySigners`.
        #[pallet::call_index(2)]
        #[pallet::weight(T::WeightInfo::add_signer())]
        pub fn add_signer(
            origin: OriginFor<T>,
            channel: ChannelId,
            key: PublicKey,
            limit: Balance,
            valid_until: BlockNumber,
        ) -> DispatchResult {
            let consumer = ensure_signed(origin)?;
            let signer = ChannelSigner {
                key,
                limit,
                spent: 0,
                valid_until,
            };
            Self::do_add_signer(&consumer, channel, signer)
        }

        /// Revokes a signer of the caller's channel: its vouchers can be claimed for `revoke_delay`
        /// blocks more, so that work already done is paid.
        ///
        /// Emits `SignerRevoked`. Errors: `UnknownChannel`, `NotConsumer`, `UnknownSigner`.
        #[pallet::call_index(3)]
        #[pallet::weight(T::WeightInfo::revoke_signer())]
        pub fn revoke_signer(
            origin: OriginFor<T>,
            channel: ChannelId,
            key: PublicKey,
        ) -> DispatchResult {
            let consumer = ensure_signed(origin)?;
            Self::do_revoke_signer(&consumer, channel, &key)
        }

        /// Adds lanes to the caller's channel, with a deposit each. They take vouchers of the
        /// signer that was added last and is valid.
        ///
        /// Emits `LanesAdded`. Errors: `UnknownChannel`, `NotConsumer`, `ChannelIsClosing`,
        /// `LaneCount`, `NoValidSigner`, `Overflow`, and the token's own when the balance is too
        /// small.
        #[pallet::call_index(4)]
        #[pallet::weight(T::WeightInfo::add_lanes((*lanes).into()))]
        pub fn add_lanes(
            origin: OriginFor<T>,
            channel: ChannelId,
            lanes: LaneIndex,
        ) -> DispatchResult {
            let consumer = ensure_signed(origin)?;
            Self::do_add_lanes(&consumer, channel, lanes)
        }

        /// Asks to close the caller's channel: vouchers can be claimed for `close_delay` blocks
        /// more.
        ///
        /// Emits `ChannelClosing`. Errors: `UnknownChannel`, `NotConsumer`, `ChannelIsClosing`.
        #[pallet::call_index(5)]
        #[pallet::weight(T::WeightInfo::close_channel())]
        pub fn close_channel(origin: OriginFor<T>, channel: ChannelId) -> DispatchResult {
            let consumer = ensure_signed(origin)?;
            Self::do_close_channel(&consumer, channel)
        }

        /// Removes a channel whose time for claims is over, and frees what is left on its
        /// consumer's account. Anyone may call.
        ///
        /// Emits `ChannelClosed`. Errors: `UnknownChannel`, `ChannelIsOpen`, `ClaimsOpen`.
        #[pallet::call_index(6)]
        #[pallet::weight(T::WeightInfo::finish_close(MAX_LANES.into()))]
        pub fn finish_close(
            origin: OriginFor<T>,
            channel: ChannelId,
        ) -> DispatchResultWithPostInfo {
            ensure_signed(origin)?;
            let lanes = Self::do_finish_close(channel)?;
            Ok(Some(T::WeightInfo::finish_close(lanes.into())).into())
        }

        /// Submits a batch for `worker`, by its account or its current service key. All of it is
        /// accepted or nothing. What it claims moves into escrow, and twice as much of the bond is
        /// reserved.
        ///
        /// Emits `BatchSubmitted`. Errors: those of the head, of claims, of usage and credits.
        #[pallet::call_index(7)]
        #[pallet::weight(Pallet::<T>::batch_weight(
            claims.len() as u32,
            usage.len() as u32,
            credits.len() as u32,
        ))]
        pub fn submit_batch(
            origin: OriginFor<T>,
            worker: T::AccountId,
            header: BatchHeader,
            claims: BoundedVec<Claim, ConstU32<MAX_CLAIMS>>,
            usage: BoundedVec<Usage, ConstU32<MAX_USAGE>>,
            credits: BoundedVec<Credit, ConstU32<MAX_CREDITS>>,
        ) -> DispatchResult {
            let caller = ensure_signed(origin)?;
            Self::ensure_acts_for(&caller, &worker)?;
            Self::do_submit_batch(&worker, &header, &claims, &usage, &credits)
        }

        /// Settles the next page of a batch whose window is over. Anyone may call.
        ///
        /// Emits `BatchPageSettled`, and `BatchFinalized` with the last. Errors: `UnknownBatch`,
        /// `AlreadySettled`, `WindowOpen`, `Disputed`.
        #[pallet::call_index(8)]
        #[pallet::weight(T::WeightInfo::settle_page(PAGE))]
        pub fn settle_page(
            origin: OriginFor<T>,
            worker: T::AccountId,
            sequence: BatchSequence,
        ) -> DispatchResultWithPostInfo {
            ensure_signed(origin)?;
            let lines = Self::do_settle_page(&worker, sequence)?;
            Ok(Some(T::WeightInfo::settle_page(lines)).into())
        }

        /// Gives back what is reserved for settled batches whose liability is over, up to sixteen
        /// of them, the oldest first. Anyone may call.
        ///
        /// Emits `LiabilityReleased` for each. Errors: `NothingToRelease`.
        #[pallet::call_index(9)]
        #[pallet::weight(T::WeightInfo::release_liability(MAX_RELEASED))]
        pub fn release_liability(
            origin: OriginFor<T>,
            worker: T::AccountId,
        ) -> DispatchResultWithPostInfo {
            ensure_signed(origin)?;
            let released = Self::do_release_liability(&worker)?;
            Ok(Some(T::WeightInfo::release_liability(released)).into())
        }

        /// Takes back `amount` planck of the deposit of the caller's channel, effective after
        /// `revoke_delay` blocks. Claims until then can still take it.
        ///
        /// Emits `DepositCut`. Errors: `UnknownChannel`, `NotConsumer`, `ChannelIsClosing`,
        /// `ZeroAmount`, `CutPending`, `CutAboveDeposit`.
        #[pallet::call_index(10)]
        #[pallet::weight(T::WeightInfo::cut_deposit())]
        pub fn cut_deposit(
            origin: OriginFor<T>,
            channel: ChannelId,
            amount: Balance,
        ) -> DispatchResult {
            let consumer = ensure_signed(origin)?;
            Self::do_cut_deposit(&consumer, channel, amount)
        }

        /// Pays an effective cut, or what claims left of it. Anyone may call.
        ///
        /// Emits `CutPaid`. Errors: `UnknownChannel`, `NoCut`, `CutNotEffective`.
        #[pallet::call_index(11)]
        #[pallet::weight(T::WeightInfo::finish_cut())]
        pub fn finish_cut(origin: OriginFor<T>, channel: ChannelId) -> DispatchResult {
            ensure_signed(origin)?;
            Self::do_finish_cut(channel)
        }
    }
}
