//! Several devices together: sums, models that they divide, and their speed beside one device's.

use super::fixtures::FIXTURES;
use super::report::{Figure, Finding, Outcome, Section};
use super::scale::Scale;
use super::speed::{full_contexts, median};
use super::subject::{difference, Failure, Mode, Subject};
use super::{goldens, sums, Extent};
use crate::backend::cuda::device::{Device, DeviceRank};
use crate::backend::cuda::model::FromSeed;
use crate::backend::cuda::{
    CudaBackend, CudaOptions, CudaRanks, DeviceChoice, Options, Room, Storage,
};
use crate::backend::parallel::Shard;
use crate::kv::pages_for;
use candle_core::Tensor;
use openledger_model::{Adapter, Family, LoraConfig, ModelConfig, Site, Targets, Weights};
use rand::Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::path::Path;
use std::sync::Arc;

const SEED: u64 = 2026;

/// Values of the sums whose bandwidth is measured.
const LARGE: usize = 32 << 20;

/// Into how many ranks so many devices are grouped.
pub fn sizes(devices: usize) -> Vec<usize> {
    [2, 4, 8].into_iter().filter(|n| *n <= devices).collect()
}

fn group(devices: &[Arc<dyn Device>]) -> Result<Vec<Arc<dyn DeviceRank>>, Failure> {
    let first = devices.first().ok_or("no device")?;
    Ok(first.group(devices)?)
}

/// Sums over the devices in one storage, of a few numbers of values.
///
/// # Errors
/// When one is wrong, or a device fails.
pub fn check_sums(
    devices: &[Arc<dyn Device>],
    storage: Storage,
    extent: Extent,
    part: &str,
    found: &mut dyn FnMut(Finding),
) -> Result<(), Failure> {
    let ends = group(devices)?;
    let by = ends.first().map(|end| end.name()).unwrap_or_default();
    let counts = match extent {
        Extent::Full => &sums::COUNTS[..],
        Extent::Small => &sums::COUNTS[..3],
    };
    let mut worst = 0f32;
    for (i, count) in counts.iter().enumerate() {
        let seed = SEED + i as u64;
        worst = worst.max(sums::check(devices, &ends, storage, *count, seed)?);
    }
    let outcome = Outcome {
        part: part.to_owned(),
        found: format!(
            "{by}: {} numbers of values up to {}, off by at most {worst:.2} of what rounding allows",
            counts.len(),
            counts.last().copied().unwrap_or(0)
        ),
        passed: true,
    };
    found(Finding::Outcome(Section::Ranks, outcome));
    Ok(())
}

/// A model that devices divide.
pub enum Divided {
    /// One of [`FIXTURES`].
    Fixture(usize),
    /// One with random weights and as many heads as four devices need.
    Random,
}

impl Divided {
    /// All of them.
    pub fn all() -> Vec<Self> {
        let fixtures = (0..FIXTURES.len()).map(Self::Fixture);
        fixtures.chain([Self::Random]).collect()
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Fixture(number) => FIXTURES[*number].model,
            Self::Random => "random weights",
        }
    }

    /// Why it cannot be divided into so many parts.
    pub fn refusal(&self, ranks: usize) -> Option<String> {
        let config = match self {
            Self::Fixture(number) => ModelConfig::from_json(FIXTURES[*number].config),
            Self::Random => Ok(random_config()),
        };
        let config = config.map_err(|error| error.to_string());
        config
            .and_then(|config| Shard::all(&config, ranks).map(drop))
            .err()
    }

    /// Its logits on these devices, and by how much they are off those of transformers and PEFT.
    fn logits(
        &self,
        devices: &[Arc<dyn Device>],
        mode: Mode,
        folder: &Path,
    ) -> Result<(Vec<f32>, f32), Failure> {
        match self {
            Self::Fixture(number) => {
                let found = goldens::compute(devices, &FIXTURES[*number], mode, folder)?;
                Ok((found.logits, found.error))
            }
            Self::Random => {
                let answers = random_subject()?.compute(devices, mode, |_, _| true)?;
                let logits = answers.into_iter().flat_map(|answer| answer.logits);
                Ok((logits.collect(), 0.0))
            }
        }
    }
}

/// Heads of keys for eight ranks.
fn random_config() -> ModelConfig {
    ModelConfig {
        family: Family::Llama,
        vocab_size: 160,
        hidden_size: 64,
        intermediate_size: 128,
        num_hidden_layers: 2,
        num_attention_heads: 16,
        num_key_value_heads: 8,
        head_dim: 16,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: None,
        max_position_embeddings: 128,
        tie_word_embeddings: false,
        bos_token_id: None,
        eos_token_ids: Vec::new(),
    }
}

/// Random weights with an adapter that changes what they compute.
fn random_subject() -> Result<Subject, Failure> {
    let config = random_config();
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    // Larger than a fresh model's, so that logits are of some size.
    let weights = Weights::random(&config, SEED)?.map(|name, tensor| {
        Ok(match name.contains("norm") {
            true => tensor.clone(),
            false => (tensor * 8.0)?,
        })
    })?;
    let lora = LoraConfig::new(8, 16.0, Targets::AllLinear);
    let mut adapter = Adapter::init(&config, lora, SEED)?;
    for layer in &mut adapter.layers {
        for site in Site::ALL {
            if let Some(mut pair) = layer.get(site).cloned() {
                let shape = pair.b.dims2()?;
                let values = (0..shape.0 * shape.1).map(|_| random.random_range(-0.3f32..0.3));
                let values: Vec<f32> = values.collect();
                pair.b = Tensor::from_vec(values, shape, &candle_core::Device::Cpu)?;
                layer.set(site, Some(pair));
            }
        }
    }
    let prompts = [1usize, 5, 40].map(|tokens| {
        (0..tokens)
            .map(|_| random.random_range(0..config.vocab_size as u32))
            .collect()
    });
    Ok(Subject {
        config,
        weights,
        adapters: vec![adapter],
        prompts: prompts.into(),
    })
}

/// Computes a model on one device and on several, and compares. `bar` is how far a logit may be off; in BF16
/// of the largest logit.
///
/// # Errors
/// When a device fails.
pub fn check_model(
    devices: &[Arc<dyn Device>],
    model: &Divided,
    mode: Mode,
    bar: f32,
    folder: &Path,
) -> Result<(String, bool), Failure> {
    let alone = devices.get(..1).ok_or("no device")?;
    let (one, _) = model.logits(alone, mode, folder)?;
    let (several, error) = model.logits(devices, mode, folder)?;
    let largest = one.iter().fold(0f32, |most, logit| most.max(logit.abs()));
    let bar = match mode.storage {
        Storage::F32 => bar,
        Storage::Bf16 => bar * largest,
    };
    let apart = difference(&one, &several);
    let mut text = format!(
        "{} logits off those of one device by at most {apart:.1e} (bar {bar:.0e}, largest {largest:.1})",
        several.len()
    );
    if matches!(model, Divided::Fixture(_)) {
        text += &format!(", off the reference by {error:.1e}");
    }
    let right = !several.is_empty() && largest > 0.1 && apart <= bar && error <= bar;
    Ok((text, right))
}

/// How the model that is measured is filled.
fn seeded(scale: &Scale) -> FromSeed {
    FromSeed {
        compiled: Options {
            storage: scale.storage,
            head_dim: scale.config.head_dim as u32,
        },
        lm_head: !scale.config.tie_word_embeddings,
        seed: 1,
    }
}

fn options(scale: &Scale, devices: &[Arc<dyn Device>]) -> CudaOptions {
    CudaOptions {
        devices: devices.iter().cloned().map(DeviceChoice::Open).collect(),
        storage: scale.storage,
        deterministic: scale.deterministic,
        tensor_cores: !scale.deterministic,
        graphs: true,
    }
}

/// Seconds of a step of the base alone, for each batch of the scale.
fn step_seconds(devices: &[Arc<dyn Device>], scale: &Scale) -> Result<Vec<f64>, Failure> {
    let rows = scale.batches.iter().copied().max().unwrap_or(1);
    let room = Room {
        pages: Some(u32::try_from(rows * pages_for(scale.context))?),
        context: scale.context,
        rows,
    };
    let (mut filler, options) = (seeded(scale), options(scale, devices));
    let mut seconds = Vec::with_capacity(scale.batches.len());
    if devices.len() == 1 {
        let mut backend = CudaBackend::new(&scale.config, &mut filler, &options, room)?;
        backend.clear_arena()?;
        for rows in &scale.batches {
            let batch = full_contexts(scale, *rows, &[]);
            seconds.push(median(backend.time_steps(&batch, scale.repeats)?));
        }
    } else {
        let mut ranks = CudaRanks::new(&scale.config, &mut filler, &options, room)?;
        ranks.clear_arena()?;
        for rows in &scale.batches {
            let batch = full_contexts(scale, *rows, &[]);
            seconds.push(median(ranks.time_steps(&batch, scale.repeats)?));
        }
    }
    Ok(seconds)
}

/// Measures decode on the devices together and on the first alone, one after the other, and their sums.
///
/// # Errors
/// When a device fails, or has no room.
pub fn measure(
    devices: &[Arc<dyn Device>],
    scale: &Scale,
    found: &mut dyn FnMut(Finding),
) -> Result<(), Failure> {
    let free = devices.iter().map(|device| device.free_bytes());
    let free = free.collect::<Result<Vec<_>, _>>()?;
    let whole = scale.config.num_hidden_layers;
    let (scale, note) = scale.fitted(free.into_iter().min().unwrap_or(0))?;
    let (ranks, hidden) = (devices.len(), scale.config.hidden_size);
    let note = note.map(|note| format!("{ranks} ranks: {note}"));
    note.into_iter().for_each(|note| found(Finding::Note(note)));
    let layers = scale.config.num_hidden_layers;
    {
        let ends = group(devices)?;
        let by = ends.first().map(|end| end.name()).unwrap_or_default();
        found(Finding::Note(format!("{ranks} ranks add up by {by}")));
        for rows in &scale.batches {
            let once = sums::seconds(devices, &ends, scale.storage, rows * hidden, scale.repeats)?;
            let name = format!("batch {rows}, {ranks} ranks: sums of a layer, two");
            found(Finding::measured(Figure::plain(name, 2e6 * once, "µs")));
        }
        let values = LARGE.min(scale.bandwidth_bytes / 4);
        let once = sums::seconds(devices, &ends, scale.storage, values, scale.repeats.min(10))?;
        // What each device sends and receives, as NCCL's own tests count it.
        let bytes =
            2.0 * (ranks - 1) as f64 / ranks as f64 * (values * scale.storage.bytes()) as f64;
        let name = format!("{ranks} ranks: bandwidth of a large sum, per device and direction");
        found(Finding::measured(Figure::plain(
            name,
            bytes / once / 1e9,
            "GB/s",
        )));
    }
    let one = step_seconds(&devices[..1], &scale)?;
    let several = step_seconds(devices, &scale)?;
    for ((rows, one), several) in scale.batches.iter().zip(one).zip(several) {
        let name = format!("decode, batch {rows}: {ranks} ranks");
        let rate = *rows as f64 / several;
        let figure = Figure::plain(name, rate, "tok/s").of_layers(layers, whole);
        found(Finding::measured(figure));
        let name = format!("decode, batch {rows}: {ranks} ranks / one device");
        let figure = Figure::plain(name, one / several, "").of_layers(layers, whole);
        found(Finding::measured(figure));
    }
    Ok(())
}
