//! The consumer's side of a channel behind an OpenAI endpoint.
//!
//! An unmodified OpenAI client asks this program; it renders and counts the prompt itself, signs a
//! voucher for at most what the answer may cost, forwards the request to the worker of its channel,
//! streams the answer through, and holds the receipt against its own count, the terms on chain and
//! the text delivered ([`check`]). Only a receipt that passes is acknowledged by the next voucher of
//! its lane; one that does not parks the lane, and at most one chunk of each lane is ever in doubt.
//! What an answer that broke off charges for text that did not come is put up with as far as
//! [`lanes::Breakage`] allows.
//!
//! | module | holds |
//! | --- | --- |
//! | [`api`] | HTTP: routes, OpenAI's bodies and errors |
//! | [`answer`] | one request from prompt to checked receipt |
//! | [`lanes`] | state of each lane on disk, which lane is free, resync with the worker |
//! | [`catalogue`] | models, their terms and their tokenizers |
//! | [`check`] | what a receipt must satisfy |
//! | [`commands`] | `open-channel`, `close`, `status`, `lanes`, `release` |

pub mod answer;
pub mod api;
pub mod budget;
pub mod catalogue;
pub mod check;
pub mod commands;
mod error;
pub mod gateway;
pub mod lanes;
mod metrics;
mod readiness;
pub mod upstream;
pub mod voucher;

pub use error::GatewayError;
pub use gateway::{Gateway, Settings};
pub use readiness::Readiness;
pub use voucher::MaxPrice;
