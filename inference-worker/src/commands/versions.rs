//! Sealed versions as trainer and indexer read them: what the chain says, rows from the store, and each
//! held against the other.

use anyhow::{ensure, Context, Result};
use openledger_chain::ChainClient;
use openledger_primitives::{
    contribution::VersionLeaf, merkle, ContributionId, DatanetId, Digest, VersionIndex,
};
use openledger_store::{Rows, Store};
use std::str::FromStr;

/// `DATANET:VERSION`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VersionName {
    /// The Datanet.
    pub datanet: DatanetId,
    /// Its version.
    pub version: VersionIndex,
}

impl FromStr for VersionName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split_once(':')
            .and_then(|(datanet, version)| {
                Some(VersionName {
                    datanet: datanet.parse().ok()?,
                    version: version.parse().ok()?,
                })
            })
            .ok_or_else(|| format!("`{text}` is not DATANET:VERSION, as 0:1"))
    }
}

/// A sealed version with its rows, which are those that were contributed.
pub struct SealedVersion {
    /// Which.
    pub name: VersionName,
    /// Root over its leaves.
    pub root: Digest,
    /// Its contributions and their rows, in the order of its leaves.
    pub contributions: Vec<(ContributionId, Rows)>,
}

/// Reads versions, each once, ascending.
pub async fn read(
    client: &ChainClient,
    store: &Store,
    names: &[VersionName],
) -> Result<Vec<SealedVersion>> {
    let mut names = names.to_vec();
    names.sort_unstable();
    names.dedup();
    let mut versions = Vec::with_capacity(names.len());
    for name in names {
        versions.push(
            read_one(client, store, name)
                .await
                .with_context(|| format!("version {}:{}", name.datanet, name.version))?,
        );
    }
    Ok(versions)
}

async fn read_one(client: &ChainClient, store: &Store, name: VersionName) -> Result<SealedVersion> {
    let sealed = client
        .version(name.datanet, name.version)
        .await?
        .context("it is not sealed on this chain")?;
    let leaves = client.version_leaves(name.datanet, name.version).await?;
    let hashes: Vec<Digest> = leaves.iter().map(VersionLeaf::hash).collect();
    ensure!(
        merkle::root(&hashes) == sealed.root,
        "the node's leaves are not those of the version's root"
    );
    let mut contributions = Vec::with_capacity(leaves.len());
    for leaf in leaves {
        let id = leaf.contribution;
        let contribution = client
            .contribution(id)
            .await?
            .with_context(|| format!("contribution {id} is not on this chain"))?;
        ensure!(
            contribution.submission.content_root == leaf.content_root,
            "the node's contribution {id} is not the one that was sealed"
        );
        let rows = store
            .rows(&contribution.submission.locator)
            .with_context(|| format!("the rows of contribution {id}"))?;
        ensure!(
            rows.are_of(&contribution.submission),
            "the rows that contribution {id} points to are not those it was sealed with"
        );
        contributions.push((id, rows));
    }
    Ok(SealedVersion {
        name,
        root: sealed.root,
        contributions,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_named_by_two_numbers() {
        let name: VersionName = "3:1".parse().unwrap();
        assert_eq!((name.datanet, name.version), (3, 1));
        for bad in ["3", "3:", ":1", "a:1", "3:1:2", ""] {
            let error = bad.parse::<VersionName>().unwrap_err();
            assert!(error.contains("DATANET:VERSION"), "{error}");
        }
    }
}
