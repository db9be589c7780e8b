//! Which part of the model a rank has.

use crate::error::EngineError;
use crate::panels::LANES;
use openledger_model::{ModelConfig, Site, StoredLayer, StoredMatrix};
use std::ops::Range;

/// One of several equal parts of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    rank: usize,
    ranks: usize,
}

impl Shard {
    /// All of a model.
    pub const WHOLE: Self = Self { rank: 0, ranks: 1 };

    /// The parts of a model for so many ranks.
    ///
    /// # Errors
    /// When heads or the feed-forward layer cannot be divided equally, in words for the user.
    pub fn all(config: &ModelConfig, ranks: usize) -> Result<Vec<Self>, String> {
        if ranks == 0 {
            return Err("tensor_parallel must be at least 1".to_owned());
        }
        for (name, size) in [
            ("num_key_value_heads", config.num_key_value_heads),
            ("num_attention_heads", config.num_attention_heads),
            ("intermediate_size", config.intermediate_size),
        ] {
            if !size.is_multiple_of(ranks) {
                return Err(format!(
                    "tensor_parallel {ranks} does not divide the model's {name} of {size}"
                ));
            }
        }
        Ok((0..ranks).map(|rank| Self { rank, ranks }).collect())
    }

    /// Number of this rank, from 0.
    pub fn rank(self) -> usize {
        self.rank
    }

    /// The shape of the part, as that of a model by itself. Hidden width and vocabulary are the whole
    /// model's.
    pub fn config(self, config: &ModelConfig) -> ModelConfig {
        ModelConfig {
            num_attention_heads: config.num_attention_heads / self.ranks,
            num_key_value_heads: config.num_key_value_heads / self.ranks,
            intermediate_size: config.intermediate_size / self.ranks,
            ..config.clone()
        }
    }

    /// Whether a site is cut by its inputs, so that the ranks' results are to be added up.
    pub fn cuts_inputs(site: Site) -> bool {
        matches!(site, Site::O | Site::Down)
    }

    fn part(self, size: usize) -> Range<usize> {
        let width = size / self.ranks;
        self.rank * width..(self.rank + 1) * width
    }

    /// Outputs of a site that the rank computes.
    pub fn outputs(self, site: Site, config: &ModelConfig) -> Range<usize> {
        let outputs = site.shape(config).0;
        if Self::cuts_inputs(site) {
            0..outputs
        } else {
            self.part(outputs)
        }
    }

    /// Inputs of a site that the rank multiplies.
    pub fn inputs(self, site: Site, config: &ModelConfig) -> Range<usize> {
        let inputs = site.shape(config).1;
        if Self::cuts_inputs(site) {
            self.part(inputs)
        } else {
            0..inputs
        }
    }

    /// The part of layer number `index`.
    ///
    /// # Errors
    /// When a cut goes through a group of scales or a block.
    pub fn layer(
        self,
        config: &ModelConfig,
        index: usize,
        layer: &StoredLayer,
    ) -> Result<StoredLayer, EngineError> {
        let mut part = layer.clone();
        for site in Site::ALL {
            let i = site.index();
            let (rows, columns) = (self.outputs(site, config), self.inputs(site, config));
            let matrix: &StoredMatrix = &layer.sites[i];
            let cut = matrix.part(rows.clone(), columns);
            part.sites[i] = cut.map_err(|error| EngineError::Weights {
                name: format!("layer {index}"),
                reason: format!("cannot be cut for {} ranks: {error}", self.ranks),
            })?;
            part.bias[i] = layer.bias[i].as_ref().map(|bias| bias[rows].to_vec());
        }
        Ok(part)
    }

    /// Panels of the vocabulary in every rank's part, the last ones possibly past the end: equal, so
    /// that the parts can be gathered.
    pub fn vocabulary_panels(self, config: &ModelConfig) -> usize {
        config.vocab_size.div_ceil(LANES).div_ceil(self.ranks)
    }

    /// The panels of the vocabulary that the rank computes.
    pub fn vocabulary(self, config: &ModelConfig) -> Range<usize> {
        let (all, width) = (
            config.vocab_size.div_ceil(LANES),
            self.vocabulary_panels(config),
        );
        (self.rank * width).min(all)..((self.rank + 1) * width).min(all)
    }

    /// The tokens whose logits the rank computes: those of its panels.
    pub fn tokens(self, config: &ModelConfig) -> Range<usize> {
        let panels = self.vocabulary(config);
        (panels.start * LANES).min(config.vocab_size)..(panels.end * LANES).min(config.vocab_size)
    }
}
