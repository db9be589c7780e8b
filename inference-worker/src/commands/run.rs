//! `run`: serves until it is told to stop.

use super::serve::load;
use crate::{
    api,
    cli::RunArgs,
    metrics,
    serve::{
        catalog::{lay_out, Allowed, Catalog, Follower, LeastPrices, Loader, Pins},
        continuations::Continuations,
        facts::Facts,
        liveness,
        promises::Promises,
        rules::Rules,
        settlement, Inner, Service,
    },
};
use anyhow::{bail, ensure, Context, Result};
use openledger_chain::{
    apis::models::GetBase, AccountId, ChainClient, Key, Submitter, SubmitterOptions,
};
use openledger_engine::{
    backend::{cpu::CpuBackend, cuda::arena::page_bytes},
    BackendOptions, Engine, EngineOptions,
};
use openledger_http::{room_for, Front, Limits};
use openledger_metering::Journal;
use openledger_model::{Checkpoint, ModelConfig};
use openledger_serving::guide::Guides;
use openledger_text::TextModel;
use std::{
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::Path,
    time::Duration,
};
use tokio::{
    net::TcpListener,
    runtime::Handle,
    signal,
    sync::{oneshot, watch},
};

/// How long answers under way may take to end after a failure.
const LAST_ANSWERS: Duration = Duration::from_secs(10);

/// How long loading may take to end when it is told to stop.
const LAST_LOADING: Duration = Duration::from_secs(1);

/// Connections at most; each request of a gateway has one. The engine takes no more requests either.
const CONNECTIONS: usize = 4096;

/// How long a connection may be idle: longer than gateways keep one for their next request, so that
/// none is hung up on as it sends one.
const IDLE: Duration = Duration::from_secs(120);

/// Bytes of a MiB.
pub(super) const MIB: usize = 1 << 20;

/// Pages of the engine's arena that fit into so many MiB.
pub(super) fn arena_pages(config: &ModelConfig, backend: &BackendOptions, mib: usize) -> u32 {
    let pages = mib.saturating_mul(MIB) / page_bytes_of(config, backend);
    u32::try_from(pages).unwrap_or(u32::MAX)
}

/// Bytes of a page of the arena, of all ranks together.
pub(super) fn page_bytes_of(config: &ModelConfig, backend: &BackendOptions) -> usize {
    let bytes = match backend {
        BackendOptions::Cpu => CpuBackend::page_bytes_of(config),
        BackendOptions::Cuda(cuda) => page_bytes(config, cuda.storage),
    };
    bytes.max(1)
}

pub async fn run(args: RunArgs) -> Result<()> {
    let metrics = metrics::install(args.metrics).await?;
    let worker: AccountId = args.worker.parse().map_err(anyhow::Error::msg)?;
    let key = Key::from_file(&args.service_key)
        .with_context(|| format!("the service key in {}", args.service_key.display()))?;
    make_private(&args.data)?;
    let journal = args.data.join("journal.redb");
    if !journal.exists() {
        tracing::info!(
            journal = %journal.display(),
            "there is no journal here: a new one begins. If this worker has served before, stop it \
             and give --data the folder that it had; what it is still owed is in the journal there"
        );
    }
    let journal = Journal::open(&journal)?;
    if args.retry_parked {
        let lanes = journal.unpark()?;
        tracing::info!(lanes, "parked lanes are tried again");
    }
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("listen on {}", args.listen))?;
    tracing::info!(
        listen = %listener.local_addr()?,
        %metrics,
        "listening; the base model is being loaded"
    );
    let limits = Limits {
        connections: room_for(CONNECTIONS, 1),
        idle_timeout: IDLE,
        // What was paid for is answered, however long it takes; after a failure `cut_off` ends it.
        grace: Duration::MAX,
        ..Limits::default()
    };
    let front = Front::new(listener, limits, api::loading());
    let stop = stop("open answers end first, what was delivered is journaled");
    tokio::pin!(stop);
    let runtime = Handle::current();
    let (loads, given_up) = oneshot::channel::<()>();
    let mut started = load(move || {
        runtime.block_on(async {
            tokio::select! {
                biased;
                // Nothing is sent: it resolves when the other end is dropped.
                _ = given_up => None,
                started = start(args, worker, key, journal) => Some(started),
            }
        })
    })?;
    let loaded = tokio::select! {
        loaded = front.wait_for(&mut started) => loaded,
        // There is no answer to wait for.
        () = &mut stop => {
            drop(loads);
            // What waits ends at once, and closes the journal. What computes or reads is not waited for, nor
            // may it outlive the runtime that it is on.
            let _ = tokio::time::timeout(LAST_LOADING, &mut started).await;
            std::process::exit(0)
        }
    };
    let started = loaded.ok().flatten();
    let (service, follower, pins) = started.context("loading ended without a result")??;
    let settle_every = service.rules.settle_every.as_secs();
    tracing::info!(%worker, settle_every, "serving");
    let engine = service.engine.clone();
    let (fails, failure) = watch::channel(None);
    tokio::spawn(guard(service.clone(), follower, pins, fails));
    let stopping = async {
        tokio::select! {
            () = stop => {}
            () = failed(failure.clone()) => {}
        }
    };
    let server = front.serve(api::router(service), stopping);
    let cut_off = async {
        failed(failure.clone()).await;
        tokio::time::sleep(LAST_ANSWERS).await;
    };
    tokio::select! {
        () = server => {}
        () = cut_off => {}
    }
    // Whoever waits for an adapter to be pinned is told, and does not hold up the end.
    engine.shutdown();
    let why = failure.borrow().clone();
    match why {
        Some(why) => bail!("{why}; start the worker again"),
        None => Ok(()),
    }
}

/// Loads everything.
async fn start(
    args: RunArgs,
    worker: AccountId,
    key: Key,
    journal: Journal,
) -> Result<(Service, Follower, Pins)> {
    let client = ChainClient::connect_within(&args.chain.url, Duration::from_secs(60)).await?;
    let key_index = key_index(&client, worker, &key).await?;
    let rules = Rules::read(&client, args.settle_every).await?;
    let store = args.store.open()?;
    let base = client
        .query(&GetBase { base: args.base })
        .await?
        .with_context(|| {
            format!(
                "base {} is not on this chain; a new chain has none: register one with the call \
                 models.registerBase, or choose another with --base",
                args.base
            )
        })?;
    let folder = lay_out(&store, &args.data.join("models"), "base", &base.manifest)?;
    let config = ModelConfig::from_dir(&folder)?;
    let text = TextModel::from_dir(&folder)?;
    let (backend, tensor_parallel) = args.device.backend()?;
    let pages = |mib| arena_pages(&config, &backend, mib);
    let engine = Engine::start(
        &config,
        Checkpoint::open(&folder, &config)?,
        EngineOptions {
            arena_pages: args.device_memory.map(pages),
            backend: backend.clone(),
            host_bytes: args.host_memory.saturating_mul(MIB),
            max_tenant_requests: args.channel_requests,
            max_running: args.max_batch,
            max_step_rows: args.max_batch.saturating_mul(4).max(256),
            batch_window: Duration::from_millis(args.batch_window),
            tensor_parallel,
            ..EngineOptions::default()
        },
    )?;
    ensure!(
        engine.has_room_for_adapters(),
        "--device-memory is too little: beside one context nothing is left for an adapter"
    );
    let service = Service::new(Inner {
        worker,
        key_index,
        rules,
        submitter: Submitter::start(client.clone(), key.clone(), SubmitterOptions::default()),
        key,
        facts: Facts::new(client.clone(), worker).await?,
        catalog: Catalog::default(),
        engine: engine.clone(),
        backend: args.device.device.class(),
        guides: Guides::new(&text, &config),
        text: text.clone(),
        journal,
        continuations: Continuations::default(),
        promises: Promises::default(),
        client: client.clone(),
    });
    let models = args.data.join("models");
    let source_bytes = args.source_memory.saturating_mul(MIB as u64);
    let loader = Loader::new(
        client.clone(),
        store,
        models,
        engine.clone(),
        text,
        &folder,
        source_bytes,
    )?;
    let least = LeastPrices {
        input: args.min_price_in,
        output: args.min_price_out,
    };
    let allowed = Allowed::new(&args.models, least);
    let mut follower = Follower::new(client, loader, args.base, base.manifest, allowed);
    follower.follow(&service.catalog).await?;
    let mut pins = Pins::new(&args.pin);
    pins.apply(&service.catalog, &engine);
    for entry in follower.idle_entries() {
        tracing::warn!("--models {entry}: nothing on chain has this name or number yet");
    }
    Ok((service, follower, pins))
}

/// Runs the loops beside the requests; tells when something ended that nothing can be served without.
async fn guard(
    service: Service,
    follower: Follower,
    pins: Pins,
    fails: watch::Sender<Option<String>>,
) {
    let why = tokio::select! {
        panic = service.engine.ended() => match panic {
            Some(panic) => format!("the engine's thread panicked: {panic}"),
            None => "the engine's thread has ended".into(),
        },
        ended = liveness::run(service.clone(), follower, pins) => format!("{ended} has ended"),
        _ = tokio::spawn(settlement::run(service.clone())) => "settlement has ended".into(),
    };
    tracing::error!("{why}: nothing new can be served, stopping");
    fails.send_replace(Some(why));
}

/// Resolves when something failed, never otherwise.
async fn failed(mut failure: watch::Receiver<Option<String>>) {
    if failure.wait_for(Option::is_some).await.is_err() {
        // The guard itself is gone: with the runtime, as the process ends.
        std::future::pending::<()>().await;
    }
}

/// Makes the folder, for its owner only: the journal tells who asked what, and is money. One that is
/// there is the operator's to open or close.
fn make_private(folder: &Path) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("create {}", folder.display()))?;
    let mode = std::fs::metadata(folder)?.permissions().mode();
    if mode & 0o077 != 0 {
        tracing::warn!(
            folder = %folder.display(),
            "other users of this machine may enter the data folder; close it with `chmod 700`"
        );
    }
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

/// Resolves at Ctrl-C or SIGTERM; `meanwhile` says what comes before the end.
pub(super) async fn stop(meanwhile: &str) {
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
    tracing::info!("stopping: {meanwhile}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_data_folder_is_its_owners_only() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("worker/data");
        make_private(&folder).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        // One that is there stays as the operator made it.
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o750)).unwrap();
        make_private(&folder).unwrap();
        assert_eq!(mode(&folder), 0o750);
    }
}
