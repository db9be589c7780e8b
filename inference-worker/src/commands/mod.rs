//! The subcommands, one file each.

pub mod bench;
pub mod generate;
pub mod join;
pub mod leave;
