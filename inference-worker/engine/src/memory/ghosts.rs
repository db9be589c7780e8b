//! The names of what gave way lately.
//!
//! Only names are kept, as in ARC (Megiddo and Modha, FAST 2003): whoever asks for one of them shows that
//! it gave way too early.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// Names of things that took so many pages, the oldest first, within a bound on the sum of pages.
#[derive(Debug)]
pub struct Ghosts<K> {
    most_pages: usize,
    pages: usize,
    next: u64,
    order: BTreeMap<u64, K>,
    known: HashMap<K, Ghost>,
}

#[derive(Debug)]
struct Ghost {
    number: u64,
    pages: usize,
    asked_again: bool,
}

impl<K: Copy + Eq + Hash> Ghosts<K> {
    /// None yet, and never of more than `most_pages` pages.
    pub fn new(most_pages: usize) -> Self {
        Self {
            most_pages,
            pages: 0,
            next: 0,
            order: BTreeMap::new(),
            known: HashMap::new(),
        }
    }

    /// Remembers what gave way, and whether it had been asked for again by then; the oldest are forgotten.
    pub fn add(&mut self, name: K, pages: usize, asked_again: bool) {
        self.take(&name);
        let number = self.next;
        self.next += 1;
        self.order.insert(number, name);
        let ghost = Ghost {
            number,
            pages,
            asked_again,
        };
        self.known.insert(name, ghost);
        self.pages += pages;
        while self.pages > self.most_pages {
            let Some((_, oldest)) = self.order.pop_first() else {
                return;
            };
            self.take(&oldest);
        }
    }

    /// Forgets a name that is there again: its pages, and whether it had been asked for again before.
    pub fn take(&mut self, name: &K) -> Option<(usize, bool)> {
        let ghost = self.known.remove(name)?;
        self.order.remove(&ghost.number);
        self.pages -= ghost.pages;
        Some((ghost.pages, ghost.asked_again))
    }

    #[cfg(test)]
    pub fn names(&self) -> impl Iterator<Item = &K> {
        assert_eq!(self.order.len(), self.known.len());
        let pages: usize = self.known.values().map(|g| g.pages).sum();
        assert!(pages == self.pages && pages <= self.most_pages);
        self.known.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_should_be_forgotten_beyond_the_bound() {
        let mut ghosts = Ghosts::new(4);
        for name in 0..3 {
            ghosts.add(name, 2, name == 2);
        }
        assert_eq!(ghosts.take(&0), None);
        assert_eq!(ghosts.take(&2), Some((2, true)));
        assert_eq!(ghosts.take(&2), None, "taken once");
        // What gave way again is the youngest, and counts once.
        ghosts.add(3, 1, false);
        ghosts.add(1, 2, true);
        ghosts.add(4, 2, false);
        let mut left: Vec<_> = ghosts.names().copied().collect();
        left.sort_unstable();
        assert_eq!(left, [1, 4]);
        ghosts.add(5, 9, false);
        assert_eq!(ghosts.names().count(), 0, "larger than all that is kept");
    }
}
