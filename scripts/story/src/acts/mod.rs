//! The story, act by act.

pub mod build;
pub mod check;
mod gather;
pub mod pay;
mod publish;
pub mod question;
#[cfg(test)]
mod seeds;

use self::question::Asked;
use crate::{scene::Scene, Options};
use anyhow::Result;
use openledger_factory::invented::{story, Story};
use openledger_metering::SignedReceipt;
use openledger_primitives::{
    AdapterId, BaseId, ChannelId, ContributionId, DatanetId, Digest, RevisionId, VersionIndex,
};
use std::path::PathBuf;

/// Documents per contributor.
const DOCUMENTS: usize = 6;
/// Seconds that the story takes at most on two cores that have nothing else to do.
const PROMISED: f64 = 360.0;

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
    /// What was asked in the story: of both adapters and of the base.
    pub asked: Vec<Asked>,
    /// The receipts of every answer so far. Each is paid, once.
    pub receipts: Vec<SignedReceipt>,
    /// A channel for which the consumer signs vouchers without the gateway.
    pub own_channel: Option<ChannelId>,
}

impl Told {
    /// The fees of every answer so far, planck.
    pub fn fees(&self) -> u128 {
        self.receipts.iter().map(|one| one.receipt.fee).sum()
    }
}

/// Tells the story about facts that are invented from `seed`.
pub async fn tell(options: &Options, seed: u64) -> Result<Told> {
    let facts = story(seed, DOCUMENTS)?;
    println!(
        "Facts are invented from seed {seed}; --seed {seed} or OPENLEDGER_STORY_SEED={seed} tells \
         the same story."
    );
    let scene = Scene::open(options).await?;
    let mut told = Told {
        scene,
        story: facts,
        base: 0,
        base_alias: "openledger-small".to_owned(),
        base_revision: 0,
        trained: Vec::new(),
        asked: Vec::new(),
        receipts: Vec::new(),
        own_channel: None,
    };
    gather::fund_and_found(&mut told).await?;
    gather::contribute_and_seal(&mut told).await?;
    build::train(&mut told).await?;
    publish::publish(&mut told).await?;
    let asked = question::ask_all(&mut told).await?;
    pay::settle_and_claim(&mut told, &asked).await?;
    told.asked = asked;
    the_end(&told);
    Ok(told)
}

/// Says what the story took: time, and memory of the programs.
fn the_end(told: &Told) {
    let narrator = &told.scene.narrator;
    let seconds = narrator.seconds();
    narrator.act("The end.");
    narrator.say(format!("told in {seconds:.0} s"));
    if seconds > PROMISED {
        // No failure: nobody knows what else the machine had to do.
        narrator.say(format!(
            "warning: two idle cores would have taken at most {PROMISED:.0} s"
        ));
    }
    match told.scene.footprint() {
        Ok(footprint) => narrator.say(footprint.to_string()),
        Err(error) => narrator.say(format!("memory: not known ({error:#})")),
    }
}
