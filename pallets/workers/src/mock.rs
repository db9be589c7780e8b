//! A runtime with the real bond ledger and a table of revisions.

use crate as pallet_workers;
use crate::{Capability, Endpoint};
use frame_support::{derive_impl, parameter_types};
use openledger_primitives::{receipt::BackendClass, voucher::EvidenceClass, Balance, BlockNumber};
use openledger_traits::mocks::{MockModels, MockParameters};
use sp_runtime::BuildStorage;

pub use openledger_traits::mocks::OPEN;

pub const ALICE: u64 = 1;
pub const BOB: u64 = 2;
pub const ALICE_KEY: u64 = 11;
pub const BOB_KEY: u64 = 12;
pub const RICH: Balance = 1_000 * OPEN;
pub const MIN: Balance = 100 * OPEN;

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
    pub type Workers = pallet_workers;
}

#[derive_impl(frame_system::config_preludes::TestDefaultConfig)]
impl frame_system::Config for Test {
    type Block = frame_system::mocking::MockBlock<Test>;
    type AccountData = pallet_balances::AccountData<Balance>;
}

parameter_types! {
    pub const ExistentialDeposit: Balance = 1;
    pub const Thaw: BlockNumber = 50;
}

#[derive_impl(pallet_balances::config_preludes::TestDefaultConfig)]
impl pallet_balances::Config for Test {
    type Balance = Balance;
    type ExistentialDeposit = ExistentialDeposit;
    type AccountStore = System;
}

impl pallet_bonds::Config<pallet_bonds::Instance1> for Test {
    type RuntimeHoldReason = RuntimeHoldReason;
    type Currency = Balances;
    type Thaw = Thaw;
    type WeightInfo = ();
}

impl pallet_workers::Config for Test {
    type Bonds = Bonds;
    type Models = MockModels;
    type Parameters = MockParameters;
    type WeightInfo = ();
    #[cfg(feature = "runtime-benchmarks")]
    type BenchmarkHelper = Helper;
}

/// What the benchmarks need, in this runtime.
#[cfg(feature = "runtime-benchmarks")]
pub struct Helper;

#[cfg(feature = "runtime-benchmarks")]
impl crate::BenchmarkHelper<u64> for Helper {
    fn fund(who: &u64) {
        use frame_support::traits::fungible::Mutate;
        Balances::set_balance(who, RICH);
    }
    fn live_revisions(count: u32) -> Vec<openledger_primitives::RevisionId> {
        (0..u64::from(count))
            .inspect(|id| MockModels::publish(*id))
            .collect()
    }
}

/// The state before a test.
pub fn ext() -> sp_io::TestExternalities {
    MockParameters::reset();
    MockModels::reset();
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

/// Runs a test at block 1 with Alice and Bob rich, and checks the invariants after it.
pub fn run(test: impl FnOnce()) {
    ext().execute_with(|| {
        test();
        Workers::do_try_state().unwrap();
        Bonds::do_try_state().unwrap();
    });
}

pub fn endpoint() -> Endpoint {
    b"http://127.0.0.1:8080".to_vec().try_into().unwrap()
}

pub fn capability() -> Capability {
    Capability {
        backend: BackendClass::CpuF32,
        memory_mib: 1_024,
        max_batch: 16,
        engine: b"openledger/0.1".to_vec().try_into().unwrap(),
        evidence: EvidenceClass::Open,
    }
}

/// Registers a worker with the least bond.
pub fn join(who: u64, key: u64) {
    Workers::join(
        RuntimeOrigin::signed(who),
        MIN,
        key,
        endpoint(),
        capability(),
    )
    .unwrap();
}
