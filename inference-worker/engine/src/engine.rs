//! Starting an engine, and the handle through which everything else reaches it.

use crate::adapters::host::HostCache;
use crate::adapters::image::AdapterImage;
use crate::adapters::loader::Loader;
use crate::adapters::residency::Residency;
use crate::adapters::table::Arrangement;
use crate::adapters::{AdapterId, AdapterSource, Origin, Registry};
use crate::backend::cpu::CpuBackend;
use crate::backend::cuda::model::FromBase;
use crate::backend::cuda::{CudaBackend, CudaRanks, Room};
use crate::backend::{Backend, Copier};
use crate::embedding::{EmbedRequest, PendingEmbedding, Pooling};
use crate::error::{AdapterError, EngineError, SubmitError};
use crate::kv::{pages_for, PAGE_TOKENS};
use crate::options::{BackendOptions, EngineOptions};
use crate::queue_room::{Place, QueueRoom};
use crate::request::{Request, TokenStream};
use crate::scheduler::Limits;
use crate::serve::{Command, Core, Parts, Pinning, Submission};
use crate::stats::EngineStats;
use openledger_model::{Adapter, Base, ModelConfig};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::watch;

/// Bytes of key-value memory that the default does not go beyond, unless one context needs more.
const DEFAULT_KV_BYTES: usize = 256 << 20;

/// Full contexts that the default memory holds at once.
const DEFAULT_KV_CONTEXTS: usize = 8;

/// Bytes of the arena that the default adds for adapters.
const DEFAULT_ADAPTER_BYTES: usize = 128 << 20;

/// Starts engines.
pub struct Engine;

impl Engine {
    /// Lays out the weights, from memory or from a [`openledger_model::Checkpoint`] in the types in
    /// which it stores them, and starts the engine's threads.
    ///
    /// # Errors
    /// When an option has no meaning or the weights do not fit the configuration.
    pub fn start(
        config: &ModelConfig,
        base: impl Into<Base>,
        options: EngineOptions,
    ) -> Result<EngineHandle, EngineError> {
        let base: Base = base.into();
        options.validate()?;
        let context = options
            .max_context
            .map_or(config.max_position_embeddings, |c| {
                c.min(config.max_position_embeddings)
            });
        if options.arena_pages == Some(0) {
            return Err(EngineError::Options(
                "arena_pages must be at least 1".to_owned(),
            ));
        }
        // One sequence must always fit by itself: that every request finishes rests on it.
        let fitting = |pages: u32| context.min(pages as usize * PAGE_TOKENS);
        let (backend, pages): (Box<dyn Backend>, u32) = match &options.backend {
            BackendOptions::Cpu => {
                let pages = match options.arena_pages {
                    Some(pages) => pages,
                    None => default_pages(config, context)?,
                };
                let ranks = options.tensor_parallel;
                let threads = options.compute_threads().div_ceil(ranks);
                let room = fitting(pages);
                let backend = CpuBackend::parallel(config, base, pages, room, ranks, threads)?;
                (Box::new(backend), pages)
            }
            BackendOptions::Cuda(cuda) => {
                let room = Room {
                    pages: options.arena_pages,
                    context: options.arena_pages.map_or(context, fitting),
                    rows: options.max_step_rows,
                };
                let (ranks, devices) = (options.tensor_parallel, cuda.devices.len());
                if ranks != devices {
                    return Err(EngineError::Options(format!(
                        "tensor_parallel {ranks} takes as many devices; {devices} are named"
                    )));
                }
                let mut filler = FromBase::new(config, base);
                if ranks > 1 {
                    let backend = CudaRanks::new(config, &mut filler, cuda, room)?;
                    let pages = backend.pages();
                    (Box::new(backend), pages)
                } else {
                    let backend = CudaBackend::new(config, &mut filler, cuda, room)?;
                    let pages = backend.pages();
                    (Box::new(backend), pages)
                }
            }
        };
        let context = fitting(pages);
        EngineHandle::spawn(config, backend, pages, context, options)
    }
}

/// Pages of an arena in the memory of the host when nothing else is asked for.
fn default_pages(config: &ModelConfig, context: usize) -> Result<u32, EngineError> {
    let page_bytes = CpuBackend::page_bytes_of(config).max(1);
    let one = pages_for(context);
    let kv = (one * DEFAULT_KV_CONTEXTS)
        .min(DEFAULT_KV_BYTES / page_bytes)
        .max(one);
    u32::try_from(kv + DEFAULT_ADAPTER_BYTES / page_bytes)
        .map_err(|_| EngineError::Options("the context is too long".to_owned()))
}

/// A running engine; clones reach the same one. It stops when the last clone is dropped.
#[derive(Clone)]
pub struct EngineHandle {
    inner: Arc<Inner>,
}

struct Inner {
    config: ModelConfig,
    context: usize,
    /// Bytes that one adapter may take on the device.
    most_adapter_bytes: usize,
    backend: String,
    adapters: Arc<Registry>,
    copier: Arc<dyn Copier>,
    host: Arc<HostCache>,
    room: Arc<QueueRoom>,
    stats: Arc<Mutex<EngineStats>>,
    commands: Sender<Command>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Closed when the thread ends, however it ends: the thread owns the sender.
    alive: watch::Receiver<()>,
}

impl EngineHandle {
    fn spawn(
        config: &ModelConfig,
        backend: Box<dyn Backend>,
        pages: u32,
        context: usize,
        options: EngineOptions,
    ) -> Result<Self, EngineError> {
        let threads = options.compute_threads();
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("engine-{i}"))
            .build()
            .map_err(|e| EngineError::Thread(e.to_string()))?;
        let name = backend.name();
        tracing::info!(backend = name, threads, pages, context, "engine started");
        let page_bytes = backend.page_bytes();
        let stats = Arc::new(Mutex::new(EngineStats {
            pages_total: pages as usize,
            page_bytes,
            weight_bytes: backend.weight_bytes(),
            ..EngineStats::default()
        }));
        let limits = Limits {
            step_rows: options.max_step_rows,
            running: options.max_running,
            scored_rows: (options.scored_bytes / (size_of::<f32>() * config.vocab_size.max(1)))
                .max(1),
            context_pages: pages_for(context),
            step_adapter_pages: options
                .step_adapter_bytes
                .map(|bytes| bytes / page_bytes.max(1)),
        };
        let (commands, receiver) = mpsc::channel();
        let (living, alive) = watch::channel(());
        let copier = backend.copier();
        let loader = Loader::start(config, Arc::clone(&copier), options.load_threads, &commands)
            .map_err(|e| EngineError::Thread(e.to_string()))?;
        let host = Arc::new(HostCache::new(options.host_bytes));
        let registry = Arc::new(Registry::new(options.host_bytes));
        // Beside an adapter there is always room for one context: that every request finishes rests
        // on it.
        let most_pages = (pages as usize).saturating_sub(pages_for(context));
        let core = Core::new(Parts {
            residency: Residency::new(
                Arc::clone(&host),
                loader,
                page_bytes,
                most_pages,
                2 * options.load_threads,
            ),
            backend,
            vocabulary: config.vocab_size,
            limits,
            pages,
            registry: Arc::clone(&registry),
            most_pinned: most_pages / 2,
            batch_window: options.batch_window,
            commands: receiver,
            sender: commands.clone(),
            constraint_threads: options.constraint_threads,
            stats: Arc::clone(&stats),
        });
        let thread = std::thread::Builder::new()
            .name("engine".to_owned())
            // The loop itself is a worker of the pool: a step starts without waking a thread.
            .spawn(move || {
                let _living = living;
                pool.install(|| core.run());
            })
            .map_err(|e| EngineError::Thread(e.to_string()))?;
        Ok(Self {
            inner: Arc::new(Inner {
                config: config.clone(),
                context,
                most_adapter_bytes: most_pages * page_bytes,
                backend: name,
                adapters: registry,
                copier,
                host,
                room: Arc::new(QueueRoom::new(
                    options.max_requests,
                    options.max_tenant_requests,
                )),
                stats,
                commands,
                thread: Mutex::new(Some(thread)),
                alive,
            }),
        })
    }

    /// Takes a request in. Its tokens come on the stream; dropping the stream cancels it.
    ///
    /// # Errors
    /// When the request cannot be served as asked. Nothing is computed then, and the base model never
    /// answers for an adapter that is not there.
    pub fn submit(&self, request: Request) -> Result<TokenStream, SubmitError> {
        let (submission, stream) = self.prepare(request, None)?;
        self.send(vec![submission])?;
        Ok(stream)
    }

    /// Takes in requests that begin with the same tokens, as several answers to one prompt do, all or
    /// none: the first computes the prompt, and the others join the queue once its blocks are there to
    /// be shared, if adapter and `cache_salt` are the same. Each is a request like any other in all else.
    /// For answers that differ give each a seed of its own, as by
    /// [`answer_seed`](crate::sampling::answer_seed).
    ///
    /// # Errors
    /// As [`Self::submit`]; then none of them is computed.
    pub fn submit_many(&self, requests: Vec<Request>) -> Result<Vec<TokenStream>, SubmitError> {
        let (mut submissions, mut streams) = (Vec::new(), Vec::new());
        for request in requests {
            let (submission, stream) = self.prepare(request, None)?;
            submissions.push(submission);
            streams.push(stream);
        }
        self.send(submissions)?;
        Ok(streams)
    }

    /// Takes in a text to embed.
    ///
    /// # Errors
    /// As [`Self::submit`].
    pub fn embed(&self, request: EmbedRequest) -> Result<PendingEmbedding, SubmitError> {
        let (request, pooling) = request.into_parts();
        let (submission, stream) = self.prepare(request, Some(pooling))?;
        self.send(vec![submission])?;
        Ok(PendingEmbedding { stream })
    }

    fn send(&self, submissions: Vec<Submission>) -> Result<(), SubmitError> {
        let sent = self.inner.commands.send(Command::Submit(submissions));
        sent.map_err(|_| SubmitError::Stopped)
    }

    /// Checks a request and takes its place and lease.
    fn prepare(
        &self,
        request: Request,
        pooling: Option<Pooling>,
    ) -> Result<(Submission, TokenStream), SubmitError> {
        let inner = &*self.inner;
        request.validate(inner.config.vocab_size)?;
        let draws = request.max_new_tokens > 0;
        if !draws && pooling.is_none() && request.prompt_logprobs.is_none() {
            return Err(SubmitError::NoNewTokens);
        }
        if request.prompt.len() + usize::from(draws) > inner.context {
            return Err(SubmitError::PromptTooLong {
                prompt: request.prompt.len(),
                context: inner.context,
            });
        }
        let adapter = match request.adapter {
            None => None,
            Some(id) => Some(
                inner
                    .adapters
                    .lease(id)
                    .ok_or(SubmitError::UnknownAdapter(id))?,
            ),
        };
        let place = Place::take(&inner.room, request.tenant)?;
        let (sink, events) = tokio::sync::mpsc::unbounded_channel();
        let submission = Submission::new(request, pooling, adapter, inner.context, sink, place);
        Ok((submission, TokenStream { events }))
    }

    /// Takes an adapter into host memory, where it stays. It can be asked for by its id from now on.
    ///
    /// # Errors
    /// When it does not fit the base model, the host's memory or the device.
    pub fn load_adapter(&self, adapter: &Adapter) -> Result<AdapterId, AdapterError> {
        self.hold(self.inner.copier.lay_out(adapter)?)
    }

    /// [`Self::load_adapter`] for one that is laid out already, as [`Self::arrangement`] says.
    ///
    /// # Errors
    /// When it does not fit the host's memory or the device, or lies as the device cannot read it.
    pub fn hold(&self, image: AdapterImage) -> Result<AdapterId, AdapterError> {
        let (id, needed) = (image.table().id(), image.table().bytes());
        if image.table().arrangement() != self.inner.copier.arrangement() {
            return Err(AdapterError::Arrangement);
        }
        let (ranks, device) = (image.ranks(), self.inner.copier.ranks());
        if ranks != device {
            return Err(AdapterError::Ranks {
                image: ranks,
                device,
            });
        }
        let most = self.inner.most_adapter_bytes;
        if needed > most {
            return Err(AdapterError::TooLarge { needed, most });
        }
        let origin = Origin::Held(Arc::new(image));
        self.inner.adapters.insert(id, origin)?;
        Ok(id)
    }

    /// Whether an adapter that is to be registered can be brought to the device, if nothing is pinned there.
    ///
    /// # Errors
    /// When it does not fit the device, or the base model.
    pub fn check_adapter(&self, adapter: &Adapter) -> Result<(), AdapterError> {
        let (copier, most) = (&self.inner.copier, self.inner.most_adapter_bytes);
        // To lay it out takes time, a DoRA the base's weights: only where it may not fit.
        if AdapterImage::most_bytes(adapter, copier.ranks()) <= most {
            return Ok(());
        }
        let needed = copier.lay_out(adapter)?.table().bytes();
        if needed > most {
            return Err(AdapterError::TooLarge { needed, most });
        }
        Ok(())
    }

    /// Makes an adapter known that is read when it is asked for. `id` is the digest of its files, which
    /// is checked then.
    ///
    /// # Errors
    /// None today; registering takes no memory to speak of.
    pub fn register_adapter(
        &self,
        id: AdapterId,
        source: Arc<dyn AdapterSource>,
    ) -> Result<(), AdapterError> {
        self.inner.adapters.insert(id, Origin::Source(source))
    }

    /// Forgets an adapter: new requests for it are refused. It leaves memory once its last request
    /// ended. `false` when it was not known.
    pub fn unload_adapter(&self, id: AdapterId) -> bool {
        let known = self.inner.adapters.remove(id);
        if known {
            // An error means that the engine is gone, and its memory with it.
            let _ = self.inner.commands.send(Command::Retire(id));
        }
        known
    }

    /// Brings an adapter to the device and keeps it there, used or not. Returns once it is there, which
    /// takes as long as others need its room; or when it is unpinned or unloaded meanwhile. From async
    /// code, call it on a blocking thread.
    ///
    /// # Errors
    /// When the adapter is not known or cannot be brought, or pinned adapters would take more than half
    /// of what one context leaves of the device.
    pub fn pin_adapter(&self, id: AdapterId) -> Result<(), AdapterError> {
        let adapter = self.inner.adapters.lease(id);
        let adapter = adapter.ok_or(AdapterError::Unknown(id))?;
        let (done, pinned) = mpsc::channel();
        let command = Command::Pin(Pinning { adapter, done });
        let sent = self.inner.commands.send(command);
        sent.map_err(|_| AdapterError::Stopped)?;
        pinned.recv().map_err(|_| AdapterError::Stopped)?
    }

    /// Brings an adapter to the device ahead of any request, unless somebody would have to give way.
    /// Returns at once.
    ///
    /// # Errors
    /// When the adapter is not known.
    pub fn prefetch_adapter(&self, id: AdapterId) -> Result<(), AdapterError> {
        let adapter = self.inner.adapters.lease(id);
        let adapter = adapter.ok_or(AdapterError::Unknown(id))?;
        let sent = self.inner.commands.send(Command::Prefetch(adapter));
        sent.map_err(|_| AdapterError::Stopped)
    }

    /// Lets a pinned adapter give way again when it is not used.
    pub fn unpin_adapter(&self, id: AdapterId) {
        // An error means that the engine is gone.
        let _ = self.inner.commands.send(Command::Unpin(id));
    }

    /// The adapters that can be asked for, and their aliases.
    pub fn adapters(&self) -> &Registry {
        &self.inner.adapters
    }

    /// How adapters lie in this engine's memory.
    pub fn arrangement(&self) -> Arrangement {
        self.inner.copier.arrangement()
    }

    /// The base model's configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.inner.config
    }

    /// Tokens of the context: prompt and answer together.
    pub fn context(&self) -> usize {
        self.inner.context
    }

    /// Requests of one tenant that wait or run at most: more at once can never be taken.
    pub fn most_requests(&self) -> usize {
        self.inner.room.most()
    }

    /// Whether the device has room for an adapter beside one context.
    pub fn has_room_for_adapters(&self) -> bool {
        self.inner.most_adapter_bytes > 0
    }

    /// Name of the backend and its instruction set.
    pub fn backend(&self) -> &str {
        &self.inner.backend
    }

    /// What the engine did so far and holds now.
    pub fn stats(&self) -> EngineStats {
        let mut stats = self
            .inner
            .stats
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        (stats.adapters, stats.held_bytes) = self.inner.adapters.usage();
        (
            stats.host_adapters,
            stats.host_bytes,
            stats.tiers.host_evictions,
        ) = self.inner.host.usage();
        stats
    }

    /// Whether the engine's thread runs. It ends by [`Self::shutdown`], or by a panic, after which
    /// nothing is computed any more.
    pub fn is_running(&self) -> bool {
        self.inner.alive.has_changed().is_ok()
    }

    /// Resolves when the engine's thread has ended, with what it panicked over, if it did.
    pub async fn ended(&self) -> Option<String> {
        let mut alive = self.inner.alive.clone();
        while alive.changed().await.is_ok() {}
        // The thread is past its last step: joining it takes no time. Who shut the engine down has
        // taken it already.
        let thread = self
            .inner
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()?;
        let panic = thread.join().err()?;
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        Some(text.unwrap_or("a panic without a message").to_owned())
    }

    /// Stops the engine: streams end without their end event, and new requests are refused. Returns
    /// when the step in progress is done.
    pub fn shutdown(&self) {
        self.inner.stop();
    }
}

impl Inner {
    fn stop(&self) {
        // An error means that the engine is gone already.
        let _ = self.commands.send(Command::Stop);
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            if thread.join().is_err() {
                tracing::error!("the engine's thread panicked");
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{StepBatch, StepOutput};
    use crate::error::StepError;
    use std::ops::Range;

    struct Broken;

    impl Copier for Broken {
        fn arrangement(&self) -> Arrangement {
            Arrangement::Panels
        }

        fn lay_out(&self, _: &Adapter) -> Result<AdapterImage, AdapterError> {
            panic!("deliberate")
        }

        fn copy_layer(&self, _: &AdapterImage, _: &Range<u32>, _: usize) -> Result<(), StepError> {
            panic!("deliberate")
        }
    }

    impl Backend for Broken {
        fn name(&self) -> String {
            "broken".to_owned()
        }

        fn page_bytes(&self) -> usize {
            1
        }

        fn copier(&self) -> Arc<dyn Copier> {
            Arc::new(Broken)
        }

        fn move_page(&mut self, _: u32, _: u32) -> Result<(), StepError> {
            Ok(())
        }

        fn step(&mut self, _: &StepBatch) -> Result<StepOutput<'_>, StepError> {
            panic!("deliberate")
        }
    }

    fn engine() -> EngineHandle {
        let config = crate::testing::config();
        let options = EngineOptions {
            threads: Some(1),
            ..EngineOptions::default()
        };
        EngineHandle::spawn(&config, Box::new(Broken), 2, 32, options).unwrap()
    }

    #[tokio::test]
    async fn a_panic_of_the_thread_should_be_seen_by_who_holds_the_engine() {
        let engine = engine();
        assert!(engine.is_running());
        let mut stream = engine.submit(Request::new(vec![1], 1)).unwrap();
        assert_eq!(engine.ended().await.as_deref(), Some("deliberate"));
        assert!(!engine.is_running());
        assert_eq!(stream.next().await, None);
        assert_eq!(
            engine.submit(Request::new(vec![1], 1)).unwrap_err(),
            SubmitError::Stopped
        );
    }

    #[tokio::test]
    async fn an_engine_that_was_shut_down_should_have_ended_without_a_panic() {
        let engine = engine();
        engine.shutdown();
        assert_eq!(engine.ended().await, None);
        assert!(!engine.is_running());
    }
}
