//! The model that is measured.

use super::BenchError;
use openledger_model::{Base, Checkpoint, Family, ModelConfig, Weights};
use serde::Serialize;
use std::path::PathBuf;

/// A model to measure on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// 6.5 M parameters: six layers of width 256; seeded random weights.
    Small,
    /// 153.6 M parameters: two layers of TinyLlama's width, Llama's vocabulary; seeded random weights.
    Medium,
    /// A folder with real weights.
    Folder(PathBuf),
}

impl Shape {
    /// The shape itself.
    ///
    /// # Errors
    /// When a folder's configuration cannot be read.
    pub fn config(&self) -> Result<ModelConfig, BenchError> {
        Ok(match self {
            Self::Small => small(),
            Self::Medium => medium(),
            Self::Folder(dir) => ModelConfig::from_dir(dir)?,
        })
    }

    /// Its weights; `seed` is that of random ones. A folder's are taken in the types in which it stores
    /// them.
    ///
    /// # Errors
    /// When a folder's weights cannot be read.
    pub fn base(&self, config: &ModelConfig, seed: u64) -> Result<Base, BenchError> {
        Ok(match self {
            Self::Small | Self::Medium => Weights::random(config, seed)?.into(),
            Self::Folder(dir) => Checkpoint::open(dir, config)?.into(),
        })
    }

    /// In words.
    pub fn describe(&self, config: &ModelConfig) -> String {
        let millions = config.parameters() as f64 / 1e6;
        match self {
            Self::Folder(dir) => {
                format!("{millions:.1} M parameters, weights of {}", dir.display())
            }
            _ => format!("{millions:.1} M parameters, seeded random weights"),
        }
    }
}

fn medium() -> ModelConfig {
    ModelConfig {
        family: Family::Llama,
        vocab_size: 32_000,
        hidden_size: 2048,
        intermediate_size: 5632,
        num_hidden_layers: 2,
        num_attention_heads: 32,
        num_key_value_heads: 4,
        head_dim: 64,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: None,
        max_position_embeddings: 256,
        tie_word_embeddings: true,
        bos_token_id: None,
        eos_token_ids: Vec::new(),
    }
}

fn small() -> ModelConfig {
    ModelConfig {
        vocab_size: 6400,
        hidden_size: 256,
        intermediate_size: 704,
        num_hidden_layers: 6,
        num_attention_heads: 8,
        num_key_value_heads: 8,
        head_dim: 32,
        ..medium()
    }
}
