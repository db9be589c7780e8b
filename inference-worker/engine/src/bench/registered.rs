//! What thousands of registered adapters cost: bytes for each, the time to a first token from each tier,
//! and what is left of the resident ones' speed.

use super::bars::at_once;
use super::fleet::{self, forget, Adapted, Member, Sites};
use super::machine::{allocated_bytes, resident_bytes, storage_bytes_read};
use super::percentiles::Percentiles;
use super::ratio::{ratio, Ratio};
use super::shape::Shape;
use super::sweep::settled;
use super::BenchError;
use crate::adapters::AdapterId;
use crate::backend::cpu::CpuBackend;
use crate::engine::{Engine, EngineHandle};
use crate::kv::pages_for;
use crate::options::EngineOptions;
use crate::request::{Event, Request};
use crate::stats::TierCounts;
use openledger_model::ModelConfig;
use serde::Serialize;
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Adapters that are active when the resident ones' speed is measured, and requests sent at once.
const ACTIVE: usize = 5;
const REQUESTS: usize = 32;

/// Adapters that fit the device when first tokens are measured: so few that most are elsewhere.
const ON_DEVICE: usize = 4;

/// Tokens of the prompts.
const PROMPT: usize = 32;

/// Bytes of the arena when all active adapters are to fit.
const ARENA_BYTES: usize = 1 << 30;

/// How it is measured.
#[derive(Clone, Debug, Serialize)]
pub struct Options {
    /// The model.
    pub shape: Shape,
    /// Adapters that are registered, each in a folder of its own.
    pub registered: usize,
    /// Of these, how many are asked for in turn; they are of `adapted`.
    pub asked_for: usize,
    /// What adapters that are asked for change.
    pub adapted: Adapted,
    /// What the others change, which nobody asks for.
    pub others: Adapted,
    /// Repeats.
    pub repeats: usize,
    /// Seed of weights and adapters.
    pub seed: u64,
    /// Threads; none takes all cores.
    pub threads: Option<usize>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            shape: Shape::Small,
            registered: 10_000,
            asked_for: 64,
            adapted: Adapted {
                rank: 16,
                sites: Sites::AllLinear,
            },
            others: Adapted {
                rank: 4,
                sites: Sites::QueryValue,
            },
            repeats: 5,
            seed: 1,
            threads: None,
        }
    }
}

/// What it came to.
#[derive(Clone, Debug, Serialize)]
pub struct RegisteredReport {
    /// How it was measured.
    pub options: Options,
    /// The model, in words.
    pub model: String,
    /// Bytes of all folders' files.
    pub files_bytes: u64,
    /// Seconds to register all of them, with a name for each.
    pub register_seconds: f64,
    /// Bytes of memory for each registered adapter and its name, by the allocator's account.
    pub bytes_per_registered: Option<f64>,
    /// The same by the growth of the process, which is less where freed memory is used again.
    pub resident_bytes_per_registered: Option<f64>,
    /// Bytes of an adapter's weights in host memory and on the device.
    pub adapter_bytes: f64,
    /// Bytes in host memory for each adapter that is there, beside its weights.
    pub host_overhead_bytes: Option<f64>,
    /// All registered against five, five active.
    pub resident_speed: Ratio,
    /// Milliseconds to the first token of one request on an idle engine.
    pub first_token: FirstToken,
}

/// Milliseconds to the first token, by where the adapter was.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FirstToken {
    /// No adapter: the base model.
    pub base: Percentiles,
    /// On the device.
    pub device: Percentiles,
    /// In host memory.
    pub host: Percentiles,
    /// In files that the system has in memory.
    pub page_cache: Percentiles,
    /// In files that had been dropped from the system's memory.
    pub disk: Percentiles,
    /// Bytes that storage was asked for, for each of those; none where the system does not tell. If it
    /// is less than the files' bytes, they were not all dropped.
    pub disk_bytes_read: Option<f64>,
}

/// Measures it all. The folders are written below `dir`.
///
/// # Errors
/// When the folders do not fit the disk, or an engine refuses what it should take.
pub fn run(
    options: &Options,
    dir: &Path,
    mut progress: impl FnMut(&str),
) -> Result<RegisteredReport, BenchError> {
    let asked_for = options.asked_for.min(options.registered);
    if asked_for < ACTIVE.max(ON_DEVICE + 1) {
        return Err(BenchError::Workload(format!(
            "at least {} adapters must be registered and asked for",
            ACTIVE.max(ON_DEVICE + 1)
        )));
    }
    let config = options.shape.config()?;
    progress(&format!(
        "registered: writing {} adapters",
        options.registered
    ));
    let mut members = fleet::write(
        &dir.join("asked-for"),
        &config,
        options.adapted,
        0..asked_for,
        options.seed,
    )?;
    members.extend(fleet::write(
        &dir.join("others"),
        &config,
        options.others,
        asked_for..options.registered,
        options.seed,
    )?);
    let (active, _) = members.split_at(asked_for);

    progress("registered: bytes for each");
    let pages = u32::try_from(ARENA_BYTES / CpuBackend::page_bytes_of(&config)).ok();
    let many = start(options, &config, pages)?;
    let (allocated, resident) = (allocated_bytes(), resident_bytes());
    let started = Instant::now();
    register(&many, &members)?;
    let register_seconds = started.elapsed().as_secs_f64();
    let each = |before: Option<u64>, after: Option<u64>| {
        Some(after?.saturating_sub(before?) as f64 / options.registered as f64)
    };
    let bytes_per_registered = each(allocated, allocated_bytes());
    let resident_bytes_per_registered = each(resident, resident_bytes());

    progress("registered: speed of the resident ones against 5 registered");
    let few = start(options, &config, pages)?;
    register(&few, &active[..ACTIVE])?;
    let load: Vec<_> = (0..REQUESTS).map(|i| Some(active[i % ACTIVE].id)).collect();
    let resident_speed = ratio(
        "all registered / 5 registered, 5 active",
        0.95,
        options.repeats.into(),
        || at_once(&many, &load, PROMPT, 32),
        || at_once(&few, &load, PROMPT, 32),
    )?;
    drop((many, few));

    let small_arena = pages_for(config.max_position_embeddings)
        + ON_DEVICE * adapter_pages(options, &config, active)?;
    let engine = start(
        options,
        &config,
        Some(u32::try_from(small_arena).unwrap_or(u32::MAX)),
    )?;
    register(&engine, &members)?;
    let mut samples = Samples::default();
    let held = Held::before(&engine)?;
    for repeat in 0..options.repeats.max(1) {
        progress(&format!("registered: first tokens, repeat {}", repeat + 1));
        samples.repeat(&engine, active)?;
    }
    let (adapter_bytes, host_overhead_bytes) = held.for_each(&engine)?;
    Ok(RegisteredReport {
        options: options.clone(),
        model: options.shape.describe(&config),
        files_bytes: members.iter().map(|m| m.bytes).sum(),
        register_seconds,
        bytes_per_registered,
        resident_bytes_per_registered,
        adapter_bytes,
        host_overhead_bytes,
        resident_speed,
        first_token: samples.report(),
    })
}

fn start(
    options: &Options,
    config: &ModelConfig,
    arena_pages: Option<u32>,
) -> Result<EngineHandle, BenchError> {
    let base = options.shape.base(config, options.seed)?;
    let options = EngineOptions {
        threads: options.threads,
        arena_pages,
        ..EngineOptions::default()
    };
    Ok(Engine::start(config, base, options)?)
}

/// Registers them under names, as an operator would.
fn register(engine: &EngineHandle, members: &[Member]) -> Result<(), BenchError> {
    members.iter().enumerate().try_for_each(|(n, member)| {
        member.register(engine)?;
        let name = format!("adapter-{n}");
        Ok(engine.adapters().swap_alias(&name, None, member.id)?)
    })
}

/// Pages that one adapter takes, found by loading one.
fn adapter_pages(
    options: &Options,
    config: &ModelConfig,
    members: &[Member],
) -> Result<usize, BenchError> {
    let engine = start(options, config, None)?;
    let Some(first) = members.first() else {
        return Ok(0);
    };
    first.register(&engine)?;
    engine.pin_adapter(first.id)?;
    // The count follows the pinning by a moment.
    let until = Instant::now() + Duration::from_secs(1);
    while engine.stats().adapter_pages == 0 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(engine.stats().adapter_pages)
}

/// Allocated bytes and bytes of weights before adapters came.
struct Held {
    allocated: Option<u64>,
}

impl Held {
    fn before(engine: &EngineHandle) -> Result<Self, BenchError> {
        ask(engine, None, 0)?;
        Ok(Self {
            allocated: allocated_bytes(),
        })
    }

    /// Bytes of one adapter's weights, and beside them in host memory.
    fn for_each(&self, engine: &EngineHandle) -> Result<(f64, Option<f64>), BenchError> {
        let stats = settled(engine)?;
        let count = stats.host_adapters.max(1) as f64;
        let overhead = |before: u64, after: u64| {
            (after as f64 - before as f64 - stats.host_bytes as f64) / count
        };
        Ok((
            stats.host_bytes as f64 / count,
            self.allocated
                .zip(allocated_bytes())
                .map(|(b, a)| overhead(b, a)),
        ))
    }
}

#[derive(Default)]
struct Samples {
    base: Vec<Duration>,
    device: Vec<Duration>,
    host: Vec<Duration>,
    page_cache: Vec<Duration>,
    disk: Vec<Duration>,
    disk_bytes: Option<u64>,
}

impl Samples {
    /// Each adapter once from the disk, once from the page cache, and from host memory and the device.
    fn repeat(&mut self, engine: &EngineHandle, members: &[Member]) -> Result<(), BenchError> {
        self.base.push(ask(engine, None, PROMPT)?.0);
        forget(engine, members)?;
        members.iter().try_for_each(Member::drop_pages)?;
        let before = storage_bytes_read();
        for member in members {
            // By what was done for it: another one's coming ahead would be no reading from the disk.
            let (took, moved) = ask(engine, Some(member.id), PROMPT)?;
            if moved.reads > 0 {
                self.disk.push(took);
            }
        }
        if let (Some(before), Some(after)) = (before, storage_bytes_read()) {
            *self.disk_bytes.get_or_insert(0) += after.saturating_sub(before);
        }
        forget(engine, members)?;
        for member in members {
            let (took, moved) = ask(engine, Some(member.id), PROMPT)?;
            if moved.reads > 0 {
                self.page_cache.push(took);
            }
        }
        for member in members {
            self.base.push(ask(engine, None, PROMPT)?.0);
            for _ in 0..2 {
                let (took, moved) = ask(engine, Some(member.id), PROMPT)?;
                match (moved.reads, moved.host_hits, moved.device_hits) {
                    (0, 0, 1..) => self.device.push(took),
                    (0, 1.., _) => self.host.push(took),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn report(self) -> FirstToken {
        let from_disk = self.disk.len().max(1) as f64;
        FirstToken {
            base: Percentiles::of_millis(self.base),
            device: Percentiles::of_millis(self.device),
            host: Percentiles::of_millis(self.host),
            page_cache: Percentiles::of_millis(self.page_cache),
            disk: Percentiles::of_millis(self.disk),
            disk_bytes_read: self.disk_bytes.map(|bytes| bytes as f64 / from_disk),
        }
    }
}

/// One request alone: the time to its first token, and what was moved for it.
fn ask(
    engine: &EngineHandle,
    adapter: Option<AdapterId>,
    prompt: usize,
) -> Result<(Duration, TierCounts), BenchError> {
    let before = settled(engine)?;
    let tokens = (0..prompt.max(1)).map(|p| (p % engine.config().vocab_size) as u32);
    // Two tokens: when the second has come, the counts of the first step are there.
    let mut request = Request::new(tokens.collect(), 2);
    request.adapter = adapter;
    request.cache_salt[..8].copy_from_slice(&before.steps.to_le_bytes());
    let started = Instant::now();
    let mut stream = engine.submit(request)?;
    let mut first = None;
    loop {
        match stream.blocking_next() {
            Some(Event::Token(_)) => first = first.or_else(|| Some(started.elapsed())),
            // Neither is asked for.
            Some(Event::Prompt(_) | Event::Embedding(_)) => {}
            Some(Event::Failed(error)) => return Err(BenchError::Request(error.to_string())),
            Some(Event::Finished(_)) | None => break,
        }
    }
    let first = first.ok_or_else(|| BenchError::Request("no token".to_owned()))?;
    let (after, before) = (settled(engine)?.tiers, before.tiers);
    let moved = TierCounts {
        device_hits: after.device_hits - before.device_hits,
        host_hits: after.host_hits - before.host_hits,
        reads: after.reads - before.reads,
        copies: after.copies - before.copies,
        failures: after.failures - before.failures,
        device_evictions: after.device_evictions - before.device_evictions,
        host_evictions: after.host_evictions - before.host_evictions,
    };
    Ok((first, moved))
}

impl fmt::Display for RegisteredReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = &self.options;
        writeln!(
            f,
            "{}; {} adapters registered, folders of {:.0} MB in all; {} of them asked for, rank {}, \
             {:.2} MB in memory each",
            self.model,
            options.registered,
            self.files_bytes as f64 / 1e6,
            options.asked_for,
            options.adapted.rank,
            self.adapter_bytes / 1e6
        )?;
        let bytes = |bytes: Option<f64>| bytes.map_or("?".to_owned(), |b| format!("{b:.0}"));
        writeln!(
            f,
            "  {} bytes for each registered adapter (allocator; {} by the process's growth), registered \
             in {:.1} ms all",
            bytes(self.bytes_per_registered),
            bytes(self.resident_bytes_per_registered),
            self.register_seconds * 1e3
        )?;
        writeln!(
            f,
            "  {} bytes beside the weights for each adapter in host memory (allocator)",
            bytes(self.host_overhead_bytes)
        )?;
        writeln!(f, "  {}", self.resident_speed)?;
        writeln!(
            f,
            "  {:<28} {:>9} {:>9} {:>9} {:>9}  samples",
            "first token, ms", "p50", "p90", "p99", "max"
        )?;
        let first = &self.first_token;
        for (name, spread) in [
            ("base model", &first.base),
            ("adapter on the device", &first.device),
            ("in host memory", &first.host),
            ("in files, page cache", &first.page_cache),
            ("in files, disk", &first.disk),
        ] {
            writeln!(f, "  {name:<28} {spread}  {}", spread.count)?;
        }
        write!(
            f,
            "  storage read {} bytes for each adapter from the disk",
            bytes(first.disk_bytes_read)
        )
    }
}
