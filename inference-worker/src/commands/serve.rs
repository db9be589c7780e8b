//! `serve`: the engine behind OpenAI's API, without a chain.

use super::run::{arena_pages, stop, MIB};
use crate::cli::{NamedAdapter, ServeArgs};
use anyhow::{bail, ensure, Context, Result};
use openledger_engine::{Engine, EngineOptions};
use openledger_http::{room_for, Front, Limits};
use openledger_model::{Checkpoint, ModelConfig};
use openledger_serving::{loading, metrics, Keys, Models, Options, Server};
use openledger_text::TextModel;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{net::TcpListener, sync::oneshot};

pub async fn run(args: ServeArgs) -> Result<()> {
    let name = match &args.name {
        Some(name) => name.clone(),
        None => name_of(&args.base)?,
    };
    let keys = |file: &Option<PathBuf>| file.as_deref().map(Keys::from_file).transpose();
    let options = Options {
        keys: keys(&args.api_key_file)?,
        admin: keys(&args.admin_key_file)?,
        metrics: Some(metrics::install().context("the metrics")?),
        limits: Limits {
            connections: room_for(args.max_connections.max(1)),
            grace: Duration::from_secs(args.grace),
            ..Limits::default()
        },
        queue_timeout: Duration::from_secs(args.queue_timeout),
        ..Options::default()
    };
    if options.keys.is_none() && !args.listen.ip().is_loopback() {
        tracing::warn!(
            listen = %args.listen,
            "whoever reaches this address is answered; ask for keys by --api-key-file"
        );
    }
    if options.admin.is_some() && args.adapters.is_none() {
        bail!(
            "--admin-key-file lets adapters be loaded from below --adapters: name that folder too"
        );
    }
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("listen on {}", args.listen))?;
    tracing::info!(listen = %listener.local_addr()?, "listening; the base model is being loaded");
    let front = Front::new(
        listener,
        options.limits.clone(),
        loading(options.metrics.clone()),
    );
    let stop = stop();
    tokio::pin!(stop);
    let loaded = load(move || start(&args, &name, options))?;
    let loaded = tokio::select! {
        loaded = front.wait_for(loaded) => loaded,
        // There is no answer to wait for.
        () = &mut stop => return Ok(()),
    };
    let (server, pins) = loaded.context("loading ended without a result")??;
    tracing::info!("serving");
    let warm = server.clone();
    let warming = tokio::spawn(async move { warm.warm_up().await });
    for (name, pin) in pins {
        // It waits for room as long as there is none.
        tokio::task::spawn_blocking(move || match pin() {
            Ok(()) => tracing::info!(name, "pinned"),
            Err(error) => tracing::warn!(name, "--pin: {error:#}"),
        });
    }
    let serving = server.serve(front, stop);
    tokio::pin!(serving);
    tokio::select! {
        () = &mut serving => {}
        warm = warming => {
            warm.context("the first token")??;
            serving.await;
        }
    }
    Ok(())
}

/// Runs `work` on a thread of its own. A blocking task of the runtime would hold up the end of the process
/// until it is through.
pub(super) fn load<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<oneshot::Receiver<T>> {
    let (done, loaded) = oneshot::channel();
    std::thread::Builder::new()
        .name("loading".into())
        .spawn(move || {
            // Nobody waits any more when the process is told to stop meanwhile.
            let _ = done.send(work());
        })?;
    Ok(loaded)
}

type Pin = Box<dyn FnOnce() -> Result<()> + Send>;

/// Loads everything.
fn start(args: &ServeArgs, name: &str, options: Options) -> Result<(Server, Vec<(String, Pin)>)> {
    let config = ModelConfig::from_dir(&args.base)
        .with_context(|| format!("the base model in {}", args.base.display()))?;
    let weights = Checkpoint::open(&args.base, &config)?;
    let text = TextModel::from_dir(&args.base)?;
    let (backend, tensor_parallel) = args.device.backend()?;
    let pages = |mib| arena_pages(&config, &backend, mib);
    let engine = Engine::start(
        &config,
        weights,
        EngineOptions {
            backend: backend.clone(),
            tensor_parallel,
            threads: args.threads,
            max_context: args.max_context,
            arena_pages: args.device_memory.map(pages),
            host_bytes: args.host_memory.saturating_mul(MIB),
            max_running: args.max_batch,
            max_step_rows: args.max_batch.saturating_mul(4).max(256),
            max_requests: args.max_requests,
            max_tenant_requests: args.key_requests.unwrap_or(args.max_requests),
            batch_window: Duration::from_millis(args.batch_window),
            ..EngineOptions::default()
        },
    )?;
    let models = Models::new(&engine, name, args.adapters.as_deref())?;
    let found = match &args.adapters {
        Some(folder) => folders_in(folder)?,
        None => Vec::new(),
    };
    ensure!(
        (args.adapter.is_empty() && found.is_empty()) || engine.has_room_for_adapters(),
        "--device-memory is too little: beside one context nothing is left for an adapter"
    );
    // What the operator names must be there. Of what lies in a folder, one bad adapter stops no other.
    for NamedAdapter { name, folder } in &args.adapter {
        models
            .load(name, folder, false)
            .with_context(|| format!("the adapter `{name}` in {}", folder.display()))?;
    }
    let mut refused = 0;
    for NamedAdapter { name, folder } in &found {
        if let Err(error) = models.load_or_refuse(name, folder) {
            refused += 1;
            let folder = folder.display();
            tracing::warn!(name, %folder, "an adapter is refused and not served: {error}");
        }
    }
    let adapters = models.adapters().len();
    tracing::info!(base = name, adapters, refused, "loaded");
    let mut pins: Vec<(String, Pin)> = Vec::new();
    for name in &args.pin {
        let target = models
            .find(name)
            .with_context(|| format!("--pin {name}: no such adapter was loaded"))?;
        let id = target
            .adapter()
            .with_context(|| format!("--pin {name}: the base model always stays"))?;
        let engine = engine.clone();
        pins.push((name.clone(), Box::new(move || Ok(engine.pin_adapter(id)?))));
    }
    Ok((Server::new(engine, text, models, options), pins))
}

/// A folder's own name.
fn name_of(folder: &Path) -> Result<String> {
    let whole = folder
        .canonicalize()
        .with_context(|| format!("the base model in {}", folder.display()))?;
    let name = whole.file_name().and_then(|name| name.to_str());
    let name = name.context("the folder of the base has no name; give one by --name")?;
    Ok(name.to_owned())
}

/// The adapters in a folder, by name. Links and hidden folders are passed over.
fn folders_in(folder: &Path) -> Result<Vec<NamedAdapter>> {
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("the adapters in {}", folder.display()))?;
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else {
            continue;
        };
        let folder = entry.path();
        if entry.file_type()?.is_dir() && folder.join("adapter_config.json").is_file() {
            found.push(NamedAdapter {
                name: name.to_owned(),
                folder,
            });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_folder_with_an_adapter_is_one_by_its_name() {
        let parent = tempfile::tempdir().unwrap();
        for name in ["b", "a", ".hidden", "empty"] {
            std::fs::create_dir(parent.path().join(name)).unwrap();
            if name != "empty" {
                std::fs::write(parent.path().join(name).join("adapter_config.json"), "{}").unwrap();
            }
        }
        std::os::unix::fs::symlink(parent.path().join("a"), parent.path().join("link")).unwrap();
        let found = folders_in(parent.path()).unwrap();
        let names: Vec<&str> = found.iter().map(|adapter| adapter.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn an_adapter_is_written_as_name_and_folder() {
        let adapter: NamedAdapter = "law=/models/law=2".parse().unwrap();
        assert_eq!(
            (adapter.name.as_str(), adapter.folder.to_str()),
            ("law", Some("/models/law=2"))
        );
        for wrong in ["law", "=dir", "law="] {
            assert!(wrong.parse::<NamedAdapter>().is_err());
        }
    }
}
