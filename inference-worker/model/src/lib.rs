//! The small and large causal language models: configuration, weights, tokenizer, chat template, PEFT adapters, and the plain differentiable forward.
