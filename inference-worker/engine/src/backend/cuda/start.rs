//! From options to ranks that are ready for steps.

use super::arena::{page_bytes, Arena};
use super::backend::{CudaBackend, Room};
use super::device::driver::Driver;
use super::device::{Device, DeviceError, DeviceRank, HostMemory, Kernels, Memory};
use super::forward::Sizes;
use super::graphs::Graphs;
use super::inputs::Inputs;
use super::model::{small, Filler, ModelMemory};
use super::options::{CudaOptions, DeviceChoice};
use super::selftest::on_device::DeviceMachine;
use super::selftest::TensorKernels;
use super::slots::Slots;
use super::sources::{Options, Storage};
use super::workspace::Workspace;
use crate::backend::parallel::Shard;
use crate::error::EngineError;
use openledger_model::ModelConfig;
use std::sync::Arc;

/// Of the memory that is free once the weights are loaded, the arena takes this much when nothing else is
/// asked for, once activations are taken too; the rest is for what the driver and its libraries take later.
const ARENA_SHARE: f64 = 0.9;

/// A device with its kernels, before the weights.
struct Opened {
    device: Arc<dyn Device>,
    kernels: Arc<dyn Kernels>,
    tensor: TensorKernels,
}

impl Opened {
    fn new(
        choice: &DeviceChoice,
        compiled: &Options,
        options: &CudaOptions,
    ) -> Result<Self, EngineError> {
        let device: Arc<dyn Device> = match choice {
            DeviceChoice::Ordinal(ordinal) => Arc::new(Driver::open(*ordinal)?),
            DeviceChoice::Open(device) => Arc::clone(device),
        };
        let kernels = device.load(compiled)?;
        let mut tensor = TensorKernels::default();
        if options.tensor_cores {
            tensor = DeviceMachine::new(Arc::clone(&device), compiled)
                .and_then(|mut machine| TensorKernels::proven(&mut machine, compiled))
                .map_err(|error| DeviceError::Refused {
                    what: "trying the kernels",
                    reason: error.to_string(),
                })?;
        }
        if options.deterministic {
            // Decode and prefill have to give the same bits, which these kernels do not.
            (tensor.lora, tensor.prefill) = (false, false);
        } else {
            // Before the weights are loaded: an operator should not wait for this to be refused.
            device.blas()?;
        }
        Ok(Self {
            device,
            kernels,
            tensor,
        })
    }
}

/// A rank's end of its group, unless it is alone.
type End = Option<Arc<dyn DeviceRank>>;

/// The ends of a group of these devices.
fn group(opened: &[Opened], options: &CudaOptions) -> Result<Vec<End>, EngineError> {
    let devices: Vec<_> = opened.iter().map(|o| Arc::clone(&o.device)).collect();
    let [first, _, ..] = devices.as_slice() else {
        return Ok(vec![None]);
    };
    let ends = first.group(&devices)?;
    if options.deterministic && !ends.iter().all(|end| end.is_exact()) {
        return Err(EngineError::Options(format!(
            "deterministic does not hold for {} ranks on these devices, whose sums take an order that \
             depends on the batch; take two ranks or one",
            devices.len()
        )));
    }
    Ok(ends.into_iter().map(Some).collect())
}

/// A rank for each device of the options.
///
/// # Errors
/// When there is no such device, the kernels do not compile, the model cannot be divided into so many parts
/// or does not fit its configuration, the devices cannot reach each other, or there is not enough memory.
pub(super) fn start(
    config: &ModelConfig,
    filler: &mut dyn Filler,
    options: &CudaOptions,
    room: Room,
) -> Result<Vec<CudaBackend>, EngineError> {
    let shards = Shard::all(config, options.devices.len()).map_err(EngineError::Options)?;
    let storage = options.storage;
    let compiled = Options {
        storage,
        head_dim: small(config.head_dim)?,
    };
    let open = |choice| Opened::new(choice, &compiled, options);
    let opened: Vec<Opened> = options.devices.iter().map(open).collect::<Result<_, _>>()?;
    let ends = group(&opened, options)?;
    small(2 * config.intermediate_size * room.rows)?;
    small(config.vocab_size * config.hidden_size / 2)?;
    let devices = opened.iter().map(|opened| &opened.device);
    let places: Vec<_> = devices.zip(shards.iter().copied()).collect();
    let models = ModelMemory::parts(&places, config, room.context, storage, filler)?;
    let works = places.iter().map(|(device, shard)| {
        let tokens = shard.tokens(config).len();
        let sizes = (room.rows, room.context);
        Workspace::new(device, &shard.config(config), storage, sizes, tokens)
    });
    let works: Vec<Workspace> = works.collect::<Result<_, _>>()?;
    let page_bytes = shards
        .first()
        .map_or(0, |shard| page_bytes(&shard.config(config), storage));
    let pages = match room.pages {
        Some(pages) => pages,
        None => {
            // The same number on every device: what the fullest has room for.
            let free = opened.iter().map(|opened| opened.device.free_bytes());
            let free = free
                .collect::<Result<Vec<_>, _>>()?
                .into_iter()
                .min()
                .unwrap_or(0);
            let free = free as f64 * ARENA_SHARE;
            small(free as usize / page_bytes.max(1))?.saturating_sub(1)
        }
    };
    if pages == 0 {
        return Err(DeviceError::Memory { bytes: page_bytes }.into());
    }
    let graphs_wanted = options.graphs && ends.iter().flatten().all(|end| end.is_capturable());
    let kind = match storage {
        Storage::F32 => "f32",
        Storage::Bf16 => "bf16",
    };
    let mode = if options.deterministic {
        ", deterministic"
    } else {
        ""
    };
    let parts = shards
        .into_iter()
        .zip(ends)
        .zip(models.into_iter().zip(works));
    type Parts = ((Shard, End), (ModelMemory, Workspace));
    let rank =
        |(opened, ((shard, end), (model, work))): (Opened, Parts)| -> Result<_, EngineError> {
            let Opened {
                device,
                kernels,
                tensor,
            } = opened;
            Ok(CudaBackend {
                name: format!("cuda: {}, {kind}{mode}", device.facts().name),
                blas: !options.deterministic,
                tensor,
                graphs_wanted,
                sizes: Sizes::new(&shard.config(config)),
                tokens: shard.tokens(config),
                hidden: config.hidden_size,
                shard,
                end,
                model: Arc::new(model),
                arena: Arc::new(Arena::new(&device, pages, page_bytes)?),
                config: config.clone(),
                slots: Slots::new(&device, room.rows, config.num_hidden_layers, shard.rank())?,
                inputs: Inputs::new(&device, room.rows, room.context)?,
                work,
                graphs: Graphs::default(),
                moves: Memory::new(&device, 2 * size_of::<u32>())?,
                logits: HostMemory::new(&device, 0)?,
                hidden_states: HostMemory::new(&device, 0)?,
                kernels,
                device,
            })
        };
    opened.into_iter().zip(parts).map(rank).collect()
}
