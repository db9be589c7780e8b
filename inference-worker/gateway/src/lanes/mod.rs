//! The lanes of the channel: where each stands, which is free, what is in doubt.

mod breakage;
mod pool;
mod release;
mod resync;
mod state;

pub use breakage::{Breakage, Came, Charged, Overdrawn, ANSWERS, PART, UNDER_WAY};
pub use pool::{LaneGuard, LanePool};
pub use release::{release, Release};
pub use resync::{adopt, settle, Reconciled};
pub use state::{LaneState, LaneStore, Owed, Pending};
