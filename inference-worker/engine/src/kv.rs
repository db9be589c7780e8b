//! Paged keys and values: which pages a sequence has.
//!
//! The memory itself belongs to the backend; here are only page numbers. A sequence's [`BlockTable`]
//! lists its pages in order of position (the paged attention of vLLM, Kwon et al. 2023).

/// Tokens in one page.
pub const PAGE_TOKENS: usize = 16;

/// Pages that hold `tokens` tokens.
pub fn pages_for(tokens: usize) -> usize {
    tokens.div_ceil(PAGE_TOKENS)
}

/// The pages of one sequence. They return to the arena only through
/// [`Memory::release`](crate::memory::Memory::release).
#[derive(Debug, Default)]
pub struct BlockTable {
    pages: Vec<u32>,
}

impl BlockTable {
    /// Page numbers in order of position.
    pub fn pages(&self) -> &[u32] {
        &self.pages
    }

    /// Number of pages.
    pub fn len(&self) -> usize {
        self.pages.len()
    }

    /// Whether it has no page.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// Adds a page at the end.
    pub(crate) fn push(&mut self, page: u32) {
        self.pages.push(page);
    }

    /// Takes all pages out, the last first.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = u32> {
        std::mem::take(&mut self.pages).into_iter().rev()
    }

    /// Lists `to` where `from` was listed.
    pub(crate) fn replace(&mut self, from: u32, to: u32) {
        for page in &mut self.pages {
            if *page == from {
                *page = to;
            }
        }
    }
}
