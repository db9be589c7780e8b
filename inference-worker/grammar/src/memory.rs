//! What all forms that are being kept to may hold in memory together.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

/// Bytes that each form counts as at least: what a small one holds.
pub(crate) const LEAST: usize = 512 << 10;

/// Bytes, and how many of them are held.
pub(crate) struct Memory {
    most: usize,
    held: AtomicUsize,
}

impl Memory {
    pub fn new(most: usize) -> Self {
        Memory {
            most,
            held: AtomicUsize::new(0),
        }
    }

    fn take(&self, bytes: usize, most: usize) -> bool {
        let more = |held: usize| held.checked_add(bytes).filter(|held| *held <= most);
        let taken = self
            .held
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.is_ok()
    }
}

/// One form's part.
pub(crate) struct Share {
    memory: Arc<Memory>,
    bytes: usize,
}

impl Share {
    /// A share for a new form; none when half of the memory is held. The other half is for those under way to
    /// grow in: an answer that has begun should not end for others that begin.
    pub fn new(memory: &Arc<Memory>) -> Option<Self> {
        memory.take(LEAST, memory.most / 2).then(|| Share {
            memory: Arc::clone(memory),
            bytes: LEAST,
        })
    }

    /// The form holds so much now; false when there is no more.
    pub fn grow(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let fits = more == 0 || self.memory.take(more, self.memory.most);
        if fits {
            self.bytes += more;
        }
        fits
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.memory.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_forms_should_leave_half_to_those_under_way() {
        let memory = Arc::new(Memory::new(4 * LEAST));
        let mut first = Share::new(&memory).unwrap();
        let second = Share::new(&memory).unwrap();
        assert!(Share::new(&memory).is_none());
        assert!(first.grow(3 * LEAST));
        assert!(first.grow(LEAST), "what is held is not given back");
        assert!(!first.grow(3 * LEAST + 1));
        drop(second);
        assert!(first.grow(4 * LEAST));
        drop(first);
        assert!(Share::new(&memory).is_some());
    }
}
