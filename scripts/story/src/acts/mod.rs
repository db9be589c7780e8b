//! The story, act by act.

mod build;
mod gather;
pub mod pay;
mod publish;
pub mod question;

use crate::{scene::Scene, Options};
use anyhow::Result;
use openledger_factory::invented::{story, Story};
use openledger_primitives::{
    AdapterId, BaseId, ContributionId, DatanetId, Digest, RevisionId, VersionIndex,
};
use std::path::PathBuf;

/// Documents per contributor.
const DOCUMENTS: usize = 6;

/// A Datanet with its sealed version and the adapter trained on it.
pub struct Trained {
    /// Datanet.
    pub datanet: DatanetId,
    /// Sealed version.
    pub version: VersionIndex,
    /// Its root.
    pub root: Digest,
    /// Contributions with the files of their rows, in the order of the story's contributors.
    pub contributions: Vec<(ContributionId, PathBuf)>,
    /// Adapter.
    pub adapter: AdapterId,
    /// Its name on chain.
    pub alias: String,
    /// Its revision.
    pub revision: RevisionId,
}

/// What is known when the story has been told.
pub struct Told {
    /// Where everything still runs.
    pub scene: Scene,
    /// The invented facts.
    pub story: Story,
    /// The base's number on chain.
    pub base: BaseId,
    /// The base's name on chain.
    pub base_alias: String,
    /// The revision under which the base itself is served.
    pub base_revision: RevisionId,
    /// One per Datanet.
    pub trained: Vec<Trained>,
}

/// Tells the story.
pub async fn tell(options: &Options) -> Result<Told> {
    let seed = options
        .seed
        .unwrap_or_else(|| rand::random_range(0..1_000_000));
    let facts = story(seed, DOCUMENTS)?;
    println!("Facts are invented from seed {seed} (--seed {seed} tells the same story).");
    let scene = Scene::open(options).await?;
    let mut told = Told {
        scene,
        story: facts,
        base: 0,
        base_alias: "openledger-small".to_owned(),
        base_revision: 0,
        trained: Vec::new(),
    };
    gather::fund_and_found(&mut told).await?;
    gather::contribute_and_seal(&mut told).await?;
    build::train(&mut told).await?;
    publish::publish(&mut told).await?;
    let answers = question::ask_all(&mut told).await?;
    pay::settle_and_claim(&mut told, &answers).await?;
    let seconds = told.scene.narrator.seconds();
    told.scene.narrator.act("The end.");
    println!("          told in {seconds:.0} s");
    Ok(told)
}
