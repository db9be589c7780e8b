//! Where a backend takes the weights of its base model from.

use candle_core::Tensor;

use crate::checkpoint::{Checkpoint, StoredLayer};
use crate::config::ModelConfig;
use crate::error::{ModelError, Result};
use crate::site::Site;
use crate::stored::{StoredMatrix, StoredValues};
use crate::tensors;
use crate::weights::{LayerWeights, Weights};

/// The weights of a base model, given out part by part: from memory as f32, or from a checkpoint in
/// the types in which it is stored. Each layer is given once; in memory it is free afterwards.
#[derive(Debug)]
pub struct Base {
    from: Source,
}

#[derive(Debug)]
enum Source {
    Memory {
        weights: Weights,
        layers: Vec<Option<LayerWeights>>,
    },
    Disk(Box<Checkpoint>),
}

impl From<Weights> for Base {
    fn from(mut weights: Weights) -> Self {
        let layers = std::mem::take(&mut weights.layers);
        Self {
            from: Source::Memory {
                weights,
                layers: layers.into_iter().map(Some).collect(),
            },
        }
    }
}

impl From<Checkpoint> for Base {
    fn from(checkpoint: Checkpoint) -> Self {
        Self {
            from: Source::Disk(Box::new(checkpoint)),
        }
    }
}

impl Base {
    /// Whether any matrix is stored as codes.
    pub fn is_quantised(&self) -> bool {
        match &self.from {
            Source::Memory { .. } => false,
            Source::Disk(checkpoint) => checkpoint.is_quantised(),
        }
    }

    /// All weights as f32.
    ///
    /// # Errors
    /// If a layer was taken before, or a value is not finite.
    pub fn into_weights(self) -> Result<Weights> {
        match self.from {
            Source::Memory {
                mut weights,
                layers,
            } => {
                for (layer, taken) in layers.into_iter().enumerate() {
                    weights.layers.push(taken.ok_or_else(|| gone(layer))?);
                }
                Ok(weights)
            }
            Source::Disk(checkpoint) => checkpoint.weights(),
        }
    }

    /// Token embedding, `[vocab, hidden]`.
    ///
    /// # Errors
    /// If it does not have the configuration's shape, or a value is not finite.
    pub fn embed(&self, config: &ModelConfig) -> Result<StoredMatrix> {
        let shape = (config.vocab_size, config.hidden_size);
        let name = "embed_tokens";
        match &self.from {
            Source::Memory { weights, .. } => matrix(name, &weights.embed, shape),
            Source::Disk(checkpoint) => fits(name, checkpoint.embed()?, shape),
        }
    }

    /// Output projection, `[vocab, hidden]`; none if it is the embedding.
    ///
    /// # Errors
    /// As [`Self::embed`].
    pub fn lm_head(&self, config: &ModelConfig) -> Result<Option<StoredMatrix>> {
        let shape = (config.vocab_size, config.hidden_size);
        let name = "lm_head";
        match &self.from {
            Source::Memory { weights, .. } => {
                let head = weights.lm_head.as_ref();
                head.map(|head| matrix(name, head, shape)).transpose()
            }
            Source::Disk(checkpoint) => {
                let head = checkpoint.lm_head()?;
                head.map(|head| fits(name, head, shape)).transpose()
            }
        }
    }

    /// Scale of the last norm, `[hidden]`.
    ///
    /// # Errors
    /// As [`Self::embed`].
    pub fn norm(&self, config: &ModelConfig) -> Result<Vec<f32>> {
        match &self.from {
            Source::Memory { weights, .. } => vector("norm", &weights.norm, config.hidden_size),
            Source::Disk(checkpoint) => long("norm", checkpoint.norm()?, config.hidden_size),
        }
    }

    /// Number of layers.
    pub fn layers(&self) -> usize {
        match &self.from {
            Source::Memory { layers, .. } => layers.len(),
            Source::Disk(checkpoint) => checkpoint.config().num_hidden_layers,
        }
    }

    /// The weights of a layer.
    ///
    /// # Errors
    /// As [`Self::embed`]; if there is no such layer, or it was given before.
    pub fn take_layer(&mut self, config: &ModelConfig, layer: usize) -> Result<StoredLayer> {
        let name = |part: &str| format!("layer {layer} {part}");
        match &mut self.from {
            Source::Memory { layers, .. } => {
                let weights = layers.get_mut(layer).and_then(Option::take);
                let weights = weights.ok_or_else(|| gone(layer))?;
                stored_layer(config, &weights, name)
            }
            Source::Disk(checkpoint) => {
                let stored = checkpoint.layer(layer)?;
                for (site, matrix) in Site::ALL.into_iter().zip(&stored.sites) {
                    shape_of(&name(site.module()), matrix, site.shape(config))?;
                }
                Ok(stored)
            }
        }
    }
}

fn stored_layer(
    config: &ModelConfig,
    weights: &LayerWeights,
    name: impl Fn(&str) -> String,
) -> Result<StoredLayer> {
    let site = |site: Site| matrix(&name(site.module()), weights.site(site), site.shape(config));
    let bias = |site: Site| {
        let bias = weights.bias(site);
        let name = name(&format!("{}.bias", site.module()));
        bias.map(|bias| vector(&name, bias, site.shape(config).0))
            .transpose()
    };
    let hidden = config.hidden_size;
    Ok(StoredLayer {
        input_norm: vector(&name("input_layernorm"), &weights.input_norm, hidden)?,
        post_attention_norm: vector(
            &name("post_attention_layernorm"),
            &weights.post_attention_norm,
            hidden,
        )?,
        sites: Site::each(site)?,
        bias: Site::each(bias)?,
        qk_norm: match &weights.qk_norm {
            None => None,
            Some(norms) => Some([
                vector(&name("self_attn.q_norm"), &norms.q, config.head_dim)?,
                vector(&name("self_attn.k_norm"), &norms.k, config.head_dim)?,
            ]),
        },
    })
}

fn gone(layer: usize) -> ModelError {
    ModelError::MissingTensor {
        name: format!("model.layers.{layer}"),
    }
}

fn misshapen(name: &str, expected: Vec<usize>, found: Vec<usize>) -> ModelError {
    ModelError::Shape {
        name: name.to_owned(),
        expected,
        found,
    }
}

fn shape_of(name: &str, matrix: &StoredMatrix, shape: (usize, usize)) -> Result<()> {
    let found = (matrix.outputs(), matrix.inputs());
    if found == shape {
        return Ok(());
    }
    Err(misshapen(
        name,
        vec![shape.0, shape.1],
        vec![found.0, found.1],
    ))
}

fn fits(name: &str, matrix: StoredMatrix, shape: (usize, usize)) -> Result<StoredMatrix> {
    shape_of(name, &matrix, shape)?;
    Ok(matrix)
}

fn long(name: &str, values: Vec<f32>, len: usize) -> Result<Vec<f32>> {
    if values.len() == len {
        return Ok(values);
    }
    Err(misshapen(name, vec![len], vec![values.len()]))
}

fn values(name: &str, tensor: &Tensor, shape: &[usize]) -> Result<Vec<f32>> {
    if tensor.dims() != shape {
        return Err(misshapen(name, shape.to_vec(), tensor.dims().to_vec()));
    }
    let values = tensors::values(tensor)?;
    if values.iter().all(|v| v.is_finite()) {
        Ok(values)
    } else {
        Err(ModelError::NonFinite {
            name: name.to_owned(),
        })
    }
}

fn vector(name: &str, tensor: &Tensor, len: usize) -> Result<Vec<f32>> {
    values(name, tensor, &[len])
}

fn matrix(name: &str, tensor: &Tensor, shape: (usize, usize)) -> Result<StoredMatrix> {
    let values = values(name, tensor, &[shape.0, shape.1])?;
    StoredMatrix::new(shape.0, shape.1, StoredValues::F32(values))
}
