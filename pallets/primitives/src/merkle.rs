//! Plain Merkle trees of the shape of RFC 6962, which are also Merkle mountain ranges: the root
//! over `n` leaves is the peaks of the range bagged from the right, so a chain can append with
//! `O(log n)` state ([`Range`]) and an off-chain program can prove inclusion ([`prove`], [`verify`]).

use crate::hash::{tagged, Digest, Tag};
use alloc::vec::Vec;
use parity_scale_codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use scale_info::TypeInfo;

/// The root of the empty tree.
pub const EMPTY: Digest = [0; 32];

/// Peaks that a range of up to 2^32 − 1 leaves can have.
pub const MAX_PEAKS: usize = 32;

/// Hash of a leaf's bytes.
pub fn leaf(bytes: &[u8]) -> Digest {
    tagged(Tag::Leaf, &[bytes])
}

/// Hash of an inner node.
pub fn node(left: &Digest, right: &Digest) -> Digest {
    tagged(Tag::Node, &[left, right])
}

/// An append-only Merkle mountain range: the peaks, from the largest to the smallest, and the count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, TypeInfo)]
pub struct Range {
    count: u32,
    peaks: Vec<Digest>,
}

impl MaxEncodedLen for Range {
    fn max_encoded_len() -> usize {
        // count, compact length (one byte below 64), peaks.
        4usize
            .saturating_add(1)
            .saturating_add(MAX_PEAKS.saturating_mul(32))
    }
}

impl Range {
    /// Leaves appended so far.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Appends the hash of a leaf. Returns false, changing nothing, when the range is full.
    pub fn push(&mut self, leaf: Digest) -> bool {
        let Some(count) = self.count.checked_add(1) else {
            return false;
        };
        let mut hash = leaf;
        // Each trailing one of the old count is a peak that the new leaf completes.
        for _ in 0..self.count.trailing_ones() {
            let Some(left) = self.peaks.pop() else {
                return false;
            };
            hash = node(&left, &hash);
        }
        self.peaks.push(hash);
        self.count = count;
        true
    }

    /// The root: the peaks bagged from the right; [`EMPTY`] without leaves.
    pub fn root(&self) -> Digest {
        let mut peaks = self.peaks.iter().rev();
        match peaks.next() {
            None => EMPTY,
            Some(last) => peaks.fold(*last, |right, left| node(left, &right)),
        }
    }
}

/// The root over the hashes of leaves.
pub fn root(leaves: &[Digest]) -> Digest {
    let mut range = Range::default();
    for leaf in leaves {
        if !range.push(*leaf) {
            break;
        }
    }
    range.root()
}

/// The siblings from the leaf at `index` up to the root, or `None` out of bounds.
pub fn prove(leaves: &[Digest], index: usize) -> Option<Vec<Digest>> {
    if index >= leaves.len() {
        return None;
    }
    let mut path = Vec::new();
    let (mut from, mut to) = (0usize, leaves.len());
    while to.checked_sub(from)? > 1 {
        let middle = from.checked_add(split(to.checked_sub(from)?))?;
        if index < middle {
            path.push(root(leaves.get(middle..to)?));
            to = middle;
        } else {
            path.push(root(leaves.get(from..middle)?));
            from = middle;
        }
    }
    path.reverse();
    Some(path)
}

/// Whether `leaf` stands at `index` among the `count` leaves under `root`.
pub fn verify(root: &Digest, count: usize, index: usize, leaf: Digest, path: &[Digest]) -> bool {
    if index >= count {
        return false;
    }
    let mut sides = Vec::new();
    let (mut from, mut to) = (0usize, count);
    while to.saturating_sub(from) > 1 {
        let middle = from.saturating_add(split(to.saturating_sub(from)));
        let goes_left = index < middle;
        sides.push(goes_left);
        if goes_left {
            to = middle;
        } else {
            from = middle;
        }
    }
    if sides.len() != path.len() {
        return false;
    }
    let folded = sides
        .iter()
        .rev()
        .zip(path)
        .fold(leaf, |hash, (goes_left, sibling)| {
            if *goes_left {
                node(&hash, sibling)
            } else {
                node(sibling, &hash)
            }
        });
    folded == *root
}

/// The largest power of two below `count`: leaves of the left subtree. `count` is at least 2.
pub(crate) fn split(count: usize) -> usize {
    let half = count.saturating_sub(1);
    if half == 0 {
        return 0;
    }
    1usize.checked_shl(half.ilog2()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn leaves(count: usize) -> Vec<Digest> {
        (0..count as u32).map(|i| leaf(&i.to_le_bytes())).collect()
    }

    proptest! {
        #[test]
        fn every_leaf_is_proven_and_no_other(count in 1usize..70, index in 0usize..70, wrong in 0usize..70) {
            let leaves = leaves(count);
            let index = index % count;
            let root = root(&leaves);
            let path = prove(&leaves, index).unwrap();
            prop_assert!(verify(&root, count, index, leaves[index], &path));
            let wrong = wrong % count;
            if wrong != index {
                prop_assert!(!verify(&root, count, wrong, leaves[index], &path));
                prop_assert!(!verify(&root, count, index, leaves[wrong], &path));
            }
            prop_assert!(!verify(&root, count, index, leaves[index], &path[..path.len().saturating_sub(1)]) || count == 1);
        }
    }

    #[test]
    fn a_range_is_never_longer_than_its_bound() {
        let mut range = Range::default();
        for i in 0..1000u32 {
            assert!(range.push(leaf(&i.to_le_bytes())));
            assert_eq!(range.peaks.len() as u32, range.count.count_ones());
            assert!(range.encode().len() <= Range::max_encoded_len());
        }
    }
}
