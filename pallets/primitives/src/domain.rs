//! The signing domain: what ties a signature to one chain and one fork of it.

use crate::hash::{tagged, Digest, Tag};

/// `H(tag ‖ genesis hash ‖ fork nonce as u32, little-endian)`.
///
/// The fork nonce is raised by governance when a chain splits, so that a voucher of one side is
/// worth nothing on the other.
pub fn domain(genesis: &Digest, fork_nonce: u32) -> Digest {
    tagged(Tag::Domain, &[genesis, &fork_nonce.to_le_bytes()])
}
