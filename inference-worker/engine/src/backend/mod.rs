//! Where steps are computed.

pub mod cpu;
pub mod cuda;
pub mod parallel;

use crate::adapters::image::AdapterImage;
use crate::adapters::table::Arrangement;
use crate::error::{AdapterError, StepError};
use crate::lora::LoraBatch;
use openledger_model::Adapter;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

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
    /// Rows whose hidden state is wanted.
    pub embedded: Vec<u32>,
    /// Which rows use which adapter.
    pub lora: LoraBatch,
}

/// What a step computed, in memory that the backend keeps until the next step.
#[derive(Clone, Copy, Debug)]
pub struct StepOutput<'a> {
    /// `[wanted, vocabulary]`, in the order of [`StepBatch::wanted`].
    pub logits: &'a [f32],
    /// `[embedded, hidden]` after the last norm, in the order of [`StepBatch::embedded`].
    pub hidden: &'a [f32],
}

/// Computes steps on one kind of device and owns its memory: the weights, and an arena of pages that
/// holds keys and values as well as adapters. No tensor type of any library crosses this border: a
/// backend keeps its weights as it likes. Which page is whose is decided by [`crate::memory`].
pub trait Backend: Send {
    /// Name of the device class and of the instruction set.
    fn name(&self) -> String;

    /// Bytes of one page of the arena: the keys and values of [`crate::kv::PAGE_TOKENS`] tokens.
    fn page_bytes(&self) -> usize;

    /// Bytes that the base's weights take, scales included, by the type in which they are kept.
    fn weight_bytes(&self) -> BTreeMap<&'static str, usize> {
        BTreeMap::new()
    }

    /// What brings adapters into the arena, beside the steps.
    fn copier(&self) -> Arc<dyn Copier>;

    /// Copies the keys and values of page `from` to page `to`.
    ///
    /// # Errors
    /// When the device fails; the pages are then undefined.
    fn move_page(&mut self, from: u32, to: u32) -> Result<(), StepError>;

    /// Computes all rows, storing their keys and values in their pages, and gives what the batch wants
    /// of them. Waits for the layers of an adapter whose copy is under way.
    ///
    /// # Errors
    /// When the device fails; pages of the batch's sequences are then undefined.
    fn step(&mut self, batch: &StepBatch) -> Result<StepOutput<'_>, StepError>;
}

/// Lays adapters out for a device and copies them into its arena, while steps are computed.
pub trait Copier: Send + Sync {
    /// How adapters lie on the device.
    fn arrangement(&self) -> Arrangement;

    /// Lays out a loaded adapter in host memory as it will lie on the device.
    ///
    /// # Errors
    /// When it does not fit the base model.
    fn lay_out(&self, adapter: &Adapter) -> Result<AdapterImage, AdapterError>;

    /// Into how many parts images are cut: one for each rank of the device.
    fn ranks(&self) -> usize {
        1
    }

    /// Copies one layer to its place in a slab. The slab's pages belong to this adapter alone, and no
    /// step reads the layer before the copy has returned.
    ///
    /// # Errors
    /// When the device fails.
    fn copy_layer(
        &self,
        image: &AdapterImage,
        pages: &Range<u32>,
        layer: usize,
    ) -> Result<(), StepError>;
}
