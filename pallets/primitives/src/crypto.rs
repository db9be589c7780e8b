//! sr25519 keys and signatures as plain bytes, and the payloads that are signed.

use crate::hash::Digest;
use alloc::vec::Vec;
use parity_scale_codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use scale_info::TypeInfo;

/// An sr25519 public key.
pub type PublicKey = [u8; 32];

/// An sr25519 signature (signing context `substrate`).
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Encode,
    Decode,
    DecodeWithMemTracking,
    MaxEncodedLen,
    TypeInfo,
)]
pub struct Signature(pub [u8; 64]);

/// The two byte strings of which a signature is accepted: the hash itself, and the hash between
/// `<Bytes>` and `</Bytes>`, which is what browser extensions sign.
pub fn signing_payloads(hash: &Digest) -> [Vec<u8>; 2] {
    let wrapped = [b"<Bytes>".as_slice(), hash, b"</Bytes>".as_slice()].concat();
    [hash.to_vec(), wrapped]
}
