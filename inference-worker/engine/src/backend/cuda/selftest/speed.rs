//! The speed of a device at the shapes of a model: decode, adapters in one batch, and loading them.
//!
//! Weights are uniform random values made on the device, and keys and values are zeros: a step does the
//! same work whatever they are. Times of steps are the device's own, without the copy of logits to the
//! host, which is measured beside them.

use super::report::{Figure, Finding, Section, Side};
use super::scale::Scale;
use crate::adapters::image::AdapterImage;
use crate::adapters::slab::DeviceAdapter;
use crate::adapters::AdapterId;
use crate::backend::cuda::arena::page_bytes;
use crate::backend::cuda::calls::PageCopy;
use crate::backend::cuda::device::{Device, Event, Memory, Stream};
use crate::backend::cuda::model::FromSeed;
use crate::backend::cuda::{CudaBackend, CudaOptions, DeviceChoice, Options, Room};
use crate::backend::{Backend, Copier, StepBatch};
use crate::kv::pages_for;
use crate::lora::LoraBatch;
use openledger_model::{Adapter, LoraConfig, Site, Targets};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Instant;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Where figures go.
type Figures<'a> = &'a mut dyn FnMut(Figure);

/// Rank of the adapters.
pub(super) const RANK: usize = 16;

/// Matrices of attention.
const ATTENTION: [Site; 4] = [Site::Q, Site::K, Site::V, Site::O];

/// Bytes of a piece of the memory that is copied to measure bandwidth.
const PIECE: usize = 1 << 20;

/// The figure of the memory's bandwidth.
const BANDWIDTH: &str = "bandwidth of the device's memory, measured by copying";

/// What is measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measurement {
    /// Bandwidth of the device's memory.
    Memory,
    /// Steps of the base alone.
    Decode,
    /// Steps with adapters.
    Adapters,
    /// Bringing adapters to the device.
    Loading,
    /// Steps while adapters are brought.
    UnderLoads,
    /// How many adapters fit.
    Residency,
    /// What the deterministic mode costs.
    Deterministic,
}

impl Measurement {
    /// All of them, what matters most first.
    pub const ALL: [Self; 7] = [
        Self::Memory,
        Self::Decode,
        Self::Adapters,
        Self::Loading,
        Self::UnderLoads,
        Self::Residency,
        Self::Deterministic,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Decode => "decode",
            Self::Adapters => "adapters",
            Self::Loading => "loading",
            Self::UnderLoads => "under-loads",
            Self::Residency => "residency",
            Self::Deterministic => "deterministic",
        }
    }
}

/// The middle one.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    quantile(&mut values, 0.5)
}

/// The value that a share of all is not above.
fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values
        .get((last as f64 * share).ceil() as usize)
        .copied()
        .unwrap_or(f64::NAN)
}

/// Measures one thing. What was measured goes to `found` as soon as it is known.
///
/// # Errors
/// When the device fails, or the model cannot be made.
pub fn measure(
    device: &Arc<dyn Device>,
    scale: &Scale,
    what: Measurement,
    folder: &Path,
    found: &mut dyn FnMut(Finding),
) -> Result<(), Failure> {
    let whole = scale.config.num_hidden_layers;
    let (scale, note) = scale.fitted(device.free_bytes()?)?;
    if what == Measurement::Memory {
        // Not a speed of the model.
        let measured = memory_bandwidth(device, &scale)? / 1e12;
        let figure = Figure::plain(BANDWIDTH, measured, "TB/s");
        found(Finding::measured(figure));
        return Ok(());
    }
    // Free memory may be less than it was in another stage.
    let note = note.map(|note| format!("{}: {note}", what.name()));
    note.into_iter().for_each(|note| found(Finding::Note(note)));
    let mut bandwidth = None;
    if what == Measurement::Decode {
        match memory_bandwidth(device, &scale) {
            Ok(measured) => bandwidth = Some(measured),
            // Without it there are no bars, which would not be seen.
            Err(error) => found(Finding::failure(
                Section::Broken,
                BANDWIDTH,
                error.to_string(),
            )),
        }
    }
    let layers = measured_layers(what, &scale);
    let figures = &mut |figure: Figure| found(Finding::measured(figure.of_layers(layers, whole)));
    match what {
        Measurement::Memory => Ok(()),
        Measurement::Decode => Bench::new(device, &scale)?.decode(bandwidth, figures),
        Measurement::Adapters => Bench::new(device, &scale)?.adapters(figures),
        Measurement::Loading => {
            let mut bench = Bench::new(device, &scale)?;
            bench.loading(figures)?;
            bench.cold(folder, figures)
        }
        Measurement::UnderLoads => Bench::new(device, &scale)?.under_loads(figures),
        Measurement::Residency => Bench::new(device, &scale)?.residency(figures),
        Measurement::Deterministic => price_of_determinism(device, &scale, figures),
    }
}

/// Layers of the model that a measurement is of.
fn measured_layers(what: Measurement, scale: &Scale) -> usize {
    let layers = scale.config.num_hidden_layers;
    match what {
        Measurement::Deterministic => layers.div_ceil(4),
        _ => layers,
    }
}

/// What the deterministic mode costs: a step of the usual mode over one of the deterministic mode, the two
/// in turns. A quarter of the layers, so that both models fit where one of all layers does.
fn price_of_determinism(
    device: &Arc<dyn Device>,
    scale: &Scale,
    figures: Figures<'_>,
) -> Result<(), Failure> {
    let quarter = |deterministic| {
        let mut scale = scale.clone();
        scale.config.num_hidden_layers = measured_layers(Measurement::Deterministic, &scale);
        scale.adapters = 0;
        scale.deterministic = deterministic;
        scale
    };
    let (usual, fixed) = (quarter(scale.deterministic), quarter(true));
    let mut usual = Bench::new(device, &usual)?;
    let mut fixed = Bench::new(device, &fixed)?;
    for rows in scale.batches.clone() {
        let mut ratios = Vec::new();
        for _ in 0..5 {
            ratios.push(usual.step_seconds(rows, &[])? / fixed.step_seconds(rows, &[])?);
        }
        figures(Figure {
            name: format!("decode, deterministic mode / usual mode, batch {rows}"),
            achieved: median(ratios),
            unit: "".to_owned(),
            bar: None,
            layers: None,
        });
    }
    Ok(())
}

/// Bytes per second, read and written, of copying memory to memory.
fn memory_bandwidth(device: &Arc<dyn Device>, scale: &Scale) -> Result<f64, Failure> {
    let pieces = (scale.bandwidth_bytes / PIECE).max(1) as u32;
    let pool = Memory::new(device, 2 * pieces as usize * PIECE)?;
    pool.clear(Stream::Compute)?;
    let pairs: Vec<u32> = (0..pieces)
        .flat_map(|piece| [piece, pieces + piece])
        .collect();
    let pairs = Memory::of(device, &pairs)?;
    let kernels = device.load(&Options {
        storage: scale.storage,
        head_dim: scale.config.head_dim as u32,
    })?;
    let call = PageCopy {
        pool: pool.address(),
        pairs: pairs.address(),
        words: (PIECE / 16) as u64,
        count: pieces,
    };
    let mut seconds = Vec::new();
    for repeat in 0..scale.repeats.clamp(2, 10) {
        let start = Event::record(device, Stream::Compute)?;
        // SAFETY: the pool has twice as many pieces as are copied, and stays until the end is waited for.
        unsafe { kernels.launch(Stream::Compute, &call) }?;
        let end = Event::record(device, Stream::Compute)?;
        end.wait()?;
        if repeat > 0 {
            seconds.push(start.seconds_until(&end)?);
        }
    }
    Ok(2.0 * pieces as f64 * PIECE as f64 / median(seconds))
}

/// A step of `rows` sequences whose contexts are full, the adapters taking turns.
pub(super) fn full_contexts(
    scale: &Scale,
    rows: usize,
    adapters: &[Arc<DeviceAdapter>],
) -> StepBatch {
    let pages = pages_for(scale.context) as u32;
    let mut entries: Vec<usize> = (0..rows).collect();
    let adapter = |row: usize| match adapters.len() {
        0 => None,
        count => adapters.get(row % count),
    };
    let lora = LoraBatch::group(&mut entries, |row| adapter(*row), |_| 1);
    let rows = rows as u32;
    StepBatch {
        tokens: (0..rows)
            .map(|row| row % scale.config.vocab_size as u32)
            .collect(),
        positions: vec![scale.context as u32 - 1; rows as usize],
        sequences: (0..rows).collect(),
        tables: (0..rows)
            .map(|row| (row * pages..(row + 1) * pages).collect())
            .collect(),
        wanted: (0..rows).collect(),
        embedded: Vec::new(),
        lora,
    }
}

/// A backend, and images of one adapter for all matrices and one for those of attention.
struct Bench<'a> {
    scale: &'a Scale,
    backend: CudaBackend,
    page_bytes: usize,
    kv_pages: u32,
    all: AdapterImage,
    attention: AdapterImage,
}

impl<'a> Bench<'a> {
    fn new(device: &Arc<dyn Device>, scale: &'a Scale) -> Result<Self, Failure> {
        let config = &scale.config;
        let page_bytes = page_bytes(config, scale.storage);
        let most = scale.rows();
        let kv_pages = u32::try_from(most * pages_for(scale.context))?;
        // Room for one adapter more than are used at once: that which is loaded meanwhile.
        let pages = kv_pages + u32::try_from((scale.adapters + 1) * scale.slab_pages())?;
        let options = CudaOptions {
            devices: vec![DeviceChoice::Open(Arc::clone(device))],
            storage: scale.storage,
            deterministic: scale.deterministic,
            tensor_cores: !scale.deterministic,
            graphs: true,
        };
        let mut filler = FromSeed {
            compiled: Options {
                storage: scale.storage,
                head_dim: config.head_dim as u32,
            },
            lm_head: !config.tie_word_embeddings,
            seed: 1,
        };
        let room = Room {
            pages: Some(pages),
            context: scale.context,
            rows: most,
        };
        let mut backend = CudaBackend::new(config, &mut filler, &options, room)?;
        backend.clear_arena()?;
        let copier = backend.cuda_copier();
        let image = |targets: &[Site]| {
            let arrangement = copier.arrangement();
            let mut image = AdapterImage::random_arranged(config, arrangement, targets, RANK, 1);
            copier.lock(&mut image);
            image
        };
        Ok(Self {
            all: image(&Site::ALL),
            attention: image(&ATTENTION),
            scale,
            backend,
            page_bytes,
            kv_pages,
        })
    }

    fn slab_pages(&self, image: &AdapterImage) -> u32 {
        image.table().bytes().div_ceil(self.page_bytes) as u32
    }

    /// Places of `count` adapters alike, each with a name of its own.
    fn resident(
        &self,
        image: &AdapterImage,
        count: usize,
    ) -> Result<Vec<Arc<DeviceAdapter>>, Failure> {
        let copier = self.backend.copier();
        let pages = self.slab_pages(image);
        (0..count as u32)
            .map(|n| {
                let mut id = [0; 32];
                id[..4].copy_from_slice(&n.to_be_bytes());
                let table = Arc::new(image.table().named(AdapterId(id)));
                let first = self.kv_pages + n * pages;
                let adapter = DeviceAdapter::new(table, first..first + pages);
                for layer in 0..image.table().layers() {
                    copier.copy_layer(image, &adapter.pages, layer)?;
                    adapter.arrive(layer + 1);
                }
                Ok(Arc::new(adapter))
            })
            .collect()
    }

    fn batch(&self, rows: usize, adapters: &[Arc<DeviceAdapter>]) -> StepBatch {
        full_contexts(self.scale, rows, adapters)
    }

    fn step_seconds(
        &mut self,
        rows: usize,
        adapters: &[Arc<DeviceAdapter>],
    ) -> Result<f64, Failure> {
        let batch = self.batch(rows, adapters);
        Ok(median(self.backend.time_steps(&batch, self.scale.repeats)?))
    }

    /// Bytes that a step of the base must read.
    fn base_bytes(&self, rows: usize) -> f64 {
        let token = self.page_bytes / crate::kv::PAGE_TOKENS;
        (self.backend.step_bytes() + rows * self.scale.context * token) as f64
    }

    fn decode(&mut self, bandwidth: Option<f64>, figures: Figures<'_>) -> Result<(), Failure> {
        for rows in self.scale.batches.clone() {
            let seconds = self.step_seconds(rows, &[])?;
            figures(Figure {
                name: format!("base decode, batch {rows}"),
                achieved: rows as f64 / seconds,
                unit: "tok/s".to_owned(),
                bar: None,
                layers: None,
            });
            if let Some(bandwidth) = bandwidth {
                figures(Figure {
                    name: format!("base decode, batch {rows}: bytes read per second / bandwidth"),
                    achieved: self.base_bytes(rows) / seconds / bandwidth,
                    unit: "".to_owned(),
                    bar: Some((Side::Above, 0.70)),
                    layers: None,
                });
            }
            let batch = self.batch(rows, &[]);
            let mut whole = Vec::new();
            for _ in 0..self.scale.repeats.min(10) {
                let started = Instant::now();
                self.backend.step(&batch)?;
                whole.push(started.elapsed().as_secs_f64());
            }
            figures(Figure {
                name: format!("base decode, batch {rows}, with the logits copied to the host"),
                achieved: rows as f64 / median(whole),
                unit: "tok/s".to_owned(),
                bar: None,
                layers: None,
            });
        }
        Ok(())
    }

    fn adapters(&mut self, figures: Figures<'_>) -> Result<(), Failure> {
        let most = self.scale.adapters;
        let batch = self.scale.batches.iter().copied().max().unwrap_or(1);
        // All matrices: one, few, many, and as many as rows.
        let mut cases: Vec<(bool, usize, usize)> = [1, 8, 32, 64]
            .into_iter()
            .filter(|distinct| *distinct <= most.min(batch))
            .map(|distinct| (true, batch, distinct))
            .collect();
        let half = 32.min(batch).min(most);
        cases.extend([(true, half, half), (false, half, half)]);
        for (all, rows, distinct) in cases {
            let base = self.step_seconds(rows, &[])?;
            let image = if all { &self.all } else { &self.attention };
            let bytes = image.table().bytes();
            let resident = self.resident(image, distinct)?;
            let seconds = self.step_seconds(rows, &resident)?;
            let read = self.base_bytes(rows);
            let ceiling = read / (read + (distinct * bytes) as f64);
            let near_base = if all { distinct <= 8 } else { rows <= 32 };
            let bar = if near_base { 0.90 } else { 0.90 * ceiling };
            let matrices = if all { "all linear" } else { "q,k,v,o" };
            figures(Figure {
                name: format!(
                    "batch {rows}, {distinct} adapters r{RANK} {matrices} / base alone (ceiling \
                     {ceiling:.3})"
                ),
                achieved: base / seconds,
                unit: "".to_owned(),
                bar: Some((Side::Above, bar)),
                layers: None,
            });
        }
        Ok(())
    }

    /// Host memory to the device.
    fn loading(&mut self, figures: Figures<'_>) -> Result<(), Failure> {
        for (image, bar) in [(&self.attention, 5.0), (&self.all, 10.0)] {
            let mut milliseconds = Vec::new();
            for _ in 0..self.scale.repeats.min(20) {
                let started = Instant::now();
                self.resident(image, 1)?;
                milliseconds.push(started.elapsed().as_secs_f64() * 1e3);
            }
            figures(Figure {
                name: format!(
                    "host memory to device, {:.0} MB",
                    image.table().bytes() as f64 / 1e6
                ),
                achieved: median(milliseconds),
                unit: "ms".to_owned(),
                bar: Some((Side::Below, bar)),
                layers: None,
            });
        }
        Ok(())
    }

    /// From files to the device. They have just been written, so the system may have them in memory.
    fn cold(&mut self, folder: &Path, figures: Figures<'_>) -> Result<(), Failure> {
        let config = &self.scale.config;
        let names = ATTENTION.map(|site| {
            let module = site.module();
            module.rsplit('.').next().unwrap_or(module).to_owned()
        });
        let lora = LoraConfig::new(RANK, 2.0 * RANK as f64, Targets::Names(names.into()));
        let folder = folder.join("adapter");
        Adapter::init(config, lora, 1)?.save(&folder)?;
        let copier = self.backend.copier();
        let mut milliseconds = Vec::new();
        let mut bytes = 0;
        for _ in 0..self.scale.repeats.min(5) {
            let started = Instant::now();
            let image = copier.lay_out(&Adapter::load(&folder, config)?)?;
            self.resident(&image, 1)?;
            milliseconds.push(started.elapsed().as_secs_f64() * 1e3);
            bytes = image.table().bytes();
        }
        figures(Figure {
            name: format!("files to device, {:.0} MB", bytes as f64 / 1e6),
            achieved: median(milliseconds),
            unit: "ms".to_owned(),
            bar: Some((Side::Below, 100.0)),
            layers: None,
        });
        Ok(())
    }

    /// Time between tokens while another thread loads adapters without a pause.
    fn under_loads(&mut self, figures: Figures<'_>) -> Result<(), Failure> {
        let rows = self.scale.batches.iter().copied().max().unwrap_or(1);
        let batch = self.batch(rows, &[]);
        let steps = 4 * self.scale.repeats;
        let mut alone = self.backend.time_steps(&batch, steps)?;
        let copier = self.backend.copier();
        let first = self.kv_pages;
        let pages = first..first + self.slab_pages(&self.all);
        let image = &self.all;
        let stop = AtomicBool::new(false);
        let backend = &mut self.backend;
        let (mut loaded, loads) = std::thread::scope(|scope| {
            let loading = scope.spawn(|| {
                let mut loads = 0usize;
                while !stop.load(Ordering::Relaxed) {
                    for layer in 0..image.table().layers() {
                        copier
                            .copy_layer(image, &pages, layer)
                            .map_err(|e| e.to_string())?;
                    }
                    loads += 1;
                }
                Ok::<usize, String>(loads)
            });
            let timed = backend.time_steps(&batch, steps);
            stop.store(true, Ordering::Relaxed);
            let loads = loading.join().map_err(|_| "loading panicked".to_owned())?;
            Ok::<_, Failure>((timed?, loads?))
        })?;
        figures(Figure {
            name: format!(
                "batch {rows}: p99 of a step while {loads} adapters were loaded / without"
            ),
            achieved: quantile(&mut loaded, 0.99) / quantile(&mut alone, 0.99),
            unit: "".to_owned(),
            bar: Some((Side::Below, 1.2)),
            layers: None,
        });
        Ok(())
    }

    fn residency(&mut self, figures: Figures<'_>) -> Result<(), Failure> {
        let free = self.backend.device().free_bytes()?;
        let arena = self.backend.pages() as usize * self.page_bytes;
        for (image, matrices) in [(&self.all, "all linear"), (&self.attention, "q,k,v,o")] {
            let bytes = image.table().bytes();
            let slab = self.slab_pages(image) as usize * self.page_bytes;
            figures(Figure {
                name: format!("bytes of an adapter r{RANK} {matrices} / bytes of its pages"),
                achieved: bytes as f64 / slab as f64,
                unit: "".to_owned(),
                bar: Some((Side::Above, 0.95)),
                layers: None,
            });
            figures(Figure {
                name: format!("adapters r{RANK} {matrices} that fit beside the weights"),
                achieved: ((free + arena) / slab) as f64,
                unit: "".to_owned(),
                bar: None,
                layers: None,
            });
        }
        Ok(())
    }
}
