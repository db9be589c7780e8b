//! What programs outside the chain ask about Datanets.

use crate::{Contribution, Datanet, Version};
use alloc::vec::Vec;
use openledger_primitives::{
    contribution::VersionLeaf, inclusion::ContributionProof, ContributionId, DatanetId, Digest,
    VersionIndex,
};
use parity_scale_codec::Codec;

sp_api::decl_runtime_apis! {
    /// Reads Datanets and proves what stands in them.
    #[api_version(1)]
    pub trait DatanetsApi<AccountId> where AccountId: Codec {
        /// A Datanet.
        fn datanet(datanet: DatanetId) -> Option<Datanet<AccountId>>;
        /// A contribution.
        fn contribution(contribution: ContributionId) -> Option<Contribution<AccountId>>;
        /// A sealed version.
        fn version(datanet: DatanetId, version: VersionIndex) -> Option<Version>;
        /// The leaves of a version in order, from which any of its rows can be proven.
        fn version_leaves(datanet: DatanetId, version: VersionIndex) -> Vec<VersionLeaf>;
        /// Position of a contribution in a version, and its siblings up to the version's root.
        fn prove_contribution(
            datanet: DatanetId,
            version: VersionIndex,
            contribution: ContributionId,
        ) -> Option<(u32, Vec<Digest>)>;
        /// Whether a row stands in a version.
        fn verify_row(
            datanet: DatanetId,
            version: VersionIndex,
            proof: ContributionProof,
        ) -> bool;
    }
}
