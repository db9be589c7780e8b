//! A runtime with nothing but the pallet.

use crate as pallet_protocol;
use crate::ParameterSet;
use frame_support::derive_impl;
use frame_system::EnsureRoot;
use sp_runtime::BuildStorage;

#[frame_support::runtime]
mod runtime {
    #[runtime::runtime]
    #[runtime::derive(RuntimeCall, RuntimeEvent, RuntimeError, RuntimeOrigin, RuntimeTask)]
    pub struct Test;

    #[runtime::pallet_index(0)]
    pub type System = frame_system;
    #[runtime::pallet_index(1)]
    pub type Protocol = pallet_protocol;
}

#[derive_impl(frame_system::config_preludes::TestDefaultConfig)]
impl frame_system::Config for Test {
    type Block = frame_system::mocking::MockBlock<Test>;
}

impl pallet_protocol::Config for Test {
    type AdminOrigin = EnsureRoot<u64>;
    type WeightInfo = ();
}

/// The state of a chain that begins with `set`.
pub fn ext_with(set: ParameterSet) -> sp_io::TestExternalities {
    let mut storage = frame_system::GenesisConfig::<Test>::default()
        .build_storage()
        .unwrap();
    pallet_protocol::GenesisConfig::<Test>::from(set)
        .assimilate_storage(&mut storage)
        .unwrap();
    let mut ext = sp_io::TestExternalities::new(storage);
    ext.execute_with(|| System::set_block_number(1));
    ext
}

/// The state before a test.
pub fn ext() -> sp_io::TestExternalities {
    ext_with(ParameterSet::public_chain())
}

/// Runs a test and checks the invariants after it.
pub fn run(test: impl FnOnce()) {
    ext().execute_with(|| {
        test();
        Protocol::do_try_state().unwrap();
    });
}
