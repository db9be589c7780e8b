//! ModelFactory: datasets, LoRA training and evaluation.
