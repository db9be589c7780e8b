//! An index opened for search.

use crate::{
    error::{corrupt, io, SpanError},
    format::{self, u32_at, Header, RowKey, VersionRef},
    listing::Minima,
};
use memmap2::Mmap;
use openledger_primitives::{hash::blake2_256, Digest};
use std::{
    fs::{self, File},
    path::Path,
};

/// An index whose files are mapped and whose digests have been checked.
#[derive(Debug)]
pub struct Index {
    header: Header,
    text: Mmap,
    suffixes: Mmap,
    previous: Mmap,
    unigrams: Mmap,
    rows: Mmap,
    minima: Minima,
}

impl Index {
    /// Opens the index in `folder`, reading every file once to check it.
    ///
    /// # Errors
    /// [`SpanError::Corrupt`] for a file that is missing, truncated, changed or out of range;
    /// [`SpanError::Io`].
    pub fn open(folder: &Path) -> Result<Self, SpanError> {
        let path = folder.join(format::HEADER);
        let header = fs::read(&path).map_err(io("read", &path))?;
        Self::of_files(&header, |name| {
            let path = folder.join(name);
            File::open(&path).map_err(io("open", &path))
        })
    }

    /// The index whose `index.json` has these bytes and whose other files `file` opens by name, wherever
    /// they are; every one is read once to check it. They are mapped, so they must not change or be cut
    /// off while the index lives; to be removed does them no harm.
    ///
    /// # Errors
    /// As [`Index::open`], and what `file` says.
    pub fn of_files<E: From<SpanError>>(
        header: &[u8],
        mut file: impl FnMut(&'static str) -> Result<File, E>,
    ) -> Result<Self, E> {
        let header = Header::parse(header)?;
        let mut map = |name| map(&file(name)?, name, &header).map_err(E::from);
        let index = Index {
            text: map(format::TEXT)?,
            suffixes: map(format::SUFFIXES)?,
            previous: map(format::PREVIOUS)?,
            unigrams: map(format::UNIGRAMS)?,
            rows: map(format::ROWS)?,
            minima: Minima::new(std::iter::empty()),
            header: header.clone(),
        };
        index.check()?;
        let positions = index.positions();
        Ok(Index {
            minima: Minima::new((0..positions).map(|place| index.previous(place))),
            ..index
        })
    }

    /// Bytes that the index takes: its mapped files, and what is held of them in memory beside.
    pub fn memory(&self) -> u64 {
        let files = self
            .header
            .sizes()
            .iter()
            .map(|(_, bytes)| bytes)
            .sum::<u64>();
        files + self.minima.bytes()
    }

    /// The versions that the index is over.
    pub fn versions(&self) -> &[VersionRef] {
        &self.header.versions
    }

    /// Digest of the tokenizer file whose ids the index holds.
    pub fn tokenizer(&self) -> &Digest {
        &self.header.tokenizer
    }

    /// Token ids of the tokenizer.
    pub fn vocabulary(&self) -> u32 {
        self.header.vocabulary
    }

    /// Tokens and separators.
    pub fn positions(&self) -> usize {
        self.header.positions as usize
    }

    /// Information of a token, millibits; 0 for an id outside the vocabulary.
    pub fn information(&self, id: u32) -> u32 {
        u32_at(&self.unigrams, id as usize).unwrap_or(0)
    }

    /// Keys of the rows that have text, in order.
    pub fn rows(&self) -> impl Iterator<Item = RowKey> + '_ {
        (0..self.header.rows as usize).map_while(|index| self.row(index).map(|(_, key)| key))
    }

    /// The row at a position of the text, and the position where it begins.
    pub(crate) fn row_at(&self, position: u32) -> Option<(u32, RowKey)> {
        let (mut from, mut to) = (0usize, self.header.rows as usize);
        while from < to {
            let middle = from + (to - from) / 2;
            if self.row(middle)?.0 <= position {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        self.row(from.checked_sub(1)?)
    }

    /// The token at a position; `None` at the end of the text.
    pub(crate) fn token(&self, position: usize) -> Option<u32> {
        if self.header.width() == 2 {
            let from = position.checked_mul(2)?;
            let id = self.text.get(from..from.checked_add(2)?)?;
            Some(u32::from(u16::from_le_bytes(id.try_into().ok()?)))
        } else {
            u32_at(&self.text, position)
        }
    }

    /// Position of the suffix at a place of the suffix array.
    pub(crate) fn suffix(&self, place: usize) -> u32 {
        u32_at(&self.suffixes, place).unwrap_or(u32::MAX)
    }

    /// Calls `found` with the first place in `[from, to)` of each contribution.
    pub(crate) fn list_owners(&self, from: usize, to: usize, found: &mut impl FnMut(usize)) {
        self.minima
            .list(&|place| self.previous(place), from, to, found);
    }

    fn previous(&self, place: usize) -> u32 {
        u32_at(&self.previous, place).unwrap_or(u32::MAX)
    }

    fn row(&self, index: usize) -> Option<(u32, RowKey)> {
        let from = index.checked_mul(format::ROW_BYTES)?;
        let bytes = self.rows.get(from..from.checked_add(format::ROW_BYTES)?)?;
        let key = RowKey {
            row: u32_at(bytes, 1)?,
            datanet: u32_at(bytes, 2)?,
            version: u32_at(bytes, 3)?,
            contribution: u64::from_le_bytes(bytes.get(16..24)?.try_into().ok()?),
        };
        Some((u32_at(bytes, 0)?, key))
    }

    /// What a digest does not say: that every value is in range and rows are in order.
    fn check(&self) -> Result<(), SpanError> {
        let positions = self.header.positions;
        for place in 0..self.positions() {
            if self
                .token(place)
                .is_none_or(|id| id > self.header.vocabulary)
            {
                return Err(corrupt(format::TEXT, "a token outside the vocabulary"));
            }
            if self.suffix(place) >= positions {
                return Err(corrupt(format::SUFFIXES, "a suffix outside the text"));
            }
            if self.previous(place) as usize > place {
                return Err(corrupt(format::PREVIOUS, "a place that comes later"));
            }
        }
        let mut last: Option<(u32, RowKey)> = None;
        for index in 0..self.header.rows as usize {
            let row = self.row(index);
            let ascends = match (&last, &row) {
                (None, Some((start, _))) => *start == 0,
                (Some(last), Some(row)) => last.0 < row.0 && last.1 < row.1,
                _ => false,
            };
            if !ascends || row.is_some_and(|(start, _)| start >= positions) {
                return Err(corrupt(format::ROWS, "rows out of order"));
            }
            last = row;
        }
        Ok(())
    }
}

fn map(file: &File, name: &'static str, header: &Header) -> Result<Mmap, SpanError> {
    // SAFETY: nobody writes to the files of an index: they are made once and read-only in the store.
    // A file that is cut off while mapped ends the process with SIGBUS, as any mapped file would.
    let map = unsafe { Mmap::map(file) }.map_err(io("map", name))?;
    let listed = header.files.get(name);
    if listed.is_none_or(|listed| listed.bytes != map.len() as u64) {
        return Err(corrupt(name, format!("{} bytes", map.len())));
    }
    if listed.is_none_or(|listed| listed.digest != blake2_256(&map)) {
        return Err(corrupt(name, "its bytes do not hash to its digest"));
    }
    Ok(map)
}
