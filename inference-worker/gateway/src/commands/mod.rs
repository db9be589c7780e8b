//! What a consumer does with its channel from the command line.

mod close;
mod open;
mod status;

pub use close::{close, Close};
pub use open::{deposit, open, CommandError, Open, Opened};
pub use status::{status, LaneStatus, Status};
