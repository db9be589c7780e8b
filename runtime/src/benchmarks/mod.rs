//! The benchmarks that weights are measured with.

mod helper;

pub use helper::Helper;

use crate::*;
use alloc::{string::String, vec::Vec};
use frame_benchmarking::{define_benchmarks, BenchmarkBatch, BenchmarkConfig, BenchmarkList};
use frame_support::traits::{
    StorageInfo, StorageInfoTrait, TrackedStorageKey, WhitelistedStorageKeys,
};

define_benchmarks!(
    [frame_system, frame_system_benchmarking::Pallet::<Runtime>]
    [pallet_balances, Balances]
    [pallet_timestamp, Timestamp]
    [pallet_utility, Utility]
    [pallet_sudo, Sudo]
    [pallet_protocol, Protocol]
    [pallet_datanets, Datanets]
    [pallet_models, Models]
    [pallet_bonds, WorkerBonds]
    [pallet_workers, Workers]
    [pallet_settlement, Settlement]
    [pallet_payouts, Payouts]
);

impl frame_system_benchmarking::Config for Runtime {}

/// Which benchmarks there are.
pub fn metadata(extra: bool) -> (Vec<BenchmarkList>, Vec<StorageInfo>) {
    let mut list = Vec::<BenchmarkList>::new();
    list_benchmarks!(list, extra);
    (list, AllPalletsWithSystem::storage_info())
}

/// Runs one of them.
pub fn dispatch(config: BenchmarkConfig) -> Result<Vec<BenchmarkBatch>, String> {
    let whitelist: Vec<TrackedStorageKey> = AllPalletsWithSystem::whitelisted_storage_keys();
    let mut batches = Vec::<BenchmarkBatch>::new();
    let params = (&config, &whitelist);
    add_benchmarks!(params, batches);
    Ok(batches)
}
