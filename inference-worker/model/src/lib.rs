//! Causal language models of the shape of Llama (Llama, Mistral, Qwen2, Qwen3): configuration,
//! weights, PEFT adapters (LoRA, rsLoRA, DoRA), and the plain differentiable forward pass.
//!
//! ```text
//! config.json ─► ModelConfig ─┐
//! model.safetensors ► Weights ┼─► forward(ids) ─► logits ─► loss ─► gradients
//! adapter_*  ───► Adapter ────┘
//! ```
//!
//! A [`Checkpoint`] gives the same weights part by part in the types in which they are stored:
//! floats, codes of compressed-tensors, blocks of GGUF files.
//!
//! The forward pass is the oracle of the serving engine and the model of the trainer, so that
//! configurations and names are read in one place. Files come from strangers: whatever is not
//! understood in full is refused with an error that names it.

pub mod base;
pub mod checkpoint;
pub mod config;
pub mod error;
mod folder;
pub mod forward;
mod ops;
pub mod peft;
pub mod quantisation;
pub mod quantise;
pub mod rope;
pub mod site;
pub mod stored;
mod tensors;
pub mod weights;

pub use base::Base;
pub use checkpoint::{Checkpoint, StoredLayer};
pub use config::{Family, ModelConfig, RopeScaling};
pub use error::{ModelError, Result};
pub use forward::{forward, hidden_states, loss, token_losses};
pub use peft::{merge, Adapter, LayerLora, LoraConfig, LoraPair, Merged, Targets};
pub use quantisation::{Grouping, Packing, Quantisation};
pub use quantise::{quantise, Target};
pub use site::Site;
pub use stored::{BlockKind, Scales, StoredMatrix, StoredValues};
pub use tensors::StoredType;
pub use weights::{LayerWeights, QkNorm, QkvBias, Weights};
