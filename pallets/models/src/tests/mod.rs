//! Tests, one file a feature.

mod attribution;
mod histories;
mod pricing;
mod publishing;
mod registering;
mod registry;
