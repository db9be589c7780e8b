//! What a consumer does with its channel from the command line.

mod close;
mod lanes;
mod open;
mod opening;
mod status;

pub use close::{close, Close};
pub use lanes::{look, losses, release, standing};
pub use open::{deposit, open, CommandError, Open, Opened};
pub use opening::{by_signer, Opening};
pub use status::{status, LaneStatus, Status};
