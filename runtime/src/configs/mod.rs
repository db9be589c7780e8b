//! The pallets' configuration, one file per area.

mod consensus;
mod openledger;
mod system;
mod tokens;

pub use consensus::{EpochDuration, GenesisValidators, SlotDuration};
