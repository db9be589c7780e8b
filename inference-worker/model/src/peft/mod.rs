//! LoRA adapters in the format of Hugging Face PEFT: `adapter_config.json` and
//! `adapter_model.safetensors`.
//!
//! An adapter is either understood in full or refused by name: nothing is ever half-loaded.

mod adapter;
mod config;
mod targets;

pub use adapter::{digest, Adapter, LayerLora, LoraPair, MAX_RANK};
pub use config::{LoraConfig, Plan};
pub use targets::Targets;
