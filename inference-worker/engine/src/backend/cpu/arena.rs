//! The memory of the arena: pages of words that keys, values and adapters share.
//!
//! Who owns a page is decided on the engine's thread, by [`crate::memory`]. Steps read and write the
//! pages of their sequences and read those of their adapters; meanwhile the copy thread writes pages
//! that no step of the moment reads. Borrows of different owners therefore never overlap, which the
//! types here cannot show: the methods are unsafe, and each use says whose pages it touches.

use crate::adapters::image::AdapterImage;
use crate::aligned::Aligned;
use crate::error::StepError;
use std::cell::UnsafeCell;
use std::ops::Range;

/// Pages of words.
pub struct ArenaMemory {
    /// Keeps the memory; reached through `base` alone.
    _words: UnsafeCell<Aligned>,
    base: *mut u32,
    len: usize,
    page_words: usize,
}

// SAFETY: the memory moves with its owner; `base` points into a heap buffer that stays where it is.
unsafe impl Send for ArenaMemory {}
// SAFETY: shared access is through the unsafe methods alone, whose callers keep their ranges apart.
unsafe impl Sync for ArenaMemory {}

impl ArenaMemory {
    /// Zeroed memory for `pages` pages; what is never touched takes no room.
    pub fn new(pages: usize, page_words: usize) -> Self {
        let len = pages * page_words;
        let words = UnsafeCell::new(Aligned::huge(len));
        // SAFETY: nobody else has the cell yet.
        let base = unsafe { (*words.get()).as_mut_slice().as_mut_ptr() };
        Self {
            _words: words,
            base,
            len,
            page_words,
        }
    }

    /// Words of a page.
    pub fn page_words(&self) -> usize {
        self.page_words
    }

    /// First word of a page.
    pub fn page(&self, page: u32) -> usize {
        page as usize * self.page_words
    }

    /// Some words.
    ///
    /// # Safety
    /// Nobody writes them while the slice lives.
    ///
    /// # Panics
    /// When they lie outside the arena.
    pub unsafe fn words(&self, range: Range<usize>) -> &[u32] {
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: within the buffer, initialised, and not written by the caller's promise.
        unsafe { core::slice::from_raw_parts(self.base.add(range.start), range.len()) }
    }

    /// Some words as numbers.
    ///
    /// # Safety
    /// Nobody writes them while the slice lives.
    ///
    /// # Panics
    /// When they lie outside the arena.
    pub unsafe fn floats(&self, range: Range<usize>) -> &[f32] {
        // SAFETY: by the caller's promise; every word is an f32 of the same size and alignment.
        let words = unsafe { self.words(range) };
        // SAFETY: as above.
        unsafe { core::slice::from_raw_parts(words.as_ptr().cast(), words.len()) }
    }

    /// Some words, to be written.
    ///
    /// # Safety
    /// Nobody else reads or writes them while the slice lives.
    ///
    /// # Panics
    /// When they lie outside the arena.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn words_mut(&self, range: Range<usize>) -> &mut [u32] {
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: within the buffer, initialised, and the caller's alone by its promise.
        unsafe { core::slice::from_raw_parts_mut(self.base.add(range.start), range.len()) }
    }

    /// Some words as numbers, to be written.
    ///
    /// # Safety
    /// Nobody else reads or writes them while the slice lives.
    ///
    /// # Panics
    /// When they lie outside the arena.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn floats_mut(&self, range: Range<usize>) -> &mut [f32] {
        // SAFETY: by the caller's promise; every word is an f32 of the same size and alignment.
        let words = unsafe { self.words_mut(range) };
        // SAFETY: as above.
        unsafe { core::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), words.len()) }
    }
}

impl ArenaMemory {
    /// See [`crate::backend::Copier::copy_layer`].
    pub fn copy_layer(
        &self,
        image: &AdapterImage,
        pages: &Range<u32>,
        layer: usize,
    ) -> Result<(), StepError> {
        let range = image.table().layer_words(layer);
        let first = self.page(pages.start);
        if first + range.end > self.page(pages.end) {
            return Err(StepError::Backend("a slab too small".to_owned()));
        }
        // SAFETY: the slab is this adapter's, and no step reads a layer before it has arrived.
        let slab = unsafe { self.words_mut(first + range.start..first + range.end) };
        slab.copy_from_slice(&image.words()[range]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_owner_writes_should_be_read_at_its_place_only() {
        let arena = ArenaMemory::new(4, 6);
        // SAFETY: one thread.
        unsafe {
            arena.floats_mut(arena.page(2)..arena.page(3)).fill(1.5);
            assert_eq!(arena.floats(12..18), [1.5; 6]);
            assert_eq!(arena.words(6..12), [0; 6]);
            assert_eq!(arena.words(18..24), [0; 6]);
        }
    }
}
