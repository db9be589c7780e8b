//! Trains the small base model from a recipe: tokenizer, text, weights, and the files around them.

use std::fs;
use std::path::Path;

use candle_core::Var;
use openledger_model::{Family, ModelConfig, StoredType, Weights};
use serde::{Deserialize, Serialize};

use crate::batch::{lanes, Shard};
use crate::corpus::{Corpus, CorpusConfig};
use crate::document::{ASSISTANT, BEGIN, END, PAD, USER};
use crate::error::{Error, Result};
use crate::evaluation::mean_loss;
use crate::gradients::{Lanes, Model};
use crate::phrasebook::Phrasebook;
use crate::train::{train, Hyper, Outcome, Task, Watch};
use crate::vocabulary::{train_tokenizer, Encoder, Example};

/// Documents that are held out to measure the loss.
const HELD_OUT: usize = 256;

/// Everything that decides the base model, committed as `base/recipe.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// Tokens of the vocabulary.
    pub vocab: usize,
    /// Seed of the text that the tokenizer is trained on.
    pub tokenizer_seed: u64,
    /// Width of the model.
    pub hidden: usize,
    /// Width of the feed-forward layers.
    pub intermediate: usize,
    /// Layers.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Longest context, tokens.
    pub context: usize,
    /// Seed of the initial weights.
    pub seed: u64,
    /// The text.
    pub corpus: CorpusConfig,
    /// Training.
    pub hyper: Hyper,
}

impl Recipe {
    /// Reads a recipe.
    pub fn from_json(text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(Error::json("recipe"))
    }

    fn config(&self, vocab: usize, begin: u32, end: u32) -> ModelConfig {
        ModelConfig {
            family: Family::Llama,
            vocab_size: vocab,
            hidden_size: self.hidden,
            intermediate_size: self.intermediate,
            num_hidden_layers: self.layers,
            num_attention_heads: self.heads,
            num_key_value_heads: self.kv_heads,
            head_dim: self.hidden / self.heads.max(1),
            rms_norm_eps: 1e-5,
            rope_theta: 10_000.0,
            rope_scaling: None,
            max_position_embeddings: self.context,
            tie_word_embeddings: true,
            bos_token_id: Some(begin),
            eos_token_ids: vec![end],
        }
    }
}

/// Trains a base model and writes an ordinary Hugging Face folder to `out`.
pub fn train_base(recipe: &Recipe, out: &Path, watch: &Watch<'_>) -> Result<Outcome> {
    let book = Phrasebook::shipped()?;
    let encoder = Encoder::new(train_tokenizer(&book, recipe.vocab, recipe.tokenizer_seed)?)?;
    let vocab = encoder.tokenizer().get_vocab_size(true);
    let config = recipe.config(vocab, encoder.begin(), encoder.end());
    let initial = Weights::random(&config, recipe.seed)?;
    let mut vars = Vec::new();
    let weights = initial.map(|name, tensor| {
        let scaled = (tensor * initial_scale(name, tensor.dims(), recipe))?;
        let var = Var::from_tensor(&scaled)?;
        vars.push(var.clone());
        Ok(var.as_tensor().clone())
    })?;
    let model = Model {
        config: &config,
        weights: &weights,
        adapter: None,
    };
    let mut held = Corpus::new(&book, recipe.corpus.clone(), 1);
    let held_out = (0..HELD_OUT)
        .map(|_| encoder.example(&held.document(), true))
        .collect::<Result<Vec<_>>>()?;
    let mut task = BaseTask {
        corpus: Corpus::new(&book, recipe.corpus.clone(), 0),
        encoder: &encoder,
        recipe,
        model,
        held_out,
    };
    let mut identity = recipe.clone();
    identity.hyper.stop = 0;
    let run = serde_json::to_string(&identity).map_err(Error::json("recipe"))?;
    let outcome = train("base", &run, &recipe.hyper, model, &vars, &mut task, watch)?;
    write_folder(out, &encoder, &config, &weights)?;
    Ok(outcome)
}

/// What a matrix of deviation 0.02 is multiplied with, so that every layer begins by keeping the size of what
/// passes through it, and the residual stream does not grow with depth (as in GPT-2).
fn initial_scale(name: &str, dims: &[usize], recipe: &Recipe) -> f64 {
    let &[_, inner] = dims else { return 1.0 };
    if name.contains("embed") {
        return 2.5;
    }
    let keep = (inner as f64).sqrt().recip() / 0.02;
    if name.contains("o_proj") || name.contains("down_proj") {
        keep / (2.0 * recipe.layers as f64).sqrt()
    } else {
        keep
    }
}

struct BaseTask<'a> {
    corpus: Corpus<'a>,
    encoder: &'a Encoder,
    recipe: &'a Recipe,
    model: Model<'a>,
    held_out: Vec<Example>,
}

impl Task for BaseTask<'_> {
    fn batch(&mut self, _index: usize) -> Result<Vec<Vec<Shard>>> {
        let examples = (0..self.recipe.hyper.batch)
            .map(|_| self.encoder.example(&self.corpus.document(), true))
            .collect::<Result<Vec<_>>>()?;
        lanes(&examples, self.recipe.hyper.lanes, self.encoder.pad())
    }

    fn held_out(&mut self, lanes: &Lanes) -> Result<Option<f64>> {
        mean_loss(lanes, self.model, &self.held_out, self.encoder.pad()).map(Some)
    }
}

/// The chat template: [`crate::document::Document::render`] in Jinja.
pub const CHAT_TEMPLATE: &str = "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + eos_token }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}";

fn write_folder(
    out: &Path,
    encoder: &Encoder,
    config: &ModelConfig,
    weights: &Weights,
) -> Result<()> {
    fs::create_dir_all(out).map_err(Error::io(out))?;
    let path = out.join("tokenizer.json");
    encoder
        .tokenizer()
        .save(&path, false)
        .map_err(|e| Error::Tokenizer(e.to_string()))?;
    let write = |name: &str, text: String| {
        let path = out.join(name);
        fs::write(&path, text + "\n").map_err(Error::io(path.clone()))
    };
    let pretty = |value: &serde_json::Value| {
        serde_json::to_string_pretty(value).map_err(Error::json("base folder"))
    };
    let tokenizer = serde_json::json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BEGIN,
        "eos_token": END,
        "pad_token": PAD,
        "additional_special_tokens": [USER, ASSISTANT, crate::document::SYSTEM],
        "model_max_length": config.max_position_embeddings,
        "clean_up_tokenization_spaces": false,
        "chat_template": CHAT_TEMPLATE,
    });
    write("tokenizer_config.json", pretty(&tokenizer)?)?;
    let generation = serde_json::json!({
        "bos_token_id": encoder.begin(),
        "eos_token_id": encoder.end(),
        "pad_token_id": encoder.pad(),
        "do_sample": false,
        "max_new_tokens": 48,
    });
    write("generation_config.json", pretty(&generation)?)?;
    write("config.json", config.to_json())?;
    weights.save(out, StoredType::Bf16)?;
    Ok(())
}
