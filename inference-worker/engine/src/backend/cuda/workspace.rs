//! Memory of a step's activations, the same from step to step.

use super::device::{Device, DeviceError, Memory, Stream};
use super::inputs::StepShape;
use super::launch::Address;
use super::sources::Storage;
use openledger_model::ModelConfig;
use std::sync::Arc;

/// Most rows whose logits are computed at once.
const LOGIT_ROWS: u32 = 256;

/// Bytes of parts of attention beyond which single rows are computed chunk after chunk instead.
const MOST_PARTIAL: usize = 512 << 20;

/// Sites that share an argument, at most: queries, keys and values.
const MOST_SITES: usize = 3;

/// Activations, `[rows, …]` each.
pub struct Workspace {
    device: Arc<dyn Device>,
    heads: usize,
    head_dim: usize,
    most_rows: usize,
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
    low_rank: Memory,
    partial: Memory,
}

impl Workspace {
    /// For steps of up to `most_rows` rows, each with the logits of up to `tokens` tokens.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub fn new(
        device: &Arc<dyn Device>,
        config: &ModelConfig,
        storage: Storage,
        most_rows: usize,
        tokens: usize,
    ) -> Result<Self, DeviceError> {
        let rows = |width: usize| Memory::new(device, most_rows * width * storage.bytes());
        let floats = |values: usize| Memory::new(device, values * size_of::<f32>());
        let hidden = config.hidden_size;
        let queries = config.num_attention_heads * config.head_dim;
        let keys = config.num_key_value_heads * config.head_dim;
        let order: Vec<u32> = (0..most_rows as u32).collect();
        let logit_rows = LOGIT_ROWS.min(most_rows as u32);
        Ok(Self {
            heads: config.num_attention_heads,
            head_dim: config.head_dim,
            most_rows,
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
            low_rank: floats(0)?,
            partial: floats(0)?,
            device: Arc::clone(device),
        })
    }

    /// `A x` of the adapters, `[rows, sites, rank]`, f32.
    pub fn low_rank(&self) -> Address {
        self.low_rank.address()
    }

    /// Parts of attention, `[rows, heads, chunks, head_dim + 2]`, f32.
    pub fn partial(&self) -> Address {
        self.partial.address()
    }

    /// Whether the parts of attention of a step of single rows are few enough to be kept.
    pub fn has_room(&self, shape: &StepShape) -> bool {
        self.partial_bytes(shape) <= MOST_PARTIAL
    }

    fn partial_bytes(&self, shape: &StepShape) -> usize {
        let parts = shape.rows as usize * self.heads * shape.chunks as usize;
        parts * (self.head_dim + 2) * size_of::<f32>()
    }

    /// Makes room for a step. True if something moved, so that what was written down about earlier steps
    /// no longer holds.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn prepare(&mut self, shape: &StepShape) -> Result<bool, DeviceError> {
        let low_rank = self.most_rows * MOST_SITES * shape.rank as usize * size_of::<f32>();
        let partial = match shape.row_tiles {
            0 => self.partial_bytes(shape),
            _ => 0,
        };
        let mut moved = false;
        for (memory, bytes) in [(&mut self.low_rank, low_rank), (&mut self.partial, partial)] {
            if memory.bytes() < bytes {
                self.device.synchronize(Stream::Compute)?;
                // Freed first: there may not be room for both.
                *memory = Memory::new(&self.device, 0)?;
                *memory = Memory::new(&self.device, bytes)?;
                moved = true;
            }
        }
        Ok(moved)
    }
}
