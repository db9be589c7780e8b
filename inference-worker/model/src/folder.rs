//! Reading files of a folder that strangers filled.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::{ModelError, Result};

/// Resolves `name` in `dir`; links may point to other files of the folder but not out of it.
pub(crate) fn resolve(dir: &Path, name: &str) -> Result<PathBuf> {
    let path = dir.join(name);
    let io = |path: &Path| {
        let path = path.to_path_buf();
        move |source| ModelError::Io { path, source }
    };
    let plain = Path::new(name).file_name().is_some_and(|file| file == name);
    if !plain {
        return Err(ModelError::OutsideFolder { path });
    }
    let home = fs::canonicalize(dir).map_err(io(dir))?;
    let real = fs::canonicalize(&path).map_err(io(&path))?;
    if !real.starts_with(&home) {
        return Err(ModelError::OutsideFolder { path });
    }
    Ok(real)
}

/// Whether `dir` holds `name`, whatever it is.
pub(crate) fn holds(dir: &Path, name: &str) -> bool {
    fs::symlink_metadata(dir.join(name)).is_ok()
}

/// Opens `name` in `dir`, refusing links out of the folder, things that are not plain files, and more
/// than `limit` bytes. Gives its full path too.
pub(crate) fn open(dir: &Path, name: &str, limit: u64) -> Result<(fs::File, PathBuf)> {
    let path = resolve(dir, name)?;
    let io = |source| ModelError::Io {
        path: path.clone(),
        source,
    };
    let meta = fs::metadata(&path).map_err(io)?;
    if !meta.is_file() {
        return Err(ModelError::Io {
            path: path.clone(),
            source: std::io::Error::other("not a plain file"),
        });
    }
    if meta.len() > limit {
        return Err(ModelError::TooLarge {
            path,
            size: meta.len(),
            limit,
        });
    }
    let file = fs::File::open(&path).map_err(io)?;
    Ok((file, path))
}

/// Reads the whole of `name` in `dir`, refusing what [`open`] refuses.
pub(crate) fn read(dir: &Path, name: &str, limit: u64) -> Result<Vec<u8>> {
    let (file, path) = open(dir, name, limit)?;
    let io = |source| ModelError::Io {
        path: path.clone(),
        source,
    };
    let mut bytes = Vec::new();
    // The file may grow while it is read; the limit holds all the same.
    let taken = file.take(limit + 1).read_to_end(&mut bytes).map_err(io)?;
    if taken as u64 > limit {
        return Err(ModelError::TooLarge {
            path,
            size: taken as u64,
            limit,
        });
    }
    Ok(bytes)
}

/// Writes `name` in `dir` so that a crash leaves the old file or the new one, never a part.
pub(crate) fn write(dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = dir.join(name);
    let partial = dir.join(format!(".{name}.partial"));
    let io = |source| ModelError::Io {
        path: path.clone(),
        source,
    };
    fs::create_dir_all(dir).map_err(io)?;
    let mut file = fs::File::create(&partial).map_err(io)?;
    std::io::Write::write_all(&mut file, bytes).map_err(io)?;
    file.sync_all().map_err(io)?;
    fs::rename(&partial, &path).map_err(io)
}
