//! Low-rank adapters in the format of Hugging Face PEFT: `adapter_config.json` and
//! `adapter_model.safetensors`. LoRA, rank-stabilised LoRA and DoRA.
//!
//! An adapter is either understood in full or refused by name: nothing is ever half-loaded.

mod adapter;
mod config;
mod merge;
mod pair;
mod targets;

pub use adapter::{digest, Adapter, MAX_RANK};
pub use config::{LoraConfig, Plan};
pub use merge::{merge, Merged};
pub use pair::{LayerLora, LoraPair};
pub use targets::Targets;
