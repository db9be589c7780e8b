//! The arena on the device, and what brings adapters into it beside the steps.
//!
//! Copies are queued on a stream of their own, a layer at a time, and each is marked by an event: a step
//! makes the compute stream wait for the layers that it is about to read, and for no others.

use super::device::{Device, DeviceError, Event, HostLock, Memory, Stream};
use super::launch::Address;
use super::model::ModelMemory;
use super::sources::Storage;
use crate::adapters::image::AdapterImage;
use crate::adapters::table::Arrangement;
use crate::backend::parallel::Shard;
use crate::backend::Copier;
use crate::error::{AdapterError, StepError};
use crate::kv::PAGE_TOKENS;
use crate::panels::Element;
use candle_core::Tensor;
use openledger_model::{Adapter, ModelConfig, Site};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of one page: keys and values of [`PAGE_TOKENS`] tokens of all layers.
pub fn page_bytes(config: &ModelConfig, storage: Storage) -> usize {
    let row = config.num_key_value_heads * config.head_dim;
    2 * config.num_hidden_layers * row * PAGE_TOKENS * storage.bytes()
}

/// Pages of the device, and one more that no sequence owns: rows that fill up a step write there.
pub struct Arena {
    memory: Memory,
    page_bytes: usize,
    pages: u32,
    /// Of slabs that are being filled, by first page: a mark behind each layer that was queued.
    coming: Mutex<HashMap<u32, Vec<Event>>>,
}

impl Arena {
    /// Takes memory for `pages` pages.
    ///
    /// # Errors
    /// When there is not enough.
    pub fn new(
        device: &Arc<dyn Device>,
        pages: u32,
        page_bytes: usize,
    ) -> Result<Self, DeviceError> {
        Ok(Self {
            memory: Memory::new(device, (pages as usize + 1) * page_bytes)?,
            page_bytes,
            pages,
            coming: Mutex::default(),
        })
    }

    /// The first byte of page 0.
    pub fn address(&self) -> Address {
        self.memory.address()
    }

    /// Bytes of a page.
    pub fn page_bytes(&self) -> usize {
        self.page_bytes
    }

    /// Number of pages.
    pub fn pages(&self) -> u32 {
        self.pages
    }

    /// The page that no sequence owns.
    pub fn scratch(&self) -> u32 {
        self.pages
    }

    /// The first byte of a page.
    ///
    /// # Errors
    /// When there is no such page.
    pub fn page(&self, page: u32) -> Result<Address, DeviceError> {
        self.memory
            .at(page as usize * self.page_bytes, self.page_bytes)
    }

    /// Queues setting all of it to zeros on the compute stream.
    ///
    /// # Errors
    /// When the device fails.
    pub fn clear(&self) -> Result<(), DeviceError> {
        self.memory.clear(Stream::Compute)
    }

    /// Makes the compute stream wait until the layer of the slab that begins with page `first` is there,
    /// if it is still on its way.
    ///
    /// # Errors
    /// When the device fails.
    pub fn hold(&self, first: u32, layer: usize) -> Result<(), DeviceError> {
        match self.coming().get(&first).and_then(|slab| slab.get(layer)) {
            Some(event) => event.hold(Stream::Compute),
            None => Ok(()),
        }
    }

    /// Whether nothing of the slab that begins with page `first` is on its way.
    pub fn is_settled(&self, first: u32) -> bool {
        !self.coming().contains_key(&first)
    }

    /// Whole whatever panicked: each change is one insertion or removal.
    fn coming(&self) -> MutexGuard<'_, HashMap<u32, Vec<Event>>> {
        self.coming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue_layer(
        &self,
        image: &AdapterImage,
        pages: &Range<u32>,
        layer: usize,
    ) -> Result<(), DeviceError> {
        let words = image.table().layer_words(layer);
        let slab = pages.len() * self.page_bytes;
        let end = words.end * size_of::<u32>();
        if end > slab || pages.end > self.pages {
            return Err(DeviceError::Bounds {
                first: words.start * size_of::<u32>(),
                end,
                bytes: slab,
            });
        }
        let first = pages.start as usize * self.page_bytes + words.start * size_of::<u32>();
        let values = image
            .words()
            .get(words)
            .ok_or(DeviceError::Unsupported("such layer"))?;
        // SAFETY: whoever copies keeps the image until the last layer's copy was waited for, or the copy
        // broke off and the stream was, both in `copy_layer`.
        unsafe { self.memory.upload(Stream::Copy, first, values) }?;
        let event = Event::record(self.memory.device(), Stream::Copy)?;
        let mut coming = self.coming();
        if layer == 0 {
            // What an earlier copy to this place left behind when it broke off.
            coming.remove(&pages.start);
        }
        coming.entry(pages.start).or_default().push(event);
        Ok(())
    }

    fn copy_layer(
        &self,
        image: &AdapterImage,
        pages: &Range<u32>,
        layer: usize,
    ) -> Result<(), DeviceError> {
        let queued = self.queue_layer(image, pages, layer);
        if queued.is_ok() && layer + 1 < image.table().layers() {
            return Ok(());
        }
        // The last layer, or the last that will be tried: the image may be dropped after this.
        let done = self.memory.device().synchronize(Stream::Copy);
        self.coming().remove(&pages.start);
        queued.and(done)
    }

    /// Waits for what was queued for the slab that begins with page `first`, and forgets it.
    fn break_off(&self, first: u32) {
        // A device that fails here fails its next step too.
        let _ = self.memory.device().synchronize(Stream::Copy);
        self.coming().remove(&first);
    }
}

/// A rank as the copy threads see it.
pub struct Place {
    /// Which part of the model it has.
    pub shard: Shard,
    /// Its weights, which a DoRA's factors are computed from.
    pub model: Arc<ModelMemory>,
    /// Where its parts of adapters go.
    pub arena: Arc<Arena>,
}

/// Lays adapters out row by row, and copies them beside the steps.
pub struct CudaCopier {
    /// Of the whole model.
    pub config: ModelConfig,
    /// How values are stored.
    pub storage: Storage,
    /// All ranks.
    pub ranks: Vec<Place>,
}

impl CudaCopier {
    /// The whole weight of a site `[outputs, inputs]`, from the ranks' parts.
    ///
    /// # Errors
    /// When there is no such layer, or a device fails.
    pub fn weight(&self, layer: usize, site: Site) -> Result<Vec<f32>, DeviceError> {
        let (outputs, inputs) = site.shape(&self.config);
        let mut whole = vec![0.0; outputs * inputs];
        for rank in &self.ranks {
            let rows = rank.shard.outputs(site, &self.config);
            let columns = rank.shard.inputs(site, &self.config);
            let part = rank.model.site(layer, site)?;
            for (row, part) in rows.zip(part.chunks_exact(columns.len().max(1))) {
                whole[row * inputs..][columns.clone()].copy_from_slice(part);
            }
        }
        Ok(whole)
    }
}

impl Copier for CudaCopier {
    fn arrangement(&self) -> Arrangement {
        Arrangement::Rows(match self.storage {
            Storage::F32 => Element::F32,
            Storage::Bf16 => Element::Bf16,
        })
    }

    fn lay_out(&self, adapter: &Adapter) -> Result<AdapterImage, AdapterError> {
        let weight = |layer: usize, site: Site| {
            let values = self.weight(layer, site);
            let values = values.map_err(|error| candle_core::Error::Msg(error.to_string()))?;
            Tensor::from_vec(values, site.shape(&self.config), &candle_core::Device::Cpu)
        };
        let arrangement = self.arrangement();
        let shards: Vec<Shard> = self.ranks.iter().map(|rank| rank.shard).collect();
        let mut image =
            AdapterImage::on_shards(&self.config, arrangement, adapter, &shards, weight)?;
        self.lock(&mut image);
        Ok(image)
    }

    fn ranks(&self) -> usize {
        self.ranks.len()
    }

    fn copy_layer(
        &self,
        image: &AdapterImage,
        pages: &Range<u32>,
        layer: usize,
    ) -> Result<(), StepError> {
        if image.table().arrangement() != self.arrangement() {
            return Err(StepError::Adapter(AdapterError::Arrangement.to_string()));
        }
        let copy = |rank: &Place| {
            let image = image.shard(rank.shard.rank());
            rank.arena.copy_layer(image, pages, layer)
        };
        let copied = self.ranks.iter().try_for_each(copy);
        if copied.is_err() {
            // No further layer will be tried, and other ranks may be copying from the image still.
            for rank in &self.ranks {
                rank.arena.break_off(pages.start);
            }
        }
        Ok(copied?)
    }
}

impl CudaCopier {
    /// Page-locks an adapter's words, so that its copies run beside everything else. Without it they are
    /// slower, no more.
    pub fn lock(&self, image: &mut AdapterImage) {
        for rank in &self.ranks {
            let device = rank.arena.memory.device();
            let image = image.shard_mut(rank.shard.rank());
            // SAFETY: the image keeps the lock and drops it before its words, which stay where they are.
            // Its copies are waited for before it is dropped.
            // Whole pages: a driver may take a page for locked of which a part is, and refuses copies that
            // begin in such a page and end in another.
            match unsafe { HostLock::new(device, image.pages()) } {
                Ok(lock) => image.keep(Box::new(lock)),
                Err(error) => tracing::debug!(%error, "an adapter is not page-locked"),
            }
        }
    }
}
