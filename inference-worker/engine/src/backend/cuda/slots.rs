//! Where the matrices of the adapters of a step are: `PtrTable[slot][layer][site]`.
//!
//! The table has a slot for every row of a step, so that every step's adapters fit. An adapter keeps its
//! slot from step to step until another needs it; what is in a slot follows from the adapter and its
//! place in the arena alone.

use super::calls::LoraEntry;
use super::device::{Device, DeviceError, Memory, Stream};
use super::launch::Address;
use crate::adapters::slab::DeviceAdapter;
use crate::adapters::table::AdapterTable;
use crate::adapters::AdapterId;
use openledger_model::Site;
use std::collections::HashMap;
use std::sync::Arc;

/// The table on the device, and what is in it.
pub struct Slots {
    table: Memory,
    entries: usize,
    /// Whose parts of the adapters they are.
    rank: usize,
    /// Who is in each slot, and the last step that used it.
    slots: Vec<Option<(Resident, u64)>>,
    places: HashMap<Resident, u32>,
    step: u64,
}

/// An adapter at a place of the arena.
type Resident = (AdapterId, u32);

impl Slots {
    /// `slots` empty slots for a rank's part of a model of `layers` layers.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub fn new(
        device: &Arc<dyn Device>,
        slots: usize,
        layers: usize,
        rank: usize,
    ) -> Result<Self, DeviceError> {
        let entries = layers * Site::ALL.len();
        Ok(Self {
            table: Memory::new(device, slots * entries * size_of::<LoraEntry>())?,
            entries,
            rank,
            slots: vec![None; slots],
            places: HashMap::new(),
            step: 0,
        })
    }

    /// The first entry of slot 0.
    pub fn address(&self) -> Address {
        self.table.address()
    }

    /// Begins a step: from now on slots of earlier steps may be taken.
    pub fn begin_step(&mut self) {
        self.step += 1;
    }

    /// The slot of an adapter whose slab begins at `slab`. What is not there yet is written, after what is queued
    /// on the compute stream.
    ///
    /// # Errors
    /// When the step has more adapters than there are slots, or the device fails.
    pub fn slot(&mut self, adapter: &DeviceAdapter, slab: Address) -> Result<u32, DeviceError> {
        let resident = (adapter.id(), adapter.pages.start);
        if let Some(slot) = self.places.get(&resident).copied() {
            if let Some(Some((_, used))) = self.slots.get_mut(slot as usize) {
                *used = self.step;
            }
            return Ok(slot);
        }
        // An empty slot, or the one that was not used for longest.
        let oldest = self
            .slots
            .iter()
            .enumerate()
            .min_by_key(|(_, used)| used.map_or(0, |(_, step)| step))
            .filter(|(_, used)| used.is_none_or(|(_, step)| step < self.step));
        let slot = match oldest {
            Some((slot, _)) => slot,
            None => return Err(DeviceError::Unsupported("slot for one more adapter")),
        };
        let entries = entries(adapter.table.shard(self.rank), slab, self.entries);
        let first = slot * self.entries * size_of::<LoraEntry>();
        // Waited for: the entries may lie in a page of the host that is locked for something beside them, and
        // a copy from there goes on after this returns.
        self.table.write(Stream::Compute, first, &entries)?;
        if let Some((before, _)) = self.slots[slot].replace((resident, self.step)) {
            self.places.remove(&before);
        }
        self.places.insert(resident, slot as u32);
        Ok(slot as u32)
    }
}

/// `[layers][site]`, of which there are `count`.
fn entries(table: &AdapterTable, slab: Address, count: usize) -> Vec<LoraEntry> {
    let at = |word: usize| Address(slab.0 + (word * size_of::<u32>()) as u64);
    let places =
        (0..table.layers()).flat_map(|layer| Site::ALL.map(|site| table.site(layer, site)));
    let mut entries: Vec<LoraEntry> = places
        .map(|place| {
            place.map_or_else(LoraEntry::default, |place| LoraEntry {
                a: at(place.a.first),
                b: at(place.b.first),
                gain: place.gain.map_or(Address::NULL, at),
                rank: place.a.shape.outputs as u32,
                scale: place.scale,
            })
        })
        .collect();
    entries.resize(count, LoraEntry::default());
    entries
}
