//! Multi-LoRA inference engine: scheduler, paged KV cache, adapter pool and CPU backend.
