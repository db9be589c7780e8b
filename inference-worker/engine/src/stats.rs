//! What an engine did: a snapshot for programs, and metrics under vLLM's names where they exist.

use crate::request::{FinishReason, Sharing};
use metrics::{counter, gauge, histogram};
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
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
    /// Bytes of the base's weights, by the type in which they are kept.
    pub weight_bytes: BTreeMap<&'static str, usize>,
    /// Requests holding pages.
    pub running: usize,
    /// Requests waiting for pages.
    pub waiting: usize,
    /// Pages of the arena in all.
    pub pages_total: usize,
    /// Pages with keys and values in use.
    pub kv_pages_used: usize,
    /// Pages with keys and values kept for requests that begin alike.
    pub kv_pages_cached: usize,
    /// Pages with adapters.
    pub adapter_pages: usize,
    /// Bytes of a page.
    pub page_bytes: usize,
    /// Adapters that can be asked for.
    pub adapters: usize,
    /// Bytes of those that have no source and stay in host memory.
    pub held_bytes: usize,
    /// Adapters in host memory that can be read again.
    pub host_adapters: usize,
    /// Bytes of their weights.
    pub host_bytes: usize,
    /// Adapters on the device.
    pub device_adapters: usize,
    /// Bytes of their weights.
    pub device_bytes: usize,
    /// What moved between the tiers.
    pub tiers: TierCounts,
    /// Tokens of admitted requests, those recomputed included.
    pub prefix_queries: u64,
    /// Of these, tokens whose keys and values were still there.
    pub prefix_hits: u64,
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

/// What moved between the tiers of adapters so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TierCounts {
    /// Requests whose adapter was on the device when they came near the head of the queue.
    pub device_hits: u64,
    /// Adapters that were in host memory when they were wanted on the device.
    pub host_hits: u64,
    /// Adapters read from disk or store.
    pub reads: u64,
    /// Adapters copied to the device.
    pub copies: u64,
    /// Adapters that could not be read or copied.
    pub failures: u64,
    /// Adapters that gave way on the device.
    pub device_evictions: u64,
    /// Adapters that gave way in host memory.
    pub host_evictions: u64,
}

impl TierCounts {
    pub(crate) fn record_read(&mut self, tier: &'static str, took: Duration) {
        self.reads += 1;
        histogram!("openledger_adapter_load_seconds", "tier" => tier).record(took.as_secs_f64());
    }

    pub(crate) fn record_copy(&mut self, took: Duration) {
        self.copies += 1;
        histogram!("openledger_adapter_load_seconds", "tier" => "host").record(took.as_secs_f64());
    }
}

/// How the arena is filled, in pages.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Filling {
    pub used: usize,
    pub cached: usize,
    pub adapters: usize,
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

    pub(crate) fn record_prefix(&mut self, (tokens, hits): (usize, usize)) {
        self.prefix_queries += tokens as u64;
        self.prefix_hits += hits as u64;
        counter!("vllm:prefix_cache_queries_total").increment(tokens as u64);
        counter!("vllm:prefix_cache_hits_total").increment(hits as u64);
    }

    pub(crate) fn record_load(&mut self, running: usize, waiting: usize, filling: Filling) {
        (self.running, self.waiting) = (running, waiting);
        self.kv_pages_used = filling.used;
        self.kv_pages_cached = filling.cached;
        self.adapter_pages = filling.adapters;
        gauge!("vllm:num_requests_running").set(running as f64);
        gauge!("vllm:num_requests_waiting").set(waiting as f64);
        gauge!("vllm:kv_cache_usage_perc")
            .set(filling.used as f64 / self.pages_total.max(1) as f64);
        gauge!("openledger_arena_pages", "content" => "adapters").set(filling.adapters as f64);
        gauge!("openledger_arena_pages", "content" => "kv").set(filling.used as f64);
        gauge!("openledger_arena_pages", "content" => "prefixes").set(filling.cached as f64);
    }

    /// Adapters and their bytes on the device, and in host memory with how many gave way there.
    pub(crate) fn record_tiers(
        &mut self,
        device: (usize, usize),
        host: (usize, usize, u64),
        tiers: &TierCounts,
    ) {
        (self.device_adapters, self.device_bytes) = device;
        self.tiers = tiers.clone();
        gauge!("openledger_adapters_resident", "tier" => "device").set(device.0 as f64);
        gauge!("openledger_adapter_bytes", "tier" => "device").set(device.1 as f64);
        counter!("openledger_adapter_evictions_total", "tier" => "device")
            .absolute(tiers.device_evictions);
        gauge!("openledger_adapters_resident", "tier" => "host").set(host.0 as f64);
        gauge!("openledger_adapter_bytes", "tier" => "host").set(host.1 as f64);
        counter!("openledger_adapter_evictions_total", "tier" => "host").absolute(host.2);
    }
}
