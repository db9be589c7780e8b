//! The command line.

use crate::key::KeyCmd;
use clap::Parser;
use sc_cli::{
    ChainInfoCmd, CheckBlockCmd, ExportBlocksCmd, ExportChainSpecCmd, ExportStateCmd,
    ImportBlocksCmd, PurgeChainCmd, RevertCmd, RunCmd,
};

/// Runs a node when no subcommand is given.
#[derive(Debug, Parser)]
pub struct Cli {
    /// What to do instead of running a node.
    #[command(subcommand)]
    pub subcommand: Option<Subcommand>,

    /// How to run.
    #[clap(flatten)]
    pub run: RunCmd,
}

/// What the node's program does besides running a node.
#[derive(Debug, clap::Subcommand)]
#[allow(clippy::large_enum_variant)]
pub enum Subcommand {
    /// Generate, inspect, insert and rotate keys.
    #[command(subcommand)]
    Key(KeyCmd),

    /// Write a chain's specification.
    ExportChainSpec(ExportChainSpecCmd),

    /// Execute a block of the database again.
    CheckBlock(CheckBlockCmd),

    /// Write blocks to a file.
    ExportBlocks(ExportBlocksCmd),

    /// Write the state at a block into a chain specification.
    ExportState(ExportStateCmd),

    /// Read blocks from a file.
    ImportBlocks(ImportBlocksCmd),

    /// Delete the database.
    PurgeChain(PurgeChainCmd),

    /// Go back by some blocks that are not final.
    Revert(RevertCmd),

    /// Say what the database holds.
    ChainInfo(ChainInfoCmd),

    /// Measure weights.
    #[cfg(feature = "runtime-benchmarks")]
    #[command(subcommand)]
    Benchmark(frame_benchmarking_cli::BenchmarkCmd),
}
