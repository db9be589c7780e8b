//! HTTP: routes, OpenAI's bodies and errors.

mod access;
mod ask;
mod present;
mod reply;
mod request;
mod routes;

pub use access::{Access, ApiKey, Denied};
pub use routes::router;
