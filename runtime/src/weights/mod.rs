//! Measured weights of the project's pallets, written by `scripts/weights`.

pub mod pallet_bonds;
pub mod pallet_datanets;
pub mod pallet_models;
pub mod pallet_payouts;
pub mod pallet_protocol;
pub mod pallet_settlement;
pub mod pallet_workers;
