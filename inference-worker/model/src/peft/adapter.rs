//! An adapter's weights.

use std::collections::BTreeMap;
use std::path::Path;

use blake2::digest::consts::U32;
use blake2::{Blake2b, Digest};
use candle_core::{DType, Device, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::config::{LoraConfig, Plan, WHAT};
use super::pair::{LayerLora, LoraPair};
use crate::config::ModelConfig;
use crate::error::{quoted, ModelError, Result};
use crate::folder;
use crate::ops;
use crate::site::Site;
use crate::tensors::{self, StoredType};
use crate::weights::Weights;

/// Largest accepted rank.
pub const MAX_RANK: usize = 512;

const WEIGHTS: &str = "adapter_model.safetensors";
/// What PEFT wrote before, and still does where it is asked to.
const PICKLED: &str = "adapter_model.bin";
const MAX_CONFIG_BYTES: u64 = 1 << 20;
const HEADER_ALLOWANCE: u64 = 4 << 20;
const DIGEST_DOMAIN: &[u8] = b"openledger/adapter/v1";

/// A low-rank adapter on a base model.
#[derive(Clone, Debug)]
pub struct Adapter {
    /// [`digest`] of the files that the adapter was loaded from, or would be saved to.
    pub digest: [u8; 32],
    /// What the adapter is, apart from its weights.
    pub config: LoraConfig,
    /// Changes to each decoder layer, first to last.
    pub layers: Vec<LayerLora>,
}

/// The identity of an adapter: BLAKE2b-256 of
///
/// ```text
/// "openledger/adapter/v1" ‖ len(config) as u64 LE ‖ config ‖ len(weights) as u64 LE ‖ weights
/// ```
///
/// where `config` and `weights` are the exact bytes of `adapter_config.json` and
/// `adapter_model.safetensors`.
pub fn digest(config: &[u8], weights: &[u8]) -> [u8; 32] {
    let mut hasher = Blake2b::<U32>::new();
    hasher.update(DIGEST_DOMAIN);
    for part in [config, weights] {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

impl Adapter {
    /// Loads `adapter_config.json` and `adapter_model.safetensors` from `dir`.
    ///
    /// # Errors
    /// Those of [`Self::from_bytes`], and of reading the files.
    pub fn load(dir: &Path, model: &ModelConfig) -> Result<Self> {
        let config = folder::read(dir, WHAT, MAX_CONFIG_BYTES)?;
        let parsed = LoraConfig::from_json(text(&config)?)?;
        let limit = byte_limit(&parsed, &parsed.plan(model)?, model);
        if !folder::holds(dir, WEIGHTS) && folder::holds(dir, PICKLED) {
            return Err(ModelError::invalid(
                PICKLED,
                "only safetensors are read, for a pickle may run code; load the adapter with PEFT and write it \
                 again by save_pretrained(DIR, safe_serialization=True)",
            ));
        }
        let weights = folder::read(dir, WEIGHTS, limit)?;
        Self::from_bytes(&config, &weights, model)
    }

    /// Reads an adapter from the bytes of its two files.
    ///
    /// # Errors
    /// Anything of LoRA that this crate does not implement, by name; tensors that are missing,
    /// unexpected, misshapen or hold NaN or infinity, by name.
    pub fn from_bytes(config: &[u8], weights: &[u8], model: &ModelConfig) -> Result<Self> {
        let lora = LoraConfig::from_json(text(config)?)?;
        let plan = lora.plan(model)?;
        let limit = byte_limit(&lora, &plan, model);
        if weights.len() as u64 > limit {
            return Err(ModelError::TooLarge {
                path: WEIGHTS.into(),
                size: weights.len() as u64,
                limit,
            });
        }
        let parsed = tensors::parse(weights, WEIGHTS)?;
        let mut views: BTreeMap<String, _> = parsed
            .iter()
            .map(|(name, view)| (name.to_string(), view))
            .collect();
        let layers = assemble(&lora, &plan, model, |tensor, shape| {
            let name = &tensor.name();
            let view = views
                .remove(name)
                .ok_or_else(|| ModelError::MissingTensor {
                    name: name.to_string(),
                })?;
            tensors::decode(name, &view, shape)
        })?;
        if let Some((name, _)) = views.pop_first() {
            let name = quoted(name);
            return Err(ModelError::UnexpectedTensor { name });
        }
        Ok(Self {
            digest: digest(config, weights),
            config: lora,
            layers,
        })
    }

    /// A fresh adapter to be trained: `A` uniform within ±1/√in (Kaiming's rule as PEFT applies it),
    /// `B` zero, so that it changes nothing yet.
    ///
    /// # Errors
    /// If the configuration does not fit the model, or asks for DoRA, whose magnitudes come from the
    /// base weights: see [`Self::init_on`].
    pub fn init(model: &ModelConfig, config: LoraConfig, seed: u64) -> Result<Self> {
        Self::drawn(model, config, seed, None, without_base)
    }

    /// An adapter as large as a trained one, with nothing learned: as by [`Self::init`], but `B` is
    /// uniform within ±`bound` (above 0), so that it changes what the model says. The same seed draws the
    /// same adapter.
    ///
    /// # Errors
    /// As [`Self::init`].
    pub fn random(model: &ModelConfig, config: LoraConfig, bound: f32, seed: u64) -> Result<Self> {
        Self::drawn(model, config, seed, Some(bound), without_base)
    }

    /// A fresh adapter as by [`Self::init`], on base weights that are there: a DoRA's magnitudes are
    /// the lengths of the weights' rows, so that it changes nothing yet either.
    ///
    /// # Errors
    /// If the configuration does not fit the model, or the model the weights.
    pub fn init_on(
        model: &ModelConfig,
        weights: &Weights,
        config: LoraConfig,
        seed: u64,
    ) -> Result<Self> {
        Self::drawn(model, config, seed, None, |layer, site| {
            let layer = weights.layers.get(layer).ok_or_else(|| {
                ModelError::invalid("weights", "belong to a model of another depth")
            })?;
            Ok(ops::row_lengths(layer.site(site))?)
        })
    }

    /// `A` by Kaiming's rule, `B` within its bound or zero, magnitudes as they are given.
    fn drawn(
        model: &ModelConfig,
        config: LoraConfig,
        seed: u64,
        bound_of_b: Option<f32>,
        magnitude: impl Fn(usize, Site) -> Result<Tensor>,
    ) -> Result<Self> {
        let config = LoraConfig::from_json(&config.to_json())?;
        let plan = config.plan(model)?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut uniform = |shape: &[usize], bound: f32| {
            let values: Vec<f32> = (0..shape.iter().product())
                .map(|_| rng.random_range(-bound..bound))
                .collect();
            Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
        };
        let layers = assemble(&config, &plan, model, |tensor, shape| match tensor.part {
            Part::A => {
                let columns = shape.last().copied().unwrap_or(1);
                uniform(shape, 1.0 / (columns as f32).sqrt())
            }
            Part::B => match bound_of_b {
                Some(bound) => uniform(shape, bound),
                None => Ok(Tensor::zeros(shape, DType::F32, &Device::Cpu)?),
            },
            Part::Magnitude => {
                let lengths = magnitude(tensor.layer, tensor.site)?;
                if lengths.dims() != shape {
                    return Err(ModelError::Shape {
                        name: tensor.name(),
                        expected: shape.to_vec(),
                        found: lengths.dims().to_vec(),
                    });
                }
                Ok(lengths)
            }
        })?;
        let mut adapter = Self {
            digest: [0; 32],
            config,
            layers,
        };
        let (config, weights) = adapter.to_bytes()?;
        adapter.digest = digest(&config, &weights);
        Ok(adapter)
    }

    /// Turns every `A`, `B` and magnitude into a variable, and returns the variables with their names in the
    /// file, sorted. [`Self::digest`] keeps describing the adapter as it was; [`Self::to_bytes`]
    /// writes the variables' current values.
    ///
    /// # Errors
    /// If a variable cannot be allocated.
    pub fn into_vars(mut self) -> Result<(Self, Vec<(String, Var)>)> {
        let mut vars = Vec::new();
        for (index, layer) in self.layers.iter_mut().enumerate() {
            for site in Site::ALL {
                let Some(pair) = layer.get_mut(site) else {
                    continue;
                };
                let parts = [
                    (Part::A, Some(&mut pair.a)),
                    (Part::B, Some(&mut pair.b)),
                    (Part::Magnitude, pair.magnitude.as_mut()),
                ];
                for (part, tensor) in parts {
                    let Some(tensor) = tensor else { continue };
                    let var = Var::from_tensor(tensor)?;
                    *tensor = var.as_tensor().clone();
                    vars.push((key(index, site, part), var));
                }
            }
        }
        vars.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok((self, vars))
    }

    /// Every tensor with its name in the file.
    pub fn named(&self) -> BTreeMap<String, &Tensor> {
        let mut named = BTreeMap::new();
        for (index, layer) in self.layers.iter().enumerate() {
            for site in Site::ALL {
                if let Some(pair) = layer.get(site) {
                    named.insert(key(index, site, Part::A), &pair.a);
                    named.insert(key(index, site, Part::B), &pair.b);
                    if let Some(magnitude) = &pair.magnitude {
                        named.insert(key(index, site, Part::Magnitude), magnitude);
                    }
                }
            }
        }
        named
    }

    /// The bytes of `adapter_config.json` and of `adapter_model.safetensors` (f32). The same
    /// adapter gives the same bytes.
    ///
    /// # Errors
    /// If a weight is not finite.
    pub fn to_bytes(&self) -> Result<(Vec<u8>, Vec<u8>)> {
        let weights = tensors::encode(&self.named(), StoredType::F32)?;
        Ok((self.config.to_json().into_bytes(), weights))
    }

    /// Writes both files into `dir`, which is made if need be, and returns their [`digest`].
    ///
    /// # Errors
    /// If a weight is not finite, or a file cannot be written.
    pub fn save(&self, dir: &Path) -> Result<[u8; 32]> {
        let (config, weights) = self.to_bytes()?;
        folder::write(dir, WEIGHTS, &weights)?;
        folder::write(dir, WHAT, &config)?;
        Ok(digest(&config, &weights))
    }

    /// Largest rank at any site.
    pub fn rank(&self) -> usize {
        let pairs = self
            .layers
            .iter()
            .flat_map(|layer| Site::ALL.into_iter().filter_map(|site| layer.get(site)));
        pairs.map(LoraPair::rank).max().unwrap_or(0)
    }

    /// Number of values in all pairs.
    pub fn parameters(&self) -> u64 {
        self.named()
            .values()
            .map(|tensor| tensor.elem_count() as u64)
            .sum()
    }
}

/// Which tensor of a pair.
#[derive(Clone, Copy)]
enum Part {
    A,
    B,
    Magnitude,
}

/// The place of one tensor in an adapter.
struct Place {
    layer: usize,
    site: Site,
    part: Part,
}

impl Place {
    fn name(&self) -> String {
        key(self.layer, self.site, self.part)
    }
}

/// Magnitudes of a DoRA where the base weights are not at hand.
fn without_base(_: usize, _: Site) -> Result<Tensor> {
    let what = "use_dora = true without the base weights";
    Err(ModelError::unsupported(WHAT, what))
}

/// Name of one tensor in the file.
fn key(layer: usize, site: Site, part: Part) -> String {
    let part = match part {
        Part::A => "lora_A.weight",
        Part::B => "lora_B.weight",
        Part::Magnitude => "lora_magnitude_vector",
    };
    format!("base_model.model.{}.{part}", site.path(layer))
}

fn text(config: &[u8]) -> Result<&str> {
    std::str::from_utf8(config).map_err(|_| ModelError::invalid(WHAT, "is not UTF-8 text"))
}

/// Most bytes that the weights of an adapter of this plan can take, stored as f32.
fn byte_limit(config: &LoraConfig, plan: &Plan, model: &ModelConfig) -> u64 {
    let sites = plan.iter().flat_map(|sites| sites.iter().zip(Site::ALL));
    let values: u64 = sites
        .filter_map(|(slot, site)| {
            let (rank, _) = (*slot)?;
            let (out, inner) = site.shape(model);
            let magnitudes = if config.use_dora { out } else { 0 };
            Some((rank * (out + inner) + magnitudes) as u64)
        })
        .sum();
    values * 4 + HEADER_ALLOWANCE
}

fn assemble(
    config: &LoraConfig,
    plan: &Plan,
    model: &ModelConfig,
    mut take: impl FnMut(&Place, &[usize]) -> Result<Tensor>,
) -> Result<Vec<LayerLora>> {
    plan.iter()
        .enumerate()
        .map(|(index, sites)| {
            let mut layer = LayerLora::default();
            for (slot, site) in sites.iter().zip(Site::ALL) {
                let Some((rank, scale)) = *slot else { continue };
                let (out, inner) = site.shape(model);
                let mut part = |part: Part, shape: &[usize]| {
                    let place = Place {
                        layer: index,
                        site,
                        part,
                    };
                    take(&place, shape)
                };
                let a = part(Part::A, &[rank, inner])?;
                let b = part(Part::B, &[out, rank])?;
                let magnitude = if config.use_dora {
                    Some(part(Part::Magnitude, &[out])?)
                } else {
                    None
                };
                let pair = LoraPair {
                    a,
                    b,
                    scale,
                    magnitude,
                };
                layer.set(site, Some(pair));
            }
            Ok(layer)
        })
        .collect()
}
