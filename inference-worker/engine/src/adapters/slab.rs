//! An adapter on the device: its slab of the arena's pages, and how much of it has arrived.

use super::table::AdapterTable;
use super::AdapterId;
use crate::error::StepError;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// An adapter on the device: the pages of its slab, and how many layers have arrived.
pub struct DeviceAdapter {
    /// What is where within the slab.
    pub table: Arc<AdapterTable>,
    /// The slab's pages.
    pub pages: Range<u32>,
    arrived: Mutex<Arrived>,
    changed: Condvar,
}

#[derive(Default)]
struct Arrived {
    layers: usize,
    failure: Option<String>,
}

impl DeviceAdapter {
    /// A slab into which nothing was copied yet.
    pub fn new(table: Arc<AdapterTable>, pages: Range<u32>) -> Self {
        Self {
            table,
            pages,
            arrived: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// The digest of configuration and weights.
    pub fn id(&self) -> AdapterId {
        self.table.id()
    }

    /// Layers that have arrived, front to back.
    pub fn layers_arrived(&self) -> usize {
        self.lock().layers
    }

    /// Whether a step may begin with it: half of the layers are there. The rest arrive while the first
    /// half is computed; if not, the step waits.
    pub fn may_begin(&self) -> bool {
        2 * self.layers_arrived() >= self.table.layers()
    }

    /// Records that the first `layers` layers are there.
    pub fn arrive(&self, layers: usize) {
        self.lock().layers = layers;
        self.changed.notify_all();
    }

    /// Records that the copy broke off.
    pub fn fail(&self, reason: String) {
        self.lock().failure = Some(reason);
        self.changed.notify_all();
    }

    /// Why the copy broke off, if it did.
    pub fn failure(&self) -> Option<StepError> {
        let failure = self.lock().failure.clone();
        failure.map(StepError::Adapter)
    }

    /// Waits until a layer has arrived.
    ///
    /// # Errors
    /// When the copy broke off.
    pub fn wait(&self, layer: usize) -> Result<(), StepError> {
        let mut arrived = self.lock();
        loop {
            if let Some(reason) = &arrived.failure {
                return Err(StepError::Adapter(reason.clone()));
            }
            if arrived.layers > layer {
                return Ok(());
            }
            arrived = self
                .changed
                .wait(arrived)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The state is whole whatever panicked: each change is one assignment.
    fn lock(&self) -> std::sync::MutexGuard<'_, Arrived> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
