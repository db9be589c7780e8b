//! The weights of a model: loading, writing, and drawing at random.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::checkpoint::Checkpoint;
use crate::config::ModelConfig;
use crate::error::{ModelError, Result};
use crate::folder;
use crate::site::Site;
use crate::tensors::{self, StoredType};

const SINGLE: &str = "model.safetensors";
/// Names of the head norms within a layer.
pub(crate) const Q_NORM: &str = "self_attn.q_norm.weight";
pub(crate) const K_NORM: &str = "self_attn.k_norm.weight";
/// Standard deviation of random weights, as transformers draws them.
const INITIAL_DEVIATION: f32 = 0.02;

/// All weights of a model, f32 on the CPU; matrices are `[out, in]`.
#[derive(Clone, Debug)]
pub struct Weights {
    /// Token embedding, `[vocab, hidden]`.
    pub embed: Tensor,
    /// Decoder layers, first to last.
    pub layers: Vec<LayerWeights>,
    /// Scale of the last norm, `[hidden]`.
    pub norm: Tensor,
    /// Output projection, `[vocab, hidden]`; none if it is the embedding.
    pub lm_head: Option<Tensor>,
}

/// The weights of one decoder layer.
#[derive(Clone, Debug)]
pub struct LayerWeights {
    /// Scale of the norm before attention, `[hidden]`.
    pub input_norm: Tensor,
    /// Scale of the norm before the feed-forward layer, `[hidden]`.
    pub post_attention_norm: Tensor,
    /// Query projection, `[heads * head_dim, hidden]`.
    pub q: Tensor,
    /// Key projection, `[kv_heads * head_dim, hidden]`.
    pub k: Tensor,
    /// Value projection, `[kv_heads * head_dim, hidden]`.
    pub v: Tensor,
    /// Attention output projection, `[hidden, heads * head_dim]`.
    pub o: Tensor,
    /// Feed-forward gate, `[intermediate, hidden]`.
    pub gate: Tensor,
    /// Feed-forward up projection, `[intermediate, hidden]`.
    pub up: Tensor,
    /// Feed-forward down projection, `[hidden, intermediate]`.
    pub down: Tensor,
    /// Biases of the query, key and value projections, in families that have them.
    pub bias: Option<QkvBias>,
    /// Norms of the heads of queries and keys, in families that have them.
    pub qk_norm: Option<QkNorm>,
}

/// What is added to the queries, keys and values that the projections give.
#[derive(Clone, Debug)]
pub struct QkvBias {
    /// `[heads * head_dim]`.
    pub q: Tensor,
    /// `[kv_heads * head_dim]`.
    pub k: Tensor,
    /// `[kv_heads * head_dim]`.
    pub v: Tensor,
}

/// Scales of the root-mean-square norms that every head of the queries and of the keys goes through
/// before it is rotated.
#[derive(Clone, Debug)]
pub struct QkNorm {
    /// `[head_dim]`.
    pub q: Tensor,
    /// `[head_dim]`.
    pub k: Tensor,
}

impl LayerWeights {
    /// The bias at `site`, `[out]`, if it has one.
    pub fn bias(&self, site: Site) -> Option<&Tensor> {
        let bias = self.bias.as_ref()?;
        match site {
            Site::Q => Some(&bias.q),
            Site::K => Some(&bias.k),
            Site::V => Some(&bias.v),
            Site::O | Site::Gate | Site::Up | Site::Down => None,
        }
    }

    /// The weight at `site`, `[out, in]`.
    pub fn site(&self, site: Site) -> &Tensor {
        match site {
            Site::Q => &self.q,
            Site::K => &self.k,
            Site::V => &self.v,
            Site::O => &self.o,
            Site::Gate => &self.gate,
            Site::Up => &self.up,
            Site::Down => &self.down,
        }
    }

    /// The weight at `site`, to be replaced, for instance by a trainable variable.
    pub fn site_mut(&mut self, site: Site) -> &mut Tensor {
        match site {
            Site::Q => &mut self.q,
            Site::K => &mut self.k,
            Site::V => &mut self.v,
            Site::O => &mut self.o,
            Site::Gate => &mut self.gate,
            Site::Up => &mut self.up,
            Site::Down => &mut self.down,
        }
    }
}

impl Weights {
    /// Loads the checkpoint in `dir` as f32: see [`Checkpoint`]. Other floats are widened, codes
    /// multiplied by their scales.
    ///
    /// # Errors
    /// Missing, unexpected, misshapen or non-finite tensors, each by name; unreadable or oversized
    /// files; links and shard names that lead out of the folder.
    pub fn load(dir: &Path, config: &ModelConfig) -> Result<Self> {
        Checkpoint::open(dir, config)?.weights()
    }

    /// Draws weights from a seed: matrices and biases normal with deviation 0.02, norms one. The
    /// same seed and configuration give the same weights on every machine.
    ///
    /// # Errors
    /// If a tensor cannot be allocated.
    pub fn random(config: &ModelConfig, seed: u64) -> Result<Self> {
        Self::random_with(config, INITIAL_DEVIATION, seed)
    }

    /// As by [`Self::random`], with another deviation (0 or more): with ten times the usual one a small
    /// model's answers differ and do not repeat, as a trained one's.
    ///
    /// # Errors
    /// If a tensor cannot be allocated.
    pub fn random_with(config: &ModelConfig, deviation: f32, seed: u64) -> Result<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        assemble(config, |name, shape| {
            let count = shape.iter().product();
            let values = if is_norm(name) {
                vec![1.0; count]
            } else {
                normal(&mut rng, count, deviation)
            };
            Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
        })
    }

    /// Every tensor with its name in a checkpoint.
    pub fn named(&self) -> BTreeMap<String, &Tensor> {
        let mut named = BTreeMap::new();
        named.insert("model.embed_tokens.weight".to_string(), &self.embed);
        named.insert("model.norm.weight".to_string(), &self.norm);
        if let Some(lm_head) = &self.lm_head {
            named.insert("lm_head.weight".to_string(), lm_head);
        }
        for (index, layer) in self.layers.iter().enumerate() {
            let prefix = format!("model.layers.{index}");
            named.insert(
                format!("{prefix}.input_layernorm.weight"),
                &layer.input_norm,
            );
            named.insert(
                format!("{prefix}.post_attention_layernorm.weight"),
                &layer.post_attention_norm,
            );
            for site in Site::ALL {
                named.insert(format!("{}.weight", site.path(index)), layer.site(site));
                if let Some(bias) = layer.bias(site) {
                    named.insert(format!("{}.bias", site.path(index)), bias);
                }
            }
            if let Some(norm) = &layer.qk_norm {
                named.insert(format!("{prefix}.{Q_NORM}"), &norm.q);
                named.insert(format!("{prefix}.{K_NORM}"), &norm.k);
            }
        }
        named
    }

    /// A copy in which `replace` has had each tensor in turn, with its checkpoint name: to turn
    /// weights into trainable variables and back.
    ///
    /// # Errors
    /// The first error of `replace`.
    pub fn map(&self, mut replace: impl FnMut(&str, &Tensor) -> Result<Tensor>) -> Result<Self> {
        let named = self.named();
        let mut new = BTreeMap::new();
        for (name, tensor) in named {
            new.insert(name.clone(), replace(&name, tensor)?);
        }
        let mut take = |name: String| new.remove(&name).ok_or(ModelError::MissingTensor { name });
        let parts = Parts {
            layers: self.layers.len(),
            tied: self.lm_head.is_none(),
            bias: self.layers.iter().any(|layer| layer.bias.is_some()),
            qk_norm: self.layers.iter().any(|layer| layer.qk_norm.is_some()),
        };
        build(&parts, &mut take)
    }

    /// Writes `model.safetensors` into `dir`, which is made if need be. The configuration is not
    /// written; see [`ModelConfig::to_json`].
    ///
    /// # Errors
    /// If a weight is not finite in `stored`, or the file cannot be written.
    pub fn save(&self, dir: &Path, stored: StoredType) -> Result<()> {
        folder::write(dir, SINGLE, &tensors::encode(&self.named(), stored)?)
    }
}

/// `count` normal values of the given deviation, by Box and Muller's transform.
pub(crate) fn normal(rng: &mut ChaCha8Rng, count: usize, deviation: f32) -> Vec<f32> {
    let mut values = Vec::with_capacity(count + 1);
    while values.len() < count {
        // 1 - u lies in (0, 1], so that the logarithm is finite.
        let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
        let angle = std::f64::consts::TAU * rng.random::<f64>();
        values.push((radius * angle.cos()) as f32 * deviation);
        values.push((radius * angle.sin()) as f32 * deviation);
    }
    values.truncate(count);
    values
}

/// Buffers that old checkpoints carry and that are computed anew, and the output projection of a
/// tied model, which is a copy of the embedding.
pub(crate) fn ignorable(name: &str, config: &ModelConfig) -> bool {
    name.ends_with(".self_attn.rotary_emb.inv_freq")
        || (config.tie_word_embeddings && name == "lm_head.weight")
}

/// Name and shape of every tensor that the configuration calls for.
pub(crate) fn shapes(config: &ModelConfig) -> BTreeMap<String, Vec<usize>> {
    let hidden = config.hidden_size;
    let mut shapes = BTreeMap::new();
    shapes.insert(
        "model.embed_tokens.weight".to_string(),
        vec![config.vocab_size, hidden],
    );
    shapes.insert("model.norm.weight".to_string(), vec![hidden]);
    if !config.tie_word_embeddings {
        shapes.insert(
            "lm_head.weight".to_string(),
            vec![config.vocab_size, hidden],
        );
    }
    for layer in 0..config.num_hidden_layers {
        let prefix = format!("model.layers.{layer}");
        shapes.insert(format!("{prefix}.input_layernorm.weight"), vec![hidden]);
        shapes.insert(
            format!("{prefix}.post_attention_layernorm.weight"),
            vec![hidden],
        );
        for site in Site::ALL {
            let (rows, columns) = site.shape(config);
            shapes.insert(format!("{}.weight", site.path(layer)), vec![rows, columns]);
            if site.has_bias(config.family) {
                shapes.insert(format!("{}.bias", site.path(layer)), vec![rows]);
            }
        }
        if config.family.qk_norm() {
            for norm in [Q_NORM, K_NORM] {
                shapes.insert(format!("{prefix}.{norm}"), vec![config.head_dim]);
            }
        }
    }
    shapes
}

/// Whether the tensor of this name scales a norm, rather than being a matrix or a bias.
fn is_norm(name: &str) -> bool {
    name.ends_with("norm.weight")
}

/// Weights of the tensors that `take` gives, by name and shape.
pub(crate) fn assemble(
    config: &ModelConfig,
    mut take: impl FnMut(&str, &[usize]) -> Result<Tensor>,
) -> Result<Weights> {
    let shapes = shapes(config);
    let parts = Parts {
        layers: config.num_hidden_layers,
        tied: config.tie_word_embeddings,
        bias: config.family.qkv_bias(),
        qk_norm: config.family.qk_norm(),
    };
    build(&parts, &mut |name: String| match shapes.get(&name) {
        Some(shape) => take(&name, shape),
        None => Err(ModelError::MissingTensor { name }),
    })
}

/// Which tensors there are to take.
struct Parts {
    layers: usize,
    tied: bool,
    bias: bool,
    qk_norm: bool,
}

fn build(parts: &Parts, take: &mut impl FnMut(String) -> Result<Tensor>) -> Result<Weights> {
    Ok(Weights {
        embed: take("model.embed_tokens.weight".into())?,
        layers: (0..parts.layers)
            .map(|layer| build_layer(parts, layer, take))
            .collect::<Result<_>>()?,
        norm: take("model.norm.weight".into())?,
        lm_head: if parts.tied {
            None
        } else {
            Some(take("lm_head.weight".into())?)
        },
    })
}

fn build_layer(
    parts: &Parts,
    layer: usize,
    take: &mut impl FnMut(String) -> Result<Tensor>,
) -> Result<LayerWeights> {
    let prefix = format!("model.layers.{layer}");
    let mut site = |site: Site| take(format!("{}.weight", site.path(layer)));
    Ok(LayerWeights {
        q: site(Site::Q)?,
        k: site(Site::K)?,
        v: site(Site::V)?,
        o: site(Site::O)?,
        gate: site(Site::Gate)?,
        up: site(Site::Up)?,
        down: site(Site::Down)?,
        input_norm: take(format!("{prefix}.input_layernorm.weight"))?,
        post_attention_norm: take(format!("{prefix}.post_attention_layernorm.weight"))?,
        bias: if parts.bias {
            let mut bias = |site: Site| take(format!("{}.bias", site.path(layer)));
            Some(QkvBias {
                q: bias(Site::Q)?,
                k: bias(Site::K)?,
                v: bias(Site::V)?,
            })
        } else {
            None
        },
        qk_norm: if parts.qk_norm {
            Some(QkNorm {
                q: take(format!("{prefix}.{Q_NORM}"))?,
                k: take(format!("{prefix}.{K_NORM}"))?,
            })
        } else {
            None
        },
    })
}
