//! What the engine's metrics are, for who reads the page that has them.

use metrics::{describe_counter, describe_gauge, describe_histogram};

const COUNTERS: [(&str, &str); 9] = [
    ("vllm:prompt_tokens_total", "Tokens of prompts."),
    ("vllm:generation_tokens_total", "Tokens generated."),
    (
        "vllm:request_success_total",
        "Requests that ended, by reason.",
    ),
    (
        "vllm:num_preemptions_total",
        "Requests that gave up their memory for others and went on later.",
    ),
    (
        "vllm:prefix_cache_queries_total",
        "Tokens of prompts that were looked for among those computed before.",
    ),
    (
        "vllm:prefix_cache_hits_total",
        "Tokens of prompts that had been computed before.",
    ),
    ("openledger_requests_failed_total", "Requests that failed."),
    ("openledger_steps_total", "Steps computed."),
    (
        "openledger_adapter_evictions_total",
        "Adapters that gave way to others.",
    ),
];

const GAUGES: [(&str, &str); 7] = [
    ("vllm:num_requests_running", "Requests in the batch."),
    (
        "vllm:num_requests_waiting",
        "Requests that wait for their turn.",
    ),
    (
        "vllm:kv_cache_usage_perc",
        "Part of the memory that keys and values take; 1 is all of it.",
    ),
    (
        "openledger_arena_pages",
        "Pages of the memory, by what they hold.",
    ),
    ("openledger_adapters_resident", "Adapters in memory."),
    (
        "openledger_adapter_bytes",
        "Bytes of the adapters in memory.",
    ),
    (
        "openledger_step_distinct_adapters_max",
        "Most adapters that shared a step.",
    ),
];

const HISTOGRAMS: [(&str, &str); 8] = [
    (
        "vllm:time_to_first_token_seconds",
        "Seconds from a request to its first token.",
    ),
    (
        "vllm:inter_token_latency_seconds",
        "Seconds from one token of an answer to the next.",
    ),
    (
        "vllm:e2e_request_latency_seconds",
        "Seconds from a request to its end.",
    ),
    ("vllm:iteration_tokens_total", "Tokens computed in a step."),
    ("openledger_step_seconds", "Seconds that a step takes."),
    ("openledger_step_requests", "Requests in a step."),
    ("openledger_step_distinct_adapters", "Adapters in a step."),
    (
        "openledger_adapter_load_seconds",
        "Seconds to read or copy an adapter, by where it came from.",
    ),
];

/// Describes the engine's metrics to whatever records in this process; call it once that is installed.
pub fn describe_metrics() {
    for (name, what) in COUNTERS {
        describe_counter!(name, what);
    }
    for (name, what) in GAUGES {
        describe_gauge!(name, what);
    }
    for (name, what) in HISTOGRAMS {
        describe_histogram!(name, what);
    }
}
