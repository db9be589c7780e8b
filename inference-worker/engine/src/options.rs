//! How an engine is set up.

use crate::backend::cuda::CudaOptions;
use crate::error::EngineError;
use std::time::Duration;

/// Where steps are computed.
#[derive(Clone, Debug, Default)]
pub enum BackendOptions {
    /// On the CPU.
    #[default]
    Cpu,
    /// On a GPU. When it cannot be used the engine does not start: it never takes the CPU instead.
    Cuda(CudaOptions),
}

/// Options of an engine. The default suits a small model on a small machine.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Where steps are computed.
    pub backend: BackendOptions,
    /// Threads that compute; none takes all cores.
    pub threads: Option<usize>,
    /// Tokens of the context; none takes the model's. Never above the model's.
    pub max_context: Option<usize>,
    /// Pages of the device's arena, which holds adapters as well as keys and values, 16 tokens to a
    /// page; none takes room for eight full contexts, within 256 MiB but at least for one, and 128 MiB
    /// of adapters; on a GPU, most of the memory that the weights leave.
    pub arena_pages: Option<u32>,
    /// Rows of one step, prefill and decode together.
    pub max_step_rows: usize,
    /// Bytes of logits that one step computes for the log-probabilities of prompts; at least one row of
    /// the vocabulary.
    pub scored_bytes: usize,
    /// Requests that run at the same time.
    pub max_running: usize,
    /// Requests that wait or run; more are refused.
    pub max_requests: usize,
    /// Requests of one tenant that wait or run; more are refused.
    pub max_tenant_requests: usize,
    /// Bytes of different adapters that one step reads, so that a step stays short whatever is asked;
    /// none for no bound.
    pub step_adapter_bytes: Option<usize>,
    /// How long an idle engine holds the first request, so that requests sent together share their
    /// steps.
    pub batch_window: Duration,
    /// Bytes of adapters in host memory: those read ahead or lately, and again as much for those that
    /// have no source and stay.
    pub host_bytes: usize,
    /// Threads that read adapters.
    pub load_threads: usize,
    /// Threads that find out what may follow in answers with a constraint.
    pub constraint_threads: usize,
    /// Ranks that compute each layer together. They must divide the key and value heads and the width
    /// of the feed-forward layer. On the CPU they are threads of this process; on GPUs each is one of
    /// [`CudaOptions::devices`], of which there are as many.
    pub tensor_parallel: usize,
    /// Whether a request's tokens and fingerprint are to be the same bits whatever shares its batch, as
    /// audits ask. The CPU always keeps that, so that there it changes nothing; a backend that is faster
    /// without must keep it when asked. It holds for one base, one number of ranks and one kind of
    /// device.
    pub deterministic: bool,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            backend: BackendOptions::default(),
            threads: None,
            max_context: None,
            arena_pages: None,
            max_step_rows: 256,
            scored_bytes: 64 << 20,
            max_running: 64,
            max_requests: 4096,
            max_tenant_requests: 4096,
            step_adapter_bytes: None,
            batch_window: Duration::ZERO,
            host_bytes: 1 << 30,
            load_threads: 2,
            constraint_threads: 2,
            tensor_parallel: 1,
            deterministic: false,
        }
    }
}

impl EngineOptions {
    /// Threads that compute.
    pub(crate) fn compute_threads(&self) -> usize {
        let all = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.threads.unwrap_or_else(all)
    }

    pub(crate) fn validate(&self) -> Result<(), EngineError> {
        let refuse = |what: &str| Err(EngineError::Options(what.to_owned()));
        if self.threads == Some(0) {
            return refuse("threads must be at least 1");
        }
        if self.max_context == Some(0) {
            return refuse("max_context must be at least 1");
        }
        if self.max_running == 0 || self.max_requests == 0 || self.max_tenant_requests == 0 {
            return refuse("max_running, max_requests and max_tenant_requests must be at least 1");
        }
        if self.tensor_parallel == 0 {
            return refuse("tensor_parallel must be at least 1");
        }
        if self.load_threads == 0 || self.constraint_threads == 0 {
            return refuse("load_threads and constraint_threads must be at least 1");
        }
        if self.max_step_rows <= self.max_running {
            return refuse("max_step_rows must be above max_running, or prompts could starve");
        }
        Ok(())
    }
}
