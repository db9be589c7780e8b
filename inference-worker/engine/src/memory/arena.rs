//! Which pages of the arena are free.
//!
//! Single pages are taken from the low end, runs from the high end, so that the two grow towards each
//! other and runs seldom meet holes.

use std::collections::BTreeSet;
use std::ops::Range;

/// The free pages.
#[derive(Debug)]
pub struct FreePages {
    free: BTreeSet<u32>,
}

impl FreePages {
    /// `total` free pages, numbered from 0.
    pub fn new(total: u32) -> Self {
        Self {
            free: (0..total).collect(),
        }
    }

    /// Number of free pages.
    pub fn len(&self) -> usize {
        self.free.len()
    }

    /// Whether no page is free.
    pub fn is_empty(&self) -> bool {
        self.free.is_empty()
    }

    /// Takes the lowest free page.
    pub fn take(&mut self) -> Option<u32> {
        self.free.pop_first()
    }

    /// Takes the highest run of `pages` free pages.
    pub fn take_run(&mut self, pages: u32) -> Option<Range<u32>> {
        let mut run = 0..0;
        for page in self.free.iter().rev() {
            run = if run.start == page + 1 && !run.is_empty() {
                *page..run.end
            } else {
                *page..page + 1
            };
            if run.len() as u32 >= pages {
                self.remove(run.clone());
                return Some(run);
            }
        }
        None
    }

    /// Takes what is free of a range.
    pub fn remove(&mut self, pages: Range<u32>) {
        for page in pages {
            self.free.remove(&page);
        }
    }

    /// Gives pages back.
    pub fn give(&mut self, pages: impl IntoIterator<Item = u32>) {
        self.free.extend(pages);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_should_come_from_below_and_runs_from_above() {
        let mut pages = FreePages::new(10);
        assert_eq!(pages.take(), Some(0));
        assert_eq!(pages.take_run(3), Some(7..10));
        pages.remove(4..5);
        assert_eq!(pages.take_run(3), Some(1..4));
        assert_eq!(pages.take_run(3), None);
        pages.give([4]);
        assert_eq!(pages.take_run(3), Some(4..7));
        assert!(pages.is_empty());
    }
}
