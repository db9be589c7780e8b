//! Rotary position embedding, in the half-split form of Hugging Face checkpoints.

use openledger_model::{rope::inv_freq, ModelConfig};

/// Cosines and sines of every position.
pub struct Rope {
    half: usize,
    /// `[context, half]` pairs of cosine and sine.
    table: Vec<(f32, f32)>,
}

impl Rope {
    /// Tables for positions below `context`.
    pub fn new(config: &ModelConfig, context: usize) -> Self {
        let frequencies = inv_freq(config);
        let table = (0..context)
            .flat_map(|position| {
                frequencies.iter().map(move |frequency| {
                    // The angle is rounded to f32 as in the reference; its cosine is computed in f64,
                    // so that it is the same with every mathematics library.
                    let angle = f64::from(position as f32 * frequency);
                    (angle.cos() as f32, angle.sin() as f32)
                })
            })
            .collect();
        Self {
            half: frequencies.len(),
            table,
        }
    }

    /// Rotates rows `[rows, heads, head_dim]` in place.
    pub fn rotate(&self, positions: &[u32], rows: &mut [f32], heads: usize) {
        let dim = 2 * self.half;
        for (position, row) in positions.iter().zip(rows.chunks_exact_mut(heads * dim)) {
            let start = *position as usize * self.half;
            let angles = &self.table[start..start + self.half];
            for head in row.chunks_exact_mut(dim) {
                let (low, high) = head.split_at_mut(self.half);
                for ((low, high), (cos, sin)) in low.iter_mut().zip(high).zip(angles) {
                    let (a, b) = (*low, *high);
                    *low = a * cos - b * sin;
                    *high = b * cos + a * sin;
                }
            }
        }
    }
}
