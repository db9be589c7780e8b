//! A runtime with a token whose accounts must hold something.

use crate as pallet_payouts;
use frame_support::{derive_impl, parameter_types, PalletId};
use openledger_primitives::{receipt::CreditReason, Balance, BlockNumber};
use openledger_traits::{mocks::MockParameters, Earning, Role};
use sp_runtime::{traits::IdentityLookup, BuildStorage};

pub use openledger_traits::mocks::OPEN;

pub const ESCROW: u128 = 1;
pub const WORKER: u128 = 2;
pub const ALICE: u128 = 3;
pub const BOB: u128 = 4;
/// Has no account.
pub const NEW: u128 = 5;
/// Least balance, planck.
pub const LEAST: Balance = 1_000;

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
    pub type Payouts = pallet_payouts;
}

#[derive_impl(frame_system::config_preludes::TestDefaultConfig)]
impl frame_system::Config for Test {
    type Block = frame_system::mocking::MockBlock<Test>;
    // Wide enough that the pots differ.
    type AccountId = u128;
    type Lookup = IdentityLookup<u128>;
    type AccountData = pallet_balances::AccountData<Balance>;
}

parameter_types! {
    pub const ExistentialDeposit: Balance = LEAST;
    pub const PayoutsId: PalletId = PalletId(*b"ol/payou");
}

#[derive_impl(pallet_balances::config_preludes::TestDefaultConfig)]
impl pallet_balances::Config for Test {
    type Balance = Balance;
    type ExistentialDeposit = ExistentialDeposit;
    type AccountStore = System;
}

impl pallet_payouts::Config for Test {
    type Currency = Balances;
    type PalletId = PayoutsId;
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
        balances: [ESCROW, WORKER, ALICE, BOB]
            .map(|who| (who, 1_000 * OPEN))
            .to_vec(),
        ..Default::default()
    }
    .assimilate_storage(&mut storage)
    .unwrap();
    pallet_payouts::GenesisConfig::<Test>::default()
        .assimilate_storage(&mut storage)
        .unwrap();
    let mut ext = sp_io::TestExternalities::new(storage);
    ext.execute_with(|| System::set_block_number(1));
    ext
}

/// Runs a test at block 1 and checks the invariants after it, and that the pot holds nothing else.
pub fn run(test: impl FnOnce()) {
    ext().execute_with(|| {
        test();
        Payouts::do_try_state().unwrap();
        let sums = Payouts::totals();
        assert_eq!(
            Balances::free_balance(Payouts::pot()),
            LEAST + sums.earned - sums.claimed + sums.pooled
        );
        assert_eq!(
            Balances::free_balance(Payouts::protocol_pot()),
            LEAST + sums.kept
        );
    });
}

/// An earning of a contributor.
pub fn earning(account: u128, amount: Balance, vests_at: BlockNumber) -> Earning<u128> {
    Earning {
        account,
        role: Role::Contributor {
            contribution: 9,
            reason: CreditReason::Span,
        },
        amount,
        worker: WORKER,
        batch: 1,
        revision: 7,
        vests_at,
    }
}
