//! What the pallet stores.

use frame_support::{traits::ConstU32, BoundedVec};
use openledger_economics::Parts;
use openledger_primitives::{
    batch::{BatchRoots, PAGE},
    receipt::CreditReason,
    voucher::EvidenceClass,
    Balance, BatchSequence, BlockNumber, ContributionId, Digest, LaneIndex, PublicKey, RevisionId,
    Sequence, TermsIndex,
};
use parity_scale_codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use scale_info::TypeInfo;

/// Signers that a channel may have.
pub const MAX_SIGNERS: u32 = 8;
/// Lanes that a channel may have.
pub const MAX_LANES: LaneIndex = 256;
/// Batches of one worker whose liability has not been released.
pub const MAX_OPEN_BATCHES: u32 = 128;
/// Batches that one call releases at most.
pub const MAX_RELEASED: u32 = 16;

macro_rules! stored {
    ($($item:item)*) => {
        $(
            #[derive(
                Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen,
                TypeInfo,
            )]
            $item
        )*
    };
}

stored! {
    /// A key that signs vouchers of a channel.
    #[derive(Copy)]
    pub struct ChannelSigner {
        /// sr25519.
        pub key: PublicKey,
        /// Most that may be charged on its vouchers, planck.
        pub limit: Balance,
        /// Charged on its vouchers so far, planck.
        pub spent: Balance,
        /// Last block at which its vouchers can be claimed.
        pub valid_until: BlockNumber,
    }

    /// Whether a channel takes claims without end.
    #[derive(Copy)]
    pub enum ChannelState {
        /// It does.
        #[codec(index = 0)]
        Open,
        /// Its consumer asked to close it.
        #[codec(index = 1)]
        Closing {
            /// Last block at which vouchers can be claimed.
            claim_until: BlockNumber,
        },
    }

    /// A part of a deposit that its consumer takes back.
    #[derive(Copy)]
    pub struct Cut {
        /// Planck; less is paid when claims leave less.
        pub amount: Balance,
        /// First block at which it is paid.
        pub effective: BlockNumber,
    }

    /// What a consumer put up to pay one worker.
    pub struct Channel<AccountId> {
        /// Who pays.
        pub consumer: AccountId,
        /// Who serves.
        pub worker: AccountId,
        /// What claims can still take, planck; on hold on the consumer's account.
        pub deposit: Balance,
        /// What claims took, planck.
        pub escrowed: Balance,
        /// Lanes, numbered from 0.
        pub lanes: LaneIndex,
        /// Deposits for the lanes, planck; on hold besides `deposit`.
        pub lane_deposits: Balance,
        /// Keys that sign vouchers.
        pub signers: BoundedVec<ChannelSigner, ConstU32<MAX_SIGNERS>>,
        /// How answers may be audited.
        pub evidence: EvidenceClass,
        /// A cut of the deposit on its way.
        pub cut: Option<Cut>,
        /// Open or closing.
        pub state: ChannelState,
    }

    /// A lane of a channel.
    #[derive(Copy)]
    pub struct Lane {
        /// Key whose vouchers it takes; one of the channel's signers.
        pub signer: PublicKey,
        /// First sequence that no batch has claimed, from 1.
        pub next_sequence: Sequence,
        /// Charged on the lane so far, planck.
        pub cumulative: Balance,
    }

    /// Where a batch stands.
    #[derive(Copy)]
    pub enum BatchState {
        /// Inside its window.
        #[codec(index = 0)]
        Submitted,
        /// Drawn for audit.
        #[codec(index = 1)]
        Drawn,
        /// Its influence credits are in.
        #[codec(index = 2)]
        Credited,
        /// Past its window: pages are being settled.
        #[codec(index = 3)]
        Finalizable,
        /// All its parts are earned; its bond still answers for it.
        #[codec(index = 4)]
        Settled,
        /// Proven false and undone.
        #[codec(index = 5)]
        Reversed,
    }

    /// A batch from its submission until its liability is released.
    pub struct Batch {
        /// What the next batch named as its parent.
        pub hash: Digest,
        /// Epoch that its header names.
        pub epoch: u64,
        /// Sum of its fees, planck.
        pub fee: Balance,
        /// Receipts.
        pub count: u32,
        /// Roots of the three index trees.
        pub roots: BatchRoots,
        /// Root over influence credits, once they are in.
        pub influence_root: Option<Digest>,
        /// Randomness of its audit, once drawn.
        pub draw: Option<Digest>,
        /// Bond reserved for it, planck.
        pub reserved: Balance,
        /// Block after which it can be settled.
        pub window_end: BlockNumber,
        /// Last block at which its bond answers for it.
        pub liability_end: BlockNumber,
        /// Disputes that hold it up.
        pub open_disputes: u16,
        /// Pages of lines.
        pub pages: u32,
        /// Pages settled.
        pub cursor: u32,
        /// Fees still in escrow, planck.
        pub escrowed: Balance,
        /// Block under which it stands in the agenda.
        pub due: BlockNumber,
        /// Where it stands.
        pub state: BatchState,
    }

    /// A line as it waits to be settled.
    pub enum Line<AccountId> {
        /// What a revision earned at its terms.
        #[codec(index = 0)]
        Usage {
            /// Revision.
            revision: RevisionId,
            /// Who earns the developer's and the holders' part.
            developer: AccountId,
            /// Parts of the fee; `contributors` is what no credit takes and the pool gets, and a
            /// base's contributors' part is in `protocol`.
            parts: Parts,
        },
        /// What a contribution is credited with.
        #[codec(index = 1)]
        Credit {
            /// Revision.
            revision: RevisionId,
            /// Terms under which the revision's versions are found.
            terms: TermsIndex,
            /// Contribution.
            contribution: ContributionId,
            /// Planck.
            amount: Balance,
            /// Why.
            reason: CreditReason,
        },
    }

    /// What is known of a worker's batches. Kept when the worker leaves, so that no batch comes
    /// twice.
    pub struct Account {
        /// Sequence of the next batch.
        pub next_sequence: BatchSequence,
        /// Hash of the last batch; zero before the first.
        pub parent: Digest,
        /// Fees of batches not yet settled, planck.
        pub window_fees: Balance,
        /// Fees of batches not yet released, planck.
        pub liability_fees: Balance,
        /// End of the last batch's window: no later batch's ends before it.
        pub window_end: BlockNumber,
        /// End of the last batch's liability: no later batch's ends before it.
        pub liability_end: BlockNumber,
        /// Batches not yet released, ascending.
        pub open: BoundedVec<BatchSequence, ConstU32<MAX_OPEN_BATCHES>>,
    }
}

/// Lines that are settled in one step.
pub type Page<AccountId> = BoundedVec<Line<AccountId>, ConstU32<PAGE>>;

impl Default for Account {
    fn default() -> Self {
        Account {
            next_sequence: 1,
            parent: Default::default(),
            window_fees: 0,
            liability_fees: 0,
            window_end: 0,
            liability_end: 0,
            open: Default::default(),
        }
    }
}

impl<AccountId> Channel<AccountId> {
    /// What is on hold for the channel, planck.
    pub fn held(&self) -> Balance {
        self.deposit.saturating_add(self.lane_deposits)
    }

    /// What of the deposit no pending cut will take, planck: what new work can count on.
    pub fn free(&self) -> Balance {
        let cut = self.cut.as_ref().map_or(0, |cut| cut.amount);
        self.deposit.saturating_sub(cut)
    }
}

impl<AccountId> Line<AccountId> {
    /// What settling the line takes out of escrow, planck.
    pub fn amount(&self) -> Balance {
        match self {
            Line::Usage { parts, .. } => parts.total().unwrap_or(Balance::MAX),
            Line::Credit { amount, .. } => *amount,
        }
    }
}

/// A block number, most significant byte first, so that storage keys ascend as blocks do.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Encode,
    Decode,
    DecodeWithMemTracking,
    MaxEncodedLen,
    TypeInfo,
)]
pub struct Due([u8; 4]);

impl From<BlockNumber> for Due {
    fn from(block: BlockNumber) -> Self {
        Due(block.to_be_bytes())
    }
}

impl Due {
    /// The block number.
    pub fn block(&self) -> BlockNumber {
        BlockNumber::from_be_bytes(self.0)
    }
}
