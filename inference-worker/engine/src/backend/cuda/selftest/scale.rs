//! What speed is measured with, made to fit a device.

use super::speed::RANK;
use crate::backend::cuda::arena::page_bytes;
use crate::backend::cuda::Storage;
use crate::kv::pages_for;
use openledger_model::{Family, ModelConfig, Site};

/// Of the memory that is free, a measurement takes at most this much.
const SHARE: f64 = 0.85;

/// What is measured.
#[derive(Clone, Debug)]
pub struct Scale {
    /// The model's shapes.
    pub config: ModelConfig,
    /// How it is stored.
    pub storage: Storage,
    /// Whether matrix products are the engine's own.
    pub deterministic: bool,
    /// Tokens of each context.
    pub context: usize,
    /// Sizes of the batches of the base alone.
    pub batches: Vec<usize>,
    /// Most different adapters.
    pub adapters: usize,
    /// Repeats of each step.
    pub repeats: usize,
    /// Bytes that are copied to measure bandwidth.
    pub bandwidth_bytes: usize,
}

impl Scale {
    /// The shapes of Llama 3.1 8B in BF16, contexts of 512 tokens.
    pub fn llama_8b() -> Self {
        Self {
            config: ModelConfig {
                family: Family::Llama,
                vocab_size: 128_256,
                hidden_size: 4096,
                intermediate_size: 14_336,
                num_hidden_layers: 32,
                num_attention_heads: 32,
                num_key_value_heads: 8,
                head_dim: 128,
                rms_norm_eps: 1e-5,
                rope_theta: 500_000.0,
                rope_scaling: None,
                max_position_embeddings: 8192,
                tie_word_embeddings: false,
                bos_token_id: None,
                eos_token_ids: Vec::new(),
            },
            storage: Storage::Bf16,
            deterministic: false,
            context: 512,
            batches: vec![1, 8, 32, 64],
            adapters: 64,
            repeats: 50,
            bandwidth_bytes: 2 << 30,
        }
    }

    /// Rows of the largest step.
    pub fn rows(&self) -> usize {
        let largest = self.batches.iter().copied().max().unwrap_or(1);
        largest.max(self.adapters)
    }

    /// Pages of an adapter for all matrices, and two more.
    pub fn slab_pages(&self) -> usize {
        let widths = Site::ALL.map(|site| {
            let (outputs, inputs) = site.shape(&self.config);
            outputs + inputs
        });
        let values = RANK * widths.iter().sum::<usize>() * self.config.num_hidden_layers;
        let page = page_bytes(&self.config, self.storage).max(1);
        (values * self.storage.bytes()).div_ceil(page) + 2
    }

    /// Bytes that a model, its contexts and its adapters take on one device, all but exactly.
    pub fn bytes(&self) -> usize {
        let config = &self.config;
        let matrices = Site::ALL.map(|site| {
            let (outputs, inputs) = site.shape(config);
            outputs * inputs
        });
        let embeddings = if config.tie_word_embeddings { 1 } else { 2 };
        let weights = config.num_hidden_layers * matrices.iter().sum::<usize>()
            + embeddings * config.vocab_size * config.hidden_size;
        let rows = self.rows();
        let pages = rows * pages_for(self.context) + (self.adapters + 1) * self.slab_pages() + 1;
        let widths = 8 * config.hidden_size + 4 * config.intermediate_size + config.vocab_size;
        let activations = rows * widths * size_of::<f32>();
        weights * self.storage.bytes() + pages * page_bytes(config, self.storage) + activations
    }

    /// The same with as few layers as a device with so many free bytes needs it to have, and what to say of
    /// that.
    ///
    /// # Errors
    /// When a single layer does not fit.
    pub fn fitted(&self, free: usize) -> Result<(Self, Option<String>), String> {
        let room = (free as f64 * SHARE) as usize;
        let mut fitted = self.clone();
        // The memory that is copied is as much again.
        fitted.bandwidth_bytes = fitted.bandwidth_bytes.min(room / 2);
        while fitted.bytes() > room {
            let layers = &mut fitted.config.num_hidden_layers;
            if *layers <= 1 {
                return Err(format!(
                    "{:.2} GB are free; one layer of the model that is measured takes {:.2} GB with its \
                     contexts and adapters: use a larger device, or --no-speed",
                    free as f64 / 1e9,
                    fitted.bytes() as f64 / 1e9
                ));
            }
            *layers /= 2;
        }
        let (layers, of) = (
            fitted.config.num_hidden_layers,
            self.config.num_hidden_layers,
        );
        let note = (layers < of).then(|| {
            let free = free as f64 / 1e9;
            format!("speed is of {layers} of {of} layers: {free:.1} GB are free")
        });
        Ok((fitted, note))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_should_lose_layers_until_it_fits() {
        let full = Scale::llama_8b();
        // 16.1 GB of weights, 4.3 GB of keys and values, 5.5 GB of adapters.
        let bytes = full.bytes();
        assert!((25 << 30..28 << 30).contains(&bytes) || (24e9..28e9).contains(&(bytes as f64)));
        let (h200, note) = full.fitted(140 << 30).unwrap();
        assert_eq!((h200.config.num_hidden_layers, note), (32, None));
        let (small, note) = full.fitted(24_000_000_000).unwrap();
        assert_eq!(small.config.num_hidden_layers, 16);
        assert!(small.bytes() as f64 <= 24e9 * SHARE);
        assert_eq!(
            note.unwrap(),
            "speed is of 16 of 32 layers: 24.0 GB are free"
        );
        let none = full.fitted(1_000_000_000).unwrap_err();
        assert!(none.contains("1.00 GB are free"), "{none}");
    }
}
