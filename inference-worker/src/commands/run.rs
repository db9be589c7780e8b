//! `run`: serves until it is told to stop.

use crate::{
    api,
    cli::RunArgs,
    metrics,
    serve::{
        catalog::{lay_out, Catalog, Follower},
        continuations::Continuations,
        facts::Facts,
        liveness,
        promises::Promises,
        rules::Rules,
        settlement, Inner, Service,
    },
};
use anyhow::{bail, Context, Result};
use openledger_chain::{
    apis::models::GetBase, AccountId, ChainClient, Key, Submitter, SubmitterOptions,
};
use openledger_engine::{Engine, EngineOptions};
use openledger_metering::Journal;
use openledger_model::{ModelConfig, Weights};
use openledger_store::Store;
use openledger_text::TextModel;
use std::time::Duration;
use tokio::{net::TcpListener, signal};

pub async fn run(args: RunArgs) -> Result<()> {
    metrics::install(args.metrics)?;
    let worker: AccountId = args.worker.parse().map_err(anyhow::Error::msg)?;
    let key = Key::from_file(&args.service_key)
        .with_context(|| format!("the service key in {}", args.service_key.display()))?;
    std::fs::create_dir_all(&args.data)?;
    let journal = Journal::open(&args.data.join("journal.redb"))?;
    let client = ChainClient::connect_within(&args.chain.url, Duration::from_secs(60)).await?;
    let key_index = key_index(&client, worker, &key).await?;
    let rules = Rules::read(&client, args.settle_every).await?;
    let store = Store::open(&args.store)?;
    let base = client
        .query(&GetBase { base: args.base })
        .await?
        .with_context(|| format!("base {} is not on this chain", args.base))?;
    let folder = lay_out(&store, &args.data.join("models"), "base", &base.manifest)?;
    let config = ModelConfig::from_dir(&folder)?;
    let text = TextModel::from_dir(&folder)?;
    let engine = Engine::start(
        &config,
        Weights::load(&folder, &config)?,
        EngineOptions {
            kv_pages: args.kv_pages,
            max_running: args.max_batch,
            max_step_rows: args.max_batch.saturating_mul(4).max(256),
            batch_window: Duration::from_millis(args.batch_window),
            ..EngineOptions::default()
        },
    )?;
    let service = Service::new(Inner {
        worker,
        key_index,
        rules,
        submitter: Submitter::start(client.clone(), key.clone(), SubmitterOptions::default()),
        key,
        facts: Facts::new(client.clone(), worker).await?,
        catalog: Catalog::default(),
        engine: engine.clone(),
        text: text.clone(),
        journal,
        continuations: Continuations::default(),
        promises: Promises::default(),
        client: client.clone(),
    });
    let mut follower = Follower {
        base: args.base,
        client,
        store,
        folder: args.data.join("models"),
        engine,
        text,
        next: 0,
        waiting: Vec::new(),
    };
    follower.follow(&service.catalog).await?;
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("listen on {}", args.listen))?;
    tokio::spawn(liveness::run(service.clone(), follower));
    tokio::spawn(settlement::run(service.clone()));
    tracing::info!(
        %worker,
        listen = %args.listen,
        metrics = %args.metrics,
        settle_every = rules.settle_every.as_secs(),
        "serving"
    );
    axum::serve(listener, api::router(service))
        .with_graceful_shutdown(stop())
        .await?;
    Ok(())
}

/// The index by which receipts name the key.
async fn key_index(client: &ChainClient, worker: AccountId, key: &Key) -> Result<u16> {
    let Some(info) = client.worker(worker).await? else {
        bail!("{worker} is not a worker; register it with `openledger-worker join`");
    };
    info.service_keys
        .iter()
        .find(|service| service.account == key.account())
        .map(|service| service.index)
        .with_context(|| {
            format!(
                "{} is not a service key of {worker}; add it with the call workers.setServiceKey",
                key.account()
            )
        })
}

/// Resolves at Ctrl-C or SIGTERM.
async fn stop() {
    let interrupt = signal::ctrl_c();
    let mut terminate = match signal::unix::signal(signal::unix::SignalKind::terminate()) {
        Ok(signal) => signal,
        Err(error) => {
            tracing::error!(%error, "SIGTERM cannot be watched");
            let _ = interrupt.await;
            return;
        }
    };
    tokio::select! {
        _ = interrupt => {}
        _ = terminate.recv() => {}
    }
    tracing::info!("stopping: open answers end first, what was delivered is journaled");
}
