//! Tests, one file a feature.

mod discovery;
mod joining;
mod keys;
mod leaving;
