//! The ratios that the engine is held to, each of two sides that take turns.

use super::percentiles::median;
use super::ratio::{ratio, Ratio};
use super::shape::Shape;
use super::BenchError;
use crate::adapters::image::AdapterImage;
use crate::adapters::{AdapterId, AdapterSource};
use crate::backend::cpu::CpuBackend;
use crate::engine::{Engine, EngineHandle};
use crate::options::EngineOptions;
use crate::request::Request;
use openledger_model::{Adapter, ModelConfig};
use serde::Serialize;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes of the engines' arenas; what is not used takes no room.
const ARENA_BYTES: usize = 1 << 30;

/// Rank of all adapters of the bars; they are all-linear.
const RANK: usize = 16;

/// Different adapters that one forward pass has to hold.
const IN_ONE_PASS: usize = 16;

/// How the bars are measured.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct BarOptions {
    /// Repeats of each side; at least 5 for figures to be shown.
    pub repeats: usize,
    /// Seed of weights and adapters.
    pub seed: u64,
    /// Threads; none takes all cores.
    pub threads: Option<usize>,
}

impl Default for BarOptions {
    fn default() -> Self {
        Self {
            repeats: 5,
            seed: 1,
            threads: None,
        }
    }
}

/// Output tokens per second of one load, for orientation.
#[derive(Clone, Debug, Serialize)]
pub struct Rate {
    /// The load.
    pub name: &'static str,
    /// Output tokens per second, median.
    pub tokens_per_second: f64,
}

/// All of them.
#[derive(Clone, Debug, Serialize)]
pub struct Bars {
    /// How they were measured.
    pub options: BarOptions,
    /// Backend and instruction set.
    pub backend: String,
    /// The model of the first ratios.
    pub medium: String,
    /// 16 and 64 different adapters against one, and sixteen requests at once against one.
    pub on_medium: Vec<Ratio>,
    /// The most different adapters that one forward pass held; at least 16, or the ratios say nothing.
    pub adapters_in_one_pass: usize,
    /// The model of the others.
    pub small: String,
    /// Many registered against few, and the base model beside registered adapters.
    pub on_small: Vec<Ratio>,
    /// 32 requests of 32 + 32 tokens on the small model.
    pub rates: Vec<Rate>,
}

/// Measures all, telling `progress` what comes next. Takes about a minute and a half on two cores.
///
/// # Errors
/// When the machine lacks the memory for the weights (about 1.3 GB while they are laid out), or a
/// request fails.
pub fn run(options: BarOptions, mut progress: impl FnMut(&str)) -> Result<Bars, BenchError> {
    let medium = on_medium(options, &mut progress)?;
    let small = on_small(options, &mut progress)?;
    Ok(Bars {
        options,
        backend: medium.backend,
        medium: medium.model,
        on_medium: medium.ratios,
        adapters_in_one_pass: medium.adapters_in_one_pass,
        small: small.model,
        on_small: small.ratios,
        rates: small.rates,
    })
}

fn start(
    shape: &Shape,
    options: BarOptions,
    adapters: usize,
) -> Result<(EngineHandle, Vec<AdapterId>), BenchError> {
    let config = shape.config()?;
    let engine = Engine::start(
        &config,
        shape.base(&config, options.seed)?,
        EngineOptions {
            threads: options.threads,
            batch_window: Duration::from_millis(5),
            // Room for every adapter: what is measured is computing, not loading.
            arena_pages: u32::try_from(ARENA_BYTES / CpuBackend::page_bytes_of(&config)).ok(),
            ..EngineOptions::default()
        },
    )?;
    let ids = (0..adapters)
        .map(|i| {
            let seed = options.seed.wrapping_mul(1_000).wrapping_add(i as u64);
            Ok(engine.hold(AdapterImage::random(&config, RANK, seed))?)
        })
        .collect::<Result<_, BenchError>>()?;
    Ok((engine, ids))
}

/// Never read: registered, and not asked for.
struct Unread;

impl AdapterSource for Unread {
    fn read(&self, _: &ModelConfig) -> Result<Adapter, String> {
        Err("nobody asks for it".to_owned())
    }

    fn tier(&self) -> &'static str {
        "disk"
    }
}

/// Registers adapters that nobody asks for, up to `total` in all.
fn register_others(engine: &EngineHandle, total: usize) -> Result<(), BenchError> {
    let source: Arc<dyn AdapterSource> = Arc::new(Unread);
    for n in engine.stats().adapters..total {
        let mut id = [0xee; 32];
        id[..8].copy_from_slice(&(n as u64).to_le_bytes());
        engine.register_adapter(AdapterId(id), Arc::clone(&source))?;
    }
    Ok(())
}

/// Output tokens per second of some requests sent at once, one per entry.
pub(super) fn at_once(
    engine: &EngineHandle,
    adapters: &[Option<AdapterId>],
    prompt: usize,
    output: usize,
) -> Result<f64, BenchError> {
    let vocabulary = engine.config().vocab_size;
    let mut salt = [0; 32];
    salt[..8].copy_from_slice(&engine.stats().steps.to_le_bytes());
    let started = Instant::now();
    let streams = adapters
        .iter()
        .enumerate()
        .map(|(i, adapter)| {
            let prompt = (0..prompt).map(|p| ((p * 31 + i * 17 + 3) % vocabulary) as u32);
            let mut request = Request::new(prompt.collect(), output);
            request.adapter = *adapter;
            // Prompts are the same in each repeat: nothing may be left of the one before.
            request.cache_salt = salt;
            engine.submit(request)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let mut tokens = 0;
    for stream in streams {
        match stream.blocking_collect() {
            Some((output, Ok(_))) => tokens += output.len(),
            Some((_, Err(error))) => return Err(BenchError::Request(error.to_string())),
            None => return Err(BenchError::Request("the engine's stop".to_owned())),
        }
    }
    Ok(tokens as f64 / started.elapsed().as_secs_f64())
}

struct OnMedium {
    model: String,
    backend: String,
    ratios: Vec<Ratio>,
    adapters_in_one_pass: usize,
}

fn on_medium(options: BarOptions, progress: &mut impl FnMut(&str)) -> Result<OnMedium, BenchError> {
    const BATCH: usize = 16;
    const MANY: usize = 64;
    progress("bars: drawing the medium model's weights and 64 adapters");
    let (engine, ids) = start(&Shape::Medium, options, MANY)?;
    let many: Vec<_> = ids.iter().copied().map(Some).collect();
    let distinct = &many[..BATCH];
    progress("bars: medium model, 64 adapters against 1");
    let of_64 = ratio(
        "64 distinct adapters / 1 adapter, batch 64",
        0.90,
        options.repeats.into(),
        || at_once(&engine, &many, 4, 24),
        || at_once(&engine, &[many[0]; MANY], 4, 24),
    )?;
    progress("bars: medium model, 16 adapters against 1");
    let of_16 = ratio(
        "16 distinct adapters / 1 adapter, batch 16",
        0.85,
        options.repeats.into(),
        || at_once(&engine, distinct, 4, 24),
        || at_once(&engine, &[many[0]; BATCH], 4, 24),
    )?;
    progress("bars: medium model, batch 16 against 1");
    let batching = ratio(
        "batch 16 / batch 1, base model",
        3.0,
        options.repeats.into(),
        || at_once(&engine, &[None; BATCH], 4, 24),
        || at_once(&engine, &[None], 4, 24),
    )?;
    Ok(OnMedium {
        model: Shape::Medium.describe(engine.config()),
        backend: engine.backend().to_owned(),
        ratios: vec![of_64, of_16, batching],
        adapters_in_one_pass: engine.stats().max_distinct_adapters_in_step,
    })
}

struct OnSmall {
    model: String,
    ratios: Vec<Ratio>,
    rates: Vec<Rate>,
}

fn on_small(options: BarOptions, progress: &mut impl FnMut(&str)) -> Result<OnSmall, BenchError> {
    const REQUESTS: usize = 32;
    const REGISTERED: usize = 2_000;
    const ACTIVE: usize = 5;
    progress("bars: drawing the small model's weights and 64 adapters");
    let (engine, ids) = start(&Shape::Small, options, 64)?;
    let mixed: Vec<_> = ids.iter().copied().map(Some).take(REQUESTS).collect();
    let loads = [
        ("32 adapters, mixed", mixed.clone()),
        ("one adapter", vec![mixed[0]; REQUESTS]),
        ("base model", vec![None; REQUESTS]),
        ("one request at a time", vec![mixed[0]]),
    ];
    progress("bars: small model, 32 requests of 32 + 32 tokens");
    let mut measured = vec![Vec::new(); loads.len()];
    for repeat in 0..=options.repeats.max(1) {
        for ((_, load), rates) in loads.iter().zip(&mut measured) {
            let rate = at_once(&engine, load, 32, 32)?;
            // The first round warms up.
            if repeat > 0 {
                rates.push(rate);
            }
        }
    }
    progress("bars: small model, 2,000 registered adapters against 5, and against none");
    register_others(&engine, REGISTERED)?;
    let (few, five) = start(&Shape::Small, options, ACTIVE)?;
    let (none, _) = start(&Shape::Small, options, 0)?;
    let active: Vec<_> = (0..REQUESTS).map(|i| Some(five[i % ACTIVE])).collect();
    let registered = ratio(
        "2,000 registered / 5 registered, 5 active",
        0.95,
        options.repeats.into(),
        || at_once(&engine, &active, 32, 32),
        || at_once(&few, &active, 32, 32),
    )?;
    let base_only = ratio(
        "2,000 registered / none, base alone asked for",
        0.98,
        options.repeats.into(),
        || at_once(&engine, &[None; REQUESTS], 32, 32),
        || at_once(&none, &[None; REQUESTS], 32, 32),
    )?;
    Ok(OnSmall {
        model: Shape::Small.describe(engine.config()),
        ratios: vec![registered, base_only],
        rates: loads
            .iter()
            .zip(measured)
            .map(|((name, _), rates)| Rate {
                name,
                tokens_per_second: median(&rates),
            })
            .collect(),
    })
}

impl fmt::Display for Bars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}, {} repeats in turns, medians; seed {}; adapters of rank {RANK}, all-linear",
            self.backend, self.options.repeats, self.options.seed
        )?;
        writeln!(f, "{}", self.medium)?;
        for ratio in &self.on_medium {
            writeln!(f, "  {ratio}")?;
        }
        writeln!(
            f,
            "  {:<46} {:>6} / {:<5} = {:>5.2} of the bar",
            "distinct adapters in one forward pass",
            self.adapters_in_one_pass,
            IN_ONE_PASS,
            self.adapters_in_one_pass as f64 / IN_ONE_PASS as f64
        )?;
        writeln!(f, "{}", self.small)?;
        for ratio in &self.on_small {
            writeln!(f, "  {ratio}")?;
        }
        write!(f, "  32 requests of 32 + 32 tokens, output tok/s:")?;
        for (n, rate) in self.rates.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            write!(f, "{comma} {} {:.0}", rate.name, rate.tokens_per_second)?;
        }
        Ok(())
    }
}
