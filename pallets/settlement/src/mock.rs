//! A runtime with the real ledgers of bonds and payouts, and tables of workers, models and
//! contributions.

use crate as pallet_settlement;
use frame_support::{
    derive_impl, parameter_types,
    weights::{constants::WEIGHT_REF_TIME_PER_SECOND, Weight},
    PalletId,
};
use frame_system::limits::BlockWeights;
use openledger_primitives::{
    revision::{ModelRef, VersionUse},
    terms::{Split, Terms},
    voucher::EvidenceClass,
    Balance, BlockNumber, ContributionId, KeyIndex, RevisionId, TermsIndex,
};
use openledger_traits::{
    mocks::MockParameters, BondLedger, DatanetRegistry, ModelRegistry, PricedRevision,
    WorkerRegistry,
};
use sp_runtime::{traits::IdentityLookup, AccountId32, BuildStorage, Perbill};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
};

pub use openledger_traits::mocks::OPEN;

pub const ALICE: AccountId32 = AccountId32::new([1; 32]);
pub const BOB: AccountId32 = AccountId32::new([2; 32]);
pub const WORKER: AccountId32 = AccountId32::new([3; 32]);
pub const WORKER_KEY: AccountId32 = AccountId32::new([4; 32]);
pub const OTHER_WORKER: AccountId32 = AccountId32::new([5; 32]);
pub const DEVELOPER: AccountId32 = AccountId32::new([6; 32]);
pub const CAROL: AccountId32 = AccountId32::new([7; 32]);
pub const DAVE: AccountId32 = AccountId32::new([8; 32]);

/// What everyone named above has at first.
pub const RICH: Balance = 10_000 * OPEN;
/// Bond of each worker.
pub const BOND: Balance = 1_000 * OPEN;
/// Least balance.
pub const LEAST: Balance = 1_000;

/// An adapter's revision, with the contributions of Carol and Dave behind it.
pub const ADAPTER: RevisionId = 7;
/// A base's revision.
pub const BASE: RevisionId = 8;
/// Carol's contribution, in the adapter's version.
pub const CAROLS: ContributionId = 70;
/// Dave's contribution, in the adapter's version.
pub const DAVES: ContributionId = 71;
/// A contribution in another version.
pub const STRAY: ContributionId = 72;

/// Planck per 1,000 tokens.
pub const PRICE_IN: Balance = OPEN;
/// Planck per 1,000 tokens.
pub const PRICE_OUT: Balance = 2 * OPEN;

/// Shares that leave nothing round.
pub const SPLIT: Split = Split {
    worker: 566_667,
    developer: 133_333,
    holders: 20_000,
    contributors: 230_000,
    protocol: 50_000,
};

#[frame_support::runtime]
mod runtime {
    #[runtime::runtime]
    #[runtime::derive(
        RuntimeCall,
        RuntimeEvent,
        RuntimeError,
        RuntimeOrigin,
        RuntimeFreezeReason,
        RuntimeHoldReason,
        RuntimeSlashReason,
        RuntimeLockId,
        RuntimeTask
    )]
    pub struct Test;

    #[runtime::pallet_index(0)]
    pub type System = frame_system;
    #[runtime::pallet_index(1)]
    pub type Balances = pallet_balances;
    #[runtime::pallet_index(2)]
    pub type Bonds = pallet_bonds::Pallet<Runtime, Instance1>;
    #[runtime::pallet_index(3)]
    pub type Payouts = pallet_payouts;
    #[runtime::pallet_index(4)]
    pub type Settlement = pallet_settlement;
}

#[derive_impl(frame_system::config_preludes::TestDefaultConfig)]
impl frame_system::Config for Test {
    type Block = frame_system::mocking::MockBlock<Test>;
    type AccountId = AccountId32;
    type Lookup = IdentityLookup<AccountId32>;
    type AccountData = pallet_balances::AccountData<Balance>;
    type BlockWeights = TwoSeconds;
}

parameter_types! {
    pub TwoSeconds: BlockWeights = BlockWeights::with_sensible_defaults(
        Weight::from_parts(2 * WEIGHT_REF_TIME_PER_SECOND, u64::MAX),
        Perbill::from_percent(75),
    );
    pub const ExistentialDeposit: Balance = LEAST;
    pub const Thaw: BlockNumber = 50;
    pub const PayoutsId: PalletId = PalletId(*b"ol/payou");
    pub const SettlementId: PalletId = PalletId(*b"ol/settl");
}

#[derive_impl(pallet_balances::config_preludes::TestDefaultConfig)]
impl pallet_balances::Config for Test {
    type Balance = Balance;
    type ExistentialDeposit = ExistentialDeposit;
    type AccountStore = System;
    type RuntimeHoldReason = RuntimeHoldReason;
}

impl pallet_bonds::Config<pallet_bonds::Instance1> for Test {
    type RuntimeHoldReason = RuntimeHoldReason;
    type Currency = Balances;
    type Thaw = Thaw;
    type WeightInfo = ();
}

impl pallet_payouts::Config for Test {
    type Currency = Balances;
    type PalletId = PayoutsId;
    type Parameters = MockParameters;
    type WeightInfo = ();
}

impl pallet_settlement::Config for Test {
    type RuntimeHoldReason = RuntimeHoldReason;
    type Currency = Balances;
    type PalletId = SettlementId;
    type Bonds = Bonds;
    type Workers = Tables;
    type Models = Tables;
    type Datanets = Tables;
    type Earnings = Payouts;
    type Parameters = MockParameters;
    type CurrentEpoch = Epoch;
    type WeightInfo = ();
    #[cfg(feature = "runtime-benchmarks")]
    type BenchmarkHelper = Tables;
}

thread_local! {
    static EPOCH: Cell<u64> = const { Cell::new(5) };
    static WORKERS: RefCell<BTreeSet<AccountId32>> = const { RefCell::new(BTreeSet::new()) };
    static ACCEPTED: RefCell<BTreeMap<(RevisionId, TermsIndex), BlockNumber>> =
        const { RefCell::new(BTreeMap::new()) };
    static TERMS: RefCell<BTreeMap<(RevisionId, TermsIndex), PricedRevision<AccountId32>>> =
        const { RefCell::new(BTreeMap::new()) };
    static WITHDRAWN: RefCell<BTreeSet<ContributionId>> = const { RefCell::new(BTreeSet::new()) };
    static OWNERS: RefCell<BTreeMap<ContributionId, (AccountId32, VersionUse)>> =
        const { RefCell::new(BTreeMap::new()) };
}

/// The epoch, as a test sets it.
pub struct Epoch;

impl Epoch {
    pub fn set(epoch: u64) {
        EPOCH.set(epoch);
    }
}

impl frame_support::traits::Get<u64> for Epoch {
    fn get() -> u64 {
        EPOCH.get()
    }
}

/// Workers, models and contributions.
pub struct Tables;

impl Tables {
    fn reset() {
        Epoch::set(5);
        WORKERS.with_borrow_mut(|workers| *workers = [WORKER, OTHER_WORKER].into());
        ACCEPTED.with_borrow_mut(BTreeMap::clear);
        TERMS.with_borrow_mut(BTreeMap::clear);
        OWNERS.with_borrow_mut(BTreeMap::clear);
        WITHDRAWN.with_borrow_mut(BTreeSet::clear);
        Self::price(ADAPTER, 0, PRICE_IN, PRICE_OUT, 0);
        Self::price(ADAPTER, 1, 2 * PRICE_IN, 2 * PRICE_OUT, 0);
        Self::price(BASE, 0, PRICE_IN, PRICE_OUT, 0);
        Self::own(CAROLS, CAROL, version(1));
        Self::own(DAVES, DAVE, version(1));
        Self::own(STRAY, DAVE, version(2));
    }

    /// Sets an entry of a revision's terms.
    pub fn price(
        revision: RevisionId,
        terms: TermsIndex,
        price_in: Balance,
        price_out: Balance,
        effective_from: BlockNumber,
    ) {
        let priced = PricedRevision {
            model: if revision == BASE {
                ModelRef::Base(1)
            } else {
                ModelRef::Adapter(1)
            },
            developer: DEVELOPER,
            terms: Terms {
                price_in,
                price_out,
                split: SPLIT,
                effective_from,
            },
            versions: if revision == BASE {
                Default::default()
            } else {
                vec![version(1)].try_into().unwrap()
            },
        };
        TERMS.with_borrow_mut(|table| table.insert((revision, terms), priced));
    }

    /// Ends the acceptance of usage at these terms with block `until`.
    pub fn end_terms(revision: RevisionId, terms: TermsIndex, until: BlockNumber) {
        ACCEPTED.with_borrow_mut(|table| table.insert((revision, terms), until));
    }

    /// Puts a contribution into a version.
    pub fn own(contribution: ContributionId, owner: AccountId32, version: VersionUse) {
        OWNERS.with_borrow_mut(|owners| owners.insert(contribution, (owner, version)));
    }

    /// Withdraws a contribution.
    pub fn withdraw(contribution: ContributionId) {
        WITHDRAWN.with_borrow_mut(|withdrawn| withdrawn.insert(contribution));
    }

    /// A worker takes on nothing new.
    pub fn drain(worker: &AccountId32) {
        WORKERS.with_borrow_mut(|workers| workers.remove(worker));
    }
}

/// A version of Datanet 1.
pub fn version(version: u32) -> VersionUse {
    VersionUse {
        datanet: 1,
        version,
        grant: None,
    }
}

impl WorkerRegistry<AccountId32> for Tables {
    fn worker_of_key(key: &AccountId32) -> Option<(AccountId32, KeyIndex)> {
        (*key == WORKER_KEY).then_some((WORKER, 0))
    }
    fn evidence(worker: &AccountId32) -> Option<EvidenceClass> {
        WORKERS.with_borrow(|workers| workers.contains(worker).then_some(EvidenceClass::Sealed))
    }
}

impl ModelRegistry<AccountId32> for Tables {
    fn priced(
        revision: RevisionId,
        terms: TermsIndex,
        now: BlockNumber,
    ) -> Option<PricedRevision<AccountId32>> {
        TERMS
            .with_borrow(|table| table.get(&(revision, terms)).cloned())
            .filter(|priced| priced.terms.effective_from <= now)
    }
    fn accepted_until(revision: RevisionId, terms: TermsIndex) -> BlockNumber {
        ACCEPTED.with_borrow(|table| {
            table
                .get(&(revision, terms))
                .copied()
                .unwrap_or(BlockNumber::MAX)
        })
    }
    fn is_live(revision: RevisionId) -> bool {
        TERMS.with_borrow(|table| table.keys().any(|(known, _)| *known == revision))
    }
}

impl DatanetRegistry<AccountId32> for Tables {
    fn version_is_live(_: &VersionUse) -> bool {
        true
    }
    fn may_use(_: &AccountId32, _: &VersionUse) -> bool {
        true
    }
    fn licence(_: u32) -> Option<openledger_primitives::licence::Licence> {
        None
    }
    fn min_royalty(_: u32) -> Balance {
        0
    }
    fn is_sealed_in(contribution: ContributionId, versions: &[VersionUse]) -> bool {
        OWNERS.with_borrow(|owners| {
            owners
                .get(&contribution)
                .is_some_and(|(_, version)| versions.contains(version))
        })
    }
    fn credited_owner(
        contribution: ContributionId,
        versions: &[VersionUse],
    ) -> Option<AccountId32> {
        let withdrawn = WITHDRAWN.with_borrow(|withdrawn| withdrawn.contains(&contribution));
        let sealed = <Self as DatanetRegistry<AccountId32>>::is_sealed_in(contribution, versions);
        (sealed && !withdrawn).then(|| OWNERS.with_borrow(|owners| owners[&contribution].0.clone()))
    }
}

#[cfg(feature = "runtime-benchmarks")]
impl crate::BenchmarkHelper<AccountId32> for Tables {
    fn worker(who: &AccountId32) {
        Self::fund(who);
        WORKERS.with_borrow_mut(|workers| workers.insert(who.clone()));
        Bonds::bond(who, BOND).unwrap();
    }
    fn fund(who: &AccountId32) {
        use frame_support::traits::fungible::Mutate;
        Balances::set_balance(who, RICH);
    }
    fn revisions(count: u32) -> Vec<(RevisionId, TermsIndex)> {
        use openledger_primitives::revision::MAX_VERSIONS;
        (0..count)
            .map(|index| {
                let revision = 100 + u64::from(index);
                Self::price(revision, 0, PRICE_IN, PRICE_OUT, 0);
                let first = index * MAX_VERSIONS;
                let versions: Vec<_> = (first..first + MAX_VERSIONS).map(version).collect();
                TERMS.with_borrow_mut(|table| {
                    let priced = table.get_mut(&(revision, 0)).unwrap();
                    priced.versions = versions.try_into().unwrap();
                });
                (revision, 0)
            })
            .collect()
    }
    fn contributions(revision: RevisionId, count: u32) -> Vec<ContributionId> {
        let first = 1_000_000 * revision;
        let versions = TERMS.with_borrow(|table| table[&(revision, 0)].versions.clone());
        let in_turn = versions.into_iter().cycle();
        (first..first + u64::from(count))
            .zip(in_turn)
            .map(|(id, version)| {
                Self::own(id, CAROL, version);
                id
            })
            .collect()
    }
}

/// The state before a test: block 1, everyone rich, both workers bonded.
pub fn ext() -> sp_io::TestExternalities {
    MockParameters::reset();
    Tables::reset();
    let mut storage = frame_system::GenesisConfig::<Test>::default()
        .build_storage()
        .unwrap();
    let everyone = [
        ALICE,
        BOB,
        WORKER,
        WORKER_KEY,
        OTHER_WORKER,
        DEVELOPER,
        CAROL,
        DAVE,
    ];
    pallet_balances::GenesisConfig::<Test> {
        balances: everyone.map(|who| (who, RICH)).to_vec(),
        ..Default::default()
    }
    .assimilate_storage(&mut storage)
    .unwrap();
    pallet_payouts::GenesisConfig::<Test>::default()
        .assimilate_storage(&mut storage)
        .unwrap();
    pallet_settlement::GenesisConfig::<Test>::default()
        .assimilate_storage(&mut storage)
        .unwrap();
    let mut ext = sp_io::TestExternalities::new(storage);
    #[cfg(feature = "runtime-benchmarks")]
    ext.register_extension(sp_keystore::KeystoreExt::new(
        sp_keystore::testing::MemoryKeystore::new(),
    ));
    ext.execute_with(|| {
        System::set_block_number(1);
        for worker in [WORKER, OTHER_WORKER] {
            Bonds::bond(&worker, BOND).unwrap();
        }
    });
    ext
}

/// Runs a test and checks the invariants of all ledgers after it.
pub fn run(test: impl FnOnce()) {
    ext().execute_with(|| {
        test();
        check();
    });
}

/// Checks the invariants of all ledgers.
pub fn check() {
    Settlement::do_try_state().unwrap();
    Payouts::do_try_state().unwrap();
    Bonds::do_try_state().unwrap();
}

/// Goes on to a block.
pub fn go_to(block: u64) {
    System::set_block_number(block);
}
