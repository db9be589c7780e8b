//! The CUDA backend: a decoder of the Llama kind on a [`Device`].

use super::arena::{page_bytes, Arena, CudaCopier};
use super::calls::{PageCopy, NO_ADAPTER};
use super::device::driver::Driver;
use super::device::{Device, DeviceError, Event, Graph, HostMemory, Kernels, Memory, Stream};
use super::forward::{Forward, Sizes};
use super::graphs::{Graphs, Way};
use super::inputs::{Inputs, StepShape, Tiling};
use super::model::{small, Filler, ModelMemory};
use super::options::{CudaOptions, DeviceChoice};
use super::selftest::on_device::DeviceMachine;
use super::selftest::TensorKernels;
use super::slots::Slots;
use super::sources::{Options, Storage};
use super::workspace::Workspace;
use crate::backend::{Backend, Copier, StepBatch, StepOutput};
use crate::error::{EngineError, StepError};
use openledger_model::ModelConfig;
use std::sync::Arc;

/// Of the memory that is free once the weights are loaded, the arena takes this much when nothing else is
/// asked for; the rest is for activations and for the driver.
const ARENA_SHARE: f64 = 0.9;

/// The decoder with its weights and its arena.
pub struct CudaBackend {
    name: String,
    device: Arc<dyn Device>,
    kernels: Arc<dyn Kernels>,
    blas: bool,
    tensor: TensorKernels,
    graphs_wanted: bool,
    sizes: Sizes,
    vocabulary: usize,
    hidden: usize,
    model: Arc<ModelMemory>,
    arena: Arc<Arena>,
    config: ModelConfig,
    slots: Slots,
    inputs: Inputs,
    work: Workspace,
    graphs: Graphs,
    /// Pages that are about to move: from, to.
    moves: Memory,
    logits: HostMemory,
    hidden_states: HostMemory,
}

/// How much room a backend has.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Pages of the arena; none takes most of what the weights leave.
    pub pages: Option<u32>,
    /// Positions of a sequence.
    pub context: usize,
    /// Rows of a step.
    pub rows: usize,
}

impl CudaBackend {
    /// Opens the device, loads the kernels and the weights, and takes memory for arena and activations.
    ///
    /// # Errors
    /// When there is no such device, the kernels do not compile, the weights do not fit the
    /// configuration, or there is not enough memory.
    pub fn new(
        config: &ModelConfig,
        filler: &mut dyn Filler,
        options: &CudaOptions,
        room: Room,
    ) -> Result<Self, EngineError> {
        let device: Arc<dyn Device> = match &options.device {
            DeviceChoice::Ordinal(ordinal) => Arc::new(Driver::open(*ordinal)?),
            DeviceChoice::Open(device) => Arc::clone(device),
        };
        let storage = options.storage;
        let compiled = Options {
            storage,
            head_dim: small(config.head_dim)?,
        };
        let kernels = device.load(&compiled)?;
        let mut tensor = TensorKernels::default();
        if options.tensor_cores {
            tensor = DeviceMachine::new(Arc::clone(&device), &compiled)
                .and_then(|mut machine| TensorKernels::proven(&mut machine, &compiled))
                .map_err(|error| DeviceError::Refused {
                    what: "trying the kernels",
                    reason: error.to_string(),
                })?;
        }
        if options.deterministic {
            // Decode and prefill have to give the same bits, which these kernels do not.
            (tensor.lora, tensor.prefill) = (false, false);
        }
        let blas = !options.deterministic;
        if blas {
            // Before the weights are loaded: an operator should not wait for this to be refused.
            device.blas()?;
        }
        small(2 * config.intermediate_size * room.rows)?;
        small(config.vocab_size * config.hidden_size / 2)?;
        let model = ModelMemory::new(&device, config, room.context, storage, filler)?;
        let work = Workspace::new(&device, config, storage, room.rows)?;
        let page_bytes = page_bytes(config, storage);
        let pages = match room.pages {
            Some(pages) => pages,
            None => {
                let free = device.free_bytes()? as f64 * ARENA_SHARE;
                small(free as usize / page_bytes.max(1))?.saturating_sub(1)
            }
        };
        if pages == 0 {
            return Err(DeviceError::Memory { bytes: page_bytes }.into());
        }
        let facts = device.facts();
        let kind = match storage {
            Storage::F32 => "f32",
            Storage::Bf16 => "bf16",
        };
        let mode = if options.deterministic {
            ", deterministic"
        } else {
            ""
        };
        Ok(Self {
            name: format!("cuda: {}, {kind}{mode}", facts.name),
            blas,
            tensor,
            graphs_wanted: options.graphs,
            sizes: Sizes::new(config),
            vocabulary: config.vocab_size,
            hidden: config.hidden_size,
            model: Arc::new(model),
            arena: Arc::new(Arena::new(&device, pages, page_bytes)?),
            config: config.clone(),
            slots: Slots::new(&device, room.rows, config.num_hidden_layers)?,
            inputs: Inputs::new(&device, room.rows, room.context)?,
            work,
            graphs: Graphs::default(),
            moves: Memory::new(&device, 2 * size_of::<u32>())?,
            logits: HostMemory::new(&device, 0)?,
            hidden_states: HostMemory::new(&device, 0)?,
            kernels,
            device,
        })
    }

    /// Pages of the arena.
    pub fn pages(&self) -> u32 {
        self.arena.pages()
    }

    /// The device.
    pub fn device(&self) -> &Arc<dyn Device> {
        &self.device
    }

    /// Bytes of the weights that a step reads: all matrices, the embedding only where it is the output
    /// projection too.
    pub fn step_bytes(&self) -> usize {
        self.model.step_bytes()
    }

    /// What lays adapters out and copies them, by its own type.
    pub fn cuda_copier(&self) -> CudaCopier {
        CudaCopier {
            config: self.config.clone(),
            model: Arc::clone(&self.model),
            arena: Arc::clone(&self.arena),
        }
    }

    /// Sets the whole arena to zeros: for measurements of steps whose keys and values nobody computed.
    ///
    /// # Errors
    /// When the device fails.
    pub fn clear_arena(&mut self) -> Result<(), DeviceError> {
        self.arena.clear()?;
        self.device.synchronize(Stream::Compute)
    }

    /// Finds the adapters' slots.
    fn slots_of(&mut self, batch: &StepBatch) -> Result<Vec<u32>, StepError> {
        self.slots.begin_step();
        let mut slots = Vec::with_capacity(batch.lora.segments().len());
        for segment in batch.lora.segments() {
            slots.push(match &segment.adapter {
                None => NO_ADAPTER,
                Some(adapter) => {
                    let slab = self.arena.page(adapter.pages.start)?;
                    self.slots.slot(adapter, slab)?
                }
            });
        }
        Ok(slots)
    }

    /// Whether all adapters of the batch are there as a whole.
    fn is_settled(&self, batch: &StepBatch) -> bool {
        batch.lora.segments().iter().all(|segment| {
            segment.adapter.as_ref().is_none_or(|adapter| {
                adapter.layers_arrived() == adapter.table.layers()
                    && self.arena.is_settled(adapter.pages.start)
            })
        })
    }

    /// Queues the inputs of a batch and makes room for it. Gives its shape, and whether it may be written
    /// down.
    fn prepare(&mut self, batch: &StepBatch) -> Result<(StepShape, bool), StepError> {
        let most = self.work.logit_rows;
        let mut filled = self.graphs_wanted && self.is_settled(batch);
        let mut shape = StepShape::of(batch, filled, most);
        if shape.row_tiles == 0 && !self.work.has_room(&shape) {
            filled = false;
            shape = StepShape::of(batch, false, most);
            shape.row_tiles = u32::MAX;
        }
        filled &= shape.row_tiles == 0 && shape.embedded == 0 && shape.wanted == shape.rows;
        let slots = self.slots_of(batch)?;
        let tiling = Tiling {
            group: self.sizes.group(),
            tensor: self.tensor.prefill,
        };
        let scratch = self.arena.scratch();
        let shape = self.inputs.upload(batch, shape, &slots, tiling, scratch)?;
        if self.work.prepare(&shape)? {
            self.graphs.clear();
        }
        let (logits, hidden) = (self.vocabulary, self.hidden);
        make_room(&mut self.logits, &self.device, batch.wanted.len() * logits)?;
        make_room(
            &mut self.hidden_states,
            &self.device,
            batch.embedded.len() * hidden,
        )?;
        Ok((shape, filled))
    }

    /// What queues launches, beside what they are written down in.
    fn forward(&mut self) -> Result<(Forward<'_>, &mut Graphs), StepError> {
        let forward = Forward {
            kernels: &*self.kernels,
            blas: match self.blas {
                true => Some(self.device.blas()?),
                false => None,
            },
            tensor: self.tensor,
            sizes: self.sizes,
            model: &self.model,
            arena: &self.arena,
            work: &self.work,
            inputs: self.inputs.places(),
            adapters: self.slots.address(),
        };
        Ok((forward, &mut self.graphs))
    }

    fn compute(&mut self, batch: &StepBatch) -> Result<(), StepError> {
        let (shape, filled) = self.prepare(batch)?;
        let (vocabulary, width) = (self.vocabulary, self.hidden);
        let device = Arc::clone(&self.device);
        if filled {
            let (forward, graphs) = self.forward()?;
            launch_filled(&forward, &device, graphs, &shape)?;
            let values = (0, batch.wanted.len() * vocabulary);
            read(&self.work.logits, &mut self.logits, values)?;
        } else {
            let arena = Arc::clone(&self.arena);
            let (forward, _) = self.forward()?;
            forward.layers(&shape, |layer| {
                let segments = batch.lora.segments().iter();
                for adapter in segments.filter_map(|segment| segment.adapter.as_ref()) {
                    // The host waits until the copy is queued, the device until it is done.
                    adapter.wait(layer)?;
                    arena.hold(adapter.pages.start, layer)?;
                }
                Ok(())
            })?;
            let most = self.work.logit_rows as usize;
            for first in (0..batch.wanted.len()).step_by(most) {
                let count = (batch.wanted.len() - first).min(most);
                let (forward, _) = self.forward()?;
                forward.logits(first as u32, count as u32)?;
                let values = (first * vocabulary, count * vocabulary);
                read(&self.work.logits, &mut self.logits, values)?;
            }
            let values = (0, batch.embedded.len() * width);
            read(&self.work.hidden, &mut self.hidden_states, values)?;
        }
        Ok(self.device.synchronize(Stream::Compute)?)
    }

    /// Computes a step of single rows `repeats` times and gives the seconds that the device took for each,
    /// without the copy of its logits to the host. Keys and values of the rows are written each time, to
    /// the same places.
    ///
    /// # Errors
    /// When it is not such a step, or the device fails.
    pub fn time_steps(&mut self, batch: &StepBatch, repeats: usize) -> Result<Vec<f64>, StepError> {
        // The first two prepare what all others use.
        for _ in 0..2 {
            self.step(batch)?;
        }
        let (shape, filled) = self.prepare(batch)?;
        if !filled {
            return Err(DeviceError::Unsupported("way to repeat this step").into());
        }
        let device = Arc::clone(&self.device);
        let (forward, graphs) = self.forward()?;
        let mut seconds = Vec::with_capacity(repeats);
        for _ in 0..repeats {
            let start = Event::record(&device, Stream::Compute)?;
            launch_filled(&forward, &device, graphs, &shape)?;
            let end = Event::record(&device, Stream::Compute)?;
            end.wait()?;
            seconds.push(start.seconds_until(&end)?);
        }
        Ok(seconds)
    }
}

/// Launches a step whose shape may be written down.
fn launch_filled(
    forward: &Forward<'_>,
    device: &Arc<dyn Device>,
    graphs: &mut Graphs,
    shape: &StepShape,
) -> Result<(), StepError> {
    let whole = || {
        forward.layers(shape, |_| Ok(()))?;
        Ok::<(), StepError>(forward.logits(0, shape.wanted)?)
    };
    match graphs.way(shape) {
        Way::Plain => whole(),
        // SAFETY: the graphs are dropped whenever memory of theirs moves.
        Way::Launch(graph) => Ok(unsafe { graph.launch() }?),
        Way::Write => match Graph::capture(device, whole) {
            Ok(graph) => {
                // SAFETY: as above.
                unsafe { graph.launch() }?;
                graphs.keep(shape, graph);
                Ok(())
            }
            Err(error) => {
                tracing::warn!(%error, ?shape, "a step cannot be written down as a graph");
                graphs.refuse(shape);
                whole()
            }
        },
    }
}

/// Makes memory of the host large enough for so many f32.
fn make_room(
    memory: &mut HostMemory,
    device: &Arc<dyn Device>,
    values: usize,
) -> Result<(), DeviceError> {
    let bytes = values * size_of::<f32>();
    if memory.bytes() < bytes {
        *memory = HostMemory::new(device, bytes.next_power_of_two())?;
    }
    Ok(())
}

/// Queues a copy of f32 from the start of the device's memory to the host: to `(first, count)`.
fn read(
    from: &Memory,
    to: &mut HostMemory,
    (first, count): (usize, usize),
) -> Result<(), DeviceError> {
    let values = to.values_mut::<f32>(first * size_of::<f32>(), count)?;
    let bytes = size_of_val(values);
    let (to, from_address) = (values.as_mut_ptr().cast(), from.at(0, bytes)?);
    // SAFETY: both have room; nobody looks at the host's before the step has been waited for, and it
    // waits for the stream before it is given back.
    unsafe {
        from.device()
            .download(Stream::Compute, to, from_address, bytes)
    }
}

impl Backend for CudaBackend {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn page_bytes(&self) -> usize {
        self.arena.page_bytes()
    }

    fn copier(&self) -> Arc<dyn Copier> {
        Arc::new(self.cuda_copier())
    }

    fn move_page(&mut self, from: u32, to: u32) -> Result<(), StepError> {
        if from == to {
            return Ok(());
        }
        // Both are pages of the arena.
        self.arena.page(from)?;
        self.arena.page(to)?;
        self.moves.write(Stream::Compute, 0, &[from, to])?;
        let call = PageCopy {
            pool: self.arena.address(),
            pairs: self.moves.address(),
            words: (self.arena.page_bytes() / 16) as u64,
            count: 1,
        };
        // SAFETY: two pages of the arena, in words that they are made of; no step runs.
        unsafe { self.kernels.launch(Stream::Compute, &call) }?;
        // What is copied to the page's old place next is on another stream.
        Ok(self.device.synchronize(Stream::Compute)?)
    }

    fn step(&mut self, batch: &StepBatch) -> Result<StepOutput<'_>, StepError> {
        if let Err(error) = self.compute(batch) {
            // Nothing of a step that broke off may still touch its pages.
            let _ = self.device.synchronize(Stream::Compute);
            return Err(error);
        }
        let logits = batch.wanted.len() * self.vocabulary;
        let hidden = batch.embedded.len() * self.hidden;
        Ok(StepOutput {
            logits: self.logits.values(0, logits)?,
            hidden: self.hidden_states.values(0, hidden)?,
        })
    }
}
