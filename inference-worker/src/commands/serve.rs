//! `serve`: the engine behind OpenAI's API, without a chain.

use super::folders::{check_base, name_of, Found};
use super::run::{arena_pages, page_bytes_of, stop, MIB};
use crate::cli::{NamedAdapter, ServeArgs};
use anyhow::{bail, ensure, Context, Result};
use openledger_engine::{kv::pages_for, Engine, EngineOptions};
use openledger_http::{room_for, Front, Limits};
use openledger_model::{Checkpoint, ModelConfig};
use openledger_serving::{loading, metrics, Keys, Models, Options, Server};
use openledger_text::TextModel;
use std::{path::PathBuf, time::Duration};
use tokio::{net::TcpListener, sync::oneshot};

pub async fn run(args: ServeArgs) -> Result<()> {
    check_base(&args.base)?;
    let found = match &args.adapters {
        Some(folder) => Found::look(folder)?,
        None => Found::default(),
    };
    found.tell();
    check_names(&args)?;
    let name = match &args.name {
        Some(name) => name.clone(),
        None => name_of(&args.base)?,
    };
    let keys = |file: &Option<PathBuf>| file.as_deref().map(Keys::from_file).transpose();
    let options = Options {
        keys: keys(&args.api_key_file)?,
        admin: keys(&args.admin_key_file)?,
        metrics: Some(metrics::install(&name).context("the metrics")?),
        limits: Limits {
            connections: room_for(args.max_connections.max(1), 1),
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
    let stop = stop("open answers end first");
    tokio::pin!(stop);
    let loaded = load(move || start(&args, found, &name, options))?;
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

/// Refuses a name that is given twice.
fn check_names(args: &ServeArgs) -> Result<()> {
    for (at, NamedAdapter { name, .. }) in args.adapter.iter().enumerate() {
        let twice = args
            .adapter
            .iter()
            .skip(at + 1)
            .any(|other| other.name == *name);
        ensure!(
            !twice,
            "--adapter {name} is given twice: each adapter has a name of its own"
        );
    }
    Ok(())
}

/// MiB for one context, and a page for an adapter.
fn least_memory(context: usize, page_bytes: usize) -> usize {
    (pages_for(context) + 1)
        .saturating_mul(page_bytes)
        .div_ceil(MIB)
}

type Pin = Box<dyn FnOnce() -> Result<()> + Send>;

/// Loads everything.
fn start(
    args: &ServeArgs,
    found: Found,
    name: &str,
    options: Options,
) -> Result<(Server, Vec<(String, Pin)>)> {
    let config = ModelConfig::from_dir(&args.base)
        .with_context(|| format!("the base model in {}", args.base.display()))?;
    let weights = Checkpoint::open(&args.base, &config)?;
    let text = TextModel::from_dir(&args.base)?;
    let (backend, tensor_parallel) = args.device.backend()?;
    if let Some(asked) = args
        .max_context
        .filter(|asked| *asked > config.max_position_embeddings)
    {
        let context = config.max_position_embeddings;
        tracing::warn!(
            asked,
            context,
            "--max-context is above the model's own context, which is kept to"
        );
    }
    let context = args.max_context.unwrap_or(usize::MAX);
    let context = context.min(config.max_position_embeddings);
    let pages = |mib| arena_pages(&config, &backend, mib);
    let least = least_memory(context, page_bytes_of(&config, &backend));
    let little = format!(
        "--device-memory is too little: {least} MiB are the least for a context of {context} tokens and an \
         adapter beside it; shorter contexts by --max-context take less"
    );
    ensure!(args.device_memory.map(pages) != Some(0), little);
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
    ensure!(
        (args.adapter.is_empty() && found.adapters.is_empty()) || engine.has_room_for_adapters(),
        little
    );
    // What the operator names must be there. Of what lies in a folder, one bad adapter stops no other.
    for NamedAdapter { name, folder } in &args.adapter {
        models
            .load(name, folder, false)
            .with_context(|| format!("the adapter `{name}` in {}", folder.display()))?;
    }
    let mut refused = 0;
    for NamedAdapter { name, folder } in &found.adapters {
        if models.find(name).is_some() {
            tracing::warn!(
                name,
                "passed over in --adapters: what is named by --adapter or --base has that name"
            );
            continue;
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    fn args(more: &[&str]) -> ServeArgs {
        let words = ["openledger-worker", "serve", "--base", "b"];
        let words = words.iter().chain(more);
        match Cli::try_parse_from(words).unwrap().command {
            Command::Serve(args) => args,
            _ => panic!("it is serve"),
        }
    }

    #[test]
    fn a_name_that_is_given_twice_is_refused() {
        let one = args(&["--adapter", "law=a", "--adapter", "code=b"]);
        check_names(&one).unwrap();
        let two = args(&["--adapter", "law=a", "--adapter", "law=b"]);
        let error = check_names(&two).unwrap_err().to_string();
        assert!(
            error.contains("law") && !error.contains("load_inplace"),
            "{error}"
        );
    }

    #[test]
    fn the_least_memory_holds_a_context_and_an_adapter() {
        // 64 tokens are four pages.
        assert_eq!(least_memory(64, MIB), 5);
        assert_eq!(least_memory(65, MIB / 2), 3);
        assert_eq!(least_memory(1, 1), 1);
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
