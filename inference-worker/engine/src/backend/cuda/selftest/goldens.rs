//! The backend against the logits of transformers and PEFT.

use super::fixtures::{Fixture, PROMPTS};
use super::subject::{difference, Failure, Mode, Subject};
use crate::backend::cuda::device::Device;
use candle_core::safetensors::load_buffer;
use openledger_model::{Adapter, ModelConfig, Weights};
use std::path::Path;
use std::sync::Arc;

/// How far a model was off.
#[derive(Clone, Debug)]
pub struct Found {
    /// The largest absolute difference of a logit from the reference.
    pub error: f32,
    /// The largest magnitude of a logit of the reference.
    pub largest: f32,
    /// The least, over positions, of the largest difference that an adapter makes.
    pub effect: f32,
    /// The logits that were compared.
    pub logits: Vec<f32>,
}

/// Computes a fixture on a device, or on several that divide it. `folder` is empty and writable; it holds the
/// checkpoint meanwhile.
///
/// # Errors
/// When a device fails, the model cannot be divided so, or the fixture cannot be read.
pub fn compute(
    devices: &[Arc<dyn Device>],
    fixture: &Fixture,
    mode: Mode,
    folder: &Path,
) -> Result<Found, Failure> {
    let config = ModelConfig::from_json(fixture.config)?;
    std::fs::write(folder.join("model.safetensors"), fixture.weights)?;
    let adapters = fixture.adapters.iter();
    let adapters = adapters.map(|(_, json, bytes)| Adapter::from_bytes(json, bytes, &config));
    let subject = Subject {
        weights: Weights::load(folder, &config)?,
        adapters: adapters.collect::<Result<_, _>>()?,
        prompts: serde_json::from_slice(PROMPTS)?,
        config,
    };
    let references = references(fixture)?;
    let reference = |adapter: usize, prompt: usize| references.get(adapter)?.get(prompt);
    let answers = subject.compute(devices, mode, |adapter, prompt| {
        reference(adapter, prompt).is_some() && reference(0, prompt).is_some()
    })?;
    let mut found = Found {
        error: 0.0,
        largest: 0.0,
        effect: f32::INFINITY,
        logits: Vec::new(),
    };
    let vocabulary = subject.config.vocab_size;
    for answer in &answers {
        let missing = || "no reference";
        let expected = reference(answer.adapter, answer.prompt).ok_or_else(missing)?;
        let base = reference(0, answer.prompt).ok_or_else(missing)?;
        found.error = found.error.max(difference(&answer.logits, expected));
        let largest = expected.iter().fold(0f32, |most, v| most.max(v.abs()));
        found.largest = found.largest.max(largest);
        found.logits.extend(&answer.logits);
        if answer.adapter > 0 {
            let rows = answer.logits.chunks_exact(vocabulary);
            for (ours, base) in rows.zip(base.chunks_exact(vocabulary)) {
                found.effect = found.effect.min(difference(ours, base));
            }
        }
    }
    Ok(found)
}

/// The logits of the base, then of each adapter, prompt by prompt.
fn references(fixture: &Fixture) -> Result<Vec<Vec<Vec<f32>>>, Failure> {
    let mut references = Vec::new();
    for expected in fixture.expected {
        let tensors = load_buffer(expected, &candle_core::Device::Cpu)?;
        let mut logits = Vec::new();
        while let Some(tensor) = tensors.get(&format!("logits.{}", logits.len())) {
            logits.push(tensor.flatten_all()?.to_vec1::<f32>()?);
        }
        references.push(logits);
    }
    Ok(references)
}
