//! Parameters and registries for the tests of pallets: plain tables of the thread, so that a test
//! says what its pallet finds on the other side of a trait.

use crate::{
    BondParameters, ConsensusParameters, DatanetParameters, DatanetRegistry, ModelParameters,
    ModelRegistry, Parameters, PayoutParameters, PricedRevision, SettlementParameters,
};
use openledger_primitives::{
    licence::Licence, revision::VersionUse, Balance, BlockNumber, ContributionId, DatanetId,
    RevisionId, TermsIndex, VersionIndex,
};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

/// One OPEN in planck.
pub const OPEN: Balance = 1_000_000_000_000;

/// All parameters, with small times and round amounts.
#[derive(Clone, Copy, Debug)]
pub struct ParameterSet {
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
}

impl Default for ParameterSet {
    fn default() -> Self {
        ParameterSet {
            consensus: ConsensusParameters {
                slot_duration: 3_000,
                epoch_length: 20,
            },
            settlement: SettlementParameters {
                challenge_window: 20,
                evidence_window: 10,
                close_delay: 20,
                revoke_delay: 10,
                voucher_grace: 20,
                lane_deposit: OPEN / 10,
                min_channel_deposit: OPEN,
                fork_nonce: 0,
            },
            bonds: BondParameters {
                min_worker_bond: 100 * OPEN,
                thaw: 50,
                heartbeat_grace: 40,
            },
            datanets: DatanetParameters {
                min_contribution_bond: OPEN,
                max_contributions_per_version: 64,
            },
            models: ModelParameters {
                min_worker_ppm: 500_000,
                min_protocol_ppm: 50_000,
                terms_notice: 10,
            },
            payouts: PayoutParameters {
                contributor_vesting: 10,
                protocol_burn_ppm: 500_000,
            },
        }
    }
}

/// What [`MockDatanets`] knows.
#[derive(Clone, Debug, Default)]
struct DatanetTable {
    licences: BTreeMap<DatanetId, Licence>,
    royalties: BTreeMap<DatanetId, Balance>,
    live: BTreeSet<(DatanetId, VersionIndex)>,
}

thread_local! {
    static PARAMETERS: RefCell<ParameterSet> = RefCell::new(ParameterSet::default());
    static DATANETS: RefCell<DatanetTable> = RefCell::new(DatanetTable::default());
    static LIVE_REVISIONS: RefCell<BTreeSet<RevisionId>> = const { RefCell::new(BTreeSet::new()) };
}

/// Parameters that a test may change.
pub struct MockParameters;

impl MockParameters {
    /// Changes the parameters of this thread.
    pub fn mutate(change: impl FnOnce(&mut ParameterSet)) {
        PARAMETERS.with(|set| change(&mut set.borrow_mut()));
    }

    /// Back to [`ParameterSet::default`].
    pub fn reset() {
        Self::mutate(|set| *set = ParameterSet::default());
    }
}

impl Parameters for MockParameters {
    fn consensus() -> ConsensusParameters {
        PARAMETERS.with(|set| set.borrow().consensus)
    }
    fn settlement() -> SettlementParameters {
        PARAMETERS.with(|set| set.borrow().settlement)
    }
    fn bonds() -> BondParameters {
        PARAMETERS.with(|set| set.borrow().bonds)
    }
    fn datanets() -> DatanetParameters {
        PARAMETERS.with(|set| set.borrow().datanets)
    }
    fn models() -> ModelParameters {
        PARAMETERS.with(|set| set.borrow().models)
    }
    fn payouts() -> PayoutParameters {
        PARAMETERS.with(|set| set.borrow().payouts)
    }
}

/// Datanets with versions that a test seals and takes away. Nobody owns a contribution.
pub struct MockDatanets;

impl MockDatanets {
    /// Adds a Datanet, or replaces its licence and royalty.
    pub fn add(datanet: DatanetId, licence: Licence, min_royalty: Balance) {
        DATANETS.with(|table| {
            let mut table = table.borrow_mut();
            table.licences.insert(datanet, licence);
            table.royalties.insert(datanet, min_royalty);
        });
    }

    /// Makes a version live.
    pub fn seal(datanet: DatanetId, version: VersionIndex) {
        DATANETS.with(|table| table.borrow_mut().live.insert((datanet, version)));
    }

    /// Makes a version not live.
    pub fn quarantine(datanet: DatanetId, version: VersionIndex) {
        DATANETS.with(|table| table.borrow_mut().live.remove(&(datanet, version)));
    }

    /// Forgets everything.
    pub fn reset() {
        DATANETS.with(|table| *table.borrow_mut() = DatanetTable::default());
    }
}

impl<AccountId> DatanetRegistry<AccountId> for MockDatanets {
    fn version_is_live(version: &VersionUse) -> bool {
        DATANETS.with(|table| {
            table
                .borrow()
                .live
                .contains(&(version.datanet, version.version))
        })
    }
    fn may_use(_: &AccountId, version: &VersionUse) -> bool {
        version.grant.is_none()
            && <Self as DatanetRegistry<AccountId>>::licence(version.datanet).is_some()
    }
    fn licence(datanet: DatanetId) -> Option<Licence> {
        DATANETS.with(|table| table.borrow().licences.get(&datanet).copied())
    }
    fn min_royalty(datanet: DatanetId) -> Balance {
        DATANETS.with(|table| {
            table
                .borrow()
                .royalties
                .get(&datanet)
                .copied()
                .unwrap_or_default()
        })
    }
    fn credited_owner(_: ContributionId, _: &[VersionUse]) -> Option<AccountId> {
        None
    }
}

/// Revisions that a test publishes and retires. None has a price.
pub struct MockModels;

impl MockModels {
    /// Makes a revision live.
    pub fn publish(revision: RevisionId) {
        LIVE_REVISIONS.with(|live| live.borrow_mut().insert(revision));
    }

    /// Makes a revision not live.
    pub fn retire(revision: RevisionId) {
        LIVE_REVISIONS.with(|live| live.borrow_mut().remove(&revision));
    }

    /// Forgets everything.
    pub fn reset() {
        LIVE_REVISIONS.with(|live| live.borrow_mut().clear());
    }
}

impl<AccountId> ModelRegistry<AccountId> for MockModels {
    fn priced(_: RevisionId, _: TermsIndex, _: BlockNumber) -> Option<PricedRevision<AccountId>> {
        None
    }
    fn accepted_until(_: RevisionId, _: TermsIndex) -> BlockNumber {
        BlockNumber::MAX
    }
    fn is_live(revision: RevisionId) -> bool {
        LIVE_REVISIONS.with(|live| live.borrow().contains(&revision))
    }
}
