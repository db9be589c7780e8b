//! `openledger-gateway`: an OpenAI endpoint in front of a payment channel.

mod cli;

use anyhow::{bail, Context, Result};
use clap::Parser;
use cli::{Cli, Command};
use metrics_exporter_prometheus::PrometheusBuilder;
use openledger_chain::{amount::in_open, AccountId, ChainClient, Key, Submitter, SubmitterOptions};
use openledger_gateway::{
    api::{self, Access, ApiKey},
    commands::{self, Close},
    lanes::LaneStore,
    Gateway, GatewayError, MaxPrice, Settings,
};
use openledger_http::{metrics, room_for, Front, Limits};
use openledger_primitives::ChannelId;
use openledger_store::{Remote, RemoteOptions, Store, StoreOptions};
use std::{net::SocketAddr, path::Path, time::Duration};
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

/// How long the programs wait for a node that is still starting.
const NODE_PATIENCE: Duration = Duration::from_secs(60);

/// Environment variable with the API key that clients must send.
const API_KEY: &str = "OPENLEDGER_API_KEY";

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(
            EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")),
        )
        .with_writer(std::io::stderr)
        // Colours are for people: a journal or a file would keep their codes.
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
    match Cli::parse().command {
        Command::Run(options) => run(options).await,
        Command::OpenChannel(options) => open_channel(options).await,
        Command::Deposit(options) => deposit(options).await,
        Command::Close(options) => close(options).await,
        Command::Status(options) => status(options).await,
        Command::Lanes(options) => lanes(&options),
        Command::Release(options) => release(options).await,
    }
}

async fn connect(chain: &cli::Chain) -> Result<ChainClient> {
    Ok(ChainClient::connect_within(&chain.url, NODE_PATIENCE).await?)
}

fn submitter(chain: &ChainClient, key: &Path) -> Result<Submitter> {
    Ok(Submitter::start(
        chain.clone(),
        Key::from_file(key)?,
        SubmitterOptions::default(),
    ))
}

async fn run(options: cli::Run) -> Result<()> {
    let key = match (&options.api_key, std::env::var(API_KEY)) {
        (Some(path), _) => Some(ApiKey::from_file(path)?),
        (None, Ok(key)) => Some(ApiKey::new(&key).context(API_KEY)?),
        (None, Err(_)) => None,
    };
    let access = Access::new(options.listen, options.allow_host, key)?;
    let handle = metrics::install(PrometheusBuilder::new())?;
    let remote = options
        .remote
        .map(|url| Remote::connect(RemoteOptions::new(url, options.remote_endpoint)))
        .transpose()?;
    let behind = StoreOptions {
        remote,
        cache_bytes: None,
    };
    let store = Store::open_with(&options.store, behind)?;
    // A request does not wait long for a lost node: what is known serves for a while.
    let chain = connect(&options.chain)
        .await?
        .with_patience(Duration::from_secs(3));
    let gateway = Gateway::start(
        chain,
        Settings {
            key: Key::from_file(&options.key)?,
            channel: options.channel,
            store,
            data: options.data,
            queue: options.queue,
            patience: Duration::from_secs(options.patience),
            voucher_life: options.voucher_life,
            max_price: MaxPrice {
                input: options.max_price_in,
                output: options.max_price_out,
            },
        },
    )
    .await?;
    match gateway.warm().await {
        // Better said now than to the first who asks.
        Err(error @ GatewayError::Text(_)) => bail!(
            "{error}; give the store of the publisher or the worker with --store, or bring the base in \
             with `openledger-worker put --kind base`"
        ),
        Err(error) => tracing::warn!(%error, "the worker's models are not known yet"),
        Ok(0) => tracing::warn!("the worker serves no models"),
        Ok(_) => {}
    }
    if let Some(address) = options.metrics {
        metrics::serve(address, handle.clone())
            .await
            .with_context(|| format!("cannot serve metrics on {address}"))?;
    }
    let listener = TcpListener::bind(options.listen)
        .await
        .with_context(|| format!("cannot serve on {}", options.listen))?;
    tracing::info!(
        channel = gateway.channel(),
        "serving the OpenAI API on http://{}/v1",
        listener.local_addr()?
    );
    let limits = Limits {
        // One that is answered takes a file to its client and one to the worker.
        connections: room_for(options.max_connections, 2),
        // What was paid for is delivered, however long it takes.
        grace: Duration::MAX,
        ..Limits::default()
    };
    let router = api::router(gateway, access, handle);
    let front = Front::new(listener, limits, router.clone());
    front.serve(router, stop_signal()).await;
    Ok(())
}

/// Resolves on Ctrl-C or SIGTERM.
async fn stop_signal() {
    use tokio::signal::unix::{signal, SignalKind};
    let terminate = async {
        match signal(SignalKind::terminate()) {
            Ok(mut stream) => {
                stream.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminate => {}
    }
}

async fn open_channel(options: cli::OpenChannel) -> Result<()> {
    let chain = connect(&options.chain).await?;
    let submitter = submitter(&chain, &options.account_key)?;
    let wanted = commands::Open {
        signer: Key::load_or_generate(&options.key)?,
        worker: match (options.worker, options.revision) {
            (Some(worker), _) => Ok(worker),
            (None, Some(revision)) => Err(revision),
            (None, None) => anyhow::bail!("name a worker or a revision"),
        },
        deposit: options.deposit,
        lanes: options.lanes,
        limit: options.limit.unwrap_or(options.deposit),
        blocks: options.blocks,
        data: options.data.clone(),
    };
    let opened = commands::open(&chain, &submitter, &wanted).await?;
    println!(
        "channel {} with worker {} is open (block {})",
        opened.channel, opened.worker, opened.block
    );
    if opened.found {
        println!("an earlier run had opened it: no other was opened, whatever was asked for now");
    }
    let models = chain.served_by(opened.worker).await?;
    let model = match models.last() {
        Some(revision) => chain
            .revision(*revision)
            .await?
            .map_or_else(|| revision.to_string(), |info| info.label()),
        None => "MODEL".to_owned(),
    };
    println!("serve it:");
    println!(
        "  openledger-gateway run --chain {} --key {} --data {} --listen {} --store DIR",
        options.chain.url,
        options.key.display(),
        options.data.display(),
        options.listen
    );
    println!("ask:");
    println!("  {}", curl(options.listen, &model));
    Ok(())
}

fn curl(listen: SocketAddr, model: &str) -> String {
    format!(
        "curl http://{listen}/v1/chat/completions -H 'content-type: application/json' -d '{}'",
        serde_json::json!({
            "model": model,
            "messages": [{"role": "user", "content": "Who built the lighthouse?"}],
            "temperature": 0,
        })
    )
}

async fn deposit(options: cli::Deposit) -> Result<()> {
    let chain = connect(&options.chain).await?;
    let submitter = submitter(&chain, &options.account_key)?;
    commands::deposit(&chain, &submitter, options.channel, options.amount).await?;
    println!(
        "added {} OPEN to channel {}",
        in_open(options.amount),
        options.channel
    );
    Ok(())
}

async fn close(options: cli::Close) -> Result<()> {
    let chain = connect(&options.chain).await?;
    let submitter = submitter(&chain, &options.account_key)?;
    match commands::close(&chain, &submitter, options.channel).await? {
        Close::Until(block) => println!(
            "channel {} is closing: its worker may claim until block {block}; run this again after it",
            options.channel
        ),
        Close::Finished => println!(
            "channel {} is closed, what was left of its deposit is free",
            options.channel
        ),
    }
    Ok(())
}

async fn status(options: cli::Status) -> Result<()> {
    let chain = connect(&options.chain).await?;
    let store = LaneStore::open(&options.data)?;
    let channel = noted(&store, options.channel)?;
    let status = commands::status(&chain, channel, store.lanes(channel)?).await?;
    match &status.channel {
        Some(info) => println!(
            "channel {channel}: {} OPEN left, worker {}, {}",
            in_open(info.free_deposit),
            info.worker,
            if info.is_open() { "open" } else { "closing" }
        ),
        None => println!("channel {channel} is not on chain"),
    }
    for lane in &status.lanes {
        let (sequence, charged, standing) = match &lane.state {
            Some(state) => (
                state.position.sequence,
                state.position.cumulative,
                commands::standing(state),
            ),
            None => (0, 0, "never used here".to_owned()),
        };
        println!(
            "  lane {}: {sequence} requests, {} OPEN charged, {} OPEN claimed, {standing}",
            lane.lane,
            in_open(charged),
            in_open(lane.claimed)
        );
    }
    print_losses(&store)
}

/// What each worker charged for what did not come.
fn print_losses(store: &LaneStore) -> Result<()> {
    for (worker, breakage) in store.breakages()? {
        println!(
            "worker {}: {}",
            AccountId(worker),
            commands::losses(&breakage)
        );
    }
    Ok(())
}

/// The channel that is named, or that the data folder notes.
fn noted(store: &LaneStore, named: Option<ChannelId>) -> Result<ChannelId> {
    match named {
        Some(channel) => Ok(channel),
        None => store
            .channel()?
            .context("the data folder notes no channel; name one with --channel"),
    }
}

fn lanes(options: &cli::Lanes) -> Result<()> {
    let store = LaneStore::open(&options.data)?;
    let channel = noted(&store, options.channel)?;
    let lanes = store.lanes(channel)?;
    if lanes.is_empty() {
        println!("no lane of channel {channel} was used here yet");
    }
    for (lane, state) in lanes {
        println!(
            "lane {lane}: {} requests, {} OPEN acknowledged, {}",
            state.position.sequence,
            in_open(state.position.cumulative),
            commands::standing(&state)
        );
    }
    print_losses(&store)
}

async fn release(options: cli::Release) -> Result<()> {
    let store = LaneStore::open(&options.data)?;
    let channel = noted(&store, options.channel)?;
    let chain = connect(&options.chain).await?;
    let key = Key::from_file(&options.key)?;
    let lane = options.lane;
    let release = commands::look(&chain, &store, channel, lane, &key).await?;
    match &release.pays {
        None => println!("the worker stands where this gateway does: lane {lane} costs nothing"),
        Some((_, signed)) => println!(
            "lane {lane} goes on when receipt 0x{} is acknowledged, which charges {} OPEN for {} prompt and {} output tokens",
            hex::encode(signed.receipt.hash()),
            in_open(release.costs),
            signed.receipt.tokens_in,
            signed.receipt.tokens_out
        ),
    }
    if options.yes {
        commands::release(&store, channel, lane, &release)?;
        println!("lane {lane} is in use again");
    } else {
        println!("nothing is changed; run it again with --yes to do it");
    }
    Ok(())
}
