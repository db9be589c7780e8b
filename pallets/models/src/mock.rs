//! A runtime with the pallet, deposits by footprint, and a table of Datanets.

use crate as pallet_models;
use crate::{AttributionBounds, HoldReason, Name, Versions};
use frame_support::{
    derive_impl, parameter_types,
    traits::{fungible::HoldConsideration, LinearStoragePrice},
};
use openledger_primitives::{
    licence::Licence,
    revision::{AttributionParams, ModelRef, RevisionFacts, Targets, VersionUse},
    terms::Split,
    AdapterId, Balance, BaseId, DatanetId, RevisionId,
};
use openledger_traits::mocks::{MockDatanets, MockParameters};
use sp_runtime::BuildStorage;

pub use openledger_traits::mocks::OPEN;

pub const ALICE: u64 = 1;
pub const BOB: u64 = 2;
pub const RICH: Balance = 10_000 * OPEN;
/// Royalty of Datanet 0.
pub const ROYALTY: Balance = 1_000;
/// A price above every royalty.
pub const PRICE: Balance = 10_000;
/// Commerce and derived works, and nothing else.
pub const OPEN_LICENCE: Licence = Licence(Licence::COMMERCIAL.0 | Licence::DERIVATIVES.0);

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
    pub type Models = pallet_models;
}

#[derive_impl(frame_system::config_preludes::TestDefaultConfig)]
impl frame_system::Config for Test {
    type Block = frame_system::mocking::MockBlock<Test>;
    type AccountData = pallet_balances::AccountData<Balance>;
}

parameter_types! {
    pub const ExistentialDeposit: Balance = 1;
    pub const DepositReason: RuntimeHoldReason = RuntimeHoldReason::Models(HoldReason::Deposit);
    pub const DepositBase: Balance = OPEN;
    pub const DepositPerByte: Balance = OPEN / 1_000;
    pub Bounds: AttributionBounds = AttributionBounds::default();
}

#[derive_impl(pallet_balances::config_preludes::TestDefaultConfig)]
impl pallet_balances::Config for Test {
    type Balance = Balance;
    type ExistentialDeposit = ExistentialDeposit;
    type AccountStore = System;
}

impl pallet_models::Config for Test {
    type Datanets = MockDatanets;
    type Consideration = HoldConsideration<
        u64,
        Balances,
        DepositReason,
        LinearStoragePrice<DepositBase, DepositPerByte, Balance>,
    >;
    type AttributionBounds = Bounds;
    type Parameters = MockParameters;
    type WeightInfo = ();
    #[cfg(feature = "runtime-benchmarks")]
    type BenchmarkHelper = Helper;
}

/// What the benchmarks need, in this runtime.
#[cfg(feature = "runtime-benchmarks")]
pub struct Helper;

#[cfg(feature = "runtime-benchmarks")]
impl crate::BenchmarkHelper for Helper {
    fn live_versions(count: u32) -> Vec<VersionUse> {
        (0..count)
            .map(|datanet| {
                MockDatanets::add(datanet, Licence::ALL, 1);
                MockDatanets::seal(datanet, 1);
                version(datanet)
            })
            .collect()
    }
}

/// The state before a test: Datanets 0 and 1 with a live version each.
pub fn ext() -> sp_io::TestExternalities {
    MockParameters::reset();
    MockDatanets::reset();
    MockDatanets::add(0, OPEN_LICENCE, ROYALTY);
    MockDatanets::add(1, Licence::ALL, 2 * ROYALTY);
    MockDatanets::seal(0, 1);
    MockDatanets::seal(1, 1);
    let mut storage = frame_system::GenesisConfig::<Test>::default()
        .build_storage()
        .unwrap();
    pallet_balances::GenesisConfig::<Test> {
        balances: vec![(ALICE, RICH), (BOB, RICH)],
        ..Default::default()
    }
    .assimilate_storage(&mut storage)
    .unwrap();
    let mut ext = sp_io::TestExternalities::new(storage);
    ext.execute_with(|| System::set_block_number(1));
    ext
}

/// Runs a test at block 1 and checks the invariants after it.
pub fn run(test: impl FnOnce()) {
    ext().execute_with(|| {
        test();
        Models::do_try_state().unwrap();
    });
}

pub fn signed(who: u64) -> RuntimeOrigin {
    RuntimeOrigin::signed(who)
}

pub fn name(text: &str) -> Name {
    text.as_bytes().to_vec().try_into().unwrap()
}

pub fn split() -> Split {
    Split {
        worker: 500_000,
        developer: 200_000,
        holders: 50_000,
        contributors: 200_000,
        protocol: 50_000,
    }
}

pub fn version(datanet: DatanetId) -> VersionUse {
    VersionUse {
        datanet,
        version: 1,
        grant: None,
    }
}

pub fn versions(datanets: &[DatanetId]) -> Versions {
    let list: Vec<_> = datanets.iter().map(|datanet| version(*datanet)).collect();
    list.try_into().unwrap()
}

pub fn facts() -> RevisionFacts {
    RevisionFacts {
        adapter_digest: [1; 32],
        rank: 8,
        targets: Targets::ALL_LINEAR,
        manifest: [2; 32],
        index: [3; 32],
        null: [0; 32],
        evaluation: [4; 32],
        attribution: AttributionParams::default(),
    }
}

/// Registers a base of Alice that permits everything.
pub fn base_of_alice() -> BaseId {
    let base = crate::NextBase::<Test>::get();
    Models::register_base(
        signed(ALICE),
        name("small"),
        [9; 32],
        Licence::ALL,
        PRICE,
        PRICE,
        split(),
    )
    .unwrap();
    base
}

/// Registers an adapter of Bob on a base of Alice.
pub fn adapter_of_bob() -> AdapterId {
    let base = base_of_alice();
    let adapter = crate::NextAdapter::<Test>::get();
    Models::register_adapter(signed(BOB), base, name("harbour")).unwrap();
    adapter
}

pub fn publish(adapter: AdapterId, datanets: &[DatanetId]) -> RevisionId {
    let revision = crate::NextRevision::<Test>::get();
    Models::publish_revision(signed(BOB), adapter, facts(), versions(datanets)).unwrap();
    revision
}

pub fn price(adapter: AdapterId, price: Balance) -> sp_runtime::DispatchResult {
    Models::set_terms(
        signed(BOB),
        ModelRef::Adapter(adapter),
        price,
        price,
        split(),
    )
}
