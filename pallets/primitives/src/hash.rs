//! blake2b-256 with a tag for each kind of object, so that no hash of one kind is one of another.

use alloc::vec::Vec;
use blake2::{digest::consts::U32, Blake2b, Digest as _};
use parity_scale_codec::Encode;

/// A blake2b-256 digest.
pub type Digest = [u8; 32];

/// What a hash is of. The tag, preceded by its length in one byte, is the first thing hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// Signing domain of a chain.
    Domain,
    /// A voucher without its signature.
    Voucher,
    /// A receipt without its signature.
    Receipt,
    /// A salted commitment to a request.
    Request,
    /// A salted commitment to an output.
    Output,
    /// The sampler seed that a voucher fixes.
    Seed,
    /// A leaf of a plain Merkle tree.
    Leaf,
    /// An inner node of a plain Merkle tree.
    Node,
    /// A leaf of a Merkle-sum tree.
    SumLeaf,
    /// An inner node of a Merkle-sum tree.
    SumNode,
    /// A line of a batch's claims index tree.
    ClaimLine,
    /// A line of a batch's usage index tree.
    UsageLine,
    /// A line of a batch's credits index tree.
    CreditLine,
    /// A batch header.
    Batch,
    /// The canonical bytes of a row.
    Row,
    /// The sketch of a row.
    Sketch,
    /// A commitment to a contribution before it is revealed.
    Commit,
    /// A step of an execution fingerprint.
    Fingerprint,
}

impl Tag {
    /// The bytes of the tag.
    pub const fn bytes(self) -> &'static [u8] {
        match self {
            Tag::Domain => b"openledger/domain",
            Tag::Voucher => b"openledger/voucher",
            Tag::Receipt => b"openledger/receipt",
            Tag::Request => b"openledger/request",
            Tag::Output => b"openledger/output",
            Tag::Seed => b"openledger/seed",
            Tag::Leaf => b"openledger/leaf",
            Tag::Node => b"openledger/node",
            Tag::SumLeaf => b"openledger/sum-leaf",
            Tag::SumNode => b"openledger/sum-node",
            Tag::ClaimLine => b"openledger/claim-line",
            Tag::UsageLine => b"openledger/usage-line",
            Tag::CreditLine => b"openledger/credit-line",
            Tag::Batch => b"openledger/batch",
            Tag::Row => b"openledger/row",
            Tag::Sketch => b"openledger/sketch",
            Tag::Commit => b"openledger/commit",
            Tag::Fingerprint => b"openledger/fingerprint",
        }
    }
}

/// blake2b-256 of `bytes`, without a tag: the digest under which the store keeps an object.
pub fn blake2_256(bytes: &[u8]) -> Digest {
    Blake2b::<U32>::digest(bytes).into()
}

/// blake2b-256 of the tag's length, the tag, and the parts one after the other.
///
/// Parts are not separated: callers pass fixed-size or SCALE-encoded parts.
pub fn tagged(tag: Tag, parts: &[&[u8]]) -> Digest {
    let name = tag.bytes();
    let mut hasher = Blake2b::<U32>::new();
    hasher.update([name.len() as u8]);
    hasher.update(name);
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// [`tagged`] over the SCALE encoding of `value`.
pub fn tagged_encoded<T: Encode>(tag: Tag, value: &T) -> Digest {
    let bytes: Vec<u8> = value.encode();
    tagged(tag, &[&bytes])
}
