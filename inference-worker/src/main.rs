//! The inference worker: serves LoRA adapters, meters and settles.

fn main() {}
