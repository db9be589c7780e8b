//! Revisions and terms on chain, a channel, and the consumer's gateway.

use super::{
    build::folder,
    gather::{PRICE_IN, PRICE_OUT, SPLIT},
    Told,
};
use anyhow::{ensure, Context, Result};
use openledger_chain::{
    calls::{
        models::{PublishRevision, SetTerms},
        Call,
    },
    events::models::RevisionPublished,
};
use openledger_model::{LoraConfig, ModelConfig, Site};
use openledger_primitives::revision::{
    AttributionParams, ModelRef, RevisionFacts, Targets, VersionUse,
};
use serde_json::Map;
use std::{
    path::Path,
    time::{Duration, Instant},
};

/// Publishes, opens the channel, starts the gateway, and waits until all three models are served.
pub async fn publish(told: &mut Told) -> Result<()> {
    let scene = &told.scene;
    scene
        .narrator
        .act("Adapters and indexes go to the store, their digests and terms on chain.");
    let model = ModelConfig::from_dir(&scene.base)?;
    let mut published = Vec::new();
    for trained in &told.trained {
        let files = folder(told, trained);
        let store = &scene.store;
        let (rank, targets) = shape(&files.join("adapter"), &model)?;
        let call = PublishRevision {
            adapter: trained.adapter,
            facts: RevisionFacts {
                adapter_digest: store.put_folder("adapter", &files.join("adapter"), Map::new())?,
                rank,
                targets,
                manifest: store.put(&std::fs::read(files.join("manifest.json"))?)?,
                index: store.put_folder("index", &files.join("index"), Map::new())?,
                null: [0; 32],
                evaluation: store.put(&std::fs::read(files.join("evaluation.json"))?)?,
                attribution: AttributionParams::default(),
            },
            versions: vec![VersionUse {
                datanet: trained.datanet,
                version: trained.version,
                grant: None,
            }],
        };
        let terms = SetTerms {
            model: ModelRef::Adapter(trained.adapter),
            price_in: PRICE_IN,
            price_out: PRICE_OUT,
            split: SPLIT,
        };
        // Terms first: a revision is offered from its first block at a price.
        let terms = scene.cast.developer.chain.queue(terms.encoded()).await?;
        let revision = scene.cast.developer.chain.queue(call.encoded()).await?;
        published.push((terms, revision));
    }
    let channel = scene.complete("openledger-gateway", |command| {
        command
            .arg("open-channel")
            .arg("--account-key")
            .arg(&scene.cast.consumer.key_file)
            .arg("--key")
            .arg(scene.dir.join("keys").join("gateway"))
            .args(["--worker", &scene.cast.operator.account().to_string()])
            .args(["--deposit", "500", "--lanes", "4"])
            .arg("--data")
            .arg(scene.dir.join("gateway"))
            .args(["--listen", &format!("127.0.0.1:{}", scene.ports.gateway)]);
    });
    let publish = async {
        let mut revisions = Vec::new();
        for (terms, revision) in published {
            terms.await?;
            revisions.push(revision.await?.expect::<RevisionPublished>()?.revision);
        }
        anyhow::Ok(revisions)
    };
    let (opened, revisions) = futures::try_join!(channel, publish)?;
    for (trained, revision) in told.trained.iter_mut().zip(revisions) {
        trained.revision = revision;
        scene.narrator.say(format!(
            "{} is revision {revision}: base {} + Datanet {} version {}",
            trained.alias, told.base, trained.datanet, trained.version
        ));
    }
    scene
        .narrator
        .say(opened.lines().next().unwrap_or_default());
    told.scene.start_gateway()?;
    let wanted: Vec<u64> = told
        .trained
        .iter()
        .map(|trained| trained.revision)
        .chain([told.base_revision])
        .collect();
    let begun = Instant::now();
    for revision in wanted {
        while told.scene.client.find_workers(revision).await?.is_empty() {
            told.scene.check()?;
            ensure!(
                begun.elapsed() < Duration::from_secs(90),
                "no worker announced revision {revision}"
            );
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
    let url = told.scene.gateway_url("/ready");
    if let Some(gateway) = &mut told.scene.gateway {
        gateway.answers(&url, Duration::from_secs(60)).await?;
    }
    told.scene
        .narrator
        .say("the worker announces all three models; the gateway is ready");
    Ok(())
}

/// Largest rank and targets of an adapter, as its `adapter_config.json` has them on this base.
fn shape(adapter: &Path, model: &ModelConfig) -> Result<(u16, Targets)> {
    let file = adapter.join("adapter_config.json");
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let (mut most, mut targets) = (0, Targets(0));
    for layer in LoraConfig::from_json(&text)?.plan(model)? {
        for (site, place) in Site::ALL.into_iter().zip(layer) {
            if let Some((rank, _)) = place {
                most = most.max(rank);
                targets.0 |= bit(site);
            }
        }
    }
    Ok((u16::try_from(most)?, targets))
}

/// How the chain writes a site.
fn bit(site: Site) -> u8 {
    match site {
        Site::Q => Targets::Q,
        Site::K => Targets::K,
        Site::V => Targets::V,
        Site::O => Targets::O,
        Site::Gate => Targets::GATE,
        Site::Up => Targets::UP,
        Site::Down => Targets::DOWN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rank_and_targets_are_those_of_the_adapter() {
        let base = Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo test sets it"))
            .join("../../inference-worker/factory/base");
        let model = ModelConfig::from_dir(&base).unwrap();
        let adapter = tempfile::tempdir().unwrap();
        let shape_of = |config: &str| {
            std::fs::write(adapter.path().join("adapter_config.json"), config).unwrap();
            shape(adapter.path(), &model)
        };
        let linear = r#"{"peft_type":"LORA","r":16,"lora_alpha":32,"target_modules":"all-linear"}"#;
        assert_eq!(shape_of(linear).unwrap(), (16, Targets::ALL_LINEAR));
        let some = r#"{"peft_type":"LORA","r":4,"lora_alpha":8,"rank_pattern":{"v_proj":8},
            "target_modules":["q_proj","v_proj"]}"#;
        let expected = (8, Targets(Targets::Q | Targets::V));
        assert_eq!(shape_of(some).unwrap(), expected);
        shape_of("{}").unwrap_err();
    }
}
