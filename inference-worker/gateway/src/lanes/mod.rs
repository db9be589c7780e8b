//! The lanes of the channel: where each stands, which is free, what is in doubt.

mod pool;
mod resync;
mod state;

pub use pool::{LaneGuard, LanePool};
pub use resync::{adopt, settle, Reconciled};
pub use state::{LaneState, LaneStore, Owed, Pending};
