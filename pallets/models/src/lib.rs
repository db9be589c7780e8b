#![cfg_attr(not(feature = "std"), no_std)]
//! Base models, LoRA adapters, their revisions, lineage, terms and fee split.
