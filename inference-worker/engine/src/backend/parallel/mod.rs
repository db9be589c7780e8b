//! Tensor parallelism: several ranks compute each layer together (Shoeybi et al., 2019).
//!
//! The projections that widen (q, k, v, gate, up) are cut by their outputs, so that each rank has some
//! heads and some of the feed-forward layer; those that narrow again (o, down) are cut by their inputs,
//! so that each rank has a summand of every output, and the ranks add theirs up. An adapter's pair is
//! cut with its matrix: where outputs are cut, `A` is whole and `B` is cut; where inputs are cut, `A` is
//! cut and `B` is whole, and its change is part of the summand. So an adapter costs no communication.

pub mod communicator;
pub mod local;
pub mod shard;

pub use communicator::{together, Communicator, CommunicatorError, Gather};
pub use local::LocalRank;
pub use shard::Shard;
