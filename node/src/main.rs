//! The OpenLedger node: BABE and GRANDPA over the OpenLedger runtime.

mod chain_spec;
mod cli;
mod command;
mod key;
mod rpc;
mod service;

fn main() -> sc_cli::Result<()> {
    command::run()
}
