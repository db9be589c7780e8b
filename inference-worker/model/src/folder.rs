//! Reading files of a folder that strangers filled.

use std::fs;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{openat, Mode, OFlags, CWD};

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
    // To open a device may do something.
    plain(&fs::metadata(&path).map_err(io)?).map_err(io)?;
    let file = open_real(&path).map_err(io)?;
    let meta = file.metadata().map_err(io)?;
    plain(&meta).map_err(io)?;
    if meta.len() > limit {
        return Err(ModelError::TooLarge {
            path,
            size: meta.len(),
            limit,
        });
    }
    Ok((file, path))
}

fn plain(meta: &fs::Metadata) -> io::Result<()> {
    if meta.is_file() {
        Ok(())
    } else {
        Err(io::Error::other("not a plain file"))
    }
}

/// How a folder is opened to go on from it; where there is a way that needs no right to list it, so.
#[cfg(target_os = "linux")]
const PASS: OFlags = OFlags::PATH;
#[cfg(not(target_os = "linux"))]
const PASS: OFlags = OFlags::RDONLY;

/// Opens what a path from the root on named when its links were resolved. Whatever was put in its place since
/// is not followed if it is a link, nor waited for if it is a pipe.
fn open_real(path: &Path) -> io::Result<fs::File> {
    let folder = PASS | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut at = openat(CWD, "/", folder, Mode::empty())?;
    let mut names = path.components().peekable();
    while let Some(name) = names.next() {
        match name {
            Component::RootDir => {}
            Component::Normal(name) => {
                let flags = if names.peek().is_some() { folder } else { file };
                at = openat(&at, name, flags, Mode::empty())?;
            }
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        }
    }
    Ok(at.into())
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A folder `home` with a file, and one beside it with a secret of the same name.
    fn folders() -> (tempfile::TempDir, PathBuf) {
        let parent = tempfile::tempdir().unwrap();
        for (folder, text) in [("home/deep", "good"), ("away/deep", "secret")] {
            let folder = parent.path().join(folder);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("file"), text).unwrap();
        }
        let home = parent.path().join("home");
        (parent, home)
    }

    /// What is read after `swap` was done between check and opening.
    fn read_after(swap: impl Fn(&Path, &Path)) -> io::Result<String> {
        let (parent, home) = folders();
        symlink("deep/file", home.join("link")).unwrap();
        let real = resolve(&home, "link").unwrap();
        swap(parent.path(), &real);
        let mut text = String::new();
        open_real(&real)?.read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn what_is_swapped_for_a_link_after_the_check_should_not_be_followed() {
        assert_eq!(read_after(|_, _| ()).unwrap(), "good");
        let swapped = |folder: &str| {
            let folder = folder.to_owned();
            read_after(move |parent, _| {
                fs::rename(parent.join(&folder), parent.join("old")).unwrap();
                symlink(
                    parent.join(folder.replace("home", "away")),
                    parent.join(&folder),
                )
                .unwrap();
            })
        };
        for folder in ["home", "home/deep", "home/deep/file"] {
            assert!(swapped(folder).is_err(), "{folder}");
        }
    }

    #[test]
    fn a_pipe_put_there_after_the_check_should_hold_nobody_up() {
        let (told, opened) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let opened = read_after(|_, real| {
                fs::remove_file(real).unwrap();
                let made = std::process::Command::new("mkfifo").arg(real).status();
                assert!(made.unwrap().success());
            });
            let _ = told.send(opened);
        });
        // Nobody writes: who waits for that waits for ever.
        let opened = opened.recv_timeout(std::time::Duration::from_secs(60));
        assert_eq!(opened.expect("an answer").unwrap_or_default(), "");
    }
}
