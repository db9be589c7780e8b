//! The project's own pallets, tied together by the traits of `openledger-traits`.

use crate::{
    constants::{DEPOSIT_PER_BYTE, DEPOSIT_PER_ITEM},
    weights, AccountId, Balance, Balances, Datanets, Models, Payouts, Protocol, Runtime,
    RuntimeHoldReason, WorkerBonds, Workers,
};
use frame_support::{
    parameter_types,
    traits::{fungible::HoldConsideration, Get, LinearStoragePrice},
    PalletId,
};
use frame_system::EnsureRoot;
use openledger_primitives::BlockNumber;
use openledger_traits::Parameters;
use pallet_models::AttributionBounds;

/// The bond ledger of workers; other actors will have instances of their own.
pub type WorkerBondsInstance = pallet_bonds::Instance1;

parameter_types! {
    /// Names the keyless account of fees between submission and finalization.
    pub const SettlementId: PalletId = PalletId(*b"ol/settl");
    /// Names the keyless account of what is owed and pooled.
    pub const PayoutsId: PalletId = PalletId(*b"ol/payou");
    /// Why a founder's deposit is held.
    pub const DatanetDeposit: RuntimeHoldReason =
        RuntimeHoldReason::Datanets(pallet_datanets::HoldReason::Deposit);
    /// Why a developer's deposit is held.
    pub const ModelDeposit: RuntimeHoldReason =
        RuntimeHoldReason::Models(pallet_models::HoldReason::Deposit);
    /// Deposit per stored item, planck.
    pub const DepositPerItem: Balance = DEPOSIT_PER_ITEM;
    /// Deposit per stored byte, planck.
    pub const DepositPerByte: Balance = DEPOSIT_PER_BYTE;
    /// Constants of the payout rule that revisions may choose.
    pub Attribution: AttributionBounds = AttributionBounds::default();
}

/// A deposit by footprint, held for `Reason`.
type Deposit<Reason> = HoldConsideration<
    AccountId,
    Balances,
    Reason,
    LinearStoragePrice<DepositPerItem, DepositPerByte, Balance>,
>;

impl pallet_protocol::Config for Runtime {
    type AdminOrigin = EnsureRoot<AccountId>;
    type WeightInfo = weights::pallet_protocol::WeightInfo<Runtime>;
}

impl pallet_datanets::Config for Runtime {
    type RuntimeHoldReason = RuntimeHoldReason;
    type Currency = Balances;
    type Consideration = Deposit<DatanetDeposit>;
    type Parameters = Protocol;
    type WeightInfo = weights::pallet_datanets::WeightInfo<Runtime>;
}

impl pallet_models::Config for Runtime {
    type Datanets = Datanets;
    type Consideration = Deposit<ModelDeposit>;
    type AttributionBounds = Attribution;
    type Parameters = Protocol;
    type WeightInfo = weights::pallet_models::WeightInfo<Runtime>;
    #[cfg(feature = "runtime-benchmarks")]
    type BenchmarkHelper = crate::benchmarks::Helper;
}

/// Blocks that a worker's bond thaws.
pub struct WorkerThaw;
impl Get<BlockNumber> for WorkerThaw {
    fn get() -> BlockNumber {
        Protocol::bonds().thaw
    }
}

impl pallet_bonds::Config<WorkerBondsInstance> for Runtime {
    type RuntimeHoldReason = RuntimeHoldReason;
    type Currency = Balances;
    type Thaw = WorkerThaw;
    type WeightInfo = weights::pallet_bonds::WeightInfo<Runtime>;
}

impl pallet_workers::Config for Runtime {
    type Bonds = WorkerBonds;
    type Models = Models;
    type Parameters = Protocol;
    type WeightInfo = weights::pallet_workers::WeightInfo<Runtime>;
    #[cfg(feature = "runtime-benchmarks")]
    type BenchmarkHelper = crate::benchmarks::Helper;
}

/// The epoch, as BABE counts them.
pub struct CurrentEpoch;
impl Get<u64> for CurrentEpoch {
    fn get() -> u64 {
        pallet_babe::EpochIndex::<Runtime>::get()
    }
}

impl pallet_settlement::Config for Runtime {
    type RuntimeHoldReason = RuntimeHoldReason;
    type Currency = Balances;
    type PalletId = SettlementId;
    type Bonds = WorkerBonds;
    type Workers = Workers;
    type Models = Models;
    type Datanets = Datanets;
    type Earnings = Payouts;
    type Parameters = Protocol;
    type CurrentEpoch = CurrentEpoch;
    type WeightInfo = weights::pallet_settlement::WeightInfo<Runtime>;
    #[cfg(feature = "runtime-benchmarks")]
    type BenchmarkHelper = crate::benchmarks::Helper;
}

impl pallet_payouts::Config for Runtime {
    type Currency = Balances;
    type PalletId = PayoutsId;
    type Parameters = Protocol;
    type WeightInfo = weights::pallet_payouts::WeightInfo<Runtime>;
}
