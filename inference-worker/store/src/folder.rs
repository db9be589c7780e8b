//! Folders in and out of the store.

use crate::{
    error::{io, StoreError},
    manifest::{check_path, FileEntry, Manifest, MAX_FILES},
    objects::{sync_folder, Store},
};
use openledger_primitives::Digest;
use serde_json::{Map, Value};
use std::{
    fs::{self, File},
    path::Path,
};

impl Store {
    /// Stores every file below `folder` and a manifest of `kind` with the facts in `meta`; returns
    /// the manifest's digest.
    ///
    /// # Errors
    /// [`StoreError::Path`] for links and special files, [`StoreError::Manifest`] as
    /// [`Manifest::new`], and those of [`Store::put_file`].
    pub fn put_folder(
        &self,
        kind: &str,
        folder: &Path,
        meta: Map<String, Value>,
    ) -> Result<Digest, StoreError> {
        let mut paths = Vec::new();
        list(folder, "", &mut paths)?;
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            let (digest, bytes) = self.put_file(&folder.join(&path))?;
            files.push(FileEntry {
                path,
                digest,
                bytes,
            });
        }
        self.put_manifest(&Manifest::new(kind, files, meta)?)
    }

    /// Writes the folder that a manifest describes to `folder`, which appears complete or not at
    /// all. A folder that is there already is left alone if it holds exactly these files.
    ///
    /// # Errors
    /// [`StoreError::Occupied`] when `folder` holds anything else; those of [`Store::manifest`] and
    /// [`Store::copy_to`].
    pub fn materialize(&self, digest: &Digest, folder: &Path) -> Result<Manifest, StoreError> {
        let manifest = self.manifest(digest)?;
        let occupied = || StoreError::Occupied(folder.to_owned());
        if folder.symlink_metadata().is_ok() {
            let is_empty = fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
            if !is_empty {
                return if holds_exactly(folder, &manifest)? {
                    Ok(manifest)
                } else {
                    Err(occupied())
                };
            }
        }
        let parent = match folder.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(parent).map_err(io("create", parent))?;
        let partial = tempfile::Builder::new()
            .prefix(".partial-")
            .tempdir_in(parent)
            .map_err(io("create a folder in", parent))?;
        for entry in &manifest.files {
            self.write_entry(entry, partial.path())?;
        }
        if let Err(error) = fs::rename(partial.path(), folder) {
            // Another process may have written the same folder meanwhile.
            return match folder.symlink_metadata() {
                Ok(_) if holds_exactly(folder, &manifest)? => Ok(manifest),
                Ok(_) => Err(occupied()),
                Err(_) => Err(io("rename to", folder)(error)),
            };
        }
        sync_folder(parent)?;
        Ok(manifest)
    }

    /// The bytes of one file of a manifest.
    ///
    /// # Errors
    /// [`StoreError::Path`] when it lists no such file; those of [`Store::get`].
    pub fn file(&self, manifest: &Manifest, path: &str) -> Result<Vec<u8>, StoreError> {
        let entry = manifest.file(path).ok_or_else(|| StoreError::Path {
            path: path.to_owned(),
            reason: "the manifest lists no such file",
        })?;
        self.get(&entry.digest)
    }

    fn write_entry(&self, entry: &FileEntry, folder: &Path) -> Result<(), StoreError> {
        check_path(&entry.path)?;
        let path = folder.join(&entry.path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(io("create", parent))?;
        }
        let mut file = File::create_new(&path).map_err(io("create", &path))?;
        let bytes = self.copy_to(&entry.digest, &mut file)?;
        if bytes != entry.bytes {
            return Err(StoreError::Manifest(format!(
                "{} has {bytes} bytes, not {}",
                entry.path, entry.bytes
            )));
        }
        file.sync_all().map_err(io("sync", &path))
    }
}

/// Appends the paths of all files below `folder`, relative to it, in no particular order.
fn list(folder: &Path, prefix: &str, paths: &mut Vec<String>) -> Result<(), StoreError> {
    for entry in fs::read_dir(folder).map_err(io("list", folder))? {
        let entry = entry.map_err(io("list", folder))?;
        let refuse = |path: String, reason| Err(StoreError::Path { path, reason });
        let name = match entry.file_name().into_string() {
            Ok(name) => name,
            Err(name) => return refuse(name.to_string_lossy().into_owned(), "not UTF-8"),
        };
        let path = format!("{prefix}{name}");
        check_path(&path)?;
        let kind = entry.file_type().map_err(io("read", entry.path()))?;
        if kind.is_symlink() {
            return refuse(path, "a link");
        } else if kind.is_dir() {
            list(&entry.path(), &format!("{path}/"), paths)?;
        } else if kind.is_file() {
            if paths.len() >= MAX_FILES {
                return refuse(path, "too many files");
            }
            paths.push(path);
        } else {
            return refuse(path, "not a plain file");
        }
    }
    Ok(())
}

/// Whether the files below `folder` are those of the manifest, byte for byte.
fn holds_exactly(folder: &Path, manifest: &Manifest) -> Result<bool, StoreError> {
    let is_folder = folder
        .symlink_metadata()
        .is_ok_and(|metadata| metadata.is_dir());
    if !is_folder {
        return Ok(false);
    }
    let mut paths = Vec::new();
    if list(folder, "", &mut paths).is_err() {
        return Ok(false);
    }
    paths.sort();
    if !paths
        .iter()
        .eq(manifest.files.iter().map(|entry| &entry.path))
    {
        return Ok(false);
    }
    for entry in &manifest.files {
        let path = folder.join(&entry.path);
        let length = fs::metadata(&path).map_err(io("read", &path))?.len();
        if length != entry.bytes {
            return Ok(false);
        }
        let mut file = File::open(&path).map_err(io("open", &path))?;
        let (digest, _) = crate::digest::copy_hashed(&mut file, &mut std::io::sink(), entry.bytes)
            .map_err(io("read", &path))?;
        if digest != entry.digest {
            return Ok(false);
        }
    }
    Ok(true)
}
