//! What the engine's tests share: a small model, adapters of any rank, and teacher-forced passes.

#![allow(dead_code)]

pub mod sources;

use candle_core::{Device, Tensor};
use openledger_engine::adapters::image::AdapterImage;
use openledger_engine::adapters::slab::DeviceAdapter;
use openledger_engine::adapters::table::Arrangement;
use openledger_engine::backend::cpu::CpuBackend;
use openledger_engine::backend::cuda::arena::page_bytes as cuda_page_bytes;
use openledger_engine::backend::cuda::device::host::HostDevice;
use openledger_engine::backend::cuda::host::{HostError, HostKernels};
use openledger_engine::backend::cuda::model::FromBase;
use openledger_engine::backend::cuda::{
    CudaBackend, CudaOptions, CudaRanks, DeviceChoice, Options, Room, Storage,
};
use openledger_engine::backend::{Backend, StepBatch};
use openledger_engine::kv::{pages_for, PAGE_TOKENS};
use openledger_engine::lora::LoraBatch;
use openledger_engine::panels::Element;
use openledger_engine::{
    BackendOptions, Engine, EngineError, EngineHandle, EngineOptions, Request, TokenStream,
};
use openledger_model::{
    forward, Adapter, Base, Family, LoraConfig, LoraPair, ModelConfig, Site, Targets, Weights,
};
use std::sync::{mpsc, Arc};

/// Where the tests compute: what `OPENLEDGER_TEST_BACKEND` says, `cpu`, `cuda` (in f32 on the first GPU)
/// or `cuda-host` (its kernels on the CPU); else what the test program is named after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Cpu,
    Cuda,
    CudaHost,
}

/// Bytes of the device that stands in for a GPU.
const HOST_DEVICE_BYTES: usize = 96 << 20;

pub fn place() -> Place {
    let named = std::env::var("OPENLEDGER_TEST_BACKEND").ok();
    match named.as_deref() {
        Some("cpu") => Place::Cpu,
        Some("cuda") => Place::Cuda,
        Some("cuda-host") => Place::CudaHost,
        Some(other) => panic!("OPENLEDGER_TEST_BACKEND is {other}"),
        None if env!("CARGO_CRATE_NAME") == "cuda_host" => Place::CudaHost,
        None => Place::Cpu,
    }
}

/// The options of the CUDA backend in tests: in f32, and the same bits whatever shares a step.
pub fn cuda_options(config: &ModelConfig, place: Place) -> CudaOptions {
    ranked_cuda_options(config, place, 1)
}

/// The same for several ranks: the first GPUs, or as many devices that stand in for them.
pub fn ranked_cuda_options(config: &ModelConfig, place: Place, ranks: usize) -> CudaOptions {
    let options = CudaOptions {
        storage: Storage::F32,
        deterministic: true,
        tensor_cores: false,
        ..CudaOptions::default()
    };
    if place == Place::Cuda {
        let devices = (0..ranks as u32).map(DeviceChoice::Ordinal).collect();
        return CudaOptions { devices, ..options };
    }
    let kernels = Options {
        storage: options.storage,
        head_dim: config.head_dim as u32,
    };
    if let Err(HostError::NoCompiler) = HostKernels::load(&kernels) {
        eprintln!("skipped: no C++ compiler");
        std::process::exit(0);
    }
    let device = |_| DeviceChoice::Open(Arc::new(HostDevice::new(HOST_DEVICE_BYTES)));
    CudaOptions {
        devices: (0..ranks).map(device).collect(),
        ..options
    }
}

/// How adapters lie where the tests compute.
pub fn arrangement() -> Arrangement {
    match place() {
        Place::Cpu => Arrangement::Panels,
        Place::Cuda | Place::CudaHost => Arrangement::Rows(Element::F32),
    }
}

/// Bytes of an adapter where the tests compute.
pub fn adapter_bytes(config: &ModelConfig, adapter: &Adapter) -> usize {
    let image = AdapterImage::arranged(config, arrangement(), adapter).unwrap();
    image.table().bytes()
}

/// Grouped-query attention and widths that fill no vector.
pub fn config() -> ModelConfig {
    ModelConfig {
        family: Family::Llama,
        vocab_size: 101,
        hidden_size: 36,
        intermediate_size: 70,
        num_hidden_layers: 3,
        num_attention_heads: 6,
        num_key_value_heads: 2,
        head_dim: 6,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: None,
        max_position_embeddings: 160,
        tie_word_embeddings: false,
        bos_token_id: None,
        eos_token_ids: Vec::new(),
    }
}

/// Random weights, larger than a fresh model's so that answers differ and do not repeat.
pub fn weights(config: &ModelConfig) -> Weights {
    Weights::random_with(config, 0.24, 7).unwrap()
}

pub fn engine(options: EngineOptions) -> EngineHandle {
    let config = config();
    let options = placed(&config, options);
    Engine::start(&config, weights(&config), options).unwrap()
}

/// Options of an engine that computes where the tests do.
pub fn placed(config: &ModelConfig, mut options: EngineOptions) -> EngineOptions {
    options.backend = match place() {
        Place::Cpu => BackendOptions::Cpu,
        place => BackendOptions::Cuda(ranked_cuda_options(config, place, options.tensor_parallel)),
    };
    options
}

/// An adapter whose effect is of the size of the base's own.
pub fn adapter(config: &ModelConfig, rank: usize, targets: Targets, seed: u64) -> Adapter {
    adapter_within(config, rank, targets, 0.5, seed)
}

fn adapter_within(
    config: &ModelConfig,
    rank: usize,
    targets: Targets,
    bound: f32,
    seed: u64,
) -> Adapter {
    let lora = LoraConfig::new(rank, 2.0 * rank as f64, targets);
    Adapter::random(config, lora, bound, seed).unwrap()
}

/// Three adapters of different ranks and targets.
pub fn ragged_adapters(config: &ModelConfig) -> Vec<Adapter> {
    ragged_adapters_within(config, 0.5)
}

/// The same with another bound on the values of `B`, to which the effect is in proportion.
pub fn ragged_adapters_within(config: &ModelConfig, bound: f32) -> Vec<Adapter> {
    let names = |names: &[&str]| Targets::Names(names.iter().map(ToString::to_string).collect());
    vec![
        adapter_within(config, 3, Targets::AllLinear, bound, 11),
        adapter_within(config, 16, names(&["q_proj", "v_proj"]), bound, 12),
        adapter_within(
            config,
            29,
            names(&["o_proj", "up_proj", "down_proj"]),
            bound,
            13,
        ),
    ]
}

/// The same pseudo-random prompt for the same salt.
pub fn prompt(len: usize, salt: usize) -> Vec<u32> {
    (0..len)
        .map(|i| ((i * i * 7 + i * 13 + salt * 29 + 5) % 101) as u32)
        .collect()
}

/// Logits `[tokens, vocabulary]` by the model crate's plain forward.
pub fn plain_logits(
    config: &ModelConfig,
    weights: &Weights,
    adapter: Option<&Adapter>,
    ids: &[u32],
) -> Vec<f32> {
    let ids = Tensor::from_vec(ids.to_vec(), (1, ids.len()), &Device::Cpu).unwrap();
    let logits = forward(config, weights, adapter, &ids).unwrap();
    logits.flatten_all().unwrap().to_vec1().unwrap()
}

/// Log-probabilities by the definition.
pub fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let most = logits.iter().fold(f32::MIN, |m, v| m.max(*v));
    let sum: f64 = logits.iter().map(|v| f64::from(v - most).exp()).sum();
    let normaliser = f64::from(most) + sum.ln();
    logits.iter().map(|v| f64::from(*v) - normaliser).collect()
}

/// The tokens of an answer that ends well.
pub fn tokens(stream: TokenStream) -> Vec<u32> {
    let (tokens, end) = stream.blocking_collect().expect("the engine runs");
    let end = end.expect("the answer ends well");
    assert_eq!(end.output_tokens, tokens.len());
    tokens.into_iter().map(|t| t.id).collect()
}

/// A request that samples with a seed of its own.
pub fn sampled(prompt: Vec<u32>, output: usize, seed: u8) -> Request {
    let mut request = Request::new(prompt, output);
    request.sampling.temperature = 1.0;
    request.seed = [seed; 32];
    request
}

/// Makes a request hold the engine once its answer has `at` tokens, until the sender is used.
pub fn pause_at(request: &mut Request, at: usize) -> mpsc::Sender<()> {
    let (resume, resumed) = mpsc::channel();
    request.stop = Some(Box::new(move |output| {
        if output.len() == at {
            resumed.recv().expect("a test resumes what it paused");
        }
        false
    }));
    resume
}

/// Holds an engine in the midst of a step until it is opened: what is submitted meanwhile begins
/// together, however slow the machine.
pub struct Gate {
    resume: mpsc::Sender<()>,
    stream: TokenStream,
}

impl Gate {
    /// Occupies the engine with one request of two prompt tokens and one output token.
    pub fn close(engine: &EngineHandle) -> Self {
        let mut request = Request::new(vec![1, 2], 1);
        let resume = pause_at(&mut request, 1);
        let mut stream = engine.submit(request).unwrap();
        assert!(stream.blocking_next().is_some());
        Self { resume, stream }
    }

    /// Lets the engine go on.
    pub fn open(self) {
        self.resume.send(()).unwrap();
        self.stream.blocking_collect().unwrap().1.unwrap();
    }
}

/// A sequence with known tokens, and its adapter.
pub struct Case {
    pub ids: Vec<u32>,
    pub adapter: Option<Arc<DeviceAdapter>>,
}

fn without_magnitudes(adapter: &Adapter) -> Adapter {
    let mut adapter = adapter.clone();
    for layer in &mut adapter.layers {
        for site in Site::ALL {
            let pair = layer.get(site).cloned();
            let pair = pair.map(|pair| LoraPair {
                magnitude: None,
                ..pair
            });
            layer.set(site, pair);
        }
    }
    adapter
}

/// Pages that an adapter takes in the arena of a model.
pub fn slab_pages(config: &ModelConfig, adapter: &Adapter) -> u32 {
    let page_bytes = match place() {
        Place::Cpu => CpuBackend::page_bytes_of(config),
        Place::Cuda | Place::CudaHost => cuda_page_bytes(config, Storage::F32),
    };
    u32::try_from(adapter_bytes(config, adapter).div_ceil(page_bytes)).unwrap()
}

/// A backend with `pages` pages for keys and values, and the adapters in slabs behind them.
pub fn backend(
    config: &ModelConfig,
    weights: Weights,
    pages: u32,
    adapters: &[Adapter],
) -> (Box<dyn Backend>, Vec<Arc<DeviceAdapter>>) {
    // Without its magnitudes an adapter is a little smaller.
    let room: u32 = adapters
        .iter()
        .map(|a| slab_pages(config, &without_magnitudes(a)) + 4)
        .sum();
    let all = pages + room;
    let backend = divided(place(), config, weights, all, 1).unwrap();
    let loaded = load_all(&*backend, pages, all, adapters);
    (backend, loaded)
}

/// A backend on the CPU, over any base and by any number of ranks.
pub fn cpu_backend(
    config: &ModelConfig,
    base: impl Into<Base>,
    pages: u32,
    adapters: &[Adapter],
    ranks: usize,
) -> (Box<dyn Backend>, Vec<Arc<DeviceAdapter>>) {
    ranked_backend(Place::Cpu, config, base, pages, adapters, ranks)
}

/// A backend over any base and by any number of ranks, and the adapters in slabs behind its pages.
pub fn ranked_backend(
    place: Place,
    config: &ModelConfig,
    base: impl Into<Base>,
    pages: u32,
    adapters: &[Adapter],
    ranks: usize,
) -> (Box<dyn Backend>, Vec<Arc<DeviceAdapter>>) {
    let page_bytes = CpuBackend::page_bytes_of(config);
    let bytes = |adapter: &Adapter| {
        let adapter = without_magnitudes(adapter);
        let image = AdapterImage::arranged(config, arrangement(), &adapter);
        image.unwrap().table().bytes()
    };
    // A rank has some matrices whole, and a DoRA its gains.
    let room = |adapter: &Adapter| bytes(adapter).div_ceil(page_bytes) + 4;
    let room: usize = adapters.iter().map(room).sum();
    let all = pages + (room * ranks) as u32;
    let backend = divided(place, config, base, all, ranks).unwrap();
    let loaded = load_all(&*backend, pages, all, adapters);
    (backend, loaded)
}

/// A backend whose work is divided among ranks.
pub fn divided(
    place: Place,
    config: &ModelConfig,
    base: impl Into<Base>,
    pages: u32,
    ranks: usize,
) -> Result<Box<dyn Backend>, EngineError> {
    let context = config.max_position_embeddings;
    if place == Place::Cpu {
        let backend = CpuBackend::parallel(config, base, pages, context, ranks, 1)?;
        return Ok(Box::new(backend));
    }
    let options = ranked_cuda_options(config, place, ranks);
    let room = Room {
        pages: Some(pages),
        context,
        rows: MOST_FORCED_ROWS,
    };
    let mut filler = FromBase::new(config, base);
    Ok(match ranks {
        1 => Box::new(CudaBackend::new(config, &mut filler, &options, room)?),
        _ => Box::new(CudaRanks::new(config, &mut filler, &options, room)?),
    })
}

/// Puts adapters into slabs in the pages from `first` to `all`.
fn load_all(
    backend: &dyn Backend,
    mut first: u32,
    all: u32,
    adapters: &[Adapter],
) -> Vec<Arc<DeviceAdapter>> {
    let copier = backend.copier();
    adapters
        .iter()
        .map(|adapter| {
            let image = copier.lay_out(adapter).unwrap();
            let size = image.table().bytes().div_ceil(backend.page_bytes()) as u32;
            assert!(first + size <= all);
            let loaded = DeviceAdapter::new(Arc::clone(image.table()), first..first + size);
            first += size;
            for layer in 0..image.table().layers() {
                copier.copy_layer(&image, &loaded.pages, layer).unwrap();
                loaded.arrive(layer + 1);
            }
            Arc::new(loaded)
        })
        .collect()
}

/// Hidden states `[ids, hidden]` after the last norm.
pub fn hidden(
    backend: &mut dyn Backend,
    adapter: Option<&Arc<DeviceAdapter>>,
    ids: &[u32],
) -> Vec<f32> {
    let rows = ids.len() as u32;
    let batch = StepBatch {
        lora: LoraBatch::group(&mut [()], |()| adapter, |()| ids.len()),
        tokens: ids.to_vec(),
        positions: (0..rows).collect(),
        sequences: vec![0; ids.len()],
        tables: vec![(0..pages_for(ids.len()) as u32).collect()],
        embedded: (0..rows).collect(),
        ..StepBatch::default()
    };
    backend.step(&batch).unwrap().hidden.to_vec()
}

/// Rows of a step of [`forced`], at most.
const MOST_FORCED_ROWS: usize = 1024;

/// Logits of every position of every case, all cases in the same steps: a ragged prefill, then one row
/// each per step, over pages that lie scattered in memory.
pub fn forced(backend: &mut dyn Backend, pages: u32, cases: &[Case]) -> Vec<Vec<f32>> {
    let mut free: Vec<u32> = (0..pages).collect();
    // Neighbouring positions never lie in neighbouring pages.
    free.sort_by_key(|p| (p % 3, p * 7 % 5, *p));
    let tables: Vec<Vec<u32>> = cases
        .iter()
        .map(|c| free.split_off(free.len() - pages_for(c.ids.len())))
        .collect();
    let mut done = vec![0; cases.len()];
    let mut logits = vec![Vec::new(); cases.len()];
    loop {
        let mut chunks: Vec<(usize, usize)> = cases
            .iter()
            .enumerate()
            .filter(|(i, c)| done[*i] < c.ids.len())
            .map(|(i, c)| {
                let prefill = (c.ids.len() / 2 + i).min(c.ids.len());
                (i, if done[i] == 0 { prefill.max(1) } else { 1 })
            })
            .collect();
        if chunks.is_empty() {
            return logits;
        }
        let mut batch = StepBatch {
            lora: LoraBatch::group(
                &mut chunks,
                |(i, _)| cases[*i].adapter.as_ref(),
                |(_, rows)| *rows,
            ),
            ..StepBatch::default()
        };
        for (sequence, (i, rows)) in chunks.iter().enumerate() {
            for position in done[*i]..done[*i] + rows {
                batch.wanted.push(batch.tokens.len() as u32);
                batch.tokens.push(cases[*i].ids[position]);
                batch.positions.push(position as u32);
                batch.sequences.push(sequence as u32);
            }
            assert!(tables[*i].len() * PAGE_TOKENS >= done[*i] + rows);
            batch.tables.push(tables[*i].clone());
        }
        let result = backend.step(&batch).unwrap().logits;
        let vocabulary = result.len() / batch.wanted.len();
        let mut rest = result;
        for (i, rows) in chunks {
            let (mine, others) = rest.split_at(rows * vocabulary);
            logits[i].extend_from_slice(mine);
            rest = others;
            done[i] += rows;
        }
    }
}

/// The largest absolute difference.
pub fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}
