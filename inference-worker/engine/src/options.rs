//! How an engine is set up.

use crate::error::EngineError;
use std::time::Duration;

/// Options of an engine. The default suits a small model on a small machine.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Threads that compute; none takes all cores.
    pub threads: Option<usize>,
    /// Tokens of the context; none takes the model's. Never above the model's.
    pub max_context: Option<usize>,
    /// Pages of key-value memory, 16 tokens each; none takes room for eight full contexts, within
    /// 256 MiB but at least for one.
    pub kv_pages: Option<u32>,
    /// Rows of one step, prefill and decode together.
    pub max_step_rows: usize,
    /// Requests that run at the same time.
    pub max_running: usize,
    /// Requests that wait or run; more are refused.
    pub max_requests: usize,
    /// How long an idle engine holds the first request, so that requests sent together share their
    /// steps.
    pub batch_window: Duration,
    /// Bytes of adapters in memory.
    pub adapter_bytes: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            threads: None,
            max_context: None,
            kv_pages: None,
            max_step_rows: 256,
            max_running: 64,
            max_requests: 4096,
            batch_window: Duration::ZERO,
            adapter_bytes: 1 << 30,
        }
    }
}

impl EngineOptions {
    pub(crate) fn validate(&self) -> Result<(), EngineError> {
        let refuse = |what: &str| Err(EngineError::Options(what.to_owned()));
        if self.threads == Some(0) {
            return refuse("threads must be at least 1");
        }
        if self.max_context == Some(0) {
            return refuse("max_context must be at least 1");
        }
        if self.max_running == 0 || self.max_requests == 0 {
            return refuse("max_running and max_requests must be at least 1");
        }
        if self.max_step_rows <= self.max_running {
            return refuse("max_step_rows must be above max_running, or prompts could starve");
        }
        Ok(())
    }
}
