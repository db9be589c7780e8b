//! What has been found of files, so that it is found once: files never change under their digest.
//!
//! Checking an adapter reads it whole, and checking an index reads all rows and builds it again. What came
//! of it is noted in the worker's own data folder, under a digest of all that it depends on, the version of
//! this program among it. A note that is damaged or missing means that the check is made again.

use anyhow::{Context, Result};
use openledger_chain::AccountId;
use openledger_primitives::{hash::blake2_256, ContributionId, Digest};
use parity_scale_codec::{Decode, Encode};
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

/// An adapter that can be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct CheckedAdapter {
    /// Digest of configuration and weights together: the engine's name for it.
    pub(super) id: Digest,
    pub(super) rank: u32,
    /// Objects of the store.
    pub(super) config: Digest,
    pub(super) weights: Digest,
}

/// An index that is the one over the rows of its versions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(super) struct CheckedIndex {
    /// The contributions of its versions, sorted.
    pub(super) contributions: Vec<CheckedContribution>,
}

/// A contribution whose rows are those that it was sealed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct CheckedContribution {
    pub(super) contribution: ContributionId,
    pub(super) owner: [u8; 32],
    /// The rows in the store.
    pub(super) locator: Digest,
}

impl CheckedIndex {
    /// A contribution's owner and rows.
    pub(super) fn find(&self, contribution: ContributionId) -> Option<(AccountId, Digest)> {
        let found = self
            .contributions
            .binary_search_by_key(&contribution, |one| one.contribution);
        let one = self.contributions.get(found.ok()?)?;
        Some((AccountId(one.owner), one.locator))
    }
}

/// The notes of one worker.
#[derive(Clone, Debug)]
pub(super) struct Notes(PathBuf);

/// What a note is named after.
pub(super) fn key(of: &str, depends_on: &impl Encode) -> Digest {
    let program = env!("CARGO_PKG_VERSION");
    blake2_256(&(of, program, depends_on).encode())
}

impl Notes {
    /// The notes in a folder, which is made when it does not exist.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn open(folder: PathBuf) -> Result<Self> {
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        Ok(Notes(folder))
    }

    /// What was noted under a key; none when nothing was, or nothing that can be read.
    pub(super) fn read<T: Decode>(&self, key: &Digest) -> Option<T> {
        let bytes = fs::read(self.path(key)).ok()?;
        let (digest, noted) = bytes.split_at_checked(32)?;
        (digest == blake2_256(noted)).then_some(())?;
        T::decode(&mut &*noted).ok()
    }

    /// Notes something under a key.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn write<T: Encode>(&self, key: &Digest, noted: &T) -> Result<()> {
        let noted = noted.encode();
        let write = || -> Result<()> {
            let mut draft = tempfile::NamedTempFile::new_in(&self.0)?;
            draft.write_all(&blake2_256(&noted))?;
            draft.write_all(&noted)?;
            draft.persist(self.path(key))?;
            Ok(())
        };
        write().with_context(|| format!("write a note in {}", self.folder().display()))
    }

    fn folder(&self) -> &Path {
        &self.0
    }

    fn path(&self, key: &Digest) -> PathBuf {
        self.0.join(hex::encode(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_should_be_read_as_written_and_a_damaged_one_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let notes = Notes::open(folder.path().join("notes")).unwrap();
        let key = key("index", &(1u32, [2u8; 32]));
        assert_eq!(notes.read::<CheckedIndex>(&key), None);
        let contribution = |contribution, owner| CheckedContribution {
            contribution,
            owner: [owner; 32],
            locator: [9; 32],
        };
        let index = CheckedIndex {
            contributions: vec![contribution(3, 1), contribution(8, 2)],
        };
        notes.write(&key, &index).unwrap();
        let read: CheckedIndex = notes.read(&key).unwrap();
        assert_eq!(read, index);
        assert_eq!(read.find(8), Some((AccountId([2; 32]), [9; 32])));
        assert_eq!(read.find(4), None);
        let path = notes.path(&key);
        let good = fs::read(&path).unwrap();
        for damage in [&good[..40], &good[..10], &[]] {
            fs::write(&path, damage).unwrap();
            assert_eq!(notes.read::<CheckedIndex>(&key), None);
        }
        let mut flipped = good;
        flipped[50] ^= 1;
        fs::write(&path, flipped).unwrap();
        assert_eq!(notes.read::<CheckedIndex>(&key), None);
    }
}
