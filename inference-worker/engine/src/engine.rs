//! Starting an engine, and the handle through which everything else reaches it.

use crate::adapters::{AdapterId, AdapterPool};
use crate::backend::cpu::CpuBackend;
use crate::backend::Backend;
use crate::error::{AdapterError, EngineError, SubmitError};
use crate::kv::{pages_for, PAGE_TOKENS};
use crate::lora::LoraAdapter;
use crate::options::EngineOptions;
use crate::request::{Request, TokenStream};
use crate::scheduler::Limits;
use crate::serve::{Command, Core, Submission};
use crate::stats::EngineStats;
use openledger_model::{Adapter, ModelConfig, Weights};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::watch;

/// Bytes of key-value memory that the default does not go beyond, unless one context needs more.
const DEFAULT_KV_BYTES: usize = 256 << 20;

/// Full contexts that the default memory holds at once.
const DEFAULT_KV_CONTEXTS: usize = 8;

/// Starts engines.
pub struct Engine;

impl Engine {
    /// Lays out the weights and starts the engine's threads.
    ///
    /// # Errors
    /// When an option has no meaning or the weights do not fit the configuration.
    pub fn start(
        config: &ModelConfig,
        weights: Weights,
        options: EngineOptions,
    ) -> Result<EngineHandle, EngineError> {
        options.validate()?;
        let context = options
            .max_context
            .map_or(config.max_position_embeddings, |c| {
                c.min(config.max_position_embeddings)
            });
        let one = pages_for(context);
        let pages = match options.kv_pages {
            Some(pages) => pages,
            None => {
                let fit = DEFAULT_KV_BYTES / CpuBackend::page_bytes(config).max(1);
                u32::try_from((one * DEFAULT_KV_CONTEXTS).min(fit).max(one))
                    .map_err(|_| EngineError::Options("the context is too long".to_owned()))?
            }
        };
        if pages == 0 {
            return Err(EngineError::Options(
                "kv_pages must be at least 1".to_owned(),
            ));
        }
        // One sequence must always fit by itself: that every request finishes rests on it.
        let context = context.min(pages as usize * PAGE_TOKENS);
        let backend = CpuBackend::new(config, weights, pages, context)?;
        EngineHandle::spawn(config, Box::new(backend), pages, context, options)
    }
}

/// A running engine; clones reach the same one. It stops when the last clone is dropped.
#[derive(Clone)]
pub struct EngineHandle {
    inner: Arc<Inner>,
}

struct Inner {
    config: ModelConfig,
    context: usize,
    max_requests: usize,
    backend: String,
    adapters: AdapterPool,
    requests: Arc<AtomicUsize>,
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
        let threads = options.threads.unwrap_or_else(|| {
            std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
        });
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("engine-{i}"))
            .build()
            .map_err(|e| EngineError::Thread(e.to_string()))?;
        let name = backend.name();
        tracing::info!(backend = name, threads, pages, context, "engine started");
        let stats = Arc::new(Mutex::new(EngineStats {
            kv_pages_total: pages as usize,
            ..EngineStats::default()
        }));
        let limits = Limits {
            step_rows: options.max_step_rows,
            running: options.max_running,
        };
        let (commands, receiver) = mpsc::channel();
        let (living, alive) = watch::channel(());
        let core = Core::new(
            backend,
            config.vocab_size,
            limits,
            pages,
            options.batch_window,
            receiver,
            Arc::clone(&stats),
        );
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
                max_requests: options.max_requests,
                backend: name,
                adapters: AdapterPool::new(options.adapter_bytes),
                requests: Arc::default(),
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
        let inner = &*self.inner;
        request.sampling.validate()?;
        if request.prompt.is_empty() {
            return Err(SubmitError::EmptyPrompt);
        }
        if request.max_new_tokens == 0 {
            return Err(SubmitError::NoNewTokens);
        }
        if request.prompt.len() >= inner.context {
            return Err(SubmitError::PromptTooLong {
                prompt: request.prompt.len(),
                context: inner.context,
            });
        }
        let vocabulary = inner.config.vocab_size;
        if let Some(token) = request.prompt.iter().find(|t| **t as usize >= vocabulary) {
            return Err(SubmitError::UnknownToken {
                token: *token,
                vocabulary,
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
        let place = Place::take(&inner.requests, inner.max_requests)
            .ok_or(SubmitError::QueueFull(inner.max_requests))?;
        let (sink, events) = tokio::sync::mpsc::unbounded_channel();
        let submission = Submission::new(request, adapter, inner.context, sink, place);
        inner
            .commands
            .send(Command::Submit(Box::new(submission)))
            .map_err(|_| SubmitError::Stopped)?;
        Ok(TokenStream { events })
    }

    /// Takes an adapter into memory. It can be asked for by its id from now on.
    ///
    /// # Errors
    /// When it does not fit the base model or the pool.
    pub fn load_adapter(&self, adapter: &Adapter) -> Result<AdapterId, AdapterError> {
        let adapter = LoraAdapter::new(&self.inner.config, adapter)?;
        self.inner.adapters.insert(adapter)
    }

    /// Drops an adapter from memory once its last request ended; `false` when it was not there.
    pub fn unload_adapter(&self, id: AdapterId) -> bool {
        self.inner.adapters.remove(id)
    }

    /// The adapters and their aliases.
    pub fn adapters(&self) -> &AdapterPool {
        &self.inner.adapters
    }

    /// The base model's configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.inner.config
    }

    /// Tokens of the context: prompt and answer together.
    pub fn context(&self) -> usize {
        self.inner.context
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
        (stats.adapters, stats.adapter_bytes) = self.inner.adapters.usage();
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

/// One of the places of the queue, given back when dropped.
pub(crate) struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(taken: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        taken
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| {
                (n < most).then_some(n + 1)
            })
            .ok()
            .map(|_| Self(Arc::clone(taken)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::StepBatch;
    use crate::error::StepError;

    struct Broken;

    impl Backend for Broken {
        fn name(&self) -> String {
            "broken".to_owned()
        }

        fn step(&mut self, _: &StepBatch) -> Result<&[f32], StepError> {
            panic!("deliberate")
        }
    }

    fn engine() -> EngineHandle {
        let config = ModelConfig {
            vocab_size: 8,
            hidden_size: 4,
            intermediate_size: 4,
            num_hidden_layers: 1,
            num_attention_heads: 1,
            num_key_value_heads: 1,
            head_dim: 4,
            rms_norm_eps: 1e-5,
            rope_theta: 10_000.0,
            rope_scaling: None,
            max_position_embeddings: 32,
            tie_word_embeddings: false,
            bos_token_id: None,
            eos_token_ids: Vec::new(),
        };
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
