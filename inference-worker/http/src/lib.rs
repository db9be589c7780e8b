//! What listens in front of every HTTP API of worker and gateway.
//!
//! A [`Front`] accepts connections and keeps them within [`Limits`]: how many, how long one may be idle,
//! how long a client may read nothing of what waits for it. It listens while a program still loads what it
//! will answer with, and ends gracefully. [`read`] takes a request's body in bounded bytes and time;
//! [`Failure`] is an error of OpenAI's API on its way out.

mod body;
mod connections;
mod failure;
mod files;
mod front;
mod limits;
pub mod metrics;
mod stall;

pub use body::read;
pub use failure::Failure;
pub use files::room_for;
pub use front::Front;
pub use limits::Limits;
