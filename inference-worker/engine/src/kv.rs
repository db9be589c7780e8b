//! Paged key-value memory: which page belongs to which sequence, counted exactly.
//!
//! The memory itself belongs to the backend; here are only page numbers. A sequence's [`BlockTable`]
//! lists its pages in order of position (the paged attention of vLLM, Kwon et al. 2023).

/// Tokens in one page.
pub const PAGE_TOKENS: usize = 16;

/// Pages that hold `tokens` tokens.
pub fn pages_for(tokens: usize) -> usize {
    tokens.div_ceil(PAGE_TOKENS)
}

/// The pages of one sequence. Pages return to the pool only through [`PagePool::release`].
#[derive(Debug, Default)]
pub struct BlockTable {
    pages: Vec<u32>,
}

impl BlockTable {
    /// Page numbers in order of position.
    pub fn pages(&self) -> &[u32] {
        &self.pages
    }

    /// Tokens that fit.
    pub fn capacity(&self) -> usize {
        self.pages.len() * PAGE_TOKENS
    }
}

/// The free pages.
#[derive(Debug)]
pub struct PagePool {
    free: Vec<u32>,
    total: usize,
}

impl PagePool {
    /// A pool of `total` free pages, numbered from 0.
    pub fn new(total: u32) -> Self {
        Self {
            free: (0..total).rev().collect(),
            total: total as usize,
        }
    }

    /// All pages.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Pages that no table holds.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Pages that tables hold.
    pub fn used(&self) -> usize {
        self.total - self.free.len()
    }

    /// Grows a table to hold `tokens` tokens. Takes all pages needed or, answering `false`, none.
    #[must_use]
    pub fn grow(&mut self, table: &mut BlockTable, tokens: usize) -> bool {
        let missing = pages_for(tokens).saturating_sub(table.pages.len());
        let Some(kept) = self.free.len().checked_sub(missing) else {
            return false;
        };
        table.pages.extend(self.free.drain(kept..).rev());
        true
    }

    /// Takes back all pages of a table.
    pub fn release(&mut self, table: &mut BlockTable) {
        self.free.extend(table.pages.drain(..).rev());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pages_should_be_counted_exactly_over_any_history(
            total in 0u32..40,
            steps in prop::collection::vec((0usize..6, 0usize..200, any::<bool>()), 0..80),
        ) {
            let mut pool = PagePool::new(total);
            let mut tables: Vec<BlockTable> = (0..6).map(|_| BlockTable::default()).collect();
            for (which, tokens, grow) in steps {
                let held = tables[which].pages().len();
                let free = pool.free();
                if grow {
                    let missing = pages_for(tokens).saturating_sub(held);
                    let grown = pool.grow(&mut tables[which], tokens);
                    prop_assert_eq!(grown, missing <= free);
                    let taken = if grown { missing } else { 0 };
                    prop_assert_eq!(tables[which].pages().len(), held + taken);
                    prop_assert_eq!(pool.free(), free - taken);
                    prop_assert!(!grown || tables[which].capacity() >= tokens);
                } else {
                    pool.release(&mut tables[which]);
                    prop_assert_eq!(pool.free(), free + held);
                    prop_assert!(tables[which].pages().is_empty());
                }
                let mut all: Vec<u32> = pool.free.clone();
                all.extend(tables.iter().flat_map(|t| t.pages()));
                all.sort_unstable();
                prop_assert_eq!(all, (0..total).collect::<Vec<_>>());
                prop_assert_eq!(pool.used() + pool.free(), pool.total());
            }
        }
    }
}
