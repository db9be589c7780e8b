//! The engine's bench: ratios measured in one process, the two sides of each ratio taking turns.
//!
//! Weights are seeded and random and said to be so: speed does not depend on what they say. Each ratio
//! is the median over the repeats of the ratio within a repeat, so that other load on the machine,
//! which changes slowly against a repeat, weighs on both sides.

use crate::adapters::image::AdapterImage;
use crate::adapters::{AdapterId, AdapterSource};
use crate::backend::cpu::CpuBackend;
use crate::engine::{Engine, EngineHandle};
use crate::error::{AdapterError, EngineError, SubmitError};
use crate::options::EngineOptions;
use crate::request::Request;
use openledger_model::{Adapter, Family, ModelConfig, ModelError, Weights};
use serde::Serialize;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use thiserror::Error;

/// Bytes of the engines' arenas; what is not used takes no room.
const ARENA_BYTES: usize = 1 << 30;

/// Rank of all adapters of the bench; they are all-linear.
const RANK: usize = 16;

/// What HF PEFT reached on the load of [`SmallModel`] on the machine of the engine's design, tokens per
/// second: for orientation only, as it was another run.
const PEFT_SWITCHING: f64 = 221.0;
const PEFT_MIXED_BATCH: f64 = 543.0;

/// How long the bench may take.
#[derive(Clone, Copy, Debug)]
pub struct BenchOptions {
    /// Repeats of each side; at least 5 for figures to be shown.
    pub repeats: usize,
    /// Seed of weights and adapters.
    pub seed: u64,
    /// Threads; none takes all cores.
    pub threads: Option<usize>,
}

impl Default for BenchOptions {
    fn default() -> Self {
        Self {
            repeats: 5,
            seed: 1,
            threads: None,
        }
    }
}

/// The bench could not run.
#[derive(Debug, Error)]
pub enum BenchError {
    /// No weights.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// No engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// No adapters.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// A request was refused.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// A request did not end well.
    #[error("a request ended with {0}")]
    Request(String),
}

/// One side against another.
#[derive(Clone, Debug, Serialize)]
pub struct Ratio {
    /// What is measured.
    pub name: &'static str,
    /// Median over the repeats of `tokens_per_second / against`.
    pub ratio: f64,
    /// The least that the project asks for.
    pub bar: f64,
    /// Median of the side in question.
    pub tokens_per_second: f64,
    /// Median of the side it is held against.
    pub against: f64,
    /// The ratio of each repeat.
    pub repeats: Vec<f64>,
}

/// Results on the large random model.
#[derive(Clone, Debug, Serialize)]
pub struct LargeModel {
    /// Parameters of the base model.
    pub parameters: u64,
    /// 16 requests with 16 adapters against 16 requests with 1.
    pub distinct_adapters: Ratio,
    /// 64 requests with 64 adapters against 64 requests with 1.
    pub many_adapters: Ratio,
    /// 16 requests at once against 1.
    pub batching: Ratio,
    /// The most different adapters that one forward pass held: 16, or the first ratio says nothing.
    pub adapters_in_one_step: usize,
}

/// Results on the small random model: 64 adapters, 32 requests of 32 + 32 tokens.
#[derive(Clone, Debug, Serialize)]
pub struct SmallModel {
    /// Parameters of the base model.
    pub parameters: u64,
    /// Output tokens per second, 32 requests at once with 32 of the 64 adapters.
    pub mixed_batch: f64,
    /// The same with one adapter.
    pub one_adapter_batch: f64,
    /// The same with the base alone.
    pub base_batch: f64,
    /// One request at a time.
    pub single: f64,
    /// 32 requests over 5 adapters, 2,000 registered against 5 registered.
    pub registered: Ratio,
    /// 32 requests of the base, 2,000 adapters registered against none.
    pub base_only: Ratio,
    /// HF PEFT switching adapters per request, for orientation.
    pub peft_switching: f64,
    /// HF PEFT mixing adapters in a batch, for orientation.
    pub peft_mixed_batch: f64,
}

/// All results.
#[derive(Clone, Debug, Serialize)]
pub struct BenchReport {
    /// Backend and instruction set.
    pub backend: String,
    /// Repeats of each side.
    pub repeats: usize,
    /// The large model.
    pub large: LargeModel,
    /// The small model.
    pub small: SmallModel,
}

/// Runs everything, telling `progress` what comes next. Takes about a minute on two cores.
///
/// # Errors
/// When the machine lacks the memory for the weights (about 1.3 GB while they are laid out), or a
/// request fails.
pub fn run(
    options: BenchOptions,
    mut progress: impl FnMut(&str),
) -> Result<BenchReport, BenchError> {
    let (large, backend) = large_model(options, &mut progress)?;
    let small = small_model(options, &mut progress)?;
    Ok(BenchReport {
        backend,
        repeats: options.repeats,
        large,
        small,
    })
}

/// Two layers of TinyLlama's shape with Llama's vocabulary: 155 M parameters.
fn large_config() -> ModelConfig {
    ModelConfig {
        family: Family::Llama,
        vocab_size: 32_000,
        hidden_size: 2048,
        intermediate_size: 5632,
        num_hidden_layers: 2,
        num_attention_heads: 32,
        num_key_value_heads: 4,
        head_dim: 64,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: None,
        max_position_embeddings: 256,
        tie_word_embeddings: true,
        bos_token_id: None,
        eos_token_ids: Vec::new(),
    }
}

/// 6.5 M parameters.
fn small_config() -> ModelConfig {
    ModelConfig {
        family: Family::Llama,
        vocab_size: 6400,
        hidden_size: 256,
        intermediate_size: 704,
        num_hidden_layers: 6,
        num_attention_heads: 8,
        num_key_value_heads: 8,
        head_dim: 32,
        ..large_config()
    }
}

fn start(
    config: &ModelConfig,
    options: BenchOptions,
    adapters: usize,
) -> Result<(EngineHandle, Vec<AdapterId>), BenchError> {
    let weights = Weights::random(config, options.seed)?;
    let engine = Engine::start(
        config,
        weights,
        EngineOptions {
            threads: options.threads,
            batch_window: Duration::from_millis(5),
            // Room for every adapter: what is measured is computing, not loading.
            arena_pages: u32::try_from(ARENA_BYTES / CpuBackend::page_bytes_of(config)).ok(),
            ..EngineOptions::default()
        },
    )?;
    let adapters = hold(&engine, options, 0..adapters)?;
    Ok((engine, adapters))
}

/// Adapters of seeded random weights, held in host memory and brought to the device.
fn hold(
    engine: &EngineHandle,
    options: BenchOptions,
    numbers: std::ops::Range<usize>,
) -> Result<Vec<AdapterId>, BenchError> {
    let config = engine.config();
    numbers
        .map(|i| {
            let seed = options.seed.wrapping_mul(1_000).wrapping_add(i as u64);
            Ok(engine.hold(AdapterImage::random(config, RANK, seed))?)
        })
        .collect()
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
fn measure(
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

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}

/// Takes turns between the two sides, the first of a repeat alternating, after one turn unmeasured.
fn ratio(
    name: &'static str,
    bar: f64,
    repeats: usize,
    mut side: impl FnMut() -> Result<f64, BenchError>,
    mut against: impl FnMut() -> Result<f64, BenchError>,
) -> Result<Ratio, BenchError> {
    side()?;
    against()?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for repeat in 0..repeats.max(1) {
        if repeat % 2 == 0 {
            ours.push(side()?);
            theirs.push(against()?);
        } else {
            theirs.push(against()?);
            ours.push(side()?);
        }
    }
    let ratios: Vec<f64> = ours.iter().zip(&theirs).map(|(a, b)| a / b).collect();
    Ok(Ratio {
        name,
        ratio: median(&ratios),
        bar,
        tokens_per_second: median(&ours),
        against: median(&theirs),
        repeats: ratios,
    })
}

fn large_model(
    options: BenchOptions,
    progress: &mut impl FnMut(&str),
) -> Result<(LargeModel, String), BenchError> {
    const BATCH: usize = 16;
    const MANY: usize = 64;
    progress("drawing the large model's weights and 64 adapters");
    let config = large_config();
    let (engine, ids) = start(&config, options, MANY)?;
    let many: Vec<_> = ids.iter().copied().map(Some).collect();
    let distinct = many[..BATCH].to_vec();
    let same = vec![distinct[0]; BATCH];
    progress("large model: 16 adapters against 1");
    let distinct_adapters = ratio(
        "16 distinct adapters / 1 adapter, batch 16",
        0.85,
        options.repeats,
        || measure(&engine, &distinct, 4, 24),
        || measure(&engine, &same, 4, 24),
    )?;
    let adapters_in_one_step = engine.stats().max_distinct_adapters_in_step;
    progress("large model: 64 adapters against 1");
    let one = vec![many[0]; MANY];
    let many_adapters = ratio(
        "64 distinct adapters / 1 adapter, batch 64",
        0.90,
        options.repeats,
        || measure(&engine, &many, 4, 24),
        || measure(&engine, &one, 4, 24),
    )?;
    progress("large model: batch 16 against 1");
    let batching = ratio(
        "batch 16 / batch 1, base model",
        3.0,
        options.repeats,
        || measure(&engine, &[None; BATCH], 4, 24),
        || measure(&engine, &[None], 4, 24),
    )?;
    let large = LargeModel {
        parameters: config.parameters(),
        distinct_adapters,
        many_adapters,
        batching,
        adapters_in_one_step,
    };
    Ok((large, engine.backend().to_owned()))
}

fn small_model(
    options: BenchOptions,
    progress: &mut impl FnMut(&str),
) -> Result<SmallModel, BenchError> {
    const REQUESTS: usize = 32;
    const REGISTERED: usize = 2_000;
    const ACTIVE: usize = 5;
    progress("drawing the small model's weights and 64 adapters");
    let config = small_config();
    let (engine, ids) = start(&config, options, 64)?;
    let mixed: Vec<_> = ids.iter().copied().map(Some).take(REQUESTS).collect();
    let loads = [
        mixed.clone(),
        vec![mixed[0]; REQUESTS],
        vec![None; REQUESTS],
        vec![mixed[0]],
    ];
    progress("small model: 32 requests of 32 + 32 tokens");
    let mut rates = [const { Vec::new() }; 4];
    for repeat in 0..=options.repeats.max(1) {
        for (load, rates) in loads.iter().zip(&mut rates) {
            let rate = measure(&engine, load, 32, 32)?;
            // The first round warms up.
            if repeat > 0 {
                rates.push(rate);
            }
        }
    }
    let [mixed_batch, one_adapter_batch, base_batch, single] = rates.map(|r| median(&r));
    progress("small model: 2,000 registered adapters against 5, and against none");
    register_others(&engine, REGISTERED)?;
    let (few, five) = start(&config, options, ACTIVE)?;
    let (none, _) = start(&config, options, 0)?;
    let active: Vec<_> = (0..REQUESTS).map(|i| Some(five[i % ACTIVE])).collect();
    let registered = ratio(
        "2,000 registered / 5 registered, 5 active",
        0.95,
        options.repeats,
        || measure(&engine, &active, 32, 32),
        || measure(&few, &active, 32, 32),
    )?;
    let base = vec![None; REQUESTS];
    let base_only = ratio(
        "2,000 registered / none, base alone asked for",
        0.98,
        options.repeats,
        || measure(&engine, &base, 32, 32),
        || measure(&none, &base, 32, 32),
    )?;
    Ok(SmallModel {
        parameters: config.parameters(),
        mixed_batch,
        one_adapter_batch,
        base_batch,
        single,
        registered,
        base_only,
        peft_switching: PEFT_SWITCHING,
        peft_mixed_batch: PEFT_MIXED_BATCH,
    })
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<44} {:>6.2}  (bar {:.2}; {:.1} / {:.1} tok/s)",
            self.name, self.ratio, self.bar, self.tokens_per_second, self.against
        )
    }
}

impl fmt::Display for BenchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millions = |parameters: u64| parameters as f64 / 1e6;
        writeln!(
            f,
            "{}, {} repeats, medians; seeded random weights",
            self.backend, self.repeats
        )?;
        writeln!(
            f,
            "{:.1} M parameters, rank {RANK} on all linear layers, {} adapters in one forward pass",
            millions(self.large.parameters),
            self.large.adapters_in_one_step
        )?;
        writeln!(f, "  {}", self.large.distinct_adapters)?;
        writeln!(f, "  {}", self.large.many_adapters)?;
        writeln!(f, "  {}", self.large.batching)?;
        let small = &self.small;
        writeln!(
            f,
            "{:.1} M parameters, 64 adapters, 32 requests of 32 + 32 tokens, output tok/s",
            millions(small.parameters)
        )?;
        for (name, rate) in [
            ("32 adapters mixed", small.mixed_batch),
            ("one adapter", small.one_adapter_batch),
            ("base", small.base_batch),
            ("one request at a time", small.single),
        ] {
            writeln!(f, "  {name:<44} {rate:>9.0}")?;
        }
        writeln!(f, "  {}", small.registered)?;
        writeln!(f, "  {}", small.base_only)?;
        write!(
            f,
            "  HF PEFT, another run, for orientation: {} switching, {} mixed batch",
            small.peft_switching, small.peft_mixed_batch
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_should_not_be_moved_by_one_outlier() {
        assert_eq!(median(&[1.0, 100.0, 2.0]), 2.0);
        assert_eq!(median(&[1.0, 2.0, 3.0, 100.0]), 2.5);
    }

    #[test]
    fn the_two_sides_of_a_ratio_should_take_turns() {
        use std::cell::RefCell;
        let order = RefCell::new(String::new());
        let side = |name: char, rate: f64| {
            order.borrow_mut().push(name);
            Ok(rate)
        };
        let ratio = ratio("a / b", 1.0, 5, || side('a', 3.0), || side('b', 2.0)).unwrap();
        assert_eq!(order.into_inner(), "ababbaabbaab");
        assert_eq!((ratio.ratio, ratio.repeats.len()), (1.5, 5));
    }

    #[test]
    fn the_models_should_be_of_the_sizes_that_the_figures_are_for() {
        assert!(large_config().parameters() >= 100_000_000);
        assert!((6_000_000..7_000_000).contains(&small_config().parameters()));
    }
}
