//! What one run came to.

use super::drive::{Outcome, Record};
use super::percentiles::{median, Percentiles};
use crate::stats::EngineStats;
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// One run, or the medians of several. Times are milliseconds as the clients saw them.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Measured {
    /// Seconds from the start to the last answer's end.
    pub seconds: f64,
    /// Requests answered in full.
    pub finished: f64,
    /// Requests that found the queue full.
    pub refused: f64,
    /// Requests that failed midway.
    pub failed: f64,
    /// Requests answered in full, per second.
    pub requests_per_second: f64,
    /// Tokens generated, per second.
    pub output_tokens_per_second: f64,
    /// Tokens of prompts and answers, per second.
    pub total_tokens_per_second: f64,
    /// From when a request was due to its first token.
    pub first_token: Percentiles,
    /// From one token of an answer to its next, of all answers together.
    pub inter_token: Percentiles,
    /// The mean of that within an answer, of each answer.
    pub inter_token_by_request: Percentiles,
    /// From when a request was due to its last token.
    pub end_to_end: Percentiles,
    /// From when a request was due until it was sent: how far the load fell behind its own clock. It is
    /// part of the times above.
    pub lateness: Percentiles,
    /// Where adapters were found, and what moved.
    pub tiers: Tiers,
    /// What the tiers hold at the end.
    pub resident: Resident,
    /// Forward passes.
    pub steps: f64,
    /// Tokens drawn per forward pass.
    pub tokens_per_step: f64,
    /// Times that a request gave up its pages to an older one.
    pub preemptions: f64,
}

/// Where adapters were found, and what moved between tiers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Tiers {
    /// Share of the requests with an adapter that found it on the device.
    pub device_hit_rate: f64,
    /// Share that waited for a copy from host memory. Several that wait for one load are shared out as
    /// the loads are.
    pub host_hit_rate: f64,
    /// Share that waited for files.
    pub source_rate: f64,
    /// Adapters read from their files.
    pub reads: f64,
    /// Adapters copied to the device.
    pub copies: f64,
    /// Adapters that gave way on the device.
    pub device_evictions: f64,
    /// Adapters that gave way in host memory.
    pub host_evictions: f64,
}

/// What the tiers of adapters hold. Bytes are those of the weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Resident {
    /// Adapters on the device.
    pub device_adapters: f64,
    /// Bytes of them.
    pub device_bytes: f64,
    /// Bytes of the pages that hold them.
    pub device_page_bytes: f64,
    /// Adapters in host memory that can be read again.
    pub host_adapters: f64,
    /// Bytes of them.
    pub host_bytes: f64,
}

impl Measured {
    /// Of a run's records, and the engine's counts before it and after.
    pub(super) fn of(
        records: &[Record],
        took: Duration,
        before: &EngineStats,
        after: &EngineStats,
    ) -> Self {
        let seconds = took.as_secs_f64();
        let count = |which: fn(&Outcome) -> bool| {
            records.iter().filter(|r| which(&r.outcome)).count() as f64
        };
        let finished = count(|o| *o == Outcome::Finished);
        let whole = || records.iter().filter(|r| r.outcome == Outcome::Finished);
        let output: usize = whole().map(|r| r.tokens.len()).sum();
        let prompt: usize = whole().map(|r| r.prompt).sum();
        let gaps = |r: &Record| -> Vec<Duration> {
            r.tokens.windows(2).map(|pair| pair[1] - pair[0]).collect()
        };
        let first = |r: &Record| Some(r.tokens.first()?.duration_since(r.due));
        let last = |r: &Record| Some(r.tokens.last()?.duration_since(r.due));
        let mean = |gaps: Vec<Duration>| {
            let count = u32::try_from(gaps.len()).ok().filter(|n| *n > 0)?;
            Some(gaps.iter().sum::<Duration>() / count)
        };
        let steps = (after.steps - before.steps) as f64;
        let with_adapter = records
            .iter()
            .filter(|r| r.adapter && r.outcome != Outcome::Refused)
            .count();
        Self {
            seconds,
            finished,
            refused: count(|o| *o == Outcome::Refused),
            failed: count(|o| matches!(o, Outcome::Failed(_))),
            requests_per_second: finished / seconds,
            output_tokens_per_second: output as f64 / seconds,
            total_tokens_per_second: (output + prompt) as f64 / seconds,
            first_token: Percentiles::of_millis(whole().filter_map(first)),
            inter_token: Percentiles::of_millis(whole().flat_map(gaps)),
            inter_token_by_request: Percentiles::of_millis(whole().filter_map(|r| mean(gaps(r)))),
            end_to_end: Percentiles::of_millis(whole().filter_map(last)),
            lateness: Percentiles::of_millis(
                records
                    .iter()
                    .map(|r| r.sent.saturating_duration_since(r.due)),
            ),
            tiers: Tiers::of(with_adapter, before, after),
            resident: Resident {
                device_adapters: after.device_adapters as f64,
                device_bytes: after.device_bytes as f64,
                device_page_bytes: (after.adapter_pages * after.page_bytes) as f64,
                host_adapters: after.host_adapters as f64,
                host_bytes: (after.host_bytes + after.held_bytes) as f64,
            },
            steps,
            tokens_per_step: output as f64 / steps.max(1.0),
            preemptions: (after.preemptions - before.preemptions) as f64,
        }
    }

    /// The median of each figure over several runs.
    pub fn median(runs: &[Self]) -> Self {
        let figure = |of: fn(&Self) -> f64| median(&runs.iter().map(of).collect::<Vec<_>>());
        let spread = |of: fn(&Self) -> &Percentiles| Percentiles::median(runs.iter().map(of));
        Self {
            seconds: figure(|m| m.seconds),
            finished: figure(|m| m.finished),
            refused: figure(|m| m.refused),
            failed: figure(|m| m.failed),
            requests_per_second: figure(|m| m.requests_per_second),
            output_tokens_per_second: figure(|m| m.output_tokens_per_second),
            total_tokens_per_second: figure(|m| m.total_tokens_per_second),
            first_token: spread(|m| &m.first_token),
            inter_token: spread(|m| &m.inter_token),
            inter_token_by_request: spread(|m| &m.inter_token_by_request),
            end_to_end: spread(|m| &m.end_to_end),
            lateness: spread(|m| &m.lateness),
            tiers: Tiers {
                device_hit_rate: figure(|m| m.tiers.device_hit_rate),
                host_hit_rate: figure(|m| m.tiers.host_hit_rate),
                source_rate: figure(|m| m.tiers.source_rate),
                reads: figure(|m| m.tiers.reads),
                copies: figure(|m| m.tiers.copies),
                device_evictions: figure(|m| m.tiers.device_evictions),
                host_evictions: figure(|m| m.tiers.host_evictions),
            },
            resident: Resident {
                device_adapters: figure(|m| m.resident.device_adapters),
                device_bytes: figure(|m| m.resident.device_bytes),
                device_page_bytes: figure(|m| m.resident.device_page_bytes),
                host_adapters: figure(|m| m.resident.host_adapters),
                host_bytes: figure(|m| m.resident.host_bytes),
            },
            steps: figure(|m| m.steps),
            tokens_per_step: figure(|m| m.tokens_per_step),
            preemptions: figure(|m| m.preemptions),
        }
    }
}

impl Tiers {
    fn of(requests: usize, before: &EngineStats, after: &EngineStats) -> Self {
        let (b, a) = (&before.tiers, &after.tiers);
        let host = (a.host_hits - b.host_hits) as f64;
        let reads = (a.reads - b.reads) as f64;
        let rate = |share: f64| if requests == 0 { 0.0 } else { share };
        let device = (a.device_hits - b.device_hits) as f64 / requests.max(1) as f64;
        // One request may be counted anew after it gave up its pages.
        let device = device.min(1.0);
        let missed = 1.0 - device;
        let from_host = if host + reads > 0.0 {
            missed * host / (host + reads)
        } else {
            0.0
        };
        Self {
            device_hit_rate: rate(device),
            host_hit_rate: rate(from_host),
            source_rate: rate(missed - from_host),
            reads,
            copies: (a.copies - b.copies) as f64,
            device_evictions: (a.device_evictions - b.device_evictions) as f64,
            host_evictions: (a.host_evictions - b.host_evictions) as f64,
        }
    }
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>9.2} {:>9.2} {:>9.2} {:>9.2}",
            self.p50, self.p90, self.p99, self.max
        )
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "  output {:.0} tok/s, with prompts {:.0} tok/s, {:.1} requests/s; {:.1} tokens a step",
            self.output_tokens_per_second,
            self.total_tokens_per_second,
            self.requests_per_second,
            self.tokens_per_step
        )?;
        writeln!(
            f,
            "  {:.0} finished, {:.0} refused, {:.0} failed, {:.0} preempted",
            self.finished, self.refused, self.failed, self.preemptions
        )?;
        writeln!(
            f,
            "  {:<28} {:>9} {:>9} {:>9} {:>9}",
            "milliseconds", "p50", "p90", "p99", "max"
        )?;
        for (name, spread) in [
            ("first token", &self.first_token),
            ("inter-token", &self.inter_token),
            ("inter-token, by request", &self.inter_token_by_request),
            ("end to end", &self.end_to_end),
            ("sent late (counted above)", &self.lateness),
        ] {
            writeln!(f, "  {name:<28} {spread}")?;
        }
        let tiers = &self.tiers;
        writeln!(
            f,
            "  hit rate: device {:.3}, host {:.3}, disk {:.3}; {:.0} read, {:.0} copied, {:.0} evicted from \
             device, {:.0} from host",
            tiers.device_hit_rate,
            tiers.host_hit_rate,
            tiers.source_rate,
            tiers.reads,
            tiers.copies,
            tiers.device_evictions,
            tiers.host_evictions
        )?;
        let resident = &self.resident;
        write!(
            f,
            "  resident: device {:.0} adapters, {:.1} MB in pages of {:.1} MB; host {:.0} adapters, {:.1} MB",
            resident.device_adapters,
            resident.device_bytes / 1e6,
            resident.device_page_bytes / 1e6,
            resident.host_adapters,
            resident.host_bytes / 1e6
        )
    }
}
