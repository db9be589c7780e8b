//! Codec types of the protocol: identifiers, vouchers, receipts, batches, contributions, revisions,
//! signing payloads and Merkle trees.
//!
//! Everything that crosses a border between two programs (worker, gateway, node) and everything
//! that is signed is defined here, once, in SCALE. There is no FRAME in this crate: the runtime, the
//! worker and the gateway link the same code, so a hash that one computes is the hash that the
//! others check.
//!
//! Conventions: amounts are planck (`u128`, 1 OPEN = 10^12 planck), hashes are blake2b-256, each
//! kind of hash has its own tag (see [`hash`]), and every signed object begins with its format
//! version.

#![cfg_attr(not(feature = "std"), no_std)]
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

pub mod batch;
pub mod contribution;
pub mod crypto;
pub mod domain;
pub mod hash;
pub mod ids;
pub mod inclusion;
pub mod licence;
pub mod merkle;
pub mod receipt;
pub mod revision;
pub mod row;
pub mod sketch;
pub mod sum_tree;
pub mod terms;
pub mod voucher;

pub use crypto::{PublicKey, Signature};
pub use hash::Digest;
pub use ids::*;

/// The format version that this crate writes in the first byte of every signed object.
pub const FORMAT_VERSION: u8 = 1;
