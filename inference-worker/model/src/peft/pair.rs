//! The change that an adapter makes to one linear layer.

use candle_core::Tensor;

use crate::error::{ModelError, Result};
use crate::ops;
use crate::site::Site;

/// Changes to one decoder layer.
#[derive(Clone, Debug, Default)]
pub struct LayerLora {
    pairs: [Option<LoraPair>; 7],
}

/// A low-rank change to one linear layer `y = W x + bias`.
///
/// Without a magnitude it is LoRA: `y = W x + scale · B (A x) + bias`. With one it is DoRA (Liu et
/// al., 2024, as PEFT computes it): `y = g ⊙ (W x + scale · B (A x)) + bias`, where each row of the
/// changed weight is brought to the length `magnitude` by [`Self::row_factors`].
#[derive(Clone, Debug)]
pub struct LoraPair {
    /// `[r, in]`.
    pub a: Tensor,
    /// `[out, r]`.
    pub b: Tensor,
    /// `alpha / r`, or `alpha / √r` if rank-stabilised.
    pub scale: f32,
    /// Lengths of the rows of the changed weight, `[out]`; none unless the adapter is a DoRA.
    pub magnitude: Option<Tensor>,
}

impl LoraPair {
    /// The rank.
    pub fn rank(&self) -> usize {
        self.a.dims().first().copied().unwrap_or(0)
    }

    /// The factors `g = magnitude / ‖W + scale · B A‖`, one to each row of `weight [out, in]`; none
    /// without a magnitude.
    ///
    /// The gradient reaches the magnitude and takes the lengths for constants, as section 4.3 of the
    /// paper proposes and PEFT does. An engine computes the factors once for a base and an adapter.
    ///
    /// # Errors
    /// If the pair does not fit the weight, or a row of the changed weight is zero and so has no
    /// direction.
    pub fn row_factors(&self, weight: &Tensor) -> Result<Option<Tensor>> {
        match &self.magnitude {
            None => Ok(None),
            Some(magnitude) => {
                let changed = ops::low_rank_sum(weight, &self.a, &self.b, self.scale)?;
                Ok(Some(factors(magnitude, &changed)?))
            }
        }
    }

    /// The changed weight `[out, in]`: `W + scale · B A`, its rows times [`Self::row_factors`] if
    /// there are any. It is a constant: no gradient passes through it.
    ///
    /// # Errors
    /// Those of [`Self::row_factors`].
    pub fn merged(&self, weight: &Tensor) -> Result<Tensor> {
        let changed = ops::low_rank_sum(weight, &self.a, &self.b, self.scale)?;
        Ok(match &self.magnitude {
            None => changed,
            Some(magnitude) => {
                let factors = factors(&magnitude.detach(), &changed)?;
                changed.broadcast_mul(&factors.unsqueeze(1)?)?
            }
        })
    }
}

/// `magnitude [out]` over the lengths of the rows of `changed [out, in]`.
fn factors(magnitude: &Tensor, changed: &Tensor) -> Result<Tensor> {
    let lengths = ops::row_lengths(changed)?;
    let zero = lengths
        .to_vec1::<f32>()?
        .iter()
        .position(|length| *length == 0.0);
    if let Some(row) = zero {
        return Err(ModelError::invalid(
            "adapter",
            format!("lora_magnitude_vector: row {row} of the changed weight is zero"),
        ));
    }
    Ok((magnitude / lengths)?)
}

impl LayerLora {
    /// The change at `site`, if any.
    pub fn get(&self, site: Site) -> Option<&LoraPair> {
        self.pairs.get(site.index()).and_then(Option::as_ref)
    }

    /// The change at `site`, to be altered.
    pub(super) fn get_mut(&mut self, site: Site) -> Option<&mut LoraPair> {
        self.pairs.get_mut(site.index()).and_then(Option::as_mut)
    }

    /// Sets or removes the change at `site`.
    pub fn set(&mut self, site: Site, pair: Option<LoraPair>) {
        if let Some(slot) = self.pairs.get_mut(site.index()) {
            *slot = pair;
        }
    }
}
