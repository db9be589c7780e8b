//! The CPU backend: a decoder of the Llama kind in f32 over panels of weights, by one rank or by
//! several that share the work ([`super::parallel`]).
//!
//! Every row of a step is computed by operations that do not depend on the other rows, so an answer
//! has the same bits alone, in any batch, and after preemption.

pub mod arena;
mod attention;
mod gemm;
pub mod kernels;
mod layer;
mod linear;
pub(crate) mod math;
mod matrix;
mod rope;
mod step;

use super::parallel::{together, LocalRank, Shard};
use super::{Backend, Copier, StepBatch, StepOutput};
use crate::adapters::image::AdapterImage;
use crate::adapters::table::Arrangement;
use crate::error::{AdapterError, EngineError, StepError};
use crate::kv::PAGE_TOKENS;
use arena::ArenaMemory;
use attention::{layer_words, Heads};
use candle_core::{Device, Tensor};
use kernels::Isa;
use layer::{refused, Layer};
use matrix::BaseMatrix;
use openledger_model::{Adapter, Base, ModelConfig, Site};
use rayon::{ThreadPool, ThreadPoolBuilder};
use rope::Rope;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use step::{Buffers, Rank, Shared};

/// The decoder with its weights and its arena.
pub struct CpuBackend {
    shared: Shared,
    ranks: Vec<Rank>,
    /// The threads of each rank, if there are several.
    pools: Vec<ThreadPool>,
}

/// A rank as the copy threads see it.
struct Place {
    shard: Shard,
    layers: Arc<Vec<Layer>>,
    arena: Arc<ArenaMemory>,
}

/// What lays adapters out and copies them beside the steps.
struct CpuCopier {
    config: ModelConfig,
    ranks: Vec<Place>,
}

impl CpuCopier {
    /// The whole weight of a site `[outputs, inputs]`, from the ranks' parts.
    fn weight(&self, layer: usize, site: Site) -> candle_core::Result<Tensor> {
        let (outputs, inputs) = site.shape(&self.config);
        let mut values = vec![0.0; outputs * inputs];
        for rank in &self.ranks {
            let rows = rank.shard.outputs(site, &self.config);
            let columns = rank.shard.inputs(site, &self.config);
            let Some(layer) = rank.layers.get(layer) else {
                continue;
            };
            let weight = layer.sites[site.index()].view();
            for (part, row) in rows.enumerate() {
                let into = &mut values[row * inputs..(row + 1) * inputs];
                weight.copy_row(part, &mut into[columns.clone()]);
            }
        }
        Tensor::from_vec(values, (outputs, inputs), &Device::Cpu)
    }
}

impl Copier for CpuCopier {
    fn arrangement(&self) -> Arrangement {
        Arrangement::Panels
    }

    fn lay_out(&self, adapter: &Adapter) -> Result<AdapterImage, AdapterError> {
        let shards: Vec<Shard> = self.ranks.iter().map(|rank| rank.shard).collect();
        AdapterImage::on_shards(
            &self.config,
            self.arrangement(),
            adapter,
            &shards,
            |layer, site| self.weight(layer, site),
        )
    }

    fn ranks(&self) -> usize {
        self.ranks.len()
    }

    fn copy_layer(
        &self,
        image: &AdapterImage,
        pages: &Range<u32>,
        layer: usize,
    ) -> Result<(), StepError> {
        for rank in &self.ranks {
            let image = image.shard(rank.shard.rank());
            rank.arena.copy_layer(image, pages, layer)?;
        }
        Ok(())
    }
}

impl CpuBackend {
    /// Lays out the weights and takes memory for `pages` pages; positions go up to `context`.
    ///
    /// # Errors
    /// When a tensor does not have the configuration's shape or is not finite.
    pub fn new(
        config: &ModelConfig,
        weights: impl Into<Base>,
        pages: u32,
        context: usize,
    ) -> Result<Self, EngineError> {
        Self::parallel(config, weights, pages, context, 1, 1)
    }

    /// [`Self::new`] with `ranks` ranks of `threads` threads each. One rank computes on the threads of
    /// whoever calls it.
    ///
    /// # Errors
    /// Also when the model cannot be divided into so many parts, or there is no thread for them.
    pub fn parallel(
        config: &ModelConfig,
        weights: impl Into<Base>,
        pages: u32,
        context: usize,
        ranks: usize,
        threads: usize,
    ) -> Result<Self, EngineError> {
        let mut base: Base = weights.into();
        let shards = Shard::all(config, ranks).map_err(EngineError::Options)?;
        let embed = base.embed(config).map_err(refused)?;
        let embed = BaseMatrix::new(&embed);
        let lm_head = base.lm_head(config).map_err(refused)?;
        let lm_head = lm_head.as_ref().map(BaseMatrix::new);
        let norm = base.norm(config).map_err(refused)?;
        let layers = layer::layers(config, &mut base, &shards)?;
        let ranks: Vec<Rank> = shards
            .into_iter()
            .zip(layers)
            .map(|(shard, layers)| {
                let config = shard.config(config);
                let heads = Heads {
                    queries: config.num_attention_heads,
                    keys: config.num_key_value_heads,
                    dim: config.head_dim,
                };
                Rank {
                    shard,
                    arena: Arc::new(ArenaMemory::new(
                        pages as usize,
                        layers.len() * layer_words(heads),
                    )),
                    config,
                    heads,
                    layers: Arc::new(layers),
                    buffers: Buffers::default(),
                }
            })
            .collect();
        let mut pools = Vec::new();
        if ranks.len() > 1 {
            for rank in 0..ranks.len() {
                let pool = ThreadPoolBuilder::new()
                    .num_threads(threads.max(1))
                    .thread_name(move |i| format!("rank-{rank}-{i}"))
                    .build()
                    .map_err(|error| EngineError::Thread(error.to_string()))?;
                pools.push(pool);
            }
        }
        Ok(Self {
            shared: Shared {
                isa: Isa::detect(),
                rope: Rope::new(config, context),
                embed,
                norm,
                lm_head,
                config: config.clone(),
            },
            ranks,
            pools,
        })
    }

    /// Bytes of one page over all layers.
    pub fn page_bytes_of(config: &ModelConfig) -> usize {
        let row = config.num_key_value_heads * config.head_dim;
        2 * config.num_hidden_layers * row * PAGE_TOKENS * size_of::<u32>()
    }

    /// A step of several ranks, each on its own threads. One that fails frees the others.
    fn step_together(&mut self, batch: &StepBatch) -> Result<(), StepError> {
        let Self {
            shared,
            ranks,
            pools,
        } = self;
        let shared = &*shared;
        let results: Vec<Result<(), StepError>> = std::thread::scope(|scope| {
            let threads: Vec<_> = LocalRank::group(ranks.len())
                .into_iter()
                .zip(ranks.iter_mut().zip(pools))
                .map(|(end, (rank, pool))| {
                    scope.spawn(move || {
                        together(&end, || pool.install(|| rank.step(shared, batch, &end)))
                    })
                })
                .collect();
            let panicked = || StepError::Backend("a rank panicked".to_owned());
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|_| Err(panicked())))
                .collect()
        });
        // That of an adapter is told apart by who asks the adapter; of others the first says enough.
        let mut errors = results.into_iter().filter_map(Result::err);
        let first = errors.next();
        let adapter = errors.find(|error| matches!(error, StepError::Adapter(_)));
        match (adapter, first) {
            (Some(error), _) | (None, Some(error)) => Err(error),
            (None, None) => Ok(()),
        }
    }
}

impl Backend for CpuBackend {
    fn name(&self) -> String {
        let isa = self.shared.isa.name();
        match self.ranks.len() {
            1 => format!("cpu-{isa}"),
            ranks => format!("cpu-{isa}-tp{ranks}"),
        }
    }

    fn page_bytes(&self) -> usize {
        let words: usize = self.ranks.iter().map(|r| r.arena.page_words()).sum();
        words * size_of::<u32>()
    }

    fn weight_bytes(&self) -> BTreeMap<&'static str, usize> {
        let Shared {
            embed,
            lm_head,
            norm,
            ..
        } = &self.shared;
        let matrices = lm_head.iter().chain([embed]);
        let shared = matrices.map(|m| (m.type_name(), m.view().bytes()));
        let layers = self.ranks.iter().flat_map(|rank| rank.layers.iter());
        let all = shared
            .chain([("f32", size_of_val(norm.as_slice()))])
            .chain(layers.flat_map(Layer::bytes));
        let mut bytes = BTreeMap::new();
        for (kind, count) in all {
            *bytes.entry(kind).or_default() += count;
        }
        bytes
    }

    fn copier(&self) -> Arc<dyn Copier> {
        let place = |rank: &Rank| Place {
            shard: rank.shard,
            layers: Arc::clone(&rank.layers),
            arena: Arc::clone(&rank.arena),
        };
        Arc::new(CpuCopier {
            config: self.shared.config.clone(),
            ranks: self.ranks.iter().map(place).collect(),
        })
    }

    fn move_page(&mut self, from: u32, to: u32) -> Result<(), StepError> {
        if from == to {
            return Ok(());
        }
        for rank in &self.ranks {
            let words = rank.arena.page_words();
            let (from, to) = (rank.arena.page(from), rank.arena.page(to));
            // SAFETY: between steps, and both pages hold keys and values: the copy thread touches
            // neither.
            let source = unsafe { rank.arena.words(from..from + words) };
            // SAFETY: as above; the pages differ.
            unsafe { rank.arena.words_mut(to..to + words) }.copy_from_slice(source);
        }
        Ok(())
    }

    fn step(&mut self, batch: &StepBatch) -> Result<StepOutput<'_>, StepError> {
        match self.ranks.as_mut_slice() {
            [rank] => {
                let [alone] = LocalRank::group(1)
                    .try_into()
                    .map_err(|_| StepError::Backend("a group of one has one rank".to_owned()))?;
                rank.step(&self.shared, batch, &alone)?;
            }
            _ => self.step_together(batch)?,
        }
        let Some(first) = self.ranks.first() else {
            return Err(StepError::Backend("there is no rank".to_owned()));
        };
        Ok(StepOutput {
            logits: &first.buffers.logits,
            hidden: &first.buffers.hidden,
        })
    }
}
