//! What a step tells the device: the tokens of its rows and where everything is, in one copy.

use super::calls::{
    lora_tiles, row_tiles, tensor_row_tiles, LoraTile, RowTile, CHUNK_TOKENS, NO_ADAPTER,
};
use super::device::{Device, DeviceError, HostMemory, Memory, Plain, Stream};
use super::launch::Address;
use crate::backend::StepBatch;
use crate::kv::PAGE_TOKENS;
use std::sync::Arc;

/// Pages that a chunk of attention takes.
const CHUNK_PAGES: u32 = CHUNK_TOKENS / PAGE_TOKENS as u32;

/// The size of a step: steps of one shape are the same launches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StepShape {
    /// Rows, those that fill it up included.
    pub rows: u32,
    /// Chunks of the longest context. Page tables are as long as that.
    pub chunks: u32,
    /// At least the largest rank of its adapters; 0 without adapters.
    pub rank: u32,
    /// Tiles of rows of one adapter.
    pub lora_tiles: u32,
    /// Tiles of prefill attention; 0 if every row is the only one of its sequence.
    pub row_tiles: u32,
    /// Rows whose logits are computed.
    pub wanted: u32,
    /// Rows whose hidden state is computed.
    pub embedded: u32,
}

impl StepShape {
    /// Pages of a row of the page tables.
    pub fn table_stride(&self) -> u32 {
        self.chunks * CHUNK_PAGES
    }

    /// The shape of a batch. With `filled`, a step of single rows takes the next of a few sizes, so that
    /// there are few shapes, as long as that has at most `most_rows` rows.
    pub fn of(batch: &StepBatch, filled: bool, most_rows: u32) -> Self {
        let rows = batch.tokens.len() as u32;
        let last = batch.positions.iter().max().copied().unwrap_or(0);
        let adapters = batch.lora.segments().iter();
        let rank = adapters
            .filter_map(|segment| Some(segment.adapter.as_ref()?.table.max_rank() as u32))
            .max()
            .map_or(0, |rank| rank.next_power_of_two().max(8));
        let mut shape = Self {
            rows,
            chunks: (last / CHUNK_TOKENS + 1).next_power_of_two(),
            rank,
            lora_tiles: 0,
            row_tiles: 0,
            wanted: batch.wanted.len() as u32,
            embedded: batch.embedded.len() as u32,
        };
        let single = batch.sequences.windows(2).all(|pair| pair[0] != pair[1]);
        if filled && single && batch.embedded.is_empty() {
            let size = filled_rows(rows);
            if size <= most_rows {
                shape.rows = size;
                shape.wanted = size;
                shape.lora_tiles = if rank > 0 { size } else { 0 };
                return shape;
            }
        }
        if !single {
            // The exact number is known once the tiles are made.
            shape.row_tiles = u32::MAX;
        }
        shape
    }
}

/// How rows of prompts are cut into tiles of attention.
#[derive(Clone, Copy, Debug)]
pub struct Tiling {
    /// Query heads that share a head of keys.
    pub group: u32,
    /// Whether tensor cores compute it.
    pub tensor: bool,
}

/// The size that a step of single rows is filled up to.
fn filled_rows(rows: u32) -> u32 {
    match rows {
        0..=8 => rows.next_power_of_two(),
        9..=64 => rows.next_multiple_of(8),
        _ => rows.next_multiple_of(32),
    }
}

/// Addresses of the inputs on the device.
#[derive(Clone, Copy, Debug)]
pub struct InputPlaces {
    /// `[rows]`.
    pub tokens: Address,
    /// `[rows]`.
    pub positions: Address,
    /// `[rows]`: each row's page table.
    pub sequences: Address,
    /// `[rows]`: each row's adapter.
    pub slots: Address,
    /// `[wanted]`: rows whose logits are computed.
    pub wanted: Address,
    /// `[embedded]`: rows whose hidden state is computed.
    pub embedded: Address,
    /// `[lora_tiles]`.
    pub lora_tiles: Address,
    /// `[row_tiles]`.
    pub row_tiles: Address,
    /// `[sequences, table_stride]`.
    pub tables: Address,
}

/// Memory for the inputs on both sides.
pub struct Inputs {
    host: HostMemory,
    memory: Memory,
    most_rows: usize,
}

/// Words of a tile.
const TILE_WORDS: usize = 3;

/// Lists of one word for each row before the tiles.
const LISTS: usize = 6;

impl Inputs {
    /// For steps of up to `most_rows` rows whose contexts have up to `context` tokens.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub fn new(
        device: &Arc<dyn Device>,
        most_rows: usize,
        context: usize,
    ) -> Result<Self, DeviceError> {
        let chunks = chunks_of(context);
        // One table more than rows: that of the rows that fill a step up.
        let tables = (most_rows + 1) * chunks * CHUNK_PAGES as usize;
        let words = most_rows * (LISTS + 2 * TILE_WORDS) + tables;
        Ok(Self {
            host: HostMemory::new(device, words * size_of::<u32>())?,
            memory: Memory::new(device, words * size_of::<u32>())?,
            most_rows,
        })
    }

    /// First word of list `number`.
    fn list(&self, number: usize) -> usize {
        self.most_rows * number
    }

    fn lora_tiles(&self) -> usize {
        self.most_rows * LISTS
    }

    fn row_tiles(&self) -> usize {
        self.most_rows * (LISTS + TILE_WORDS)
    }

    fn tables(&self) -> usize {
        self.most_rows * (LISTS + 2 * TILE_WORDS)
    }

    /// Where the inputs are, which does not change.
    pub fn places(&self) -> InputPlaces {
        let at = |word: usize| Address(self.memory.address().0 + (word * size_of::<u32>()) as u64);
        InputPlaces {
            tokens: at(self.list(0)),
            positions: at(self.list(1)),
            sequences: at(self.list(2)),
            slots: at(self.list(3)),
            wanted: at(self.list(4)),
            embedded: at(self.list(5)),
            lora_tiles: at(self.lora_tiles()),
            row_tiles: at(self.row_tiles()),
            tables: at(self.tables()),
        }
    }

    /// Writes a list whose rest, up to `length`, is `rest`.
    fn write<T: Plain>(
        &mut self,
        word: usize,
        length: u32,
        values: &[T],
        rest: T,
    ) -> Result<(), DeviceError> {
        let length = (length as usize).max(values.len());
        let to = self.host.values_mut(word * size_of::<u32>(), length)?;
        let (head, tail) = to.split_at_mut(values.len());
        head.copy_from_slice(values);
        tail.fill(rest);
        Ok(())
    }

    /// Queues the inputs of a batch. `slots` has the slot of each segment; rows that fill the shape up write
    /// to page `scratch`. Gives the shape with its tiles counted.
    ///
    /// # Errors
    /// When the batch is larger than there is room for, or the device fails.
    pub fn upload(
        &mut self,
        batch: &StepBatch,
        mut shape: StepShape,
        slots: &[u32],
        tiling: Tiling,
        scratch: u32,
    ) -> Result<StepShape, DeviceError> {
        let rows = batch.tokens.len();
        if shape.rows as usize > self.most_rows {
            return Err(DeviceError::Bounds {
                first: 0,
                end: shape.rows as usize,
                bytes: self.most_rows,
            });
        }
        let filler = batch.tables.len() as u32;
        self.write(self.list(0), shape.rows, &batch.tokens, 0)?;
        self.write(self.list(1), shape.rows, &batch.positions, 0)?;
        self.write(self.list(2), shape.rows, &batch.sequences, filler)?;
        self.write(self.list(4), shape.wanted, &batch.wanted, 0)?;
        self.write(self.list(5), shape.embedded, &batch.embedded, 0)?;

        let segments = batch.lora.segments().iter().zip(slots);
        let segments: Vec<(u32, u32)> = segments
            .map(|(segment, slot)| (*slot, segment.rows as u32))
            .collect();
        let mut of_rows = Vec::with_capacity(rows);
        for &(slot, rows) in &segments {
            of_rows.extend(std::iter::repeat_n(slot, rows as usize));
        }
        of_rows.resize(rows, NO_ADAPTER);
        self.write(self.list(3), shape.rows, &of_rows, NO_ADAPTER)?;
        let tiles = lora_tiles(&segments);
        shape.lora_tiles = shape.lora_tiles.max(tiles.len() as u32);
        self.write(
            self.lora_tiles(),
            shape.lora_tiles,
            &tiles,
            LoraTile::default(),
        )?;

        if shape.row_tiles > 0 {
            let runs = runs(&batch.sequences);
            let tiles = match tiling.tensor {
                true => tensor_row_tiles(&runs, tiling.group),
                false => row_tiles(&runs, tiling.group),
            };
            shape.row_tiles = tiles.len() as u32;
            self.write(
                self.row_tiles(),
                shape.row_tiles,
                &tiles,
                RowTile::default(),
            )?;
        }

        let stride = shape.table_stride() as usize;
        let mut word = self.tables();
        for table in &batch.tables {
            let used = table.get(..stride).unwrap_or(table);
            self.write(word, stride as u32, used, scratch)?;
            word += stride;
        }
        self.write(word, stride as u32, &[], scratch)?;
        word += stride;
        let words = self.host.values::<u32>(0, word)?;
        // SAFETY: the next inputs are written after the step was waited for.
        unsafe { self.memory.upload(Stream::Compute, 0, words) }?;
        Ok(shape)
    }
}

/// Chunks of attention that contexts of up to so many tokens are taken to have.
pub(super) fn chunks_of(context: usize) -> usize {
    context.div_ceil(CHUNK_TOKENS as usize).next_power_of_two()
}

/// Runs `(sequence, rows)` of adjacent rows of one sequence.
fn runs(sequences: &[u32]) -> Vec<(u32, u32)> {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for sequence in sequences {
        match runs.last_mut() {
            Some((last, rows)) if last == sequence => *rows += 1,
            _ => runs.push((*sequence, 1)),
        }
    }
    runs
}
