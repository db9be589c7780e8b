//! The command line of `bench`.

use clap::{Args, Subcommand, ValueEnum};
use openledger_engine::bench::fleet::{Adapted, Sites};
use openledger_engine::bench::shape::Shape;
use openledger_engine::bench::{Choice, Lengths, Pace, Start, Workload};
use std::path::PathBuf;
use std::str::FromStr;

/// Options of `bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// What to measure.
    #[command(subcommand)]
    pub what: Bench,
}

/// What `bench` measures.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// The engine: its bars, a load, thousands of registered adapters.
    Engine(Box<EngineBenchArgs>),
    /// What batches of receipts weigh on chain.
    Settlement(SettlementBenchArgs),
    /// What N fine-tuned models cost on this engine and by themselves, from a file of `bench engine`.
    Cost(CostArgs),
    /// Answer batches of requests on demand, for comparison with another program: JSON lines in, JSON
    /// lines out.
    #[command(hide = true)]
    Rounds(RoundsArgs),
}

/// A part of `bench engine`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// The ratios that the engine is held to.
    Bars,
    /// Latencies, throughput and hit rates under the load that the options describe.
    Load,
    /// Bytes for each registered adapter, first tokens from each tier, speed of the resident ones.
    Registered,
}

/// A model of random weights.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Model {
    /// 6.5 M parameters.
    Small,
    /// 153.6 M parameters.
    Medium,
}

/// The matrices that adapters change.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum SitesArg {
    /// All linear ones.
    AllLinear,
    /// Those of queries and values.
    QueryValue,
}

/// Options of `bench engine`.
#[derive(Debug, Args)]
pub struct EngineBenchArgs {
    /// Measure this part alone; repeat for two.
    #[arg(long, value_name = "PART")]
    pub only: Vec<Part>,
    /// Model of random weights for `load` and `registered`.
    #[arg(long, value_enum, default_value = "small")]
    pub model: Model,
    /// Folder of a base model in its place.
    #[arg(long, value_name = "DIR", conflicts_with = "model")]
    pub base: Option<PathBuf>,
    /// Closed loop: clients that each ask again when they have their answer.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "16")]
    pub clients: Vec<usize>,
    /// Open loop in its place: requests a second, at random times that do not wait for answers.
    #[arg(
        long,
        value_name = "R,…",
        value_delimiter = ',',
        conflicts_with = "clients"
    )]
    pub rate: Vec<f64>,
    /// Requests of a run.
    #[arg(long, default_value_t = 256)]
    pub requests: usize,
    /// Adapters that are asked for.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "32")]
    pub distinct: Vec<usize>,
    /// Adapters that are registered: by default those asked for in `load`, 10,000 in `registered`.
    #[arg(long, value_name = "N")]
    pub registered: Option<usize>,
    /// Exponent of the adapters' popularity: the k-th is asked for in proportion to k^-S.
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    pub zipf: f64,
    /// Ask for all adapters alike.
    #[arg(long, conflicts_with = "zipf")]
    pub uniform: bool,
    /// Share of requests for the base model, from 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub base_share: f64,
    /// Tokens of a prompt: `N`, or `LEAST-MOST` evenly drawn.
    #[arg(long, value_name = "TOKENS", default_value = "32", value_parser = lengths)]
    pub prompt: Lengths,
    /// Tokens of an answer, likewise.
    #[arg(long, value_name = "TOKENS", default_value = "32", value_parser = lengths)]
    pub output: Lengths,
    /// Begin each run with the adapters on disk alone, and not in the system's page cache.
    #[arg(long)]
    pub cold: bool,
    /// Rank of the adapters that are asked for.
    #[arg(long, default_value_t = 16)]
    pub rank: usize,
    /// What they change.
    #[arg(long, value_enum, default_value = "all-linear")]
    pub sites: SitesArg,
    /// Memory for keys, values and adapters in use, MiB; chosen by the engine when absent.
    #[arg(long, value_name = "MIB")]
    pub device_memory: Option<usize>,
    /// Memory for adapters read ahead or lately, MiB.
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    pub host_memory: usize,
    /// Requests in one step at most.
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub max_batch: usize,
    /// Requests that wait or run at most; more are refused.
    #[arg(long, value_name = "N", default_value_t = 4096)]
    pub queue: usize,
    /// Threads that compute; all cores when absent.
    #[arg(long)]
    pub threads: Option<usize>,
    /// Repeats of each measurement, taking turns.
    #[arg(long, default_value_t = 5)]
    pub repeats: usize,
    /// Seed of weights, adapters and loads.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Folder for the adapters' files, which are removed at the end; a temporary one when absent.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Write everything measured to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Draw the load's throughput and percentiles into this file, as SVG.
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
}

/// Options of `bench settlement`.
#[derive(Debug, Args)]
pub struct SettlementBenchArgs {
    /// WebSocket endpoint of a node that says what batches weigh.
    #[arg(long, value_name = "URL", env = "OPENLEDGER_CHAIN")]
    pub chain: Option<String>,
    /// Write JSON instead of text.
    #[arg(long)]
    pub json: bool,
}

/// Options of `bench cost`.
#[derive(Debug, Args)]
pub struct CostArgs {
    /// File that `bench engine --distinct 1,N --json FILE` wrote.
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,
    /// Numbers of fine-tuned models.
    #[arg(
        long,
        value_name = "N,…",
        value_delimiter = ',',
        default_value = "10,100,1000"
    )]
    pub models: Vec<u64>,
    /// Demand for all models together, in machines that are kept busy throughout by one model.
    #[arg(
        long,
        value_name = "MACHINES,…",
        value_delimiter = ',',
        default_value = "0.1,1,10"
    )]
    pub demand: Vec<f64>,
    /// Exponent of the models' popularity.
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    pub zipf: f64,
    /// Share of its time that a machine may be busy, so that queues stay short.
    #[arg(long, value_name = "SHARE", default_value_t = 0.7)]
    pub busy: f64,
    /// Memory of one machine, GiB.
    #[arg(long, value_name = "GIB", default_value_t = 24.0)]
    pub memory: f64,
    /// Price of one machine for an hour, in any currency.
    #[arg(long, default_value_t = 1.0)]
    pub price: f64,
    /// Machines that run in any case, against failures: of each dedicated deployment, and of the shared
    /// one.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub replicas: u64,
}

/// Options of `bench rounds`.
#[derive(Debug, Args)]
pub struct RoundsArgs {
    /// Folder of the base model.
    #[arg(long, value_name = "DIR")]
    pub base: PathBuf,
    /// Folder with a folder for each adapter.
    #[arg(long, value_name = "DIR")]
    pub adapters: PathBuf,
    /// Threads that compute; all cores when absent.
    #[arg(long)]
    pub threads: Option<usize>,
}

fn lengths(text: &str) -> Result<Lengths, String> {
    let number = |text: &str| {
        usize::from_str(text.trim()).map_err(|_| format!("{text:?} is no number of tokens"))
    };
    let (min, max) = text.split_once('-').unwrap_or((text, text));
    Ok(Lengths {
        min: number(min)?,
        max: number(max)?,
    })
}

impl EngineBenchArgs {
    /// Whether a part is to be measured.
    pub fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    /// The model of `load` and `registered`.
    pub fn shape(&self) -> Shape {
        match (&self.base, self.model) {
            (Some(dir), _) => Shape::Folder(dir.clone()),
            (None, Model::Small) => Shape::Small,
            (None, Model::Medium) => Shape::Medium,
        }
    }

    /// What adapters that are asked for change.
    pub fn adapted(&self) -> Adapted {
        Adapted {
            rank: self.rank,
            sites: match self.sites {
                SitesArg::AllLinear => Sites::AllLinear,
                SitesArg::QueryValue => Sites::QueryValue,
            },
        }
    }

    /// The loads: one for each pace and each number of adapters.
    pub fn workloads(&self) -> Vec<Workload> {
        let paces: Vec<Pace> = if self.rate.is_empty() {
            let clients = self.clients.iter();
            clients.map(|&clients| Pace::Closed { clients }).collect()
        } else {
            self.rate.iter().map(|&rate| Pace::Open { rate }).collect()
        };
        let most = self.distinct.iter().copied().max().unwrap_or(0);
        let one = |pace, distinct| Workload {
            pace,
            requests: self.requests,
            choice: if self.uniform {
                Choice::Uniform
            } else {
                Choice::Zipf(self.zipf)
            },
            distinct,
            registered: self.registered.unwrap_or(most),
            base_share: self.base_share,
            prompt: self.prompt,
            output: self.output,
            start: if self.cold { Start::Cold } else { Start::Warm },
            repeats: self.repeats,
            seed: self.seed,
        };
        let distinct = self.distinct.iter();
        distinct
            .flat_map(|&distinct| paces.iter().map(move |&pace| one(pace, distinct)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        engine: EngineBenchArgs,
    }

    fn parse(line: &str) -> EngineBenchArgs {
        Program::parse_from(line.split(' ')).engine
    }

    #[test]
    fn each_rate_and_number_of_adapters_should_be_a_load_of_its_own() {
        let args = parse("bench --rate 2.5,5 --distinct 1,64 --prompt 8-16 --cold");
        let loads = args.workloads();
        let shown: Vec<_> = loads.iter().map(|w| (w.distinct, w.pace)).collect();
        let open = |rate| Pace::Open { rate };
        assert_eq!(
            shown,
            [
                (1, open(2.5)),
                (1, open(5.0)),
                (64, open(2.5)),
                (64, open(5.0))
            ]
        );
        assert!(loads
            .iter()
            .all(|w| w.registered == 64 && w.start == Start::Cold));
        assert_eq!(loads[0].prompt, Lengths { min: 8, max: 16 });
        assert!(args.wants(Part::Bars) && args.wants(Part::Registered));
    }

    #[test]
    fn without_a_rate_the_loop_should_be_closed() {
        let loads = parse("bench --clients 1,4 --uniform --only load").workloads();
        let paces: Vec<_> = loads.iter().map(|w| w.pace).collect();
        assert_eq!(
            paces,
            [Pace::Closed { clients: 1 }, Pace::Closed { clients: 4 }]
        );
        assert_eq!(loads[0].choice, Choice::Uniform);
        assert!(!parse("bench --only load").wants(Part::Bars));
        assert!(lengths("4-x").is_err());
    }
}
