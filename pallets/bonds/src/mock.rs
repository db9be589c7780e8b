//! A runtime with two instances of the pallet, to show that they do not touch each other.

use crate as pallet_bonds;
use frame_support::{derive_impl, parameter_types};
use openledger_primitives::{Balance, BlockNumber};
use sp_runtime::BuildStorage;

pub const ALICE: u64 = 1;
pub const BOB: u64 = 2;
pub const OPEN: Balance = 1_000_000_000_000;
pub const RICH: Balance = 1_000 * OPEN;

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
    pub type Bonds = pallet_bonds;
    #[runtime::pallet_index(3)]
    pub type OtherBonds = pallet_bonds::Pallet<Runtime, Instance2>;
}

#[derive_impl(frame_system::config_preludes::TestDefaultConfig)]
impl frame_system::Config for Test {
    type Block = frame_system::mocking::MockBlock<Test>;
    type AccountData = pallet_balances::AccountData<Balance>;
}

parameter_types! {
    pub const ExistentialDeposit: Balance = 1;
    pub const Thaw: BlockNumber = 10;
}

#[derive_impl(pallet_balances::config_preludes::TestDefaultConfig)]
impl pallet_balances::Config for Test {
    type Balance = Balance;
    type ExistentialDeposit = ExistentialDeposit;
    type AccountStore = System;
}

impl pallet_bonds::Config for Test {
    type RuntimeHoldReason = RuntimeHoldReason;
    type Currency = Balances;
    type Thaw = Thaw;
    type WeightInfo = ();
}

impl pallet_bonds::Config<pallet_bonds::Instance2> for Test {
    type RuntimeHoldReason = RuntimeHoldReason;
    type Currency = Balances;
    type Thaw = Thaw;
    type WeightInfo = ();
}

/// Runs a test at block 1 with Alice and Bob rich, and checks the invariants after it.
pub fn run(test: impl FnOnce()) {
    let mut ext = ext();
    ext.execute_with(|| {
        test();
        Bonds::do_try_state().unwrap();
        OtherBonds::do_try_state().unwrap();
    });
}

/// The state before a test.
pub fn ext() -> sp_io::TestExternalities {
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
