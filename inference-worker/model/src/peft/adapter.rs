//! An adapter's weights.

use std::collections::BTreeMap;
use std::path::Path;

use blake2::digest::consts::U32;
use blake2::{Blake2b, Digest};
use candle_core::{Device, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::config::{LoraConfig, Plan, WHAT};
use crate::config::ModelConfig;
use crate::error::{ModelError, Result};
use crate::folder;
use crate::site::Site;
use crate::tensors::{self, StoredType};

/// Largest accepted rank.
pub const MAX_RANK: usize = 512;

const WEIGHTS: &str = "adapter_model.safetensors";
const MAX_CONFIG_BYTES: u64 = 1 << 20;
const HEADER_ALLOWANCE: u64 = 4 << 20;
const DIGEST_DOMAIN: &[u8] = b"openledger/adapter/v1";

/// A LoRA adapter on a base model.
#[derive(Clone, Debug)]
pub struct Adapter {
    /// [`digest`] of the files that the adapter was loaded from, or would be saved to.
    pub digest: [u8; 32],
    /// What the adapter is, apart from its weights.
    pub config: LoraConfig,
    /// Changes to each decoder layer, first to last.
    pub layers: Vec<LayerLora>,
}

/// Changes to one decoder layer.
#[derive(Clone, Debug, Default)]
pub struct LayerLora {
    pairs: [Option<LoraPair>; 7],
}

/// A low-rank change to one linear layer: `y += scale · (x Aᵀ) Bᵀ`.
#[derive(Clone, Debug)]
pub struct LoraPair {
    /// `[r, in]`.
    pub a: Tensor,
    /// `[out, r]`.
    pub b: Tensor,
    /// `alpha / r`, or `alpha / √r` if rank-stabilised.
    pub scale: f32,
}

impl LoraPair {
    /// The rank.
    pub fn rank(&self) -> usize {
        self.a.dims().first().copied().unwrap_or(0)
    }
}

impl LayerLora {
    /// The change at `site`, if any.
    pub fn get(&self, site: Site) -> Option<&LoraPair> {
        self.pairs.get(site.index()).and_then(Option::as_ref)
    }

    /// Sets or removes the change at `site`.
    pub fn set(&mut self, site: Site, pair: Option<LoraPair>) {
        if let Some(slot) = self.pairs.get_mut(site.index()) {
            *slot = pair;
        }
    }
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
        let limit = parameters(&parsed.plan(model)?, model) * 4 + HEADER_ALLOWANCE;
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
        let limit = parameters(&plan, model) * 4 + HEADER_ALLOWANCE;
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
        let layers = assemble(&plan, model, |name, shape| {
            let view = views
                .remove(name)
                .ok_or_else(|| ModelError::MissingTensor {
                    name: name.to_string(),
                })?;
            tensors::decode(name, &view, &shape)
        })?;
        if let Some((name, _)) = views.pop_first() {
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
    /// If the configuration does not fit the model.
    pub fn init(model: &ModelConfig, config: LoraConfig, seed: u64) -> Result<Self> {
        let config = LoraConfig::from_json(&config.to_json())?;
        let plan = config.plan(model)?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let layers = assemble(&plan, model, |name, [rows, columns]| {
            let values = if name.contains(".lora_A.") {
                let bound = 1.0 / (columns as f32).sqrt();
                (0..rows * columns)
                    .map(|_| rng.random_range(-bound..bound))
                    .collect()
            } else {
                vec![0f32; rows * columns]
            };
            Ok(Tensor::from_vec(values, (rows, columns), &Device::Cpu)?)
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

    /// Turns every `A` and `B` into a variable, and returns the variables with their names in the
    /// file, sorted. [`Self::digest`] keeps describing the adapter as it was; [`Self::to_bytes`]
    /// writes the variables' current values.
    ///
    /// # Errors
    /// If a variable cannot be allocated.
    pub fn into_vars(mut self) -> Result<(Self, Vec<(String, Var)>)> {
        let mut vars = Vec::new();
        for (index, layer) in self.layers.iter_mut().enumerate() {
            for site in Site::ALL {
                let Some(pair) = layer.pairs.get_mut(site.index()).and_then(Option::as_mut) else {
                    continue;
                };
                for (part, tensor) in [("A", &mut pair.a), ("B", &mut pair.b)] {
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
                    named.insert(key(index, site, "A"), &pair.a);
                    named.insert(key(index, site, "B"), &pair.b);
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
            .flat_map(|layer| layer.pairs.iter().flatten());
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

/// Name of one tensor in the file.
fn key(layer: usize, site: Site, part: &str) -> String {
    format!("base_model.model.{}.lora_{part}.weight", site.path(layer))
}

fn text(config: &[u8]) -> Result<&str> {
    std::str::from_utf8(config).map_err(|_| ModelError::invalid(WHAT, "is not UTF-8 text"))
}

fn parameters(plan: &Plan, model: &ModelConfig) -> u64 {
    let sites = plan.iter().flat_map(|sites| sites.iter().zip(Site::ALL));
    sites
        .filter_map(|(slot, site)| {
            let (rank, _) = (*slot)?;
            let (out, inner) = site.shape(model);
            Some((rank * (out + inner)) as u64)
        })
        .sum()
}

fn assemble(
    plan: &Plan,
    model: &ModelConfig,
    mut take: impl FnMut(&str, [usize; 2]) -> Result<Tensor>,
) -> Result<Vec<LayerLora>> {
    plan.iter()
        .enumerate()
        .map(|(index, sites)| {
            let mut layer = LayerLora::default();
            for (slot, site) in sites.iter().zip(Site::ALL) {
                let Some((rank, scale)) = *slot else { continue };
                let (out, inner) = site.shape(model);
                let a = take(&key(index, site, "A"), [rank, inner])?;
                let b = take(&key(index, site, "B"), [out, rank])?;
                layer.set(site, Some(LoraPair { a, b, scale }));
            }
            Ok(layer)
        })
        .collect()
}
