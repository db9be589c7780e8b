//! The node as a set of tasks.

mod full;
mod partial;

pub use full::new_full;
pub use partial::{
    new_partial, revert_consensus, FullBackend, FullClient, FullPool, FullSelectChain,
};
