//! Where steps are computed.

pub mod cpu;

use crate::error::StepError;
use crate::lora::LoraBatch;

/// The rows of one forward pass. Rows of a sequence are adjacent and in order of position.
#[derive(Default)]
pub struct StepBatch {
    /// Token of each row.
    pub tokens: Vec<u32>,
    /// Position of each row in its sequence.
    pub positions: Vec<u32>,
    /// Each row's sequence, an index into `tables`.
    pub sequences: Vec<u32>,
    /// Key-value pages of each sequence, in order of position.
    pub tables: Vec<Vec<u32>>,
    /// Rows whose logits are wanted.
    pub wanted: Vec<u32>,
    /// Which rows use which adapter.
    pub lora: LoraBatch,
}

/// Computes steps on one kind of device and owns its key-value memory. No tensor type of any library
/// crosses this border: a backend keeps its weights as it likes.
pub trait Backend: Send {
    /// Name of the device class and of the instruction set.
    fn name(&self) -> String;

    /// Computes all rows, storing their keys and values in their pages, and gives the logits
    /// `[wanted, vocabulary]`.
    ///
    /// # Errors
    /// When the device fails; pages of the batch's sequences are then undefined.
    fn step(&mut self, batch: &StepBatch) -> Result<&[f32], StepError>;
}
