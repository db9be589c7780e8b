//! Batches of examples of similar length, and their division into shards.

use candle_core::{Device, Tensor};

use crate::error::Result;
use crate::vocabulary::Example;

/// Inputs of one forward pass: `ids` `[rows, seq]`, and for every position the id that follows and its weight.
#[derive(Debug, Clone)]
pub struct Shard {
    /// Token ids, `[rows, seq]`, u32.
    pub ids: Tensor,
    /// The id that follows each position, `rows × seq`.
    pub targets: Vec<u32>,
    /// 1 where the following id counts, 0 elsewhere.
    pub weights: Vec<f32>,
    /// Positions inside examples, learned or not.
    pub tokens: usize,
}

impl Shard {
    /// Pads examples to the longest of them.
    pub fn new(examples: &[&Example], pad: u32) -> Result<Self> {
        let seq = examples
            .iter()
            .map(|e| e.ids.len().saturating_sub(1))
            .max()
            .unwrap_or(0);
        let mut ids = Vec::with_capacity(examples.len() * seq);
        let mut targets = Vec::with_capacity(ids.capacity());
        let mut weights = Vec::with_capacity(ids.capacity());
        let mut tokens = 0;
        for example in examples {
            let used = example.ids.len().saturating_sub(1);
            tokens += used;
            ids.extend_from_slice(&example.ids[..used]);
            targets.extend_from_slice(&example.ids[1..]);
            weights.extend(example.learn[1..].iter().map(|&l| f32::from(u8::from(l))));
            for _ in used..seq {
                ids.push(pad);
                targets.push(pad);
                weights.push(0.0);
            }
        }
        Ok(Self {
            ids: Tensor::from_vec(ids, (examples.len(), seq), &Device::Cpu)?,
            targets,
            weights,
            tokens,
        })
    }

    /// Number of positions that count.
    pub fn learned(&self) -> f32 {
        self.weights.iter().sum()
    }
}

/// Cuts a batch into shards of similar length and deals them to `lanes` that can run at the same time.
///
/// The division depends on the examples only, so sums over lanes are the same on any machine.
pub fn lanes(batch: &[Example], lanes: usize, pad: u32) -> Result<Vec<Vec<Shard>>> {
    let lanes = lanes.max(1);
    let mut sorted: Vec<&Example> = batch.iter().collect();
    sorted.sort_by_key(|e| std::cmp::Reverse(e.ids.len()));
    let total: usize = sorted.iter().map(|e| e.ids.len()).sum();
    let most = total.div_ceil(lanes * 2);
    let mut cuts: Vec<Vec<&Example>> = Vec::new();
    for example in sorted {
        let fits = cuts.last().is_some_and(|part| {
            let width = part[0].ids.len();
            example.ids.len() * 5 >= width * 4 && width * (part.len() + 1) <= most
        });
        match cuts.last_mut() {
            Some(part) if fits => part.push(example),
            _ => cuts.push(vec![example]),
        }
    }
    cuts.sort_by_key(|part| std::cmp::Reverse(part[0].ids.len() * part.len()));
    let mut load = vec![0; lanes];
    let mut out = vec![Vec::new(); lanes];
    for part in cuts {
        let lane = (0..lanes).min_by_key(|&l| load[l]).unwrap_or(0);
        load[lane] += part[0].ids.len() * part.len();
        out[lane].push(Shard::new(&part, pad)?);
    }
    out.retain(|lane| !lane.is_empty());
    Ok(out)
}
