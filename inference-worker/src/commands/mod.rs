//! The subcommands, one file each.

pub mod bench;
mod folders;
pub mod generate;
pub mod gpu_selftest;
pub mod index;
pub mod join;
pub mod leave;
pub mod put;
pub mod quantise;
pub mod run;
pub mod serve;
pub mod status;
pub mod train;
pub mod train_base;
pub mod verify_receipt;
pub mod versions;
