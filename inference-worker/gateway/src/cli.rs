//! The command line of `openledger-gateway`.

use clap::{Args, Parser, Subcommand};
use openledger_chain::{
    amount::{planck, Unit},
    AccountId,
};
use openledger_primitives::{Balance, BlockNumber, ChannelId, LaneIndex, RevisionId};
use std::{net::SocketAddr, path::PathBuf};

/// An OpenAI endpoint in front of a payment channel: signs vouchers, checks receipts.
#[derive(Debug, Parser)]
#[command(name = "openledger-gateway", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the OpenAI API over a channel.
    Run(Run),
    /// Open a channel with a worker and print a ready curl line.
    OpenChannel(OpenChannel),
    /// Add to a channel's deposit.
    Deposit(Deposit),
    /// Close a channel; run again after its claims are over to get the deposit back.
    Close(Close),
    /// Show a channel and its lanes. Not while `run` has the data folder.
    Status(Status),
    /// List the lanes of the data folder, and why those that are parked are. Not while `run` has it.
    Lanes(Lanes),
    /// Take a parked lane back into use: shows what it costs, and does it with `--yes`. Not while `run`
    /// has the data folder.
    Release(Release),
}

/// Where the chain is.
#[derive(Debug, Args)]
pub struct Chain {
    /// WebSocket address of a node.
    #[arg(
        long = "chain",
        env = "OPENLEDGER_CHAIN",
        value_name = "URL",
        default_value = "ws://127.0.0.1:9944"
    )]
    pub url: String,
}

/// Options of `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Chain.
    #[command(flatten)]
    pub chain: Chain,
    /// File with the signer's secret URI, mode 600.
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// Channel; without it the one that `open-channel` noted.
    #[arg(long)]
    pub channel: Option<ChannelId>,
    /// Store that has the base model's tokenizer and chat template.
    #[arg(long, value_name = "DIR")]
    pub store: PathBuf,
    /// Remote store, `s3://BUCKET/PREFIX`: what is not in the folder is fetched from there. Credentials
    /// and region are those of the usual variables, `AWS_ACCESS_KEY_ID` and so on.
    #[arg(long, value_name = "URL", env = "OPENLEDGER_REMOTE")]
    pub remote: Option<String>,
    /// Endpoint of the remote store, when it is not AWS: `https://…`, or `http://` on this machine.
    #[arg(long, value_name = "URL", requires = "remote")]
    pub remote_endpoint: Option<String>,
    /// Lane state and receipts. Losing it parks lanes whose worker is not honest.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Address of the OpenAI API.
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// File with a key that clients must send as bearer token, mode 600; or set OPENLEDGER_API_KEY.
    /// Required when the address is not of this machine alone.
    #[arg(long, value_name = "FILE")]
    pub api_key: Option<PathBuf>,
    /// Another host name under which clients of this machine may reach the gateway without a key;
    /// can be repeated.
    #[arg(long, value_name = "NAME")]
    pub allow_host: Vec<String>,
    /// Planck per 1,000 prompt tokens at most; a model that costs more is refused.
    #[arg(long, value_name = "PLANCK")]
    pub max_price_in: Option<Balance>,
    /// Planck per 1,000 output tokens at most; a model that costs more is refused.
    #[arg(long, value_name = "PLANCK")]
    pub max_price_out: Option<Balance>,
    /// Another address that serves only `/metrics`, to anyone who reaches it.
    #[arg(long)]
    pub metrics: Option<SocketAddr>,
    /// Connections of clients at most; the one idle longest gives way to a new one.
    #[arg(long, default_value_t = 1024)]
    pub max_connections: usize,
    /// Requests that may wait for a free lane.
    #[arg(long, default_value_t = 64)]
    pub queue: usize,
    /// Seconds that each may wait.
    #[arg(long, default_value_t = 30)]
    pub patience: u64,
    /// Blocks after which a voucher no longer starts work.
    #[arg(long, default_value_t = 100)]
    pub voucher_life: BlockNumber,
}

/// Options of `open-channel`.
#[derive(Debug, Args)]
pub struct OpenChannel {
    /// Chain.
    #[command(flatten)]
    pub chain: Chain,
    /// File with the consumer account's secret URI, mode 600.
    #[arg(long, value_name = "FILE")]
    pub account_key: PathBuf,
    /// File with the signer's secret URI; generated when missing.
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// The worker's account.
    #[arg(
        long,
        required_unless_present = "revision",
        conflicts_with = "revision"
    )]
    pub worker: Option<AccountId>,
    /// Instead of a worker: a revision; the worker with the largest bond that serves it is taken.
    #[arg(long)]
    pub revision: Option<RevisionId>,
    /// OPEN put on hold for the channel, as `12.5`.
    #[arg(long, value_name = "AMOUNT", value_parser = in_planck)]
    pub deposit: Balance,
    /// Requests at the same time.
    #[arg(long, default_value_t = 4)]
    pub lanes: u16,
    /// OPEN that the signer may spend; the whole deposit when left out.
    #[arg(long, value_name = "AMOUNT", value_parser = in_planck)]
    pub limit: Option<Balance>,
    /// Blocks for which the signer is valid.
    #[arg(long, default_value_t = 1_000_000)]
    pub blocks: BlockNumber,
    /// The gateway's data folder.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Where the gateway will listen, for the curl line.
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
}

/// Options of `deposit`.
#[derive(Debug, Args)]
pub struct Deposit {
    /// Chain.
    #[command(flatten)]
    pub chain: Chain,
    /// File with the consumer account's secret URI, mode 600.
    #[arg(long, value_name = "FILE")]
    pub account_key: PathBuf,
    /// Channel.
    #[arg(long)]
    pub channel: ChannelId,
    /// OPEN, as `12.5`.
    #[arg(long, value_name = "AMOUNT", value_parser = in_planck)]
    pub amount: Balance,
}

/// Options of `close`.
#[derive(Debug, Args)]
pub struct Close {
    /// Chain.
    #[command(flatten)]
    pub chain: Chain,
    /// File with the consumer account's secret URI, mode 600.
    #[arg(long, value_name = "FILE")]
    pub account_key: PathBuf,
    /// Channel.
    #[arg(long)]
    pub channel: ChannelId,
}

/// Options of `status`.
#[derive(Debug, Args)]
pub struct Status {
    /// Chain.
    #[command(flatten)]
    pub chain: Chain,
    /// Channel; without it the one that `open-channel` noted.
    #[arg(long)]
    pub channel: Option<ChannelId>,
    /// The gateway's data folder.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
}

/// Options of `lanes`.
#[derive(Debug, Args)]
pub struct Lanes {
    /// Channel; without it the one that `open-channel` noted.
    #[arg(long)]
    pub channel: Option<ChannelId>,
    /// The gateway's data folder.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
}

/// Options of `release`.
#[derive(Debug, Args)]
pub struct Release {
    /// Chain.
    #[command(flatten)]
    pub chain: Chain,
    /// File with the signer's secret URI, mode 600.
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// Channel; without it the one that `open-channel` noted.
    #[arg(long)]
    pub channel: Option<ChannelId>,
    /// The gateway's data folder.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Lane.
    #[arg(long)]
    pub lane: LaneIndex,
    /// Do it at the cost that is shown.
    #[arg(long)]
    pub yes: bool,
}

/// An amount, in OPEN when it names no unit.
fn in_planck(text: &str) -> Result<Balance, String> {
    planck(text, Unit::Open)
}
