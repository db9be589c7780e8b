//! The weights of a rank's decoder layers, laid out.

use super::matrix::BaseMatrix;
use crate::backend::parallel::Shard;
use crate::error::EngineError;
use openledger_model::{Base, ModelConfig, ModelError, Site, StoredLayer};

/// One decoder layer of a rank.
pub(super) struct Layer {
    pub input_norm: Vec<f32>,
    pub post_attention_norm: Vec<f32>,
    pub sites: [BaseMatrix; Site::ALL.len()],
    /// Added to the result of a site (Qwen2).
    pub bias: [Option<Vec<f32>>; Site::ALL.len()],
    /// Norms of each head of the queries and of the keys, before they are rotated (Qwen3).
    pub qk_norm: Option<[Vec<f32>; 2]>,
}

impl Layer {
    fn new(stored: StoredLayer) -> Self {
        Self {
            sites: stored.sites.map(|matrix| BaseMatrix::new(&matrix)),
            bias: stored.bias,
            qk_norm: stored.qk_norm,
            input_norm: stored.input_norm,
            post_attention_norm: stored.post_attention_norm,
        }
    }

    /// Every part with its bytes, by the type in which it is kept.
    pub fn bytes(&self) -> impl Iterator<Item = (&'static str, usize)> + '_ {
        let matrices = self.sites.iter().map(|m| (m.type_name(), m.view().bytes()));
        let vectors = [&self.input_norm, &self.post_attention_norm]
            .into_iter()
            .chain(self.bias.iter().flatten())
            .chain(self.qk_norm.iter().flatten());
        matrices.chain(vectors.map(|v| ("f32", size_of_val(v.as_slice()))))
    }
}

/// The layers of every rank. One layer at a time is in memory as it is stored.
pub(super) fn layers(
    config: &ModelConfig,
    base: &mut Base,
    shards: &[Shard],
) -> Result<Vec<Vec<Layer>>, EngineError> {
    if base.layers() != config.num_hidden_layers {
        return Err(EngineError::Weights {
            name: "layers".to_owned(),
            reason: format!("{} of {}", base.layers(), config.num_hidden_layers),
        });
    }
    let mut ranks: Vec<Vec<Layer>> = shards.iter().map(|_| Vec::new()).collect();
    for index in 0..config.num_hidden_layers {
        let stored = base.take_layer(config, index).map_err(refused)?;
        if let ([_], [layers]) = (shards, ranks.as_mut_slice()) {
            layers.push(Layer::new(stored));
            continue;
        }
        for (shard, layers) in shards.iter().zip(&mut ranks) {
            layers.push(Layer::new(shard.layer(config, index, &stored)?));
        }
    }
    Ok(ranks)
}

/// The refusal of weights.
pub(super) fn refused(error: ModelError) -> EngineError {
    let (name, reason) = match error {
        ModelError::Shape {
            name,
            expected,
            found,
        } => (name, format!("shape {found:?}, not {expected:?}")),
        ModelError::NonFinite { name } => (name, "a value is not finite".to_owned()),
        other => ("the base model".to_owned(), other.to_string()),
    };
    EngineError::Weights { name, reason }
}
