#![doc = include_str!("../README.md")]

pub mod adapter;
pub mod base;
pub mod batch;
pub mod checkpoint;
pub mod corpus;
pub mod document;
mod error;
pub mod evaluation;
pub mod generate;
pub mod gradients;
pub mod invent;
pub mod invented;
pub mod manifest;
pub mod optim;
pub mod phrasebook;
pub mod preparation;
pub mod progress;
pub mod recognize;
pub mod schedule;
pub mod train;
pub mod vocabulary;

pub use error::{Error, Result};
