//! Building an index.

use crate::{
    bits,
    error::{io, SpanError},
    format::{self, FileDigest, Header, RowKey, VersionRef},
};
use libsais::SuffixArrayConstruction;
use openledger_primitives::{hash::blake2_256, ContributionId, Digest};
use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io::Write,
    path::Path,
};

/// Most tokens and separators of an index: positions are 32-bit and the construction is signed.
pub const MAX_TOKENS: u32 = (1 << 31) - 2;

/// Collects rows, then writes an index. Equal input gives equal bytes.
#[derive(Clone, Debug)]
pub struct Builder {
    vocabulary: u32,
    tokenizer: Digest,
    versions: Vec<VersionRef>,
    text: Vec<u32>,
    rows: Vec<(u32, RowKey)>,
}

impl Builder {
    /// An empty index over `vocabulary` ids of the tokenizer whose file has the digest `tokenizer`,
    /// bound to `versions`.
    ///
    /// # Errors
    /// [`SpanError::Vocabulary`].
    pub fn new(
        vocabulary: u32,
        tokenizer: Digest,
        mut versions: Vec<VersionRef>,
    ) -> Result<Self, SpanError> {
        if vocabulary == 0 || vocabulary > (1 << 31) - 2 {
            return Err(SpanError::Vocabulary(vocabulary));
        }
        versions.sort_by_key(|version| (version.datanet, version.version));
        Ok(Builder {
            vocabulary,
            tokenizer,
            versions,
            text: Vec::new(),
            rows: Vec::new(),
        })
    }

    /// Adds a row with the token ids of each of its texts. Rows come in the order of their keys.
    ///
    /// # Errors
    /// [`SpanError::OutOfOrder`], [`SpanError::UnknownVersion`], [`SpanError::UnknownToken`],
    /// [`SpanError::TooManyTokens`]; nothing is added then.
    pub fn add<S: AsRef<[u32]>>(
        &mut self,
        key: RowKey,
        texts: impl IntoIterator<Item = S>,
    ) -> Result<(), SpanError> {
        if self.rows.last().is_some_and(|(_, last)| *last >= key) {
            return Err(SpanError::OutOfOrder);
        }
        let known =
            |version: &VersionRef| (version.datanet, version.version) == (key.datanet, key.version);
        if !self.versions.iter().any(known) {
            return Err(SpanError::UnknownVersion {
                datanet: key.datanet,
                version: key.version,
            });
        }
        let start = self.text.len();
        let result = texts
            .into_iter()
            .try_for_each(|text| self.append(text.as_ref()));
        if result.is_err() {
            self.text.truncate(start);
        } else if self.text.len() > start {
            self.rows.push((start as u32, key));
        }
        result
    }

    fn append(&mut self, text: &[u32]) -> Result<(), SpanError> {
        if let Some(id) = text.iter().find(|id| **id >= self.vocabulary) {
            return Err(SpanError::UnknownToken {
                id: *id,
                vocabulary: self.vocabulary,
            });
        }
        if self.text.len() + text.len() + 1 > MAX_TOKENS as usize {
            return Err(SpanError::TooManyTokens);
        }
        if !text.is_empty() {
            self.text.extend_from_slice(text);
            self.text.push(self.vocabulary);
        }
        Ok(())
    }

    /// Tokens and separators so far.
    pub fn positions(&self) -> usize {
        self.text.len()
    }

    /// Writes the index to `folder`, which must not exist or be empty. `index.json` is written last:
    /// a folder without it is no index.
    ///
    /// # Errors
    /// [`SpanError::Empty`], [`SpanError::Suffixes`], [`SpanError::Io`].
    pub fn build(&self, folder: &Path) -> Result<(), SpanError> {
        if self.text.is_empty() {
            return Err(SpanError::Empty);
        }
        fs::create_dir_all(folder).map_err(io("create", folder))?;
        let occupied = fs::read_dir(folder)
            .map_err(io("list", folder))?
            .next()
            .is_some();
        if occupied {
            let error = std::io::Error::from(std::io::ErrorKind::DirectoryNotEmpty);
            return Err(io("write an index to", folder)(error));
        }
        let suffixes = self.suffixes()?;
        let mut files = BTreeMap::new();
        let mut write = |name: &str, bytes: &[u8]| -> Result<(), SpanError> {
            let path = folder.join(name);
            let mut file = File::create_new(&path).map_err(io("create", &path))?;
            file.write_all(bytes)
                .and_then(|()| file.sync_all())
                .map_err(io("write", &path))?;
            let digest = FileDigest {
                digest: blake2_256(bytes),
                bytes: bytes.len() as u64,
            };
            files.insert(name.to_owned(), digest);
            Ok(())
        };
        write(format::TEXT, &self.text_bytes())?;
        write(format::SUFFIXES, &words(suffixes.iter().copied()))?;
        write(format::PREVIOUS, &words(self.previous(&suffixes)))?;
        write(format::UNIGRAMS, &words(self.unigrams()))?;
        write(format::ROWS, &self.row_bytes())?;
        let header = Header {
            format: format::FORMAT,
            vocabulary: self.vocabulary,
            tokenizer: self.tokenizer,
            versions: self.versions.clone(),
            positions: self.text.len() as u32,
            rows: self.rows.len() as u32,
            files,
        };
        let path = folder.join(format::HEADER);
        let json =
            serde_json::to_vec_pretty(&header).map_err(|error| io("write", &path)(error.into()))?;
        File::create_new(&path)
            .and_then(|mut file| file.write_all(&json).and_then(|()| file.sync_all()))
            .map_err(io("write", &path))
    }

    fn suffixes(&self) -> Result<Vec<u32>, SpanError> {
        let failed = |error| SpanError::Suffixes(format!("{error:?}"));
        let signed: Vec<i32> = if format::width(self.vocabulary) == 2 {
            let text: Vec<u16> = self.text.iter().map(|id| *id as u16).collect();
            SuffixArrayConstruction::for_text(&text)
                .in_owned_buffer32()
                .single_threaded()
                .run()
                .map_err(failed)?
                .into_vec()
        } else {
            let mut dense = dense(&self.text);
            SuffixArrayConstruction::for_text_mut(&mut dense)
                .in_owned_buffer32()
                .single_threaded()
                .run()
                .map_err(failed)?
                .into_vec()
        };
        Ok(signed.into_iter().map(|at| at as u32).collect())
    }

    fn previous<'a>(&'a self, suffixes: &'a [u32]) -> impl Iterator<Item = u32> + 'a {
        let mut last: HashMap<ContributionId, u32> = HashMap::new();
        (1u32..).zip(suffixes).map(move |(place, position)| {
            let row = self.rows.partition_point(|(start, _)| start <= position);
            let owner = row.checked_sub(1).and_then(|row| self.rows.get(row));
            let owner = owner.map_or(ContributionId::MAX, |(_, key)| key.contribution);
            last.insert(owner, place).unwrap_or(0)
        })
    }

    fn unigrams(&self) -> Vec<u32> {
        let mut counts = vec![0u64; self.vocabulary as usize];
        for id in &self.text {
            if let Some(count) = counts.get_mut(*id as usize) {
                *count += 1;
            }
        }
        bits::table(&counts)
    }

    fn text_bytes(&self) -> Vec<u8> {
        if format::width(self.vocabulary) == 2 {
            self.text
                .iter()
                .flat_map(|id| (*id as u16).to_le_bytes())
                .collect()
        } else {
            words(self.text.iter().copied())
        }
    }

    fn row_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.rows.len() * format::ROW_BYTES);
        for (start, key) in &self.rows {
            for word in [*start, key.row, key.datanet, key.version] {
                bytes.extend_from_slice(&word.to_le_bytes());
            }
            bytes.extend_from_slice(&key.contribution.to_le_bytes());
        }
        bytes
    }
}

fn words(values: impl IntoIterator<Item = u32>) -> Vec<u8> {
    values.into_iter().flat_map(u32::to_le_bytes).collect()
}

/// The text over the ids that occur, in the same order: the construction's memory grows with the
/// largest id.
fn dense(text: &[u32]) -> Vec<i32> {
    let mut ids: Vec<u32> = text.to_vec();
    ids.sort_unstable();
    ids.dedup();
    text.iter()
        .map(|id| ids.binary_search(id).unwrap_or_default() as i32)
        .collect()
}
