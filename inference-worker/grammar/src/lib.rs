#![doc = include_str!("../README.md")]

mod constraint;
mod error;
mod form;
mod grammars;
mod memory;

pub use constraint::GrammarConstraint;
pub use error::GrammarError;
pub use form::{Form, MAX_DEPTH, MAX_FORM_BYTES, MAX_NUMBER, MAX_PARTS, MAX_PATTERN_BYTES};
pub use grammars::{Grammars, MEMORY};
