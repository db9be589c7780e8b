//! Models as other pallets see them.

use frame_support::{traits::ConstU32, BoundedVec};
use openledger_primitives::{
    revision::{ModelRef, VersionUse, MAX_VERSIONS},
    terms::Terms,
    BlockNumber, RevisionId, TermsIndex,
};

/// A revision with the terms that a voucher named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PricedRevision<AccountId> {
    /// The adapter or base.
    pub model: ModelRef,
    /// The account that earns the developer's part.
    pub developer: AccountId,
    /// The terms.
    pub terms: Terms<BlockNumber>,
    /// Versions it was trained on: the only ones whose contributions it may credit.
    pub versions: BoundedVec<VersionUse, ConstU32<MAX_VERSIONS>>,
}

/// Revisions and their terms.
pub trait ModelRegistry<AccountId> {
    /// The revision at these terms. `None` when either is unknown, when the terms are of another
    /// model, when they are not yet in effect at `now`, or when the revision's licence or royalties
    /// forbid their prices. Retired revisions and superseded terms are returned: what was served
    /// settles.
    fn priced(
        revision: RevisionId,
        terms: TermsIndex,
        now: BlockNumber,
    ) -> Option<PricedRevision<AccountId>>;
    /// Last block at which usage of the revision at these terms is accepted: no end while both stand,
    /// and a while after the terms were superseded or the revision retired, so that work done is
    /// claimed and old terms are not traded on for ever.
    fn accepted_until(revision: RevisionId, terms: TermsIndex) -> BlockNumber;
    /// The terms that a new voucher of the revision names: the latest in effect at `now`. `None`
    /// when the revision is unknown or has no terms in effect.
    fn terms_in_force(revision: RevisionId, now: BlockNumber) -> Option<TermsIndex> {
        // Entries take effect in their order.
        (0..=TermsIndex::MAX)
            .take_while(|terms| Self::priced(revision, *terms, now).is_some())
            .last()
    }
    /// Whether a worker may announce that it serves the revision: known and live.
    fn is_live(revision: RevisionId) -> bool;
}
