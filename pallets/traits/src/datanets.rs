//! Datanets as other pallets see them.

use openledger_primitives::{
    licence::Licence, revision::VersionUse, Balance, ContributionId, DatanetId,
};

/// Sealed versions and who owns what is in them.
pub trait DatanetRegistry<AccountId> {
    /// Whether the version is sealed and live.
    fn version_is_live(version: &VersionUse) -> bool;
    /// Whether `who` may train on the version under the grant it names.
    fn may_use(who: &AccountId, version: &VersionUse) -> bool;
    /// What the Datanet permits.
    fn licence(datanet: DatanetId) -> Option<Licence>;
    /// Least that contributors get of the price of 1,000 tokens of any model trained on the
    /// Datanet, planck.
    fn min_royalty(datanet: DatanetId) -> Balance;
    /// Whether the contribution was sealed into one of `versions`, whatever became of it since.
    fn is_sealed_in(contribution: ContributionId, versions: &[VersionUse]) -> bool {
        Self::credited_owner(contribution, versions).is_some()
    }
    /// Owner of a contribution that stands, live, in one of `versions`; `None` otherwise.
    fn credited_owner(contribution: ContributionId, versions: &[VersionUse]) -> Option<AccountId>;
}
