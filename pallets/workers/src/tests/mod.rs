//! Tests, one file a feature.

mod discovery;
mod histories;
mod joining;
mod keys;
mod leaving;
