//! Tests, one file a feature.

mod exposure;
mod histories;
mod stake;
