//! A checkpoint on disk, read one part at a time and in the types in which it is stored.
//!
//! Opening reads the headers: every tensor's name, type and shape is checked against the
//! configuration then. Values are read, and checked, when a part is asked for, so that whoever lays a
//! large model out needs memory for one layer beside the result.

mod gguf;
mod safetensors;

use std::path::Path;

use candle_core::{Device, Tensor};

use crate::config::ModelConfig;
use crate::error::{ModelError, Result};
use crate::folder;
use crate::site::Site;
use crate::stored::StoredMatrix;
use crate::weights::{self, Weights, K_NORM, Q_NORM};

pub(crate) use gguf::{config as gguf_config, file_name as gguf_name};

/// A model's weights in a folder: `model.safetensors`, or the shards that
/// `model.safetensors.index.json` lists, or one GGUF file.
#[derive(Debug)]
pub struct Checkpoint {
    config: ModelConfig,
    files: Files,
}

#[derive(Debug)]
enum Files {
    Safetensors(safetensors::Files),
    Gguf(gguf::File),
}

/// The weights of one decoder layer as they are stored.
#[derive(Clone, Debug)]
pub struct StoredLayer {
    /// Scale of the norm before attention, `[hidden]`.
    pub input_norm: Vec<f32>,
    /// Scale of the norm before the feed-forward layer, `[hidden]`.
    pub post_attention_norm: Vec<f32>,
    /// The matrices, in the order of [`Site::ALL`].
    pub sites: [StoredMatrix; Site::ALL.len()],
    /// The biases `[out]`, in the order of [`Site::ALL`].
    pub bias: [Option<Vec<f32>>; Site::ALL.len()],
    /// Scales of the norms of each head of queries and of keys, `[head_dim]`.
    pub qk_norm: Option<[Vec<f32>; 2]>,
}

impl Checkpoint {
    /// Opens the checkpoint in `dir`. A `quantization_config` in its `config.json` says which of its
    /// matrices are stored as codes.
    ///
    /// The files must not be changed while the checkpoint is open: they are mapped, not read.
    ///
    /// # Errors
    /// Missing, unexpected or misshapen tensors and those of another type, each by name; a
    /// quantisation that is not understood; unreadable or oversized files; links and shard names that
    /// lead out of the folder.
    pub fn open(dir: &Path, config: &ModelConfig) -> Result<Self> {
        let files = match gguf::file_name(dir)? {
            Some(name) if !safetensors::Files::in_folder(dir) => {
                Files::Gguf(gguf::File::open(dir, &name, config)?)
            }
            _ => Files::Safetensors(safetensors::Files::open(dir, config)?),
        };
        Ok(Self {
            config: config.clone(),
            files,
        })
    }

    /// The configuration that it was opened with.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Whether any matrix is stored as codes.
    pub fn is_quantised(&self) -> bool {
        match &self.files {
            Files::Safetensors(files) => files.is_quantised(),
            Files::Gguf(file) => file.is_quantised(),
        }
    }

    /// Token embedding, `[vocab, hidden]`.
    ///
    /// # Errors
    /// If a value is not finite.
    pub fn embed(&self) -> Result<StoredMatrix> {
        self.matrix("model.embed_tokens.weight")
    }

    /// Output projection, `[vocab, hidden]`; none if it is the embedding.
    ///
    /// # Errors
    /// If a value is not finite.
    pub fn lm_head(&self) -> Result<Option<StoredMatrix>> {
        if self.config.tie_word_embeddings {
            return Ok(None);
        }
        self.matrix("lm_head.weight").map(Some)
    }

    /// Scale of the last norm, `[hidden]`.
    ///
    /// # Errors
    /// If a value is not finite.
    pub fn norm(&self) -> Result<Vec<f32>> {
        self.vector("model.norm.weight")
    }

    /// The weights of layer `layer`.
    ///
    /// # Errors
    /// If there is no such layer, or a value is not finite.
    pub fn layer(&self, layer: usize) -> Result<StoredLayer> {
        let prefix = format!("model.layers.{layer}");
        let site = |site: Site| self.matrix(&format!("{}.weight", site.path(layer)));
        let bias = |site: Site| {
            let has = site.has_bias(self.config.family);
            has.then(|| self.vector(&format!("{}.bias", site.path(layer))))
                .transpose()
        };
        Ok(StoredLayer {
            input_norm: self.vector(&format!("{prefix}.input_layernorm.weight"))?,
            post_attention_norm: self
                .vector(&format!("{prefix}.post_attention_layernorm.weight"))?,
            sites: Site::each(site)?,
            bias: Site::each(bias)?,
            qk_norm: if self.config.family.qk_norm() {
                Some([
                    self.vector(&format!("{prefix}.{Q_NORM}"))?,
                    self.vector(&format!("{prefix}.{K_NORM}"))?,
                ])
            } else {
                None
            },
        })
    }

    /// All weights as f32: codes times their scales.
    ///
    /// # Errors
    /// If a value is not finite.
    pub fn weights(&self) -> Result<Weights> {
        weights::assemble(&self.config, |name, shape| {
            let values = match shape {
                [_, _] => self.matrix(name)?.to_f32(),
                _ => self.vector(name)?,
            };
            Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
        })
    }

    fn matrix(&self, name: &str) -> Result<StoredMatrix> {
        let matrix = match &self.files {
            Files::Safetensors(files) => files.matrix(name)?,
            Files::Gguf(file) => file.matrix(name)?,
        };
        Ok(matrix)
    }

    fn vector(&self, name: &str) -> Result<Vec<f32>> {
        match &self.files {
            Files::Safetensors(files) => files.vector(name),
            Files::Gguf(file) => file.vector(name),
        }
    }
}

/// Maps `name` in `dir`, refusing links out of the folder, things that are not plain files, and more
/// than `limit` bytes.
fn map(dir: &Path, name: &str, limit: u64) -> Result<memmap2::Mmap> {
    let (file, path) = folder::open(dir, name, limit)?;
    // SAFETY: bytes of a file may change under a mapping; any bytes are numbers here, they are checked
    // as they are read, and `Checkpoint::open` asks that the file be left alone meanwhile.
    unsafe { memmap2::Mmap::map(&file) }.map_err(|source| ModelError::Io { path, source })
}

/// A matrix of stored values; what does not fit is the fault of tensor `name`.
fn named(name: &str, matrix: Result<StoredMatrix>) -> Result<StoredMatrix> {
    matrix.map_err(|error| match error {
        ModelError::Invalid { .. } => ModelError::NonFinite { name: name.into() },
        other => other,
    })
}
