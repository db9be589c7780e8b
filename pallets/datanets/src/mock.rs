//! A runtime with the pallet, balances and deposits by footprint.

use crate as pallet_datanets;
use crate::{Admission, DataKind, HoldReason};
use frame_support::{
    derive_impl, parameter_types,
    traits::{fungible::HoldConsideration, LinearStoragePrice},
};
use openledger_primitives::{
    contribution::{Provenance, Submission},
    hash::blake2_256,
    licence::Licence,
    merkle,
    row::RowLeaf,
    sketch, Balance, ContributionId, DatanetId, Digest,
};
use openledger_traits::mocks::MockParameters;
use sp_runtime::BuildStorage;

pub use openledger_traits::mocks::OPEN;

pub const OWNER: u64 = 1;
pub const ALICE: u64 = 2;
pub const BOB: u64 = 3;
pub const RICH: Balance = 10_000 * OPEN;
pub const BOND: Balance = 2 * OPEN;
pub const ROYALTY: Balance = 5_000_000;

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
    pub type Datanets = pallet_datanets;
}

#[derive_impl(frame_system::config_preludes::TestDefaultConfig)]
impl frame_system::Config for Test {
    type Block = frame_system::mocking::MockBlock<Test>;
    type AccountData = pallet_balances::AccountData<Balance>;
}

parameter_types! {
    pub const ExistentialDeposit: Balance = 1;
    pub const DepositReason: RuntimeHoldReason = RuntimeHoldReason::Datanets(HoldReason::Deposit);
    pub const DepositBase: Balance = OPEN;
    pub const DepositPerByte: Balance = OPEN / 1_000;
}

#[derive_impl(pallet_balances::config_preludes::TestDefaultConfig)]
impl pallet_balances::Config for Test {
    type Balance = Balance;
    type ExistentialDeposit = ExistentialDeposit;
    type AccountStore = System;
}

impl pallet_datanets::Config for Test {
    type RuntimeHoldReason = RuntimeHoldReason;
    type Currency = Balances;
    type Consideration = HoldConsideration<
        u64,
        Balances,
        DepositReason,
        LinearStoragePrice<DepositBase, DepositPerByte, Balance>,
    >;
    type Parameters = MockParameters;
    type WeightInfo = ();
}

/// The state before a test.
pub fn ext() -> sp_io::TestExternalities {
    MockParameters::reset();
    let mut storage = frame_system::GenesisConfig::<Test>::default()
        .build_storage()
        .unwrap();
    pallet_balances::GenesisConfig::<Test> {
        balances: vec![(OWNER, RICH), (ALICE, RICH), (BOB, RICH)],
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
        Datanets::do_try_state().unwrap();
    });
}

pub fn signed(who: u64) -> RuntimeOrigin {
    RuntimeOrigin::signed(who)
}

/// Founds an open text Datanet of `OWNER`.
pub fn founded() -> DatanetId {
    let datanet = crate::NextDatanet::<Test>::get();
    Datanets::create(
        signed(OWNER),
        DataKind::Text,
        Licence(Licence::COMMERCIAL.0 | Licence::DERIVATIVES.0),
        [7; 32],
        Admission::Open,
        0,
        ROYALTY,
        BOND,
        false,
    )
    .unwrap();
    datanet
}

/// Row leaves of real text that differs by `seed`.
pub fn rows(seed: u64, count: u32) -> Vec<RowLeaf> {
    (0..count)
        .map(|row| {
            let text = format!("Row {row} of document {seed} says that the harbour closes at ten.");
            RowLeaf::new(row, text.as_bytes(), 12)
        })
        .collect()
}

pub fn content_root(rows: &[RowLeaf]) -> Digest {
    let hashes: Vec<Digest> = rows.iter().map(RowLeaf::hash).collect();
    merkle::root(&hashes)
}

/// A good submission of the rows of `seed`.
pub fn submission(seed: u64) -> Submission {
    let rows = rows(seed, 3);
    Submission {
        content_root: content_root(&rows),
        sketch_scheme: sketch::SCHEME,
        rows: rows.len() as u32,
        bytes: 200,
        provenance: Provenance::Original,
        rights: [0; 32],
        licence: Licence::ALL,
        locator: blake2_256(&seed.to_le_bytes()),
    }
}

/// Contributes the rows of `seed`.
pub fn contributed(who: u64, datanet: DatanetId, seed: u64) -> ContributionId {
    let contribution = crate::NextContribution::<Test>::get();
    Datanets::contribute(signed(who), datanet, submission(seed)).unwrap();
    contribution
}

/// Contributes and admits the rows of `seed`.
pub fn admitted(who: u64, datanet: DatanetId, seed: u64) -> ContributionId {
    let contribution = contributed(who, datanet, seed);
    admit(datanet, &[contribution]);
    contribution
}

pub fn admit(datanet: DatanetId, contributions: &[ContributionId]) {
    let list = contributions.to_vec().try_into().unwrap();
    Datanets::admit(signed(OWNER), datanet, list).unwrap();
}

pub fn seal(datanet: DatanetId) {
    Datanets::seal_version(signed(OWNER), datanet).unwrap();
}
