//! AdamW over a list of variables, with clipping by the global norm.

use candle_core::{Device, Tensor, Var};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Constants of AdamW (Loshchilov and Hutter, 2019).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdamWConfig {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled decay of matrices; vectors are not decayed.
    pub weight_decay: f64,
    /// Gradients are scaled down to this global norm.
    pub clip_norm: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.98,
            epsilon: 1e-8,
            weight_decay: 0.01,
            clip_norm: 1.0,
        }
    }
}

/// One trained variable and its moments.
struct Slot {
    var: Var,
    first: Vec<f32>,
    second: Vec<f32>,
}

/// The optimizer; moments are f32.
pub struct AdamW {
    config: AdamWConfig,
    slots: Vec<Slot>,
    step: usize,
}

impl AdamW {
    /// Starts with zero moments.
    pub fn new(vars: Vec<Var>, config: AdamWConfig) -> Self {
        let slots = vars
            .into_iter()
            .map(|var| Slot {
                first: vec![0.0; var.elem_count()],
                second: vec![0.0; var.elem_count()],
                var,
            })
            .collect();
        Self {
            config,
            slots,
            step: 0,
        }
    }

    /// Steps done.
    pub fn steps(&self) -> usize {
        self.step
    }

    /// Applies gradients (one flat vector per variable, in the order given to [`AdamW::new`]);
    /// returns their norm before clipping.
    pub fn step(&mut self, grads: &[Vec<f32>], rate: f64) -> Result<f64> {
        if grads.len() != self.slots.len() {
            return Err(Error::Invalid(format!(
                "{} gradients for {} variables",
                grads.len(),
                self.slots.len()
            )));
        }
        let square: f64 = grads
            .iter()
            .map(|g| g.iter().map(|&v| f64::from(v * v)).sum::<f64>())
            .sum();
        let norm = square.sqrt();
        if !norm.is_finite() {
            return Err(Error::Invalid(
                "the gradient is not finite: lower the learning rate".into(),
            ));
        }
        let clip = (self.config.clip_norm / norm.max(1e-12)).min(1.0) as f32;
        self.step += 1;
        let c = &self.config;
        let correct1 = 1.0 - c.beta1.powi(self.step as i32);
        let correct2 = 1.0 - c.beta2.powi(self.step as i32);
        let (b1, b2) = (c.beta1 as f32, c.beta2 as f32);
        let scale = (rate / correct1) as f32;
        let root = (1.0 / correct2) as f32;
        let eps = c.epsilon as f32;
        for (slot, grad) in self.slots.iter_mut().zip(grads) {
            let decay = if slot.var.rank() > 1 {
                (1.0 - rate * c.weight_decay) as f32
            } else {
                1.0
            };
            let mut value = slot.var.flatten_all()?.to_vec1::<f32>()?;
            let moments = slot.first.iter_mut().zip(slot.second.iter_mut());
            for ((w, g), (m, v)) in value.iter_mut().zip(grad).zip(moments) {
                let g = g * clip;
                *m = b1 * *m + (1.0 - b1) * g;
                *v = b2 * *v + (1.0 - b2) * g * g;
                *w = *w * decay - scale * *m / ((*v * root).sqrt() + eps);
            }
            let shape = slot.var.shape().clone();
            slot.var
                .set(&Tensor::from_vec(value, shape, &Device::Cpu)?)?;
        }
        Ok(norm)
    }

    /// The state as named tensors, for a checkpoint.
    pub fn state(&self) -> Result<Vec<(String, Tensor)>> {
        let mut out = Vec::with_capacity(self.slots.len() * 3);
        for (i, slot) in self.slots.iter().enumerate() {
            let shape = slot.var.shape();
            let tensor = |v: &Vec<f32>| Tensor::from_vec(v.clone(), shape, &Device::Cpu);
            out.push((format!("var.{i}"), slot.var.as_tensor().copy()?));
            out.push((format!("first.{i}"), tensor(&slot.first)?));
            out.push((format!("second.{i}"), tensor(&slot.second)?));
        }
        Ok(out)
    }

    /// Goes back to a state written by [`AdamW::state`] after `step` steps.
    pub fn restore(
        &mut self,
        state: &std::collections::HashMap<String, Tensor>,
        step: usize,
    ) -> Result<()> {
        let get = |name: String, shape: &candle_core::Shape| {
            let tensor = state
                .get(&name)
                .ok_or_else(|| Error::Invalid(format!("checkpoint lacks {name}")))?;
            if tensor.shape() != shape {
                return Err(Error::Invalid(format!(
                    "checkpoint has {name} of shape {:?}, not {shape:?}",
                    tensor.shape()
                )));
            }
            Ok(tensor.clone())
        };
        for (i, slot) in self.slots.iter_mut().enumerate() {
            let shape = slot.var.shape().clone();
            slot.var.set(&get(format!("var.{i}"), &shape)?)?;
            slot.first = get(format!("first.{i}"), &shape)?
                .flatten_all()?
                .to_vec1()?;
            slot.second = get(format!("second.{i}"), &shape)?
                .flatten_all()?
                .to_vec1()?;
        }
        self.step = step;
        Ok(())
    }
}
