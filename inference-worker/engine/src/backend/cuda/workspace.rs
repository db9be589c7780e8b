//! Memory of a step's activations, the same from step to step.

use super::device::{Device, DeviceError, Memory};
use super::inputs::{chunks_of, StepShape};
use super::sources::Storage;
use openledger_model::peft::MAX_RANK;
use openledger_model::ModelConfig;
use std::sync::Arc;

/// Most rows whose logits are computed at once.
const LOGIT_ROWS: u32 = 256;

/// Bytes of parts of attention beyond which single rows are computed chunk after chunk instead.
const MOST_PARTIAL: usize = 512 << 20;

/// Sites that share an argument, at most: queries, keys and values.
const MOST_SITES: usize = 3;

/// Activations, `[rows, …]` each. All of them are taken at the start: the arena is given what they leave, and
/// what graphs have written down stays where it is. The driver takes memory of its own later, for graphs and for
/// the library's plans, and so does the host for logits: the arena leaves some free.
pub struct Workspace {
    heads: usize,
    head_dim: usize,
    /// Rows whose logits fit.
    pub logit_rows: u32,
    /// The residual stream, `[rows, hidden]`.
    pub residual: Memory,
    /// After a norm, `[rows, hidden]`.
    pub normed: Memory,
    /// `[rows, heads + 2 · kv_heads, head_dim]`.
    pub qkv: Memory,
    /// `[rows, heads, head_dim]`.
    pub queries: Memory,
    /// `[rows, heads, head_dim]`.
    pub attended: Memory,
    /// What a block adds to the residual stream, `[rows, hidden]`.
    pub delta: Memory,
    /// `[rows, 2, intermediate]`.
    pub gate_up: Memory,
    /// `[rows, intermediate]`.
    pub activated: Memory,
    /// Rows that were picked out, `[rows, hidden]`.
    pub picked: Memory,
    /// `[logit_rows, tokens]`, f32.
    pub logits: Memory,
    /// `[rows, hidden]`, f32.
    pub hidden: Memory,
    /// Numbers of the rows in order, which is by adapter.
    pub order: Memory,
    /// `A x` of the adapters, `[rows, sites, rank]`, f32, for any rank.
    pub low_rank: Memory,
    /// Parts of attention, `[rows, heads, chunks, head_dim + 2]`, f32.
    pub partial: Memory,
}

impl Workspace {
    /// For steps of up to `most_rows` rows with contexts of up to `context` tokens, each with the logits of up
    /// to `tokens` tokens.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub fn new(
        device: &Arc<dyn Device>,
        config: &ModelConfig,
        storage: Storage,
        (most_rows, context): (usize, usize),
        tokens: usize,
    ) -> Result<Self, DeviceError> {
        let rows = |width: usize| Memory::new(device, most_rows * width * storage.bytes());
        let floats = |values: usize| Memory::new(device, values * size_of::<f32>());
        let hidden = config.hidden_size;
        let queries = config.num_attention_heads * config.head_dim;
        let keys = config.num_key_value_heads * config.head_dim;
        let order: Vec<u32> = (0..most_rows as u32).collect();
        let logit_rows = LOGIT_ROWS.min(most_rows as u32);
        let chunks = chunks_of(context);
        let partial = most_rows * part_floats(config.num_attention_heads, config.head_dim, chunks);
        let most_partial = MOST_PARTIAL / size_of::<f32>();
        // Of what steps have in common there are powers of two.
        let most_rank = MAX_RANK.next_power_of_two();
        Ok(Self {
            heads: config.num_attention_heads,
            head_dim: config.head_dim,
            logit_rows,
            residual: rows(hidden)?,
            normed: rows(hidden)?,
            qkv: rows(queries + 2 * keys)?,
            queries: rows(queries)?,
            attended: rows(queries)?,
            delta: rows(hidden)?,
            gate_up: rows(2 * config.intermediate_size)?,
            activated: rows(config.intermediate_size)?,
            picked: rows(hidden)?,
            logits: floats(logit_rows as usize * tokens)?,
            hidden: floats(most_rows * hidden)?,
            order: Memory::of(device, &order)?,
            low_rank: floats(most_rows * MOST_SITES * most_rank)?,
            partial: floats(partial.min(most_partial))?,
        })
    }

    /// Whether the parts of attention of a step of single rows are few enough to be kept.
    pub fn has_room(&self, shape: &StepShape) -> bool {
        let parts = part_floats(self.heads, self.head_dim, shape.chunks as usize);
        shape.rows as usize * parts * size_of::<f32>() <= self.partial.bytes()
    }
}

/// Numbers of the parts of attention of a row.
fn part_floats(heads: usize, head_dim: usize, chunks: usize) -> usize {
    heads * chunks * (head_dim + 2)
}
