//! The command line.

use crate::{
    commands::{bench::args::BenchArgs, gpu_selftest::Gpus, versions::VersionName},
    device::DeviceArgs,
    storage::{Kind, RemoteArgs, StoreArgs},
};
use clap::{Args, Parser, Subcommand};
use openledger_chain::amount::{planck, Unit};
use std::{net::SocketAddr, path::PathBuf};

/// Serves LoRA adapters on one base model, meters every answer and settles on chain.
#[derive(Debug, Parser)]
#[command(name = "openledger-worker", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve inference, settle what was served, and keep the worker alive on chain.
    Run(RunArgs),
    /// Serve a base model and adapters on it behind OpenAI's API, without chain or voucher.
    Serve(ServeArgs),
    /// Register as a worker: put up the bond and name the service key.
    Join(JoinArgs),
    /// Stop taking channels, and leave when nothing is owed.
    Leave(OwnerArgs),
    /// Show the worker's registration, bond and exposure, as the chain has them.
    Status(StatusArgs),
    /// Train a LoRA adapter on the rows of sealed versions.
    Train(TrainArgs),
    /// Train a small base model from its recipe; takes about half an hour.
    TrainBase(TrainBaseArgs),
    /// Build the span index over the rows of Datanet versions.
    Index(IndexArgs),
    /// Bring rows, or a folder, into the store and print what the chain is told of them.
    Put(PutArgs),
    /// Write a base model in fewer bits, into a folder of its own.
    Quantise(QuantiseArgs),
    /// Answer one prompt here, without chain or voucher.
    Generate(GenerateArgs),
    /// Check a receipt against its voucher and the worker's key.
    VerifyReceipt(VerifyReceiptArgs),
    /// Measure the engine, batches of receipts, and costs.
    Bench(BenchArgs),
    /// Test a GPU: its kernels, models with known answers, and its speed. Status 2 without a GPU.
    GpuSelftest(GpuSelftestArgs),
}

/// Options of `gpu-selftest`.
#[derive(Debug, Args)]
pub struct GpuSelftestArgs {
    /// Which GPUs: `cuda` for all that there are, `cuda:N`, `cuda:N,M,…` or N. Most is tested on the first;
    /// several are tested together too.
    #[arg(long, value_name = "DEVICE", default_value = "cuda")]
    pub device: Gpus,
    /// Write the report as JSON too, anew whenever something is found.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// End after so many seconds; what there was no time for is named.
    #[arg(long, value_name = "SECONDS")]
    pub seconds: Option<u64>,
    /// Only these stages, with commas between them; `kernels` stands for all that begin with `kernels-`.
    #[arg(long, value_name = "STAGES", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Name the stages in their order, and run none.
    #[arg(long)]
    pub list: bool,
    /// Measure nothing.
    #[arg(long)]
    pub no_speed: bool,
    /// Run this stage in this process: what the test starts for each.
    #[arg(long, hide = true)]
    pub stage: Option<String>,
    /// The stage's first part.
    #[arg(long, hide = true, default_value_t = 0)]
    pub first: usize,
    /// Where the stage may write.
    #[arg(long, hide = true)]
    pub folder: Option<PathBuf>,
}

/// Where the chain is.
#[derive(Clone, Debug, Args)]
pub struct ChainArgs {
    /// WebSocket endpoint of a node.
    #[arg(
        long = "chain",
        value_name = "URL",
        default_value = "ws://127.0.0.1:9944",
        env = "OPENLEDGER_CHAIN"
    )]
    pub url: String,
}

/// Options of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Chain.
    #[command(flatten)]
    pub chain: ChainArgs,
    /// The worker's account, as an SS58 address or 0x-prefixed hex.
    #[arg(long)]
    pub worker: String,
    /// File of the service key: signs receipts and batches.
    #[arg(long, value_name = "FILE")]
    pub service_key: PathBuf,
    /// Store.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Journal and working files of this worker. Back it up: it is what is owed to you.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Base model to serve, by its number on chain.
    #[arg(long, default_value_t = 0)]
    pub base: u32,
    /// Model to serve: a name, for all revisions of the model that it means, or a revision number.
    /// Repeat for several; when absent, all of the base that are no copies and pay the least prices.
    #[arg(long, value_name = "MODEL")]
    pub models: Vec<String>,
    /// Least price of prompt tokens, planck per 1,000, at which a model is served that is not among
    /// `--models`.
    #[arg(long, value_name = "PLANCK", default_value_t = 1_000_000_000)]
    pub min_price_in: u128,
    /// Least price of output tokens, planck per 1,000, at which a model is served that is not among
    /// `--models`.
    #[arg(long, value_name = "PLANCK", default_value_t = 1_000_000_000)]
    pub min_price_out: u128,
    /// Address of the OpenAI-compatible API.
    #[arg(long, default_value = "127.0.0.1:8000")]
    pub listen: SocketAddr,
    /// Address of the Prometheus metrics.
    #[arg(long, default_value = "127.0.0.1:9100")]
    pub metrics: SocketAddr,
    /// Seconds between batches; when absent, the longest that the chain's windows allow, up to an hour.
    #[arg(long)]
    pub settle_every: Option<u64>,
    /// Try the claims of parked lanes again: those that the chain refused so often that they were given
    /// up. Their receipts are in the journal still.
    #[arg(long)]
    pub retry_parked: bool,
    /// Milliseconds that a request may wait for others to share its first step.
    #[arg(long, default_value_t = 5)]
    pub batch_window: u64,
    /// Requests in one step at most.
    #[arg(long, default_value_t = 64)]
    pub max_batch: usize,
    /// Where the model is computed.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Memory for keys, values and adapters in use, MiB; chosen by the engine when absent.
    #[arg(long, value_name = "MIB")]
    pub device_memory: Option<usize>,
    /// Memory for adapters read ahead or lately, MiB.
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    pub host_memory: usize,
    /// Model whose adapter stays in memory ready for use, asked for or not: a name or a revision
    /// number. Repeat for several.
    #[arg(long, value_name = "MODEL")]
    pub pin: Vec<String>,
    /// Memory for span indexes and rows in use or used lately, MiB; they are loaded when an answer's
    /// sources are asked for.
    #[arg(long, value_name = "MIB", default_value_t = 512)]
    pub source_memory: u64,
    /// Requests of one channel that wait or run at most.
    #[arg(long, default_value_t = 256)]
    pub channel_requests: usize,
}

/// An adapter by name.
#[derive(Clone, Debug)]
pub struct NamedAdapter {
    /// What requests ask for.
    pub name: String,
    /// Its folder (PEFT).
    pub folder: PathBuf,
}

impl std::str::FromStr for NamedAdapter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, folder)) if !name.is_empty() && !folder.is_empty() => Ok(NamedAdapter {
                name: name.to_owned(),
                folder: folder.into(),
            }),
            _ => Err("write it as NAME=DIR".to_owned()),
        }
    }
}

/// Options of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Folder of the base model (Hugging Face layout).
    #[arg(long, value_name = "DIR")]
    pub base: PathBuf,
    /// Name of the base model for requests; the folder's name when absent.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Adapter to serve, and its name for requests. Repeat for several.
    #[arg(long, value_name = "NAME=DIR")]
    pub adapter: Vec<NamedAdapter>,
    /// Folder of adapters: each folder in it is served by its own name, and requests with the admin key
    /// may load others from below it.
    #[arg(long, value_name = "DIR")]
    pub adapters: Option<PathBuf>,
    /// Address of the API; `/metrics` is there too.
    #[arg(long, default_value = "127.0.0.1:8000")]
    pub listen: SocketAddr,
    /// File of the keys that clients send, one a line. Each key is a tenant of its own: tenants share
    /// the engine evenly. Without it everybody is answered.
    #[arg(long, value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
    /// File of the key that loads and unloads adapters. Without it nobody can by requests.
    #[arg(long, value_name = "FILE")]
    pub admin_key_file: Option<PathBuf>,
    /// Adapter that stays in memory ready for use, asked for or not, by its name. Repeat for several.
    #[arg(long, value_name = "NAME")]
    pub pin: Vec<String>,
    /// Milliseconds that a request may wait for others to share its first step.
    #[arg(long, default_value_t = 0)]
    pub batch_window: u64,
    /// Requests in one step at most.
    #[arg(long, default_value_t = 64)]
    pub max_batch: usize,
    /// Answers that wait or run at most; more are refused with 429.
    #[arg(long, default_value_t = 4096)]
    pub max_requests: usize,
    /// Answers that wait or run for one key at most; as many as for all when absent.
    #[arg(long)]
    pub key_requests: Option<usize>,
    /// Tokens of prompt and answer together at most; what the model can when absent.
    #[arg(long, value_name = "TOKENS")]
    pub max_context: Option<usize>,
    /// Memory for keys, values and adapters in use, MiB; chosen by the engine when absent.
    #[arg(long, value_name = "MIB")]
    pub device_memory: Option<usize>,
    /// Memory for adapters read ahead or lately, MiB.
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    pub host_memory: usize,
    /// What computes.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Threads that compute; all cores when absent.
    #[arg(long)]
    pub threads: Option<usize>,
    /// Connections at most; the one idle longest gives way to a new one.
    #[arg(long, default_value_t = 1024)]
    pub max_connections: usize,
    /// Seconds that a request waits for its turn before it is refused.
    #[arg(long, default_value_t = 120)]
    pub queue_timeout: u64,
    /// Seconds that answers under way may take to end when the server is told to stop.
    #[arg(long, default_value_t = 30)]
    pub grace: u64,
}

/// An amount, in planck when it names no unit.
fn in_planck(text: &str) -> Result<u128, String> {
    planck(text, Unit::Planck)
}

/// Options of `join`.
#[derive(Debug, Args)]
pub struct JoinArgs {
    /// Chain.
    #[command(flatten)]
    pub chain: ChainArgs,
    /// File of the account key that puts up the bond. Keep it off the serving machine.
    #[arg(long, value_name = "FILE")]
    pub account_key: PathBuf,
    /// File of the service key; made when it does not exist.
    #[arg(long, value_name = "FILE")]
    pub service_key: PathBuf,
    /// Bond, as `12.5 OPEN`; a number alone is planck (1 OPEN = 10^12 planck).
    #[arg(long, value_name = "AMOUNT", value_parser = in_planck)]
    pub bond: u128,
    /// Sent to the service key for its transaction fees, as `10 OPEN`; a number alone is planck.
    #[arg(long, value_name = "AMOUNT", value_parser = in_planck, default_value = "10 OPEN")]
    pub fund_service_key: u128,
    /// Address at which consumers reach this worker.
    #[arg(long, value_name = "URL")]
    pub endpoint: String,
    /// What it will compute on, as for `run`: it is announced.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Memory for serving, MiB.
    #[arg(long, default_value_t = 1024)]
    pub memory: u32,
    /// Requests in one step at most.
    #[arg(long, default_value_t = 64)]
    pub max_batch: u16,
}

/// Options of commands that the worker's owner signs.
#[derive(Debug, Args)]
pub struct OwnerArgs {
    /// Chain.
    #[command(flatten)]
    pub chain: ChainArgs,
    /// File of the account key that put up the bond.
    #[arg(long, value_name = "FILE")]
    pub account_key: PathBuf,
}

/// Options of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Chain.
    #[command(flatten)]
    pub chain: ChainArgs,
    /// The worker's account, as an SS58 address or 0x-prefixed hex.
    #[arg(long)]
    pub worker: String,
}

/// Options of `train`.
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// Folder of the base model (Hugging Face layout).
    #[arg(long, value_name = "DIR")]
    pub base: PathBuf,
    /// Sealed version to train on, as `DATANET:VERSION`; repeat for several.
    #[arg(long = "datanet", value_name = "DATANET:VERSION", required = true)]
    pub versions: Vec<VersionName>,
    /// Store with the rows of the versions; they are held against the chain's roots.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Chain.
    #[command(flatten)]
    pub chain: ChainArgs,
    /// Folder to write the adapter (PEFT), its manifest and checkpoints to.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Seed of initialisation and shuffling.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// LoRA rank.
    #[arg(long, default_value_t = 16)]
    pub rank: usize,
    /// LoRA alpha.
    #[arg(long, default_value_t = 32.0)]
    pub alpha: f64,
    /// Steps.
    #[arg(long)]
    pub steps: Option<usize>,
    /// Steps between checkpoints, from which an interrupted run goes on.
    #[arg(long, default_value_t = 50)]
    pub save_every: usize,
    /// Write progress as JSON lines to standard output instead of a bar.
    #[arg(long)]
    pub json: bool,
    /// Write the adapter although held-out perplexity or exact answers got worse.
    #[arg(long)]
    pub allow_worse: bool,
}

/// Options of `train-base`.
#[derive(Debug, Args)]
pub struct TrainBaseArgs {
    /// The recipe: shape, text, vocabulary and schedule, as `inference-worker/factory/base/recipe.json`.
    #[arg(long, value_name = "FILE")]
    pub recipe: PathBuf,
    /// Folder to write the model (Hugging Face layout) and checkpoints to.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Steps between checkpoints, from which an interrupted run goes on.
    #[arg(long, default_value_t = 200)]
    pub save_every: usize,
    /// Write progress as JSON lines to standard output instead of a bar.
    #[arg(long)]
    pub json: bool,
}

/// Options of `index`.
#[derive(Debug, Args)]
pub struct IndexArgs {
    /// Folder of the base model: its tokenizer is used.
    #[arg(long, value_name = "DIR")]
    pub base: PathBuf,
    /// Sealed version to index, as `DATANET:VERSION`; repeat for several.
    #[arg(long = "datanet", value_name = "DATANET:VERSION", required = true)]
    pub versions: Vec<VersionName>,
    /// Store with the rows of the versions; they are held against the chain's roots.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Chain.
    #[command(flatten)]
    pub chain: ChainArgs,
    /// Folder to write the index to.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// Options of `put`.
#[derive(Debug, Args)]
pub struct PutArgs {
    /// Store to put into; made when it does not exist.
    #[arg(long, value_name = "DIR")]
    pub store: PathBuf,
    /// Send it to this remote store too.
    #[command(flatten)]
    pub remote: RemoteArgs,
    /// What the folder is; one that is something else is refused.
    #[arg(long, value_enum, default_value_t = Kind::Adapter)]
    pub kind: Kind,
    /// Rows as JSON lines, `{"text": "…"}` each, or a folder.
    pub path: PathBuf,
}

/// Options of `quantise`.
#[derive(Debug, Args)]
pub struct QuantiseArgs {
    /// Folder of the base model: safetensors, or one GGUF file.
    #[arg(value_name = "DIR")]
    pub base: PathBuf,
    /// What its linear layers are stored as; the rest becomes BF16.
    #[arg(long, value_enum)]
    pub to: QuantiseTo,
    /// Inputs that share a scale, for int4; 128 where absent.
    #[arg(long, value_name = "INPUTS")]
    pub group: Option<usize>,
    /// Folder to write, which does not exist yet.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// Types that `quantise` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum QuantiseTo {
    /// Brain floats of 16 bits.
    Bf16,
    /// Floats of 8 bits, a scale to each row.
    Fp8,
    /// Integers of 8 bits, a scale to each row.
    Int8,
    /// Integers of 4 bits, a scale to each group of inputs.
    Int4,
}

/// Options of `generate`.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// Folder of the base model.
    #[arg(long, value_name = "DIR")]
    pub base: PathBuf,
    /// Folder of an adapter (PEFT).
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// Most tokens of the answer.
    #[arg(long, default_value_t = 64)]
    pub max_tokens: u32,
    /// 0 is greedy.
    #[arg(long, default_value_t = 0.0)]
    pub temperature: f32,
    /// Sampler seed.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Give the prompt as it is, without the chat template.
    #[arg(long)]
    pub raw: bool,
    /// Where the model is computed.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// What to ask.
    pub prompt: String,
}

/// Options of `verify-receipt`.
#[derive(Debug, Args)]
pub struct VerifyReceiptArgs {
    /// Receipt with signature, hex, as in the answer's `openledger.receipt`.
    #[arg(long)]
    pub receipt: String,
    /// Voucher with signature, hex.
    #[arg(long)]
    pub voucher: String,
    /// The worker's service key, 0x-prefixed hex; read from the chain when absent.
    #[arg(long)]
    pub key: Option<String>,
    /// Text that was delivered; checked against the receipt's commitment together with the salt.
    #[arg(long, requires = "output_salt")]
    pub output: Option<String>,
    /// Salt of the output commitment, hex.
    #[arg(long)]
    pub output_salt: Option<String>,
    /// Chain.
    #[command(flatten)]
    pub chain: ChainArgs,
}
