//! The OpenLedger node: BABE and GRANDPA over the OpenLedger runtime.

// The errors are the SDK's own types, whose size is not ours to change.
#![allow(clippy::result_large_err)]

mod chain_spec;
mod cli;
mod command;
mod key;
mod rpc;
mod service;

fn main() -> sc_cli::Result<()> {
    command::run()
}
