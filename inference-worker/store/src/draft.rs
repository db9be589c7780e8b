//! Drafts: objects that are being written, in `partial/`.
//!
//! A writer holds a lock on its draft for as long as it lives, which the system lets go of when the
//! process dies, however it dies. A draft whose lock is free belongs to nobody and is removed when a
//! store is opened.

use crate::error::{io, StoreError};
use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::Path,
};
use tempfile::NamedTempFile;

/// A new draft in `folder`.
///
/// # Errors
/// [`StoreError::Io`].
pub(crate) fn begin(folder: &Path) -> Result<NamedTempFile, StoreError> {
    loop {
        let draft = NamedTempFile::new_in(folder).map_err(io("create a file in", folder))?;
        draft
            .as_file()
            .lock()
            .map_err(io("lock a file in", folder))?;
        let metadata = draft.as_file().metadata().map_err(io("read", folder))?;
        // Between its creation and its lock a sweep may have taken it for a dead writer's.
        if metadata.nlink() > 0 {
            return Ok(draft);
        }
    }
}

/// Removes the drafts in `folder` whose writers are gone.
///
/// # Errors
/// [`StoreError::Io`] when the folder cannot be listed.
pub(crate) fn sweep(folder: &Path) -> Result<(), StoreError> {
    for entry in fs::read_dir(folder).map_err(io("list", folder))? {
        let entry = entry.map_err(io("list", folder))?;
        // What cannot be opened has just been finished or removed.
        let Ok(draft) = File::open(entry.path()) else {
            continue;
        };
        if draft.try_lock().is_ok() {
            // Another process may have been faster.
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_sweep_should_take_the_drafts_of_the_dead_and_leave_those_of_the_living() {
        let folder = tempfile::tempdir().unwrap();
        let mut alive = begin(folder.path()).unwrap();
        alive.write_all(b"half of ").unwrap();
        // What a killed process leaves: a file that nobody has locked.
        let dead = folder.path().join("dead");
        fs::write(&dead, b"half of an object").unwrap();
        sweep(folder.path()).unwrap();
        assert!(!dead.exists());
        alive.write_all(b"an object").unwrap();
        let kept = folder.path().join("kept");
        alive.persist(&kept).unwrap();
        assert_eq!(fs::read(kept).unwrap(), b"half of an object");
    }
}
