//! Causal attention of single query rows over paged keys and values.
//!
//! A page holds [`PAGE_TOKENS`] tokens. Keys lie transposed, `[head_dim][16]`, so that sixteen scores
//! grow together, each as one chain over the head dimension; values lie `[16][head_dim]`, each output
//! one chain over the tokens. A query's result depends on its own tokens only: not on chunking, not on
//! which pages hold them, not on the rest of the batch.

use super::arena::ArenaMemory;
use super::kernels::Isa;
use super::math::{exp, per_isa, sum_lanes};
use crate::kv::PAGE_TOKENS;
use crate::panels::LANES;

const _: () = assert!(PAGE_TOKENS == LANES, "one page is one vector of scores");

/// Shape of the heads.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// Query heads.
    pub queries: usize,
    /// Key and value heads; each serves `queries / keys` query heads.
    pub keys: usize,
    /// Width of a head.
    pub dim: usize,
}

/// Words of a page that hold the keys and values of one layer.
pub fn layer_words(heads: Heads) -> usize {
    2 * heads.keys * heads.dim * PAGE_TOKENS
}

/// Keys and values of one layer, in the pages of the arena. In its part of a page the keys of all
/// heads come first, then the values of all heads.
#[derive(Clone, Copy)]
pub struct LayerPages<'a> {
    arena: &'a ArenaMemory,
    heads: Heads,
    /// First word of the layer within a page.
    first: usize,
}

impl<'a> LayerPages<'a> {
    /// The layer number `layer` of every page.
    pub fn new(arena: &'a ArenaMemory, heads: Heads, layer: usize) -> Self {
        Self {
            arena,
            heads,
            first: layer * layer_words(heads),
        }
    }

    /// First words of the keys and of the values of a head in a page.
    fn places(&self, page: u32, head: usize) -> (usize, usize) {
        let block = self.heads.dim * PAGE_TOKENS;
        let keys = self.arena.page(page) + self.first + head * block;
        (keys, keys + self.heads.keys * block)
    }

    /// Stores the key and value rows (`[keys * dim]`) of the token at `position`.
    ///
    /// # Safety
    /// Nobody else touches the page of that token meanwhile.
    pub unsafe fn write(&self, table: &[u32], position: usize, key: &[f32], value: &[f32]) {
        let Heads { keys, dim, .. } = self.heads;
        let page = table[position / PAGE_TOKENS];
        let slot = position % PAGE_TOKENS;
        let block = dim * PAGE_TOKENS;
        for head in 0..keys {
            let (first_key, first_value) = self.places(page, head);
            let row = head * dim..(head + 1) * dim;
            // SAFETY: the caller's promise.
            let block = unsafe { self.arena.floats_mut(first_key..first_key + block) };
            for (d, v) in key[row.clone()].iter().enumerate() {
                block[d * PAGE_TOKENS + slot] = *v;
            }
            let start = first_value + slot * dim;
            // SAFETY: the caller's promise.
            let place = unsafe { self.arena.floats_mut(start..start + dim) };
            place.copy_from_slice(&value[row]);
        }
    }

    /// Attention of the query heads that share key head `head` (`q` and `out`: `[group * dim]`) over
    /// the first `len` tokens of the table.
    ///
    /// # Safety
    /// Nobody writes the pages of the table meanwhile.
    #[allow(clippy::too_many_arguments)]
    pub unsafe fn attend(
        &self,
        isa: Isa,
        table: &[u32],
        len: usize,
        head: usize,
        q: &[f32],
        scores: &mut Vec<f32>,
        out: &mut [f32],
    ) {
        let dim = self.heads.dim;
        let pages = &table[..len.div_ceil(PAGE_TOKENS)];
        scores.clear();
        scores.resize(pages.len() * PAGE_TOKENS, 0.0);
        let block = dim * PAGE_TOKENS;
        for (q, out) in q.chunks_exact(dim).zip(out.chunks_exact_mut(dim)) {
            for (page, scores) in pages.iter().zip(scores.as_chunks_mut::<LANES>().0) {
                let keys = self.places(*page, head).0;
                // SAFETY: the caller's promise.
                let keys = unsafe { self.arena.floats(keys..keys + block) };
                score_page(isa, q, keys, scores);
            }
            let sum = softmax(isa, len, scores);
            out.fill(0.0);
            for (page, weights) in pages.iter().zip(scores[..len].chunks(PAGE_TOKENS)) {
                let values = self.places(*page, head).1;
                // SAFETY: the caller's promise.
                let values = unsafe { self.arena.floats(values..values + block) };
                add_values(isa, weights, values, out);
            }
            let inverse = 1.0 / sum;
            out.iter_mut().for_each(|v| *v *= inverse);
        }
    }
}

#[inline(always)]
fn score_page_of(q: &[f32], keys: &[f32], scores: &mut [f32; LANES]) {
    let mut acc = [0f32; LANES];
    for (q, keys) in q.iter().zip(keys.as_chunks::<LANES>().0) {
        for (acc, key) in acc.iter_mut().zip(keys) {
            *acc += q * key;
        }
    }
    let scale = 1.0 / (q.len() as f32).sqrt();
    for (score, acc) in scores.iter_mut().zip(acc) {
        *score = acc * scale;
    }
}

per_isa! {
    fn score_page(q: &[f32], keys: &[f32], scores: &mut [f32; LANES]) = score_page_of
}

#[inline(always)]
fn softmax_of(len: usize, scores: &mut [f32]) -> f32 {
    scores[len..].fill(f32::NEG_INFINITY);
    let chunks = scores.as_chunks_mut::<LANES>().0;
    let mut max = [f32::NEG_INFINITY; LANES];
    for chunk in chunks.iter() {
        for (max, v) in max.iter_mut().zip(chunk) {
            *max = if *v > *max { *v } else { *max };
        }
    }
    let max = max.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = [0f32; LANES];
    for chunk in chunks.iter_mut() {
        for (sum, v) in sum.iter_mut().zip(chunk) {
            *v = exp(*v - max);
            *sum += *v;
        }
    }
    sum_lanes(sum)
}

per_isa! {
    /// Turns the first `len` scores into unnormalised weights, the rest into 0; returns their sum.
    fn softmax(len: usize, scores: &mut [f32]) -> f32 = softmax_of
}

#[inline(always)]
fn add_values_of(weights: &[f32], values: &[f32], out: &mut [f32]) {
    for (weight, values) in weights.iter().zip(values.chunks_exact(out.len())) {
        for (out, v) in out.iter_mut().zip(values) {
            *out += weight * v;
        }
    }
}

per_isa! {
    fn add_values(weights: &[f32], values: &[f32], out: &mut [f32]) = add_values_of
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attention_should_be_that_of_the_definition_whatever_the_pages() {
        let heads = Heads {
            queries: 4,
            keys: 2,
            dim: 6,
        };
        let len = 37;
        let row = |t: usize, salt: f32| -> Vec<f32> {
            (0..12)
                .map(|i| ((t * 12 + i) as f32 * 0.7 + salt).sin() * 2.0)
                .collect()
        };
        let q: Vec<f32> = (0..12).map(|i| (i as f32).cos() * 2.0).collect();
        let mut results = Vec::new();
        for table in [[0u32, 1, 2], [7, 3, 5]] {
            let page_words = 3 * layer_words(heads);
            let arena = ArenaMemory::new(8, page_words);
            // Leftovers of an earlier owner must not matter.
            // SAFETY: one thread.
            unsafe { arena.floats_mut(0..8 * page_words) }.fill(f32::NAN);
            let pages = LayerPages::new(&arena, heads, 1);
            for t in 0..len {
                // SAFETY: one thread.
                unsafe { pages.write(&table, t, &row(t, 0.0), &row(t, 1.0)) };
            }
            let mut out = vec![0.0; 12];
            for isa in Isa::available() {
                // SAFETY: one thread.
                unsafe { pages.attend(isa, &table, len, 1, &q, &mut Vec::new(), &mut out) };
                results.push(out.clone());
            }
        }
        assert!(results.windows(2).all(|w| w[0] == w[1]));
        for g in 0..2 {
            let q = &q[g * 6..(g + 1) * 6];
            let weights: Vec<f64> = (0..len)
                .map(|t| {
                    let dot: f64 = (0..6)
                        .map(|d| f64::from(q[d]) * f64::from(row(t, 0.0)[6 + d]))
                        .sum();
                    (dot / 6f64.sqrt()).exp()
                })
                .collect();
            let sum: f64 = weights.iter().sum();
            for d in 0..6 {
                let expected: f64 = (0..len)
                    .map(|t| weights[t] / sum * f64::from(row(t, 1.0)[6 + d]))
                    .sum();
                assert!((expected - f64::from(results[0][g * 6 + d])).abs() < 1e-5);
            }
        }
    }
}
