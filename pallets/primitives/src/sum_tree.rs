//! Merkle-sum trees: every node's hash covers the sum and the count of the leaves below it, so a
//! root commits to a total as well as to its parts.
//!
//! Shape: RFC 6962 (the left subtree holds the largest power of two of leaves below the count).
//! Additions are checked: a tree whose sum would exceed `u128` has no root.

use crate::{
    hash::{tagged, Digest, Tag},
    merkle::split,
};
use alloc::vec::Vec;
use parity_scale_codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use scale_info::TypeInfo;

/// A node: hash, sum of the amounts below it (planck), and number of leaves below it.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Encode,
    Decode,
    DecodeWithMemTracking,
    MaxEncodedLen,
    TypeInfo,
)]
pub struct SumNode {
    /// Hash that covers sum and count.
    pub hash: Digest,
    /// Planck.
    pub sum: u128,
    /// Leaves.
    pub count: u64,
}

impl SumNode {
    /// The root of the empty tree.
    pub const EMPTY: SumNode = SumNode {
        hash: [0; 32],
        sum: 0,
        count: 0,
    };

    /// A leaf over `bytes` that carries `amount`.
    pub fn leaf(bytes: &[u8], amount: u128) -> Self {
        SumNode {
            hash: tagged(Tag::SumLeaf, &[&amount.to_le_bytes(), bytes]),
            sum: amount,
            count: 1,
        }
    }

    /// The parent of two nodes; `None` when sum or count overflows.
    pub fn join(left: &SumNode, right: &SumNode) -> Option<Self> {
        Some(SumNode {
            hash: tagged(
                Tag::SumNode,
                &[
                    &left.hash,
                    &left.sum.to_le_bytes(),
                    &left.count.to_le_bytes(),
                    &right.hash,
                    &right.sum.to_le_bytes(),
                    &right.count.to_le_bytes(),
                ],
            ),
            sum: left.sum.checked_add(right.sum)?,
            count: left.count.checked_add(right.count)?,
        })
    }
}

/// The root over nodes in the order given; [`SumNode::EMPTY`] for none, `None` on overflow.
pub fn root(nodes: &[SumNode]) -> Option<SumNode> {
    // Completed subtrees with their number of nodes, largest first.
    let mut peaks: Vec<(usize, SumNode)> = Vec::new();
    for node in nodes {
        let mut size = 1usize;
        let mut joined = *node;
        while let Some((left_size, left)) = peaks.last() {
            if *left_size != size {
                break;
            }
            joined = SumNode::join(left, &joined)?;
            size = size.checked_mul(2)?;
            peaks.pop();
        }
        peaks.push((size, joined));
    }
    let mut peaks = peaks.iter().rev();
    let Some((_, last)) = peaks.next() else {
        return Some(SumNode::EMPTY);
    };
    peaks.try_fold(*last, |right, (_, left)| SumNode::join(left, &right))
}

/// The siblings from the node at `index` up to the root; `None` out of bounds or on overflow.
pub fn prove(nodes: &[SumNode], index: usize) -> Option<Vec<SumNode>> {
    if index >= nodes.len() {
        return None;
    }
    let mut path = Vec::new();
    let (mut from, mut to) = (0usize, nodes.len());
    while to.checked_sub(from)? > 1 {
        let middle = from.checked_add(split(to.checked_sub(from)?))?;
        if index < middle {
            path.push(root(nodes.get(middle..to)?)?);
            to = middle;
        } else {
            path.push(root(nodes.get(from..middle)?)?);
            from = middle;
        }
    }
    path.reverse();
    Some(path)
}

/// Whether `node` stands at `index` among the `count` nodes under `root`.
pub fn verify(root: &SumNode, count: usize, index: usize, node: SumNode, path: &[SumNode]) -> bool {
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
        .try_fold(node, |node, (goes_left, sibling)| {
            if *goes_left {
                SumNode::join(&node, sibling)
            } else {
                SumNode::join(sibling, &node)
            }
        });
    folded.as_ref() == Some(root)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_root_sums_and_proves(amounts in prop::collection::vec(0u128..1 << 60, 1..60), index in 0usize..60) {
            let nodes: Vec<_> = amounts.iter().enumerate()
                .map(|(i, a)| SumNode::leaf(&(i as u32).to_le_bytes(), *a)).collect();
            let root = root(&nodes).unwrap();
            prop_assert_eq!(root.sum, amounts.iter().sum::<u128>());
            prop_assert_eq!(root.count, amounts.len() as u64);
            let index = index % nodes.len();
            let path = prove(&nodes, index).unwrap();
            prop_assert!(verify(&root, nodes.len(), index, nodes[index], &path));
            let mut inflated = nodes[index];
            inflated.sum += 1;
            prop_assert!(!verify(&root, nodes.len(), index, inflated, &path));
        }
    }

    #[test]
    fn merkle_sum_overflow() {
        let nodes = [SumNode::leaf(b"a", u128::MAX), SumNode::leaf(b"b", 1)];
        assert_eq!(root(&nodes), None);
    }
}
