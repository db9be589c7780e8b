//! The plain forward pass: whole sequences, no cache, differentiable.
//!
//! It is what the serving engine is held against and what the trainer trains.

use std::sync::Arc;

use candle_core::Tensor;

use crate::config::ModelConfig;
use crate::error::{ModelError, Result};
use crate::ops::{self, AttentionShape};
use crate::peft::{Adapter, LayerLora};
use crate::rope;
use crate::site::Site;
use crate::weights::{LayerWeights, Weights};

/// Logits of every position: `ids [batch, seq]` (u32) to `[batch, seq, vocab]` (f32).
///
/// Gradients reach those weights and adapter pairs that are variables ([`candle_core::Var`]) and
/// cost nothing for the others: a frozen linear layer's backward pass is `dY W` alone. Sequences
/// start at position 0; shorter ones are padded at the end, where a causal model cannot see.
///
/// # Errors
/// If a token id is beyond the vocabulary, the sequence is empty or longer than
/// `max_position_embeddings`, or the adapter belongs to a model of another shape.
pub fn forward(
    config: &ModelConfig,
    weights: &Weights,
    adapter: Option<&Adapter>,
    ids: &Tensor,
) -> Result<Tensor> {
    let hidden = hidden_states(config, weights, adapter, ids)?;
    let head = weights.lm_head.as_ref().unwrap_or(&weights.embed);
    Ok(ops::linear(&hidden, head)?)
}

/// The last layer's normalised states: `ids [batch, seq]` to `[batch, seq, hidden]`.
///
/// # Errors
/// Those of [`forward`].
pub fn hidden_states(
    config: &ModelConfig,
    weights: &Weights,
    adapter: Option<&Adapter>,
    ids: &Tensor,
) -> Result<Tensor> {
    let (batch, seq) = ids.dims2()?;
    if seq == 0 || batch == 0 || seq > config.max_position_embeddings {
        return Err(ModelError::invalid(
            "input",
            format!(
                "{batch} sequences of {seq} tokens; a sequence has 1 to {} tokens",
                config.max_position_embeddings
            ),
        ));
    }
    if adapter.is_some_and(|adapter| adapter.layers.len() != weights.layers.len()) {
        return Err(ModelError::invalid(
            "adapter",
            "belongs to a model of another depth",
        ));
    }
    let (cos, sin) = rope::tables(config, seq);
    let shape = AttentionShape {
        heads: config.num_attention_heads,
        kv_heads: config.num_key_value_heads,
        head_dim: config.head_dim,
        cos: Arc::new(cos),
        sin: Arc::new(sin),
    };
    let eps = config.rms_norm_eps as f32;
    let mut x = weights
        .embed
        .index_select(&ids.flatten_all()?, 0)?
        .reshape((batch, seq, config.hidden_size))?;
    for (index, layer) in weights.layers.iter().enumerate() {
        let lora = adapter.and_then(|adapter| adapter.layers.get(index));
        let sites = Sites { layer, lora };
        let normed = ops::rms_norm(&x, &layer.input_norm, eps)?;
        let mut q = sites.apply(Site::Q, &normed)?;
        let mut k = sites.apply(Site::K, &normed)?;
        let v = sites.apply(Site::V, &normed)?;
        if let Some(norm) = &layer.qk_norm {
            q = norm_heads(&q, &norm.q, eps)?;
            k = norm_heads(&k, &norm.k, eps)?;
        }
        let attended = ops::attention(&q, &k, &v, &shape)?;
        x = (x + sites.apply(Site::O, &attended)?)?;
        let normed = ops::rms_norm(&x, &layer.post_attention_norm, eps)?;
        let gated = ops::swiglu(
            &sites.apply(Site::Gate, &normed)?,
            &sites.apply(Site::Up, &normed)?,
        )?;
        x = (x + sites.apply(Site::Down, &gated)?)?;
    }
    Ok(ops::rms_norm(&x, &weights.norm, eps)?)
}

/// Mean cross-entropy, nats per token, a differentiable scalar: `logits [batch, seq, vocab]`
/// against `targets [batch, seq]` (u32), weighted by `mask [batch, seq]` (f32; 0 leaves a position
/// out).
///
/// `targets` are the next tokens: the caller shifts.
///
/// # Errors
/// If the shapes differ, a target is beyond the vocabulary, or the mask has no weight.
pub fn loss(logits: &Tensor, targets: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let (batch, seq, vocab) = logits.dims3()?;
    let targets = targets.flatten_all()?.to_vec1::<u32>()?;
    let mut weights = mask.flatten_all()?.to_vec1::<f32>()?;
    let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
    if !(total.is_finite() && total > 0.0) {
        return Err(ModelError::invalid("loss mask", format!("sums to {total}")));
    }
    for weight in &mut weights {
        *weight = (f64::from(*weight) / total) as f32;
    }
    Ok(ops::cross_entropy(
        &logits.reshape((batch * seq, vocab))?,
        targets,
        weights,
    )?)
}

/// Negative log-likelihood of every target, nats, row by row; not differentiable.
///
/// # Errors
/// If the shapes differ or a target is beyond the vocabulary.
pub fn token_losses(logits: &Tensor, targets: &Tensor) -> Result<Vec<f32>> {
    let (batch, seq, vocab) = logits.dims3()?;
    let targets = targets.flatten_all()?.to_vec1::<u32>()?;
    Ok(ops::negative_log_likelihoods(
        &logits.reshape((batch * seq, vocab))?,
        &targets,
    )?)
}

/// The linear layers of one decoder layer, with an adapter's changes.
struct Sites<'a> {
    layer: &'a LayerWeights,
    lora: Option<&'a LayerLora>,
}

impl Sites<'_> {
    fn apply(&self, site: Site, x: &Tensor) -> Result<Tensor> {
        let weight = self.layer.site(site);
        let y = match self.lora.and_then(|lora| lora.get(site)) {
            None => ops::linear(x, weight)?,
            Some(pair) => {
                let y = ops::lora_linear(x, weight, &pair.a, &pair.b, pair.scale)?;
                match pair.row_factors(weight)? {
                    None => y,
                    Some(factors) => y.broadcast_mul(&factors)?,
                }
            }
        };
        Ok(match self.layer.bias(site) {
            None => y,
            Some(bias) => y.broadcast_add(bias)?,
        })
    }
}

/// Normalises each head of `x [batch, seq, heads * head_dim]` by `scale [head_dim]`.
fn norm_heads(x: &Tensor, scale: &Tensor, eps: f32) -> Result<Tensor> {
    let (batch, seq, width) = x.dims3()?;
    let dim = scale.dims1()?;
    let heads = x.reshape((batch, seq, width / dim, dim))?;
    Ok(ops::rms_norm(&heads, scale, eps)?.reshape((batch, seq, width))?)
}
