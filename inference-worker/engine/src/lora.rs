//! LoRA adapters as the engine holds them, and the batch that mixes them.
//!
//! Rows of a step are ordered by adapter, so that each adapter's rows are one segment; a segment costs
//! one small pair of products per adapted matrix, at the adapter's own rank, and rows of the base model
//! cost nothing (the segmented products of Punica and S-LoRA).

use crate::adapters::AdapterId;
use crate::error::AdapterError;
use crate::panels::PanelMatrix;
use blake2::digest::consts::U32;
use blake2::{Blake2b, Digest};
use candle_core::Tensor;
use openledger_model::{Adapter, LoraPair, ModelConfig, Site};
use rand::Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

/// One low-rank pair: `y += scale · B (A x)`.
pub struct LoraSite {
    /// `[rank, inputs]`.
    pub a: PanelMatrix,
    /// `[outputs, rank]`.
    pub b: PanelMatrix,
    /// `alpha / rank`, or `alpha / √rank` with rsLoRA.
    pub scale: f32,
}

/// The pairs of one layer, by site.
type Sites = [Option<LoraSite>; Site::ALL.len()];

/// An adapter laid out for computing.
pub struct LoraAdapter {
    id: AdapterId,
    layers: Vec<Sites>,
    bytes: usize,
    max_rank: usize,
}

impl LoraAdapter {
    /// Lays out a loaded adapter for a base model of this shape.
    ///
    /// # Errors
    /// When a pair does not fit the base model.
    pub fn new(config: &ModelConfig, adapter: &Adapter) -> Result<Self, AdapterError> {
        if adapter.layers.len() != config.num_hidden_layers {
            return Err(AdapterError::Layers {
                adapter: adapter.layers.len(),
                model: config.num_hidden_layers,
            });
        }
        let mut layers = Vec::with_capacity(adapter.layers.len());
        for (layer, pairs) in adapter.layers.iter().enumerate() {
            let mut sites = Sites::default();
            for (site, slot) in Site::ALL.into_iter().zip(&mut sites) {
                if let Some(pair) = pairs.get(site) {
                    *slot = Some(lay_out(config, layer, site, pair)?);
                }
            }
            layers.push(sites);
        }
        Ok(Self::from_layers(AdapterId(adapter.digest), layers))
    }

    /// An all-linear adapter of seeded uniform weights, for benches and tests. Its deltas are of the
    /// size of a trained adapter's; its id is a digest of rank and seed.
    pub fn random(config: &ModelConfig, rank: usize, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut matrix = |outputs: usize, inputs: usize| {
            let bound = 1.0 / (inputs as f32).sqrt();
            let values: Vec<f32> = (0..outputs * inputs)
                .map(|_| rng.random_range(-bound..bound))
                .collect();
            PanelMatrix::from_rows(outputs, inputs, &values)
        };
        let layers = (0..config.num_hidden_layers)
            .map(|_| {
                Site::ALL.map(|site| {
                    let (outputs, inputs) = site.shape(config);
                    Some(LoraSite {
                        a: matrix(rank, inputs),
                        b: matrix(outputs, rank),
                        scale: 1.0,
                    })
                })
            })
            .collect();
        let mut hash = Blake2b::<U32>::new();
        hash.update(b"openledger/random-adapter");
        hash.update((rank as u64).to_le_bytes());
        hash.update(seed.to_le_bytes());
        Self::from_layers(AdapterId(hash.finalize().into()), layers)
    }

    fn from_layers(id: AdapterId, layers: Vec<Sites>) -> Self {
        let pairs = || layers.iter().flatten().flatten();
        Self {
            id,
            bytes: pairs().map(|p| p.a.bytes() + p.b.bytes()).sum(),
            max_rank: pairs().map(|p| p.a.outputs()).max().unwrap_or(0),
            layers,
        }
    }

    /// The digest of configuration and weights.
    pub fn id(&self) -> AdapterId {
        self.id
    }

    /// The pair at a matrix of a layer.
    pub fn site(&self, layer: usize, site: Site) -> Option<&LoraSite> {
        self.layers.get(layer)?.get(site.index())?.as_ref()
    }

    /// Bytes of the weights in memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The largest rank of its pairs.
    pub fn max_rank(&self) -> usize {
        self.max_rank
    }
}

fn lay_out(
    config: &ModelConfig,
    layer: usize,
    site: Site,
    pair: &LoraPair,
) -> Result<LoraSite, AdapterError> {
    let module = site.module();
    let misfit = || AdapterError::Shape { layer, module };
    let (outputs, inputs) = site.shape(config);
    let (rank, a_inputs) = pair.a.dims2().map_err(|_| misfit())?;
    let b_shape = pair.b.dims2().map_err(|_| misfit())?;
    if a_inputs != inputs || b_shape != (outputs, rank) || rank == 0 {
        return Err(misfit());
    }
    let values = |tensor: &Tensor| {
        let values = tensor.flatten_all().and_then(|t| t.to_vec1::<f32>());
        let values = values.map_err(|_| misfit())?;
        if values.iter().all(|v| v.is_finite()) {
            Ok(values)
        } else {
            Err(AdapterError::NotFinite { layer, module })
        }
    };
    Ok(LoraSite {
        a: PanelMatrix::from_rows(rank, inputs, &values(&pair.a)?),
        b: PanelMatrix::from_rows(outputs, rank, &values(&pair.b)?),
        scale: pair.scale,
    })
}

/// Adjacent rows that use one adapter.
pub struct Segment {
    /// The adapter; none for the base model.
    pub adapter: Option<Arc<LoraAdapter>>,
    /// First row.
    pub first: usize,
    /// Number of rows.
    pub rows: usize,
}

/// The segments of one step, in order of rows.
#[derive(Default)]
pub struct LoraBatch {
    segments: Vec<Segment>,
}

impl LoraBatch {
    /// Orders the entries of a step by adapter, keeping their order within an adapter, and cuts their
    /// rows into segments.
    pub fn group<'a, T>(
        entries: &mut [T],
        adapter: impl Fn(&T) -> Option<&'a Arc<LoraAdapter>>,
        rows: impl Fn(&T) -> usize,
    ) -> Self {
        entries.sort_by_key(|e| adapter(e).map(|a| a.id()));
        let mut segments: Vec<Segment> = Vec::new();
        let mut first = 0;
        for entry in entries.iter() {
            let (adapter, rows) = (adapter(entry), rows(entry));
            match segments.last_mut() {
                Some(last) if last.adapter.as_ref().map(|a| a.id()) == adapter.map(|a| a.id()) => {
                    last.rows += rows;
                }
                _ => segments.push(Segment {
                    adapter: adapter.cloned(),
                    first,
                    rows,
                }),
            }
            first += rows;
        }
        Self { segments }
    }

    /// The segments, in order of rows.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Different adapters in the step, the base model not counted.
    pub fn distinct_adapters(&self) -> usize {
        self.segments.iter().filter(|s| s.adapter.is_some()).count()
    }
}
