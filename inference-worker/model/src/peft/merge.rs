//! Merging an adapter into the weights of its base model, and taking it out again.

use candle_core::Tensor;

use super::Adapter;
use crate::error::{ModelError, Result};
use crate::site::Site;
use crate::tensors;
use crate::weights::Weights;

const WHAT: &str = "merge";

/// What [`merge`] replaced, kept so that [`Self::unmerge`] gives back the very same weights:
/// subtracting the change again would leave rounding behind.
#[derive(Debug)]
#[must_use = "without it the weights cannot be unmerged"]
pub struct Merged {
    sites: Vec<Replaced>,
}

#[derive(Debug)]
struct Replaced {
    layer: usize,
    site: Site,
    base: Tensor,
    merged: Tensor,
}

/// Replaces the weights that `adapter` changes by the changed ones, so that the base model alone
/// computes what base and adapter did, but for rounding. Biases and norms stay as they are.
///
/// Nothing is replaced unless everything can be.
///
/// # Errors
/// If the adapter belongs to a model of another shape, or a changed weight is not finite.
pub fn merge(weights: &mut Weights, adapter: &Adapter) -> Result<Merged> {
    if adapter.layers.len() != weights.layers.len() {
        return Err(ModelError::invalid(
            "adapter",
            "belongs to a model of another depth",
        ));
    }
    let mut sites = Vec::new();
    for (layer, (base, lora)) in weights.layers.iter().zip(&adapter.layers).enumerate() {
        for site in Site::ALL {
            let Some(pair) = lora.get(site) else { continue };
            let base = base.site(site).clone();
            let merged = pair.merged(&base)?;
            if tensors::values(&merged)?.iter().any(|v| !v.is_finite()) {
                return Err(ModelError::NonFinite {
                    name: format!("{}.weight", site.path(layer)),
                });
            }
            sites.push(Replaced {
                layer,
                site,
                base,
                merged,
            });
        }
    }
    for replaced in &sites {
        if let Some(layer) = weights.layers.get_mut(replaced.layer) {
            *layer.site_mut(replaced.site) = replaced.merged.clone();
        }
    }
    Ok(Merged { sites })
}

impl Merged {
    /// Puts the replaced weights back, bit for bit.
    ///
    /// # Errors
    /// If `weights` are not those that were merged, or have been changed since, for instance by
    /// merging a second adapter: the last one merged is unmerged first. Nothing is put back then.
    pub fn unmerge(&self, weights: &mut Weights) -> Result<()> {
        let stranger = self.sites.iter().find(|replaced| {
            let layer = weights.layers.get(replaced.layer);
            layer.is_none_or(|layer| layer.site(replaced.site).id() != replaced.merged.id())
        });
        if let Some(stranger) = stranger {
            let name = stranger.site.path(stranger.layer);
            return Err(ModelError::invalid(
                WHAT,
                format!("{name}.weight is not the one that was merged"),
            ));
        }
        for replaced in &self.sites {
            if let Some(layer) = weights.layers.get_mut(replaced.layer) {
                *layer.site_mut(replaced.site) = replaced.base.clone();
            }
        }
        Ok(())
    }
}
