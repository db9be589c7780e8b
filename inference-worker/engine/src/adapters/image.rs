//! An adapter in host memory, laid out for the device.

use super::table::{AdapterTable, Arrangement, LayerPlace, MatrixPlace, SitePlace};
use super::AdapterId;
use crate::aligned::{Aligned, ALIGNED_WORDS};
use crate::backend::parallel::Shard;
use crate::error::AdapterError;
use crate::panels::{Element, PanelShape, LANES};
use blake2::digest::consts::U32;
use blake2::{Blake2b, Digest};
use candle_core::Tensor;
use openledger_model::{Adapter, LoraPair, ModelConfig, Site};
use rand::Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::any::Any;
use std::collections::hash_map::{Entry, HashMap};
use std::ops::Range;
use std::sync::Arc;

/// An adapter in host memory, in the device's layout.
pub struct AdapterImage {
    table: Arc<AdapterTable>,
    /// Dropped before the words.
    kept: Option<Box<dyn Any + Send + Sync>>,
    words: Aligned,
    /// The images of the ranks after the first.
    others: Vec<AdapterImage>,
}

/// A pair's values before they are laid out.
struct Pair {
    rank: usize,
    a: Vec<f32>,
    b: Vec<f32>,
    scale: f32,
    gain: Option<Vec<f32>>,
}

impl AdapterImage {
    /// Lays out a loaded adapter in panels for a base model of this shape.
    ///
    /// # Errors
    /// When a pair does not fit the base model, holds what is not finite, or is a DoRA, which takes the
    /// base's weights: see [`Self::on_base`].
    pub fn new(config: &ModelConfig, adapter: &Adapter) -> Result<Self, AdapterError> {
        Self::arranged(config, Arrangement::Panels, adapter)
    }

    /// [`Self::new`] for any arrangement.
    ///
    /// # Errors
    /// As there.
    pub fn arranged(
        config: &ModelConfig,
        arrangement: Arrangement,
        adapter: &Adapter,
    ) -> Result<Self, AdapterError> {
        let gain = |layer, site: Site, pair: &LoraPair| match pair.magnitude {
            None => Ok(None),
            Some(_) => Err(AdapterError::Magnitude {
                layer,
                module: site.module(),
                reason: "the base's weights are not at hand".to_owned(),
            }),
        };
        Self::lay_out(config, arrangement, adapter, &[Shard::WHOLE], gain)
    }

    /// Lays out a loaded adapter for a base model whose weights `weight` gives, `[outputs, inputs]` by
    /// layer and site. They are asked for by a DoRA alone.
    ///
    /// # Errors
    /// When a pair does not fit the base model, or holds what is not finite.
    pub fn on_base(
        config: &ModelConfig,
        arrangement: Arrangement,
        adapter: &Adapter,
        weight: impl Fn(usize, Site) -> candle_core::Result<Tensor>,
    ) -> Result<Self, AdapterError> {
        Self::on_shards(config, arrangement, adapter, &[Shard::WHOLE], weight)
    }

    /// [`Self::on_base`] for a model that is divided among ranks: an image for each.
    ///
    /// # Errors
    /// Those of [`Self::on_base`].
    pub fn on_shards(
        config: &ModelConfig,
        arrangement: Arrangement,
        adapter: &Adapter,
        shards: &[Shard],
        weight: impl Fn(usize, Site) -> candle_core::Result<Tensor>,
    ) -> Result<Self, AdapterError> {
        Self::lay_out(config, arrangement, adapter, shards, |layer, site, pair| {
            if pair.magnitude.is_none() {
                return Ok(None);
            }
            let refuse = |reason: String| AdapterError::Magnitude {
                layer,
                module: site.module(),
                reason,
            };
            let weight = weight(layer, site).map_err(|e| refuse(e.to_string()))?;
            let gain = pair
                .row_factors(&weight)
                .map_err(|e| refuse(e.to_string()))?;
            let gain = gain.map(|gain| gain.to_vec1::<f32>()).transpose();
            let gain = gain.map_err(|e| refuse(e.to_string()))?;
            if gain.iter().flatten().all(|v| v.is_finite()) {
                Ok(gain)
            } else {
                Err(refuse("a factor is not finite".to_owned()))
            }
        })
    }

    fn lay_out(
        config: &ModelConfig,
        arrangement: Arrangement,
        adapter: &Adapter,
        shards: &[Shard],
        gain: impl Fn(usize, Site, &LoraPair) -> Result<Option<Vec<f32>>, AdapterError>,
    ) -> Result<Self, AdapterError> {
        if adapter.layers.len() != config.num_hidden_layers {
            return Err(AdapterError::Layers {
                adapter: adapter.layers.len(),
                model: config.num_hidden_layers,
            });
        }
        // Laid out for one rank after the other, from the last, so that the first takes the others in.
        let mut others: Vec<Self> = Vec::new();
        let mut gains: HashMap<(usize, Site), Option<Vec<f32>>> = HashMap::new();
        for shard in shards.iter().rev() {
            let id = AdapterId(adapter.digest);
            let image = Self::build(&shard.config(config), arrangement, id, |layer, site| {
                let Some(pair) = adapter.layers.get(layer).and_then(|l| l.get(site)) else {
                    return Ok(None);
                };
                let mut values = values(config, layer, site, pair)?;
                // Computed once for all ranks: it takes the whole weight of the base.
                let found = match gains.entry((layer, site)) {
                    Entry::Occupied(found) => found.into_mut(),
                    Entry::Vacant(place) => place.insert(gain(layer, site, pair)?),
                };
                values.gain.clone_from(found);
                if let Some(gain) = &values.gain {
                    for (row, gain) in values.b.chunks_exact_mut(values.rank).zip(gain) {
                        row.iter_mut().for_each(|v| *v *= gain);
                    }
                }
                let inputs = site.shape(config).1;
                Ok(Some(values.part(
                    inputs,
                    shard.outputs(site, config),
                    shard.inputs(site, config),
                )))
            })?;
            others.insert(0, image);
        }
        let mut images = others.into_iter();
        let mut first = images.next().ok_or(AdapterError::Ranks {
            image: 0,
            device: 0,
        })?;
        first.others = images.collect();
        if let Some(table) = Arc::get_mut(&mut first.table) {
            let others = first.others.iter();
            table.others = others.map(|image| Arc::clone(&image.table)).collect();
        }
        Ok(first)
    }

    /// Bytes that an adapter takes at most, however it is laid out for so many ranks.
    pub fn most_bytes(adapter: &Adapter, ranks: usize) -> usize {
        let pairs = adapter.layers.iter().flat_map(|layer| {
            let sites = Site::ALL.into_iter();
            sites.filter_map(|site| layer.get(site))
        });
        let words = pairs.map(|pair| {
            let inputs = pair.a.dims().last().copied().unwrap_or(0);
            let outputs = pair.b.dims().first().copied().unwrap_or(0);
            let (rank, rows) = (pair.rank(), outputs.next_multiple_of(LANES));
            rank.next_multiple_of(LANES) * inputs + rows * rank + rows + 3 * ALIGNED_WORDS
        });
        words.sum::<usize>() * ranks * size_of::<u32>()
    }

    /// An all-linear adapter of seeded uniform weights in panels, for benches and tests. Its deltas are
    /// of the size of a trained adapter's; its id is a digest of rank and seed.
    pub fn random(config: &ModelConfig, rank: usize, seed: u64) -> Self {
        Self::random_arranged(config, Arrangement::Panels, &Site::ALL, rank, seed)
    }

    /// [`Self::random`] for any arrangement, at these matrices of each layer.
    pub fn random_arranged(
        config: &ModelConfig,
        arrangement: Arrangement,
        targets: &[Site],
        rank: usize,
        seed: u64,
    ) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut matrix = |outputs: usize, inputs: usize| -> Vec<f32> {
            let bound = 1.0 / (inputs as f32).sqrt();
            (0..outputs * inputs)
                .map(|_| rng.random_range(-bound..bound))
                .collect()
        };
        let mut hash = Blake2b::<U32>::new();
        hash.update(b"openledger/random-adapter");
        hash.update((rank as u64).to_le_bytes());
        hash.update(seed.to_le_bytes());
        let built: Result<Self, std::convert::Infallible> = Self::build(
            config,
            arrangement,
            AdapterId(hash.finalize().into()),
            |_, site| {
                if !targets.contains(&site) {
                    return Ok(None);
                }
                let (outputs, inputs) = site.shape(config);
                Ok(Some(Pair {
                    rank,
                    a: matrix(rank, inputs),
                    b: matrix(outputs, rank),
                    scale: 1.0,
                    gain: None,
                }))
            },
        );
        match built {
            Ok(image) => image,
            Err(never) => match never {},
        }
    }

    fn build<E>(
        config: &ModelConfig,
        arrangement: Arrangement,
        id: AdapterId,
        mut pair: impl FnMut(usize, Site) -> Result<Option<Pair>, E>,
    ) -> Result<Self, E> {
        let mut next = 0;
        let mut take = |words: usize| {
            let first = next;
            next += words.next_multiple_of(ALIGNED_WORDS);
            first
        };
        let place = |take: &mut dyn FnMut(usize) -> usize, outputs, inputs, values: &[f32]| {
            let shape = PanelShape {
                outputs,
                inputs,
                element: Element::of(values),
            };
            let mut place = MatrixPlace {
                shape,
                arrangement,
                first: 0,
            };
            place.first = take(place.words().len());
            place
        };
        let mut layers = Vec::with_capacity(config.num_hidden_layers);
        let mut matrices = Vec::new();
        let mut gains = Vec::new();
        let mut words = 0;
        let mut max_rank = 0;
        for layer in 0..config.num_hidden_layers {
            let mut sites = [None; Site::ALL.len()];
            for (site, slot) in Site::ALL.into_iter().zip(&mut sites) {
                let Some(pair) = pair(layer, site)? else {
                    continue;
                };
                let (outputs, inputs) = site.shape(config);
                let places = SitePlace {
                    a: place(&mut take, pair.rank, inputs, &pair.a),
                    b: place(&mut take, outputs, pair.rank, &pair.b),
                    scale: pair.scale,
                    gain: pair.gain.as_ref().map(|gain| take(gain.len())),
                };
                *slot = Some(places);
                max_rank = max_rank.max(pair.rank);
                matrices.extend([(places.a, pair.a), (places.b, pair.b)]);
                gains.extend(places.gain.zip(pair.gain));
            }
            let end = sites.iter().flatten().map(SitePlace::end).max();
            let end = end.map_or(words, |end| end.next_multiple_of(ALIGNED_WORDS));
            layers.push(LayerPlace {
                words: words..end,
                sites,
            });
            words = end;
        }
        let mut memory = match arrangement {
            Arrangement::Panels => Aligned::new(words),
            // A device may lock it.
            Arrangement::Rows(_) => Aligned::pages(words),
        };
        for (place, values) in matrices {
            place.lay_out(&values, memory.as_mut_slice());
        }
        for (first, gain) in gains {
            let words = &mut memory.as_mut_slice()[first..first + gain.len()];
            for (word, v) in words.iter_mut().zip(gain) {
                *word = v.to_bits();
            }
        }
        Ok(Self {
            table: Arc::new(AdapterTable {
                id,
                arrangement,
                layers,
                words,
                max_rank,
                others: Vec::new(),
            }),
            kept: None,
            words: memory,
            others: Vec::new(),
        })
    }

    /// What is where.
    pub fn table(&self) -> &Arc<AdapterTable> {
        &self.table
    }

    /// All words; those of the first rank, if there are several.
    pub fn words(&self) -> &[u32] {
        self.words.as_slice()
    }

    /// The pages of host memory that all words are in, which hold nothing else where a device copies from
    /// them; those of the first rank, if there are several.
    pub fn pages(&self) -> &[u32] {
        self.words.as_pages()
    }

    /// Ranks for which it is laid out.
    pub fn ranks(&self) -> usize {
        1 + self.others.len()
    }

    /// The image of rank `rank` of a device of several; of one, the image itself.
    pub fn shard(&self, rank: usize) -> &AdapterImage {
        match rank.checked_sub(1).and_then(|other| self.others.get(other)) {
            Some(other) => other,
            None => self,
        }
    }

    /// [`Self::shard`], to be changed.
    pub fn shard_mut(&mut self, rank: usize) -> &mut AdapterImage {
        match rank.checked_sub(1) {
            Some(other) if other < self.others.len() => &mut self.others[other],
            _ => self,
        }
    }

    /// Keeps something as long as the words, which stay where they are: a device's hold on the memory.
    /// It is dropped before they are.
    pub fn keep(&mut self, hold: Box<dyn Any + Send + Sync>) {
        self.kept = Some(hold);
    }
}

impl Pair {
    /// What a rank has of it that computes these outputs from these of the `inputs` inputs.
    fn part(self, inputs: usize, outputs: Range<usize>, columns: Range<usize>) -> Self {
        let (rank, gain) = (self.rank, self.gain);
        let rows = self.a.chunks_exact(inputs.max(1));
        Self {
            rank,
            a: rows.flat_map(|row| row[columns.clone()].to_vec()).collect(),
            b: self.b[outputs.start * rank..outputs.end * rank].to_vec(),
            scale: self.scale,
            gain: gain.map(|gain| gain[outputs].to_vec()),
        }
    }
}

fn values(
    config: &ModelConfig,
    layer: usize,
    site: Site,
    pair: &LoraPair,
) -> Result<Pair, AdapterError> {
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
    Ok(Pair {
        rank,
        a: values(&pair.a)?,
        b: values(&pair.b)?,
        scale: pair.scale,
        gain: None,
    })
}
