//! The record of how an adapter was made: who holds it and the same versions can make the same adapter again.

use blake2::digest::consts::U32;
use blake2::{Blake2b, Digest};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::evaluation::ExactMatch;
use crate::preparation::Preparation;
use crate::train::{Hyper, Outcome};

/// BLAKE2b-256.
pub fn digest(bytes: &[u8]) -> [u8; 32] {
    Blake2b::<U32>::digest(bytes).into()
}

/// A sealed Datanet version that was trained on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Number of the Datanet.
    pub datanet: u32,
    /// Number of its version.
    pub version: u32,
    /// Merkle root of the version, hex.
    pub root: String,
    /// Rows of the version, in canonical order.
    pub rows: usize,
    /// Digest of those rows, each followed by a newline, hex.
    pub rows_digest: String,
}

/// Shape of the adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lora {
    /// Rank.
    pub r: usize,
    /// Numerator of the scale.
    pub alpha: f64,
    /// Module names; empty means every linear layer.
    pub targets: Vec<String>,
    /// Whether the scale is alpha / √r.
    pub use_rslora: bool,
    /// Share of LoRA inputs that training drops, as PEFT's `lora_dropout`. Training has no dropout yet and refuses
    /// any other value than 0 rather than pass over it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dropout: f64,
    /// Seed of the initial A matrices and of the order of examples.
    pub seed: u64,
}

fn is_zero(share: &f64) -> bool {
    *share == 0.0
}

impl Default for Lora {
    fn default() -> Self {
        Self {
            r: 16,
            alpha: 32.0,
            targets: Vec::new(),
            use_rslora: false,
            dropout: 0.0,
            seed: 1,
        }
    }
}

/// Before and after, on what was held out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Perplexity of the base alone on the held-out documents, if any are held out.
    pub perplexity_before: Option<f64>,
    /// Perplexity with the adapter.
    pub perplexity_after: Option<f64>,
    /// Exact matches of the base alone.
    pub exact_before: ExactMatch,
    /// Exact matches with the adapter.
    pub exact_after: ExactMatch,
}

/// What decides the adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Version of this format.
    pub format: u32,
    /// Version of the code that trains.
    pub code: String,
    /// Digest of the base model's weights file, hex.
    pub base: String,
    /// Digest of the tokenizer file, hex.
    pub tokenizer: String,
    /// Digest of the phrasebook whose patterns recognise facts, hex.
    pub phrasebook: String,
    /// The data.
    pub versions: Vec<Version>,
    /// How rows become examples.
    pub preparation: Preparation,
    /// Shape of the adapter.
    pub lora: Lora,
    /// Training.
    pub hyper: Hyper,
}

impl Plan {
    /// Digest of the plan; a checkpoint belongs to exactly one.
    pub fn digest(&self) -> Result<String> {
        Ok(hex::encode(digest(&json(self)?)))
    }
}

/// The plan and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// What decides the adapter.
    pub plan: Plan,
    /// How training went.
    pub outcome: Outcome,
    /// How good the adapter is.
    pub evaluation: Evaluation,
    /// Digest of the adapter, as [`openledger_model::Adapter`] defines it, hex.
    pub adapter: String,
}

impl Manifest {
    /// The bytes that are stored and whose digest goes on chain.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        json(self)
    }

    /// Reads what [`Self::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes).map_err(Error::json("manifest"))
    }

    /// Digest of [`Self::to_bytes`].
    pub fn digest(&self) -> Result<[u8; 32]> {
        Ok(digest(&self.to_bytes()?))
    }
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(Error::json("manifest"))?;
    bytes.push(b'\n');
    Ok(bytes)
}
