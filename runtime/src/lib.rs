//! The OpenLedger runtime: which pallets the chain is made of, at which indices, configured how.
//!
//! [`configs`] ties the pallets together, [`apis`] is what nodes and users call, [`genesis`] holds
//! the presets that chain specifications are built from, [`constants`] what the rest shares.

#![cfg_attr(not(feature = "std"), no_std)]
#![recursion_limit = "256"]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::panic
    )
)]

extern crate alloc;

pub mod apis;
#[cfg(feature = "runtime-benchmarks")]
mod benchmarks;
pub mod configs;
pub mod constants;
pub mod genesis;
mod pallets;
mod types;
mod version;
pub mod weights;
/// The runtime's own code as wasm, for the node; written by the build.
#[cfg(feature = "std")]
#[allow(missing_docs)]
mod wasm {
    include!(concat!(env!("OUT_DIR"), "/wasm_binary.rs"));
}

pub use constants::{DECIMALS, OPEN, SS58_PREFIX, TOKEN};
pub use pallets::*;
pub use types::*;
pub use version::VERSION;
#[cfg(feature = "std")]
pub use wasm::*;
