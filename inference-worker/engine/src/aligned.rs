//! Memory for weights: aligned to cache lines, in huge pages where it pays.

/// Bytes of a cache line.
const CACHE_LINE: usize = 64;

/// Words of a cache line.
pub const ALIGNED_WORDS: usize = CACHE_LINE / size_of::<u32>();

/// At least the bytes of a page of any processor that GPUs are put beside.
const PAGE: usize = 64 << 10;

/// Words of a page.
const PAGE_WORDS: usize = PAGE / size_of::<u32>();

/// Bytes of a huge page of the processors that this is tuned for (x86-64, and 64-bit Arm with pages of
/// 4 KiB); with others the advice is taken for fewer bytes or none.
const HUGE_PAGE: usize = 2 << 20;

/// Words of memory that start on a cache line, zero at first. Untouched pages of the operating system
/// cost nothing.
pub struct Aligned {
    buffer: Vec<u32>,
    start: usize,
    len: usize,
}

impl Aligned {
    /// `len` words.
    pub fn new(len: usize) -> Self {
        Self::at(len, CACHE_LINE)
    }

    /// `len` words, in huge pages as far as they fill them: for what each step reads from end to end,
    /// where every fourth kilobyte would ask for another translation of its address otherwise.
    pub fn huge(len: usize) -> Self {
        if len * size_of::<u32>() < HUGE_PAGE {
            return Self::new(len);
        }
        let mut memory = Self::at(len, HUGE_PAGE);
        advise_huge(memory.as_mut_slice());
        memory
    }

    /// `len` words in pages that hold nothing else, so that a device may lock them.
    pub fn pages(len: usize) -> Self {
        let mut memory = Self::at(len.next_multiple_of(PAGE_WORDS), PAGE);
        memory.len = len;
        memory
    }

    /// The whole pages of [`Aligned::pages`]: the words, and zeros behind them.
    pub fn as_pages(&self) -> &[u32] {
        let end = self.start + self.len.next_multiple_of(PAGE_WORDS);
        &self.buffer[self.start..end.min(self.buffer.len())]
    }

    fn at(len: usize, alignment: usize) -> Self {
        let spare = alignment / size_of::<u32>();
        let buffer = vec![0u32; len + spare];
        let start = buffer.as_ptr().align_offset(alignment).min(spare);
        Self { buffer, start, len }
    }

    /// The words.
    pub fn as_slice(&self) -> &[u32] {
        &self.buffer[self.start..self.start + self.len]
    }

    /// The words, to be written.
    pub fn as_mut_slice(&mut self) -> &mut [u32] {
        &mut self.buffer[self.start..self.start + self.len]
    }
}

/// Asks for huge pages in the place of those that `words`, which start on one, fill whole: a part of one
/// would take the memory of all of it.
#[cfg(target_os = "linux")]
fn advise_huge(words: &mut [u32]) {
    let bytes = size_of_val(words) / HUGE_PAGE * HUGE_PAGE;
    // SAFETY: the advice changes neither contents nor access.
    let advised = unsafe {
        rustix::mm::madvise(
            words.as_mut_ptr().cast(),
            bytes,
            rustix::mm::Advice::LinuxHugepage,
        )
    };
    if let Err(error) = advised {
        tracing::debug!(%error, "the kernel gives no huge pages");
    }
}

#[cfg(not(target_os = "linux"))]
fn advise_huge(_: &mut [u32]) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_should_be_whole_and_hold_nothing_else() {
        for len in [1, PAGE_WORDS, PAGE_WORDS + 1] {
            let mut memory = Aligned::pages(len);
            memory.as_mut_slice()[len - 1] = 7;
            let pages = memory.as_pages();
            assert_eq!(memory.as_slice().len(), len);
            assert_eq!(pages.as_ptr(), memory.as_slice().as_ptr());
            assert_eq!(pages.as_ptr() as usize % PAGE, 0);
            assert_eq!(pages.len(), len.div_ceil(PAGE_WORDS) * PAGE_WORDS);
            assert_eq!(pages[len - 1], 7);
        }
        assert!(Aligned::pages(0).as_pages().is_empty());
    }

    #[test]
    fn words_should_start_on_a_cache_line_and_large_ones_on_a_huge_page() {
        let large = HUGE_PAGE / size_of::<u32>() + 5;
        for (mut memory, len, alignment) in [
            (Aligned::new(3), 3, CACHE_LINE),
            (Aligned::new(large), large, CACHE_LINE),
            (Aligned::huge(3), 3, CACHE_LINE),
            (Aligned::huge(large), large, HUGE_PAGE),
        ] {
            assert_eq!(memory.as_slice(), vec![0; len]);
            assert_eq!(memory.as_slice().as_ptr() as usize % alignment, 0);
            memory.as_mut_slice()[len - 1] = 7;
            assert_eq!(memory.as_slice()[len - 1], 7);
        }
    }
}
