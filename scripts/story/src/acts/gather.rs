//! Money, the worker, the Datanets and what is put into them.

use super::{Told, Trained};
use crate::narrator::open;
use anyhow::{Context, Result};
use futures::future::try_join_all;
use openledger_chain::{
    calls::{
        datanets::{Admission, Admit, Contribute, Create, DataKind, SealVersion},
        models::{RegisterAdapter, RegisterBase},
        Call,
    },
    events::{
        datanets::{Contributed, Created, VersionSealed},
        models::{AdapterRegistered, BaseRegistered},
    },
    OPEN,
};
use openledger_primitives::{
    contribution::Provenance, hash::blake2_256, licence::Licence, terms::Split,
};
use openledger_store::{Row, Rows};
use serde_json::Map;

/// How fees are split, parts per million.
pub const SPLIT: Split = Split {
    worker: 600_000,
    developer: 100_000,
    holders: 50_000,
    contributors: 200_000,
    protocol: 50_000,
};
/// Planck per 1,000 prompt tokens.
pub const PRICE_IN: u128 = 2 * OPEN;
/// Planck per 1,000 output tokens.
pub const PRICE_OUT: u128 = 6 * OPEN;

/// Funds the people; the operator joins, the owner founds, the developer registers the base.
pub async fn fund_and_found(told: &mut Told) -> Result<()> {
    let scene = &told.scene;
    scene
        .narrator
        .act("Seven people make keys; the chain's purse funds them.");
    scene.cast.fund(&scene.client).await?;
    for actor in scene.cast.all() {
        scene
            .narrator
            .say(format!("{:<10} {}", actor.name, actor.account()));
    }
    scene
        .narrator
        .act("A worker joins with a bond; two Datanets are founded; a base model is registered.");
    let manifest = scene.store.put_folder("base", &scene.base, Map::new())?;
    let join = scene.complete("openledger-worker", |command| {
        command
            .arg("join")
            .arg("--account-key")
            .arg(&scene.cast.operator.key_file)
            .arg("--service-key")
            .arg(scene.service_key())
            .args(["--bond", &(2_000 * OPEN).to_string()])
            .args(["--endpoint", &scene.worker_url("")]);
    });
    let register = async {
        let call = RegisterBase {
            name: told.base_alias.clone().into_bytes(),
            manifest,
            licence: Licence::ALL,
            price_in: PRICE_IN,
            price_out: PRICE_OUT,
            split: SPLIT,
        };
        anyhow::Ok(scene.cast.developer.chain.submit(&call).await?)
    };
    let create = async {
        let mut created = Vec::new();
        for datanet in &told.story.datanets {
            let call = Create {
                kind: DataKind::Text,
                licence: Licence::ALL,
                schema: blake2_256(format!("plain text about a {}", datanet.kind).as_bytes()),
                admission: Admission::Open,
                access_price: 0,
                min_royalty: 0,
                contribution_bond: 10 * OPEN,
                private: false,
            };
            created.push(scene.cast.owner.chain.queue(call.encoded()).await?);
        }
        anyhow::Ok(try_join_all(created).await?)
    };
    let (joined, registered, created) = futures::try_join!(join, register, create)?;
    let base: BaseRegistered = registered.expect()?;
    scene
        .narrator
        .say(joined.lines().next().unwrap_or_default());
    scene.narrator.say(format!(
        "base {} is {} at {} in, {} out per 1,000 tokens",
        base.base,
        told.base_alias,
        open(PRICE_IN),
        open(PRICE_OUT)
    ));
    let mut trained = Vec::new();
    for (outcome, facts) in created.iter().zip(&told.story.datanets) {
        let datanet: Created = outcome.expect()?;
        scene.narrator.say(format!(
            "Datanet {} is about {}s",
            datanet.datanet, facts.kind
        ));
        trained.push(Trained {
            datanet: datanet.datanet,
            version: 0,
            root: [0; 32],
            contributions: Vec::new(),
            adapter: 0,
            alias: format!("{}s", facts.kind),
            revision: 0,
        });
    }
    told.base = base.base;
    told.base_revision = base.revision;
    told.trained = trained;
    told.scene.start_worker()
}

/// Three people contribute documents; the owner admits and seals them.
pub async fn contribute_and_seal(told: &mut Told) -> Result<()> {
    let scene = &told.scene;
    scene
        .narrator
        .act("Documents are contributed: two people to the first Datanet, one to the second.");
    let mut people = scene.cast.contributors.iter();
    let mut pending = Vec::new();
    for (facts, trained) in told.story.datanets.iter().zip(&told.trained) {
        for contributor in &facts.contributors {
            let actor = people.next().context("a contributor for each documents")?;
            let rows = contributor
                .rows
                .iter()
                .map(|text| Row::new(text, []))
                .collect::<Result<Vec<_>, _>>()?;
            let rows = Rows::new(rows)?;
            let locator = scene.store.put_rows(&rows)?;
            let file = scene.dir.join(format!("{}.jsonl", actor.name));
            std::fs::write(&file, rows.to_jsonl())?;
            let call = Contribute {
                datanet: trained.datanet,
                submission: rows.submission(locator, Provenance::Original, [0; 32], Licence::ALL),
            };
            let submitted = actor.chain.queue(call.encoded()).await?;
            pending.push((trained.datanet, actor, file, submitted));
        }
    }
    // The adapters' names are taken meanwhile.
    let mut names = Vec::new();
    for trained in &told.trained {
        let call = RegisterAdapter {
            base: told.base,
            name: trained.alias.clone().into_bytes(),
        };
        names.push(scene.cast.developer.chain.queue(call.encoded()).await?);
    }
    for (datanet, actor, file, submitted) in pending {
        let contributed: Contributed = submitted.await?.expect()?;
        scene.narrator.say(format!(
            "{} put {} documents into Datanet {datanet}: contribution {}, root 0x{}…",
            actor.name,
            contributed.rows,
            contributed.contribution,
            hex::encode(&contributed.content_root[..6])
        ));
        for trained in &mut told.trained {
            if trained.datanet == datanet {
                trained
                    .contributions
                    .push((contributed.contribution, file.clone()));
            }
        }
    }
    for (outcome, trained) in try_join_all(names).await?.iter().zip(&mut told.trained) {
        trained.adapter = outcome.expect::<AdapterRegistered>()?.adapter;
    }
    scene
        .narrator
        .act("The owner admits them and seals a version of each Datanet.");
    let mut sealed = Vec::new();
    for trained in &told.trained {
        let admit = Admit {
            datanet: trained.datanet,
            contributions: trained.contributions.iter().map(|(id, _)| *id).collect(),
        };
        let seal = SealVersion {
            datanet: trained.datanet,
        };
        let admitted = scene.cast.owner.chain.queue(admit.encoded()).await?;
        sealed.push((
            admitted,
            scene.cast.owner.chain.queue(seal.encoded()).await?,
        ));
    }
    for ((admitted, sealed), trained) in sealed.into_iter().zip(&mut told.trained) {
        admitted.await?;
        let version: VersionSealed = sealed.await?.expect()?;
        trained.version = version.version;
        trained.root = version.root;
        scene.narrator.say(format!(
            "Datanet {} version {}: {} contributions under Merkle root 0x{}",
            version.datanet,
            version.version,
            version.count,
            hex::encode(version.root)
        ));
    }
    Ok(())
}
