//! Trains a LoRA adapter on the rows of sealed versions, from plan to evaluated result.

use std::fs;
use std::path::Path;

use candle_core::Var;
use openledger_model::{Adapter, LoraConfig, ModelConfig, Targets, Weights};
use openledger_store::Row;
use rand::seq::SliceRandom;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::batch::{lanes, Shard};
use crate::error::{Error, Result};
use crate::evaluation::{exact_match, mean_loss, ExactMatch};
use crate::gradients::{Lanes, Model};
use crate::manifest::{digest, Evaluation, Lora, Manifest, Plan, Version};
use crate::optim::AdamWConfig;
use crate::phrasebook::Phrasebook;
use crate::preparation::{prepare, Dataset, Preparation};
use crate::schedule::Schedule;
use crate::train::{train, Hyper, Outcome, Task, Watch};
use crate::vocabulary::{Encoder, Example};

/// Format of [`Plan`].
const FORMAT: u32 = 1;

/// A base model ready to be trained on.
pub struct Base {
    /// Shape and constants.
    pub config: ModelConfig,
    /// Weights, frozen.
    pub weights: Weights,
    /// Tokenizer.
    pub encoder: Encoder,
    weights_digest: String,
    tokenizer_digest: String,
    name: String,
}

impl Base {
    /// Loads a Hugging Face folder whose tokenizer knows the special tokens of [`crate::document`].
    pub fn load(dir: &Path) -> Result<Self> {
        let file = |name: &str| {
            let path = dir.join(name);
            fs::read(&path)
                .map(|bytes| hex::encode(digest(&bytes)))
                .map_err(Error::io(path.clone()))
        };
        let config = ModelConfig::from_dir(dir)?;
        Ok(Self {
            weights: Weights::load(dir, &config)?,
            config,
            encoder: Encoder::from_dir(dir)?,
            weights_digest: file("model.safetensors")?,
            tokenizer_digest: file("tokenizer.json")?,
            name: dir
                .file_name()
                .map(|n| n.to_string_lossy().into_owned())
                .unwrap_or_default(),
        })
    }

    /// The model, with an adapter or alone.
    pub fn model<'a>(&'a self, adapter: Option<&'a Adapter>) -> Model<'a> {
        Model {
            config: &self.config,
            weights: &self.weights,
            adapter,
        }
    }
}

/// A version's place on chain and its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRows {
    /// Number of the Datanet.
    pub datanet: u32,
    /// Number of its version.
    pub version: u32,
    /// Merkle root of the version.
    pub root: [u8; 32],
    /// Rows of its contributions, in the order of its leaves.
    pub rows: Vec<Row>,
}

/// What may be chosen about an adapter.
#[derive(Debug, Clone, PartialEq)]
pub struct Choices {
    /// How rows become examples.
    pub preparation: Preparation,
    /// Shape of the adapter.
    pub lora: Lora,
    /// Training.
    pub hyper: Hyper,
}

impl Default for Choices {
    /// What suits the base model that ships and some dozens of facts.
    fn default() -> Self {
        Self {
            preparation: Preparation::default(),
            lora: Lora::default(),
            hyper: Hyper {
                batch: 24,
                accumulate: 1,
                schedule: Schedule {
                    peak: 3e-3,
                    warmup: 10,
                    steps: 200,
                    floor: 0.05,
                },
                optimizer: AdamWConfig {
                    weight_decay: 0.0,
                    ..AdamWConfig::default()
                },
                lanes: 2,
                evaluate_every: 50,
                patience: 3,
                stop: 0,
            },
        }
    }
}

/// A trained adapter with its record.
#[derive(Debug)]
pub struct Trained {
    /// The adapter.
    pub adapter: Adapter,
    /// How it was made and how good it is.
    pub manifest: Manifest,
}

/// Trains and evaluates an adapter. The same versions, base and choices give the same bytes on the same machine.
///
/// # Errors
/// [`Error::Invalid`] for a dropout other than 0, rows without anything to train on and examples longer than the
/// context; [`Error::Interrupted`]; and whatever model and checkpoint refuse.
pub fn train_adapter(
    base: &Base,
    versions: &[VersionRows],
    choices: &Choices,
    watch: &Watch<'_>,
) -> Result<Trained> {
    refuse_dropout(choices.lora.dropout)?;
    let plan = plan(base, versions, choices);
    let rows = versions.iter().flat_map(|version| &version.rows);
    let data = prepare(&Phrasebook::shipped()?, rows, &choices.preparation)?;
    let encode = |documents: &[crate::document::Document]| {
        let examples = documents.iter().map(|d| base.encoder.example(d, false));
        examples.collect::<Result<Vec<_>>>()
    };
    let (train_set, held_set) = (encode(&data.train)?, encode(&data.held_out)?);
    check_lengths(&train_set, base.config.max_position_embeddings)?;
    let mut config = LoraConfig::new(choices.lora.r, choices.lora.alpha, targets(&choices.lora));
    config.use_rslora = choices.lora.use_rslora;
    config.base_model_name_or_path = Some(base.name.clone());
    let (adapter, named) = Adapter::init(&base.config, config, choices.lora.seed)?.into_vars()?;
    let vars: Vec<Var> = named.into_iter().map(|(_, var)| var).collect();
    let workers = Lanes::new(choices.hyper.lanes)?;
    let before = measure(&workers, base, None, &held_set, &data)?;
    let outcome = fit(
        &plan.digest()?,
        base.model(Some(&adapter)),
        &base.encoder,
        &vars,
        choices,
        (&train_set, &held_set),
        watch,
    )?;
    let (config, weights) = adapter.to_bytes()?;
    let adapter = Adapter::from_bytes(&config, &weights, &base.config)?;
    let after = measure(&workers, base, Some(&adapter), &held_set, &data)?;
    let manifest = Manifest {
        plan,
        outcome,
        evaluation: Evaluation {
            perplexity_before: before.0,
            perplexity_after: after.0,
            exact_before: before.1,
            exact_after: after.1,
        },
        adapter: hex::encode(adapter.digest),
    };
    Ok(Trained { adapter, manifest })
}

fn plan(base: &Base, versions: &[VersionRows], choices: &Choices) -> Plan {
    let versions = versions.iter().map(|v| Version {
        datanet: v.datanet,
        version: v.version,
        root: hex::encode(v.root),
        rows: v.rows.len(),
        rows_digest: rows_digest(&v.rows),
    });
    Plan {
        format: FORMAT,
        code: env!("CARGO_PKG_VERSION").into(),
        base: base.weights_digest.clone(),
        tokenizer: base.tokenizer_digest.clone(),
        phrasebook: hex::encode(digest(Phrasebook::shipped_text().as_bytes())),
        versions: versions.collect(),
        preparation: choices.preparation.clone(),
        lora: choices.lora.clone(),
        hyper: choices.hyper.clone(),
    }
}

/// Digest of the lines of a rows object, each with its line feed; hex.
fn rows_digest(rows: &[Row]) -> String {
    let lines: String = rows.iter().map(|row| row.line() + "\n").collect();
    hex::encode(digest(lines.as_bytes()))
}

fn refuse_dropout(dropout: f64) -> Result<()> {
    if dropout == 0.0 {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "lora_dropout is {dropout}, and training has no dropout: set it to 0"
    )))
}

fn targets(lora: &Lora) -> Targets {
    if lora.targets.is_empty() {
        Targets::AllLinear
    } else {
        Targets::Names(lora.targets.clone())
    }
}

fn check_lengths(examples: &[Example], context: usize) -> Result<()> {
    match examples.iter().map(|e| e.ids.len()).max() {
        Some(longest) if longest > context => Err(Error::Invalid(format!(
            "a row makes an example of {longest} tokens, and the model's context is {context}: split it"
        ))),
        _ => Ok(()),
    }
}

fn fit(
    run: &str,
    model: Model<'_>,
    encoder: &Encoder,
    vars: &[Var],
    choices: &Choices,
    (train_set, held_set): (&[Example], &[Example]),
    watch: &Watch<'_>,
) -> Result<Outcome> {
    let mut task = AdapterTask {
        train_set,
        held_set,
        encoder,
        model,
        hyper: &choices.hyper,
        seed: choices.lora.seed,
        order: Vec::new(),
        epoch: 0,
    };
    train(
        "adapter",
        run,
        &choices.hyper,
        model,
        vars,
        &mut task,
        watch,
    )
}

struct AdapterTask<'a> {
    train_set: &'a [Example],
    held_set: &'a [Example],
    encoder: &'a Encoder,
    model: Model<'a>,
    hyper: &'a Hyper,
    seed: u64,
    order: Vec<usize>,
    epoch: u64,
}

impl Task for AdapterTask<'_> {
    fn batch(&mut self, _index: usize) -> Result<Vec<Vec<Shard>>> {
        let mut examples = Vec::with_capacity(self.hyper.batch);
        while examples.len() < self.hyper.batch {
            if self.order.is_empty() {
                self.order = (0..self.train_set.len()).collect();
                let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
                rng.set_stream(self.epoch + 1);
                self.order.shuffle(&mut rng);
                self.epoch += 1;
            }
            if let Some(example) = self.order.pop().and_then(|i| self.train_set.get(i)) {
                examples.push(example.clone());
            }
        }
        lanes(&examples, self.hyper.lanes, self.encoder.pad())
    }

    fn held_out(&mut self, lanes: &Lanes) -> Result<Option<f64>> {
        if self.held_set.is_empty() {
            return Ok(None);
        }
        mean_loss(lanes, self.model, self.held_set, self.encoder.pad()).map(Some)
    }
}

fn measure(
    lanes: &Lanes,
    base: &Base,
    adapter: Option<&Adapter>,
    held_out: &[Example],
    data: &Dataset,
) -> Result<(Option<f64>, ExactMatch)> {
    let model = base.model(adapter);
    let perplexity = if held_out.is_empty() {
        None
    } else {
        Some(mean_loss(lanes, model, held_out, base.encoder.pad())?.exp())
    };
    let exact = exact_match(lanes, model, &base.encoder, &data.suite)?;
    Ok((perplexity, exact))
}

/// Refuses an adapter that is worse than what it is compared with: than the base alone, and than the revision
/// that it would replace where there is one.
pub fn gate(new: &Manifest, replaced: Option<&Manifest>) -> Result<()> {
    let e = &new.evaluation;
    if let (Some(before), Some(after)) = (e.perplexity_before, e.perplexity_after) {
        if !after.is_finite() || after > before {
            return Err(Error::Gate(format!(
                "held-out perplexity rose from {before:.3} to {after:.3}"
            )));
        }
    }
    if e.exact_after.share() < e.exact_before.share() {
        return Err(Error::Gate(format!(
            "exact answers fell from {}/{} to {}/{}",
            e.exact_before.right, e.exact_before.asked, e.exact_after.right, e.exact_after.asked
        )));
    }
    if let Some(old) = replaced {
        let (old, now) = (old.evaluation.exact_after.share(), e.exact_after.share());
        if now < old {
            return Err(Error::Gate(format!(
                "exact answers fell from {:.1} % of the last revision to {:.1} %",
                old * 100.0,
                now * 100.0
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use openledger_store::Rows;

    #[test]
    fn the_manifest_should_name_rows_by_the_bytes_that_the_store_keeps() {
        let written = "{\"text\":\" Cafe\u{301} am  Markt.\",\"qa\":[[\"Wo?\",\"Am Markt. \"]]}\n{\"text\":\"Two\"}";
        let rows = Rows::import(written.as_bytes()).unwrap();
        let named = rows_digest(rows.as_slice());
        assert_eq!(named, hex::encode(digest(&rows.to_jsonl())));
        // From `b2sum -l 256` over the two lines: manifests that exist keep their meaning.
        assert_eq!(
            named,
            "2d3d1acf97a0521a5f5bc97353c1801e0c029c2ee80511abaab897665487bae8"
        );
    }
}
