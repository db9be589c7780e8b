//! What other pallets ask about Datanets.

use crate::{Config, Contributions, Datanets, Pallet, Stage, Status, Versions};
use openledger_primitives::{
    contribution::Provenance, licence::Licence, revision::VersionUse, Balance, ContributionId,
    DatanetId,
};
use openledger_traits::DatanetRegistry;

impl<T: Config> DatanetRegistry<T::AccountId> for Pallet<T> {
    fn version_is_live(version: &VersionUse) -> bool {
        Versions::<T>::get(version.datanet, version.version)
            .is_some_and(|version| version.status == Status::Live)
    }

    /// Every Datanet is public so far: whoever names no grant may use it.
    fn may_use(_: &T::AccountId, version: &VersionUse) -> bool {
        version.grant.is_none()
            && Datanets::<T>::get(version.datanet)
                .is_some_and(|net| !net.private && net.access_price == 0)
    }

    fn licence(datanet: DatanetId) -> Option<Licence> {
        Datanets::<T>::get(datanet).map(|net| net.licence)
    }

    fn min_royalty(datanet: DatanetId) -> Balance {
        Datanets::<T>::get(datanet).map_or(0, |net| net.min_royalty)
    }

    /// Versions hold all that earlier ones do, so a contribution is in every version from the one
    /// that sealed it.
    fn is_sealed_in(contribution: ContributionId, versions: &[VersionUse]) -> bool {
        Contributions::<T>::get(contribution).is_some_and(|record| {
            let Stage::Sealed { version: first, .. } = record.stage else {
                return false;
            };
            versions.iter().any(|named| {
                named.datanet == record.datanet
                    && named.version >= first
                    && Versions::<T>::contains_key(named.datanet, named.version)
            })
        })
    }

    /// Versions hold all that earlier ones do, so a contribution stands in every version from the
    /// one that sealed it. What is in the public domain earns nobody anything.
    fn credited_owner(
        contribution: ContributionId,
        versions: &[VersionUse],
    ) -> Option<T::AccountId> {
        let record = Contributions::<T>::get(contribution)?;
        let Stage::Sealed { version: first, .. } = record.stage else {
            return None;
        };
        let earns =
            record.status == Status::Live && record.submission.provenance != Provenance::Public;
        let stands = versions.iter().any(|named| {
            named.datanet == record.datanet
                && named.version >= first
                && Self::version_is_live(named)
        });
        (earns && stands).then_some(record.owner)
    }
}
