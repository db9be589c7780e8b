//! What an engine did: a snapshot for programs, and metrics under vLLM's names where they exist.

use crate::request::{FinishReason, Sharing};
use metrics::{counter, gauge, histogram};
use serde::Serialize;
use std::collections::VecDeque;
use std::time::Duration;

/// Steps remembered in a snapshot.
const RECENT_STEPS: usize = 512;

/// One forward pass.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct StepRecord {
    /// Number of the step, from 1.
    pub step: u64,
    /// Requests in it.
    pub requests: usize,
    /// Different adapters in it, the base model not counted.
    pub distinct_adapters: usize,
    /// Requests of the base model in it.
    pub base_requests: usize,
    /// Rows computed.
    pub rows: usize,
    /// Tokens drawn.
    pub drawn: usize,
    /// Microseconds it took.
    pub micros: u64,
}

/// What an engine did so far and holds now.
#[derive(Clone, Debug, Default, Serialize)]
pub struct EngineStats {
    /// Forward passes.
    pub steps: u64,
    /// Requests holding pages.
    pub running: usize,
    /// Requests waiting for pages.
    pub waiting: usize,
    /// Key-value pages held.
    pub kv_pages_used: usize,
    /// Key-value pages in all.
    pub kv_pages_total: usize,
    /// Adapters in memory.
    pub adapters: usize,
    /// Bytes of their weights.
    pub adapter_bytes: usize,
    /// Prompt tokens of admitted requests; recomputed ones count once.
    pub prompt_tokens: u64,
    /// Tokens delivered.
    pub output_tokens: u64,
    /// Answers completed.
    pub finished: u64,
    /// Requests dropped by who asked.
    pub cancelled: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Times that a request gave up its pages to an older one.
    pub preemptions: u64,
    /// The most requests in one forward pass.
    pub max_requests_in_step: usize,
    /// The most different adapters in one forward pass.
    pub max_distinct_adapters_in_step: usize,
    /// The latest forward passes, oldest first.
    pub recent_steps: VecDeque<StepRecord>,
}

impl EngineStats {
    pub(crate) fn record_step(
        &mut self,
        sharing: Sharing,
        rows: usize,
        drawn: usize,
        took: Duration,
    ) {
        self.steps += 1;
        self.max_requests_in_step = self.max_requests_in_step.max(sharing.requests);
        self.max_distinct_adapters_in_step = self
            .max_distinct_adapters_in_step
            .max(sharing.distinct_adapters);
        if self.recent_steps.len() == RECENT_STEPS {
            self.recent_steps.pop_front();
        }
        self.recent_steps.push_back(StepRecord {
            step: self.steps,
            requests: sharing.requests,
            distinct_adapters: sharing.distinct_adapters,
            base_requests: sharing.base_requests,
            rows,
            drawn,
            micros: took.as_micros() as u64,
        });
        counter!("openledger_steps_total").increment(1);
        histogram!("openledger_step_requests").record(sharing.requests as f64);
        histogram!("openledger_step_distinct_adapters").record(sharing.distinct_adapters as f64);
        gauge!("openledger_step_distinct_adapters_max")
            .set(self.max_distinct_adapters_in_step as f64);
        histogram!("openledger_step_seconds").record(took.as_secs_f64());
        histogram!("vllm:iteration_tokens_total").record(rows as f64);
    }

    pub(crate) fn record_prompt(&mut self, tokens: usize) {
        self.prompt_tokens += tokens as u64;
        counter!("vllm:prompt_tokens_total").increment(tokens as u64);
    }

    pub(crate) fn record_token(&mut self, first: bool, since: Duration) {
        self.output_tokens += 1;
        counter!("vllm:generation_tokens_total").increment(1);
        if first {
            histogram!("vllm:time_to_first_token_seconds").record(since.as_secs_f64());
        } else {
            histogram!("vllm:inter_token_latency_seconds").record(since.as_secs_f64());
        }
    }

    pub(crate) fn record_finish(&mut self, reason: FinishReason, took: Duration) {
        self.finished += 1;
        counter!("vllm:request_success_total", "finished_reason" => reason.as_str()).increment(1);
        histogram!("vllm:e2e_request_latency_seconds").record(took.as_secs_f64());
    }

    pub(crate) fn record_cancel(&mut self) {
        self.cancelled += 1;
        counter!("vllm:request_success_total", "finished_reason" => "abort").increment(1);
    }

    pub(crate) fn record_failure(&mut self) {
        self.failed += 1;
        counter!("openledger_requests_failed_total").increment(1);
    }

    pub(crate) fn record_preemptions(&mut self, count: usize) {
        self.preemptions += count as u64;
        counter!("vllm:num_preemptions_total").increment(count as u64);
    }

    pub(crate) fn record_load(&mut self, running: usize, waiting: usize, used: usize) {
        (self.running, self.waiting, self.kv_pages_used) = (running, waiting, used);
        gauge!("vllm:num_requests_running").set(running as f64);
        gauge!("vllm:num_requests_waiting").set(waiting as f64);
        gauge!("vllm:kv_cache_usage_perc").set(used as f64 / self.kv_pages_total.max(1) as f64);
    }
}
