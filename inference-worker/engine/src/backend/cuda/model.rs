//! The base model in the device's memory.
//!
//! Matrices that share their argument are one matrix: queries, keys and values; gate and up.

use super::calls::FillRandom;
use super::codes::{Codes, HostCodes, BLOCKS};
use super::device::{Device, DeviceError, Memory, Stream};
use super::launch::Address;
use super::sources::{Options, Storage};
use crate::backend::parallel::Shard;
use crate::error::EngineError;
use crate::panels::Bf16;
use openledger_model::{
    rope::inv_freq, Base, ModelConfig, ModelError, Site, StoredLayer, StoredMatrix, StoredValues,
};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

impl Storage {
    /// Bytes of a value.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}

/// Writes f32 values from byte `first` on as the storage has them.
///
/// # Errors
/// When they do not fit, or the device fails.
pub fn store(
    memory: &Memory,
    stream: Stream,
    first: usize,
    storage: Storage,
    values: &[f32],
) -> Result<(), DeviceError> {
    match storage {
        Storage::F32 => memory.write(stream, first, values),
        Storage::Bf16 => {
            let rounded: Vec<u16> = values
                .par_iter()
                .map(|value| Bf16::nearest(*value).to_bits())
                .collect();
            memory.write(stream, first, &rounded)
        }
    }
}

/// Reads stored values from byte `first` on.
///
/// # Errors
/// When there are fewer, or the device fails.
pub fn fetch(
    memory: &Memory,
    stream: Stream,
    first: usize,
    storage: Storage,
    values: &mut [f32],
) -> Result<(), DeviceError> {
    match storage {
        Storage::F32 => memory.read(stream, first, values),
        Storage::Bf16 => {
            let mut bits = vec![0u16; values.len()];
            memory.read(stream, first, &mut bits)?;
            for (value, bits) in values.iter_mut().zip(bits) {
                *value = f32::from_bits(u32::from(bits) << 16);
            }
            Ok(())
        }
    }
}

/// A tensor of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Embedding of the tokens, `[vocabulary, hidden]`.
    Embed,
    /// Output projection, `[vocabulary, hidden]`.
    LmHead,
    /// Last norm, `[hidden]`.
    Norm,
    /// Norm before attention, `[hidden]`.
    InputNorm(usize),
    /// Norm before the feed-forward layer, `[hidden]`.
    PostAttentionNorm(usize),
    /// Matrix of a layer, `[outputs, inputs]`.
    Site(usize, Site),
    /// What is added to its result, `[outputs]`.
    Bias(usize, Site),
    /// Norm of each head of the queries, `[head_dim]`.
    QueryNorm(usize),
    /// Norm of each head of the keys, `[head_dim]`.
    KeyNorm(usize),
}

/// Where the values of a [`Part`] go.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Memory that has room for them.
    pub memory: &'a Memory,
    /// Their first byte.
    pub first: usize,
    /// How they are stored.
    pub storage: Storage,
    /// Outputs of a matrix; 1 for a vector.
    pub rows: usize,
    /// Inputs of a matrix, values of a vector.
    pub columns: usize,
}

/// What fills the memory of a model, part by part.
pub trait Filler {
    /// Whether the checkpoint has the part, where families differ.
    fn has(&self, part: Part) -> bool;

    /// Writes what a rank has of a part to its place.
    ///
    /// # Errors
    /// When the checkpoint's values do not fit or cannot be divided, or the device fails.
    fn fill(&mut self, part: Part, shard: Shard, place: Place<'_>) -> Result<(), EngineError>;

    /// The codes of what a rank has of matrices of a layer that share their argument, one below the other;
    /// none if they are not stored as codes.
    ///
    /// # Errors
    /// When they cannot be served together, or as they are stored.
    fn codes(
        &mut self,
        layer: usize,
        shard: Shard,
        sites: &[Site],
    ) -> Result<Option<HostCodes>, EngineError> {
        let _ = (layer, shard, sites);
        Ok(None)
    }
}

/// Fills a model from a checkpoint, of which it holds one layer at a time.
pub struct FromBase<'a> {
    config: &'a ModelConfig,
    base: Base,
    layer: Option<(usize, StoredLayer)>,
    /// What one of several ranks has of that layer.
    part: Option<(Shard, StoredLayer)>,
}

impl<'a> FromBase<'a> {
    /// From the weights of a model of this configuration, in memory or on disk.
    pub fn new(config: &'a ModelConfig, base: impl Into<Base>) -> Self {
        Self {
            config,
            base: base.into(),
            layer: None,
            part: None,
        }
    }

    /// What a rank has of a layer.
    fn layer(&mut self, layer: usize, shard: Shard) -> Result<&StoredLayer, EngineError> {
        let none = || missing(Part::InputNorm(layer));
        if self.layer.as_ref().is_none_or(|(held, _)| *held != layer) {
            // Let go of first, so that there is one at a time.
            (self.layer, self.part) = (None, None);
            let whole = self.base.take_layer(self.config, layer).map_err(refused)?;
            let blocks = |site: &StoredMatrix| matches!(site.values(), StoredValues::Blocks { .. });
            if whole.sites.iter().any(blocks) {
                return Err(EngineError::Weights {
                    name: format!("layer {layer}"),
                    reason: BLOCKS.to_owned(),
                });
            }
            self.layer = Some((layer, whole));
        }
        let (_, whole) = self.layer.as_ref().ok_or_else(none)?;
        if shard == Shard::WHOLE {
            return Ok(whole);
        }
        if self.part.as_ref().is_none_or(|(held, _)| *held != shard) {
            self.part = Some((shard, shard.layer(self.config, layer, whole)?));
        }
        let (_, part) = self.part.as_ref().ok_or_else(none)?;
        Ok(part)
    }
}

/// What the checkpoint's values are refused for.
fn refused(error: ModelError) -> EngineError {
    EngineError::Weights {
        name: "the base model".to_owned(),
        reason: error.to_string(),
    }
}

fn missing(part: Part) -> EngineError {
    EngineError::Weights {
        name: format!("{part:?}"),
        reason: "it is missing".to_owned(),
    }
}

/// Writes a matrix that is not stored as codes, or its values.
fn store_matrix(place: Place<'_>, matrix: &StoredMatrix) -> Result<(), EngineError> {
    let Place {
        memory,
        first,
        storage,
        ..
    } = place;
    match (matrix.values(), storage) {
        (StoredValues::Bf16(values), Storage::Bf16) => {
            let bits: Vec<u16> = values.iter().map(|value| value.to_bits()).collect();
            memory.write(Stream::Compute, first, &bits)?;
        }
        _ => store(memory, Stream::Compute, first, storage, &matrix.to_f32())?,
    }
    Ok(())
}

impl Filler for FromBase<'_> {
    fn has(&self, part: Part) -> bool {
        match part {
            Part::LmHead => !self.config.tie_word_embeddings,
            Part::Bias(_, site) => site.has_bias(self.config.family),
            Part::QueryNorm(_) | Part::KeyNorm(_) => self.config.family.qk_norm(),
            _ => true,
        }
    }

    fn fill(&mut self, part: Part, shard: Shard, place: Place<'_>) -> Result<(), EngineError> {
        let none = || missing(part);
        let config = self.config;
        let values = match part {
            Part::Embed => {
                let matrix = self.base.embed(config).map_err(refused)?;
                return store_matrix(place, &matrix);
            }
            Part::LmHead => {
                let matrix = self.base.lm_head(config).map_err(refused)?;
                let whole = matrix.ok_or_else(none)?;
                let tokens = shard.tokens(config);
                let part = whole.part(tokens, 0..whole.inputs()).map_err(refused)?;
                return store_matrix(place, &part);
            }
            Part::Site(layer, site) => {
                let matrix = &self.layer(layer, shard)?.sites[site.index()];
                return store_matrix(place, matrix);
            }
            Part::Norm => self.base.norm(config).map_err(refused)?,
            Part::InputNorm(layer) => self.layer(layer, shard)?.input_norm.clone(),
            Part::PostAttentionNorm(layer) => self.layer(layer, shard)?.post_attention_norm.clone(),
            Part::Bias(layer, site) => {
                let bias = &self.layer(layer, shard)?.bias[site.index()];
                bias.clone().ok_or_else(none)?
            }
            Part::QueryNorm(layer) | Part::KeyNorm(layer) => {
                let [q, k] = self.layer(layer, shard)?.qk_norm.clone().ok_or_else(none)?;
                if matches!(part, Part::QueryNorm(_)) {
                    q
                } else {
                    k
                }
            }
        };
        if values.len() != place.columns {
            return Err(EngineError::Weights {
                name: format!("{part:?}"),
                reason: format!("{} values, not {}", values.len(), place.columns),
            });
        }
        store(
            place.memory,
            Stream::Compute,
            place.first,
            place.storage,
            &values,
        )?;
        Ok(())
    }

    fn codes(
        &mut self,
        layer: usize,
        shard: Shard,
        sites: &[Site],
    ) -> Result<Option<HostCodes>, EngineError> {
        let stored = self.layer(layer, shard)?;
        let matrices: Vec<&StoredMatrix> = sites
            .iter()
            .map(|site| &stored.sites[site.index()])
            .collect();
        HostCodes::of(&matrices).map_err(|reason| EngineError::Weights {
            name: format!("layer {layer} {}", sites.first().map_or("", |s| s.module())),
            reason,
        })
    }
}

/// Fills a model with uniform values from a seed, on the device: norms with ones.
pub struct FromSeed {
    /// Which kernels: those of the model's storage, on whatever device a part goes to.
    pub compiled: Options,
    /// Has an output projection of its own.
    pub lm_head: bool,
    /// The seed.
    pub seed: u64,
}

impl Filler for FromSeed {
    fn has(&self, part: Part) -> bool {
        match part {
            Part::LmHead => self.lm_head,
            Part::Bias(..) | Part::QueryNorm(_) | Part::KeyNorm(_) => false,
            _ => true,
        }
    }

    fn fill(&mut self, part: Part, _: Shard, place: Place<'_>) -> Result<(), EngineError> {
        let count = place.rows * place.columns;
        let out = place
            .memory
            .at(place.first, count * place.storage.bytes())?;
        let (middle, spread) = match part {
            Part::Norm | Part::InputNorm(_) | Part::PostAttentionNorm(_) => (1.0, 0.0),
            // As far spread as keeps the size of what comes in.
            _ => (0.0, (3.0 / place.columns as f32).sqrt()),
        };
        self.seed = self.seed.wrapping_add(1 << 40);
        let call = FillRandom {
            out,
            count: count as u64,
            seed: self.seed,
            middle,
            spread,
        };
        let kernels = place.memory.device().load(&self.compiled)?;
        // SAFETY: `at` has checked that the values fit into the memory, which the model keeps.
        unsafe { kernels.launch(Stream::Compute, &call) }?;
        Ok(())
    }
}

/// Matrices that share their argument, one below the other, `[outputs, inputs]`.
#[derive(Debug)]
pub struct Linear {
    /// The weights.
    pub weights: Weights,
    /// Width of the result.
    pub outputs: u32,
    /// Width of the argument.
    pub inputs: u32,
}

/// Weights of one or several matrices.
#[derive(Debug)]
pub enum Weights {
    /// As the activations are stored.
    Plain(Memory),
    /// As codes with scales.
    Coded(Codes),
}

impl Weights {
    fn bytes(&self) -> usize {
        match self {
            Self::Plain(memory) => memory.bytes(),
            Self::Coded(codes) => codes.bytes(),
        }
    }
}

/// One decoder layer.
#[derive(Debug)]
pub struct LayerMemory {
    /// `[hidden]`.
    pub input_norm: Memory,
    /// `[hidden]`.
    pub post_attention_norm: Memory,
    /// Queries, keys and values.
    pub qkv: Linear,
    /// Output of attention.
    pub o: Linear,
    /// Gate and up.
    pub gate_up: Linear,
    /// Down.
    pub down: Linear,
    /// Added to queries, keys and values, `[heads + 2 · kv_heads, head_dim]` (Qwen2).
    pub bias: Option<Memory>,
    /// Norms of the heads of queries and keys, `[head_dim]` each (Qwen3).
    pub qk_norm: Option<[Memory; 2]>,
}

/// A rank's part of the model; all of it, if the rank is alone.
#[derive(Debug)]
pub struct ModelMemory {
    /// Of the part.
    config: ModelConfig,
    storage: Storage,
    /// `[vocabulary, hidden]`, of all tokens.
    pub embed: Memory,
    /// Output projection of the rank's tokens; none if it is the embedding.
    lm_head: Option<Memory>,
    /// Tokens whose logits the rank computes.
    tokens: Range<usize>,
    /// `[hidden]`.
    pub norm: Memory,
    /// First to last.
    pub layers: Vec<LayerMemory>,
    /// Pairs of cosine and sine, `[context, head_dim / 2]`, f32.
    pub angles: Memory,
}

impl ModelMemory {
    /// Takes memory for the parts of a model on the ranks' devices and has it filled, a layer on all of
    /// them before the next, so that a layer is read once; positions go up to `context`.
    ///
    /// # Errors
    /// When the checkpoint does not fit the configuration or a device has no room for its part.
    pub fn parts(
        ranks: &[(&Arc<dyn Device>, Shard)],
        config: &ModelConfig,
        context: usize,
        storage: Storage,
        filler: &mut dyn Filler,
    ) -> Result<Vec<Self>, EngineError> {
        let mut layers: Vec<Vec<LayerMemory>> = ranks.iter().map(|_| Vec::new()).collect();
        for index in 0..config.num_hidden_layers {
            for (&(device, shard), layers) in ranks.iter().zip(&mut layers) {
                let mut fill = Filling {
                    device,
                    shard,
                    storage,
                    filler: &mut *filler,
                };
                layers.push(fill.layer(&shard.config(config), index)?);
            }
        }
        let angles = angles(config, context);
        let (hidden, vocabulary) = (config.hidden_size, config.vocab_size);
        type Place<'a> = (&'a Arc<dyn Device>, Shard);
        let rank = |(&(device, shard), layers): (&Place<'_>, Vec<LayerMemory>)| {
            let mut fill = Filling {
                device,
                shard,
                storage,
                filler: &mut *filler,
            };
            let tokens = shard.tokens(config);
            let lm_head = fill.filler.has(Part::LmHead);
            let lm_head = lm_head.then(|| fill.rows(&[(Part::LmHead, tokens.len(), hidden)]));
            Ok::<Self, EngineError>(Self {
                embed: fill.rows(&[(Part::Embed, vocabulary, hidden)])?,
                lm_head: lm_head.transpose()?,
                tokens,
                norm: fill.vectors(&[(Part::Norm, hidden)])?,
                angles: Memory::of(device, &angles)?,
                config: shard.config(config),
                storage,
                layers,
            })
        };
        ranks.iter().zip(layers).map(rank).collect()
    }

    /// The output projection of the rank's tokens `[tokens, hidden]`: where it begins, and how many they
    /// are.
    pub fn output_projection(&self) -> (Address, usize) {
        let count = self.tokens.len();
        match &self.lm_head {
            Some(lm_head) => (lm_head.address(), count),
            None => {
                let row = self.config.hidden_size * self.storage.bytes();
                let first = self.embed.address().0 + (self.tokens.start * row) as u64;
                (Address(first), count)
            }
        }
    }

    /// How values are stored.
    pub fn storage(&self) -> Storage {
        self.storage
    }

    /// Bytes of the rank's matrices that every step reads: those of the layers and the output projection.
    pub fn step_bytes(&self) -> usize {
        let linear = |linear: &Linear| linear.weights.bytes();
        let layer = |layer: &LayerMemory| {
            linear(&layer.qkv) + linear(&layer.o) + linear(&layer.gate_up) + linear(&layer.down)
        };
        let layers: usize = self.layers.iter().map(layer).sum();
        layers + self.tokens.len() * self.config.hidden_size * self.storage.bytes()
    }

    /// What the rank has of a matrix, `[outputs, inputs]`, read back from the device beside its steps.
    ///
    /// # Errors
    /// When there is no such layer, or the device fails.
    pub fn site(&self, layer: usize, site: Site) -> Result<Vec<f32>, DeviceError> {
        let layer = self
            .layers
            .get(layer)
            .ok_or(DeviceError::Unsupported("such layer"))?;
        let outputs = |site: Site| site.shape(&self.config).0;
        let (linear, first) = match site {
            Site::Q => (&layer.qkv, 0),
            Site::K => (&layer.qkv, outputs(Site::Q)),
            Site::V => (&layer.qkv, outputs(Site::Q) + outputs(Site::K)),
            Site::O => (&layer.o, 0),
            Site::Gate => (&layer.gate_up, 0),
            Site::Up => (&layer.gate_up, outputs(Site::Gate)),
            Site::Down => (&layer.down, 0),
        };
        let (outputs, inputs) = site.shape(&self.config);
        let memory = match &linear.weights {
            Weights::Coded(codes) => return codes.rows(first, outputs, inputs),
            Weights::Plain(memory) => memory,
        };
        let mut values = vec![0.0; outputs * inputs];
        let first = first * inputs * self.storage.bytes();
        fetch(memory, Stream::Copy, first, self.storage, &mut values)?;
        Ok(values)
    }
}

/// Fills a rank's memory.
struct Filling<'a> {
    device: &'a Arc<dyn Device>,
    shard: Shard,
    storage: Storage,
    filler: &'a mut dyn Filler,
}

impl Filling<'_> {
    /// A layer of a part whose shape is `config`.
    fn layer(&mut self, config: &ModelConfig, index: usize) -> Result<LayerMemory, EngineError> {
        let hidden = config.hidden_size;
        let bias = [Site::Q, Site::K, Site::V];
        let bias = self.filler.has(Part::Bias(index, Site::Q)).then_some(bias);
        let bias = bias.map(|sites| {
            let parts = sites.map(|site| (Part::Bias(index, site), site.shape(config).0));
            self.vectors(&parts)
        });
        let qk_norm = if self.filler.has(Part::QueryNorm(index)) {
            let dim = config.head_dim;
            Some([
                self.vectors(&[(Part::QueryNorm(index), dim)])?,
                self.vectors(&[(Part::KeyNorm(index), dim)])?,
            ])
        } else {
            None
        };
        Ok(LayerMemory {
            input_norm: self.vectors(&[(Part::InputNorm(index), hidden)])?,
            post_attention_norm: self.vectors(&[(Part::PostAttentionNorm(index), hidden)])?,
            qkv: self.sites(config, index, &[Site::Q, Site::K, Site::V])?,
            o: self.sites(config, index, &[Site::O])?,
            gate_up: self.sites(config, index, &[Site::Gate, Site::Up])?,
            down: self.sites(config, index, &[Site::Down])?,
            bias: bias.transpose()?,
            qk_norm,
        })
    }

    /// Parts `(part, rows, columns)` one below the other; their columns are the same.
    fn rows(&mut self, parts: &[(Part, usize, usize)]) -> Result<Memory, EngineError> {
        let size = self.storage.bytes();
        let values: usize = parts.iter().map(|(_, rows, columns)| rows * columns).sum();
        let memory = Memory::new(self.device, values * size)?;
        let mut first = 0;
        for &(part, rows, columns) in parts {
            let place = Place {
                memory: &memory,
                first,
                storage: self.storage,
                rows,
                columns,
            };
            self.filler.fill(part, self.shard, place)?;
            first += rows * columns * size;
        }
        Ok(memory)
    }

    /// Matrices of a layer that share their argument.
    fn sites(
        &mut self,
        config: &ModelConfig,
        layer: usize,
        sites: &[Site],
    ) -> Result<Linear, EngineError> {
        let shapes = sites.iter().map(|site| site.shape(config));
        let outputs: usize = shapes.clone().map(|(outputs, _)| outputs).sum();
        let inputs = shapes.map(|(_, inputs)| inputs).next().unwrap_or(0);
        let weights = match self.filler.codes(layer, self.shard, sites)? {
            Some(codes) => Weights::Coded(Codes::new(self.device, &codes)?),
            None => {
                let part = |site: &Site| {
                    let (outputs, inputs) = site.shape(config);
                    (Part::Site(layer, *site), outputs, inputs)
                };
                let parts: Vec<_> = sites.iter().map(part).collect();
                Weights::Plain(self.rows(&parts)?)
            }
        };
        Ok(Linear {
            weights,
            outputs: small(outputs)?,
            inputs: small(inputs)?,
        })
    }

    /// Vectors one after the other.
    fn vectors(&mut self, parts: &[(Part, usize)]) -> Result<Memory, EngineError> {
        let parts: Vec<_> = parts
            .iter()
            .map(|&(part, width)| (part, 1, width))
            .collect();
        self.rows(&parts)
    }
}

/// A size as the kernels take it.
pub(super) fn small(size: usize) -> Result<u32, EngineError> {
    u32::try_from(size).map_err(|_| EngineError::Options(format!("a size of {size} is too large")))
}

/// Pairs of cosine and sine of every position, computed as on the CPU.
fn angles(config: &ModelConfig, context: usize) -> Vec<f32> {
    let frequencies = inv_freq(config);
    (0..context)
        .into_par_iter()
        .flat_map_iter(|position| {
            frequencies.iter().flat_map(move |frequency| {
                let angle = f64::from(position as f32 * frequency);
                [angle.cos() as f32, angle.sin() as f32]
            })
        })
        .collect()
}
