//! Tests, one file a feature.

mod attribution;
mod pricing;
mod publishing;
mod registering;
mod registry;
