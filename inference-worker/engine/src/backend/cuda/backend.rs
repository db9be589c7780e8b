//! The CUDA backend: a decoder of the Llama kind on a [`Device`].

use super::arena::{Arena, CudaCopier, Place};
use super::calls::{PageCopy, NO_ADAPTER};
use super::device::{
    Device, DeviceError, DeviceRank, DeviceValues, Event, Graph, HostMemory, Kernels, Memory,
    Stream,
};
use super::forward::{Forward, Sizes};
use super::graphs::{Graphs, Way};
use super::inputs::{Inputs, StepShape, Tiling};
use super::model::{fetch, store, Filler, ModelMemory};
use super::options::CudaOptions;
use super::selftest::TensorKernels;
use super::slots::Slots;
use super::start::start;
use super::workspace::Workspace;
use crate::backend::parallel::{together, Shard};
use crate::backend::{Backend, Copier, StepBatch, StepOutput};
use crate::error::{EngineError, StepError};
use openledger_model::ModelConfig;
use std::ops::Range;
use std::sync::Arc;

/// The decoder with its weights and its arena: all of it, or what one of several ranks has.
pub struct CudaBackend {
    pub(super) name: String,
    pub(super) device: Arc<dyn Device>,
    pub(super) kernels: Arc<dyn Kernels>,
    pub(super) blas: bool,
    pub(super) tensor: TensorKernels,
    pub(super) graphs_wanted: bool,
    pub(super) sizes: Sizes,
    /// Tokens whose logits it computes.
    pub(super) tokens: Range<usize>,
    pub(super) hidden: usize,
    pub(super) shard: Shard,
    /// Where it meets the other ranks.
    pub(super) end: Option<Arc<dyn DeviceRank>>,
    pub(super) model: Arc<ModelMemory>,
    pub(super) arena: Arc<Arena>,
    /// Of the whole model.
    pub(super) config: ModelConfig,
    pub(super) slots: Slots,
    pub(super) inputs: Inputs,
    pub(super) work: Workspace,
    pub(super) graphs: Graphs,
    /// Pages that are about to move: from, to.
    pub(super) moves: Memory,
    pub(super) logits: HostMemory,
    pub(super) hidden_states: HostMemory,
}

/// A step whose inputs are on their way and for which there is room.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prepared {
    shape: StepShape,
    /// Whether it may be written down.
    filled: bool,
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
        let ranks = start(config, filler, options, room)?;
        let [alone] = <[Self; 1]>::try_from(ranks).map_err(|ranks| {
            EngineError::Options(format!("{} devices where one is to compute", ranks.len()))
        })?;
        Ok(alone)
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
            storage: self.model.storage(),
            ranks: vec![self.place()],
        }
    }

    /// The rank as the copy threads see it.
    pub(super) fn place(&self) -> Place {
        Place {
            shard: self.shard,
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
    pub(super) fn is_settled(&self, batch: &StepBatch) -> bool {
        batch.lora.segments().iter().all(|segment| {
            segment.adapter.as_ref().is_none_or(|adapter| {
                adapter.layers_arrived() == adapter.table.layers()
                    && self.arena.is_settled(adapter.pages.start)
            })
        })
    }

    /// Queues the inputs of a batch and makes room for it. `settled` is whether all its adapters are there,
    /// on every rank: the ranks' steps are of one shape.
    ///
    /// # Errors
    /// When the batch is larger than there is room for, or the device fails.
    pub(super) fn prepare(
        &mut self,
        batch: &StepBatch,
        settled: bool,
    ) -> Result<Prepared, StepError> {
        let most = self.work.logit_rows;
        let mut filled = self.graphs_wanted && settled;
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
        let (logits, hidden) = (self.tokens.len(), self.hidden);
        make_room(&mut self.logits, &self.device, batch.wanted.len() * logits)?;
        make_room(
            &mut self.hidden_states,
            &self.device,
            batch.embedded.len() * hidden,
        )?;
        Ok(Prepared { shape, filled })
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
            ranks: self.end.as_deref(),
            model: &self.model,
            arena: &self.arena,
            work: &self.work,
            inputs: self.inputs.places(),
            adapters: self.slots.address(),
        };
        Ok((forward, &mut self.graphs))
    }

    /// Adds known numbers up with the other ranks. Connections are made at the first sum, and a machine whose
    /// devices reach each other wrongly is to be found before it answers.
    ///
    /// # Errors
    /// When the sum is wrong, the device fails, or another rank gave up.
    pub(super) fn meet(&mut self) -> Result<(), StepError> {
        let Some(end) = self.end.clone() else {
            return Ok(());
        };
        let (rank, ranks) = (end.rank(), end.ranks());
        // Each number comes from one rank; BF16 has them all.
        let expected: Vec<f32> = (0..self.hidden).map(|i| (i % 97 + 1) as f32).collect();
        let mut values = expected.clone();
        for (i, value) in values.iter_mut().enumerate() {
            if i % ranks != rank {
                *value = 0.0;
            }
        }
        let (memory, storage) = (&self.work.delta, self.model.storage());
        together(&*end, || {
            store(memory, Stream::Compute, 0, storage, &values)?;
            // SAFETY: the memory has room for a row and more, and is read below before it is used again.
            let mut shared = unsafe { DeviceValues::new(memory.address(), values.len(), storage) };
            end.all_reduce(&mut shared).map_err(DeviceError::from)?;
            fetch(memory, Stream::Compute, 0, storage, &mut values)?;
            if values == expected {
                return Ok(());
            }
            let wrong = "the devices add up wrongly what is known";
            Err(StepError::Backend(wrong.to_owned()))
        })
    }

    /// Computes a step that was prepared.
    ///
    /// # Errors
    /// When the device fails, an adapter does not arrive, or another rank gave up.
    pub(super) fn compute(&mut self, batch: &StepBatch, step: Prepared) -> Result<(), StepError> {
        let computed = match self.end.clone() {
            None => self.queue_and_wait(batch, step),
            Some(end) => together(&*end, || self.queue_and_wait(batch, step)),
        };
        match computed {
            Ok(arrived) => arrived,
            Err(error) => {
                // Nothing of a step that broke off may still touch its pages.
                let _ = self.device.synchronize(Stream::Compute);
                Err(error)
            }
        }
    }

    /// Gives whether all adapters have arrived. If one has not, the step is computed to its end all the
    /// same: other ranks wait for this one's part of every sum.
    fn queue_and_wait(
        &mut self,
        batch: &StepBatch,
        Prepared { shape, filled }: Prepared,
    ) -> Result<Result<(), StepError>, StepError> {
        let (tokens, width) = (self.tokens.len(), self.hidden);
        let device = Arc::clone(&self.device);
        let mut arrived = Ok(());
        if filled {
            let (forward, graphs) = self.forward()?;
            launch_filled(&forward, &device, graphs, &shape)?;
            let values = (0, batch.wanted.len() * tokens);
            read(&self.work.logits, &mut self.logits, values)?;
        } else {
            let arena = Arc::clone(&self.arena);
            let (forward, _) = self.forward()?;
            forward.layers(&shape, |layer| {
                if arrived.is_ok() {
                    arrived = await_layer(&arena, batch, layer);
                }
            })?;
            let most = self.work.logit_rows as usize;
            for first in (0..batch.wanted.len()).step_by(most) {
                let count = (batch.wanted.len() - first).min(most);
                let (forward, _) = self.forward()?;
                forward.logits(first as u32, count as u32)?;
                let values = (first * tokens, count * tokens);
                read(&self.work.logits, &mut self.logits, values)?;
            }
            let values = (0, batch.embedded.len() * width);
            read(&self.work.hidden, &mut self.hidden_states, values)?;
        }
        self.device.synchronize(Stream::Compute)?;
        Ok(arrived)
    }

    /// What the rank computed of a step: logits of its tokens, `[wanted, tokens]`, and hidden states.
    ///
    /// # Errors
    /// When no such step was computed.
    pub(super) fn output(&self, batch: &StepBatch) -> Result<StepOutput<'_>, StepError> {
        let logits = batch.wanted.len() * self.tokens.len();
        let hidden = batch.embedded.len() * self.hidden;
        Ok(StepOutput {
            logits: self.logits.values(0, logits)?,
            hidden: self.hidden_states.values(0, hidden)?,
        })
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
        let settled = self.is_settled(batch);
        let prepared = self.prepare(batch, settled)?;
        self.time_prepared(prepared, repeats)
    }

    /// [`CudaBackend::time_steps`] of a step that was prepared and whose adapters are all there. Ranks that
    /// add up what they have do it together.
    ///
    /// # Errors
    /// As there.
    pub(super) fn time_prepared(
        &mut self,
        step: Prepared,
        repeats: usize,
    ) -> Result<Vec<f64>, StepError> {
        match self.end.clone() {
            None => self.time_alone(step, repeats),
            Some(end) => together(&*end, || self.time_alone(step, repeats)),
        }
    }

    fn time_alone(
        &mut self,
        Prepared { shape, filled }: Prepared,
        repeats: usize,
    ) -> Result<Vec<f64>, StepError> {
        let single = shape.row_tiles == 0 && shape.embedded == 0;
        if !single || shape.wanted > self.work.logit_rows {
            return Err(DeviceError::Unsupported("way to repeat this step").into());
        }
        let device = Arc::clone(&self.device);
        let (forward, graphs) = self.forward()?;
        let mut seconds = Vec::with_capacity(repeats);
        for _ in 0..repeats {
            let start = Event::record(&device, Stream::Compute)?;
            if filled {
                launch_filled(&forward, &device, graphs, &shape)?;
            } else {
                launch_whole(&forward, &shape)?;
            }
            let end = Event::record(&device, Stream::Compute)?;
            end.wait()?;
            seconds.push(start.seconds_until(&end)?);
        }
        Ok(seconds)
    }
}

/// Makes the compute stream wait for a layer of the batch's adapters.
fn await_layer(arena: &Arena, batch: &StepBatch, layer: usize) -> Result<(), StepError> {
    let segments = batch.lora.segments().iter();
    for adapter in segments.filter_map(|segment| segment.adapter.as_ref()) {
        // The host waits until the copy is queued, the device until it is done.
        adapter.wait(layer)?;
        arena.hold(adapter.pages.start, layer)?;
    }
    Ok(())
}

/// Launches a step whose adapters are all there and whose logits fit.
fn launch_whole(forward: &Forward<'_>, shape: &StepShape) -> Result<(), DeviceError> {
    forward.layers(shape, |_| ())?;
    forward.logits(0, shape.wanted)
}

/// Launches a step whose shape may be written down.
fn launch_filled(
    forward: &Forward<'_>,
    device: &Arc<dyn Device>,
    graphs: &mut Graphs,
    shape: &StepShape,
) -> Result<(), DeviceError> {
    let whole = || launch_whole(forward, shape);
    match graphs.way(shape) {
        Way::Plain => whole(),
        // SAFETY: what the graph uses lives as long as the backend, and nothing of it moves.
        Way::Launch(graph) => unsafe { graph.launch() },
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
        let settled = self.is_settled(batch);
        let step = self.prepare(batch, settled)?;
        self.compute(batch, step)?;
        self.output(batch)
    }
}
