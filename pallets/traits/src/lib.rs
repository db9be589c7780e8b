//! What the pallets ask of each other. Pallets depend on these traits and never on one another; the
//! runtime ties them together.

#![cfg_attr(not(feature = "std"), no_std)]

mod bonds;
mod datanets;
mod earnings;
#[cfg(feature = "std")]
pub mod mocks;
mod models;
mod parameters;
mod workers;

pub use bonds::BondLedger;
pub use datanets::DatanetRegistry;
pub use earnings::{Earning, Earnings, Role};
pub use models::{ModelRegistry, PricedRevision};
pub use parameters::{
    BondParameters, ConsensusParameters, DatanetParameters, ModelParameters, Parameters,
    PayoutParameters, SettlementParameters,
};
pub use workers::WorkerRegistry;
