//! Uploads: what is published from here.

use super::{fetch::FetchError, said, Remote};
use crate::{
    cache,
    error::{io, StoreError},
    objects::Store,
};
use object_store::{ObjectStoreExt, PutPayload, WriteMultipart};
use openledger_primitives::Digest;
use std::{fs, io::Read};

/// Bytes of a part of a large object; smaller ones go in one piece.
const PART: usize = 8 << 20;
/// Parts on their way at once.
const PARTS: usize = 4;

impl Store {
    /// Uploads an object that is here, unless it is there already. When no other process uses this
    /// store's cache, the object is part of the cache from then on: it can be had again.
    ///
    /// `true` when it was sent.
    ///
    /// # Errors
    /// Those of [`Store::get`] for what is not here or damaged; [`StoreError::Upload`].
    pub fn upload(&self, remote: &Remote, digest: &Digest) -> Result<bool, StoreError> {
        let sent = self.send(remote, digest)?;
        self.release(digest)?;
        Ok(sent)
    }

    /// Uploads a folder: its files, then its manifest, so that whoever finds a manifest finds its files.
    /// How many objects were sent.
    ///
    /// # Errors
    /// As [`Store::upload`] and [`Store::manifest`].
    pub fn upload_folder(&self, remote: &Remote, digest: &Digest) -> Result<usize, StoreError> {
        let manifest = self.manifest(digest)?;
        let mut sent = 0;
        for entry in &manifest.files {
            sent += usize::from(self.upload(remote, &entry.digest)?);
        }
        sent += usize::from(self.upload(remote, digest)?);
        Ok(sent)
    }

    fn send(&self, remote: &Remote, digest: &Digest) -> Result<bool, StoreError> {
        let failed = |reason: String| StoreError::Upload {
            digest: *digest,
            remote: remote.url().to_owned(),
            reason,
        };
        let panicked = || failed("the upload panicked".to_owned());
        // What is sent has been checked: others could only refuse it.
        let object = self.verified(digest)?;
        let size = object.length();
        let (there, key) = (remote.clone(), remote.key(digest));
        let known = remote.wait(async move { there.client().head(&key).await });
        match known.ok_or_else(panicked)? {
            Ok(meta) if meta.size == size => return Ok(false),
            Ok(_) => {}
            Err(error) => match FetchError::of(&error) {
                FetchError::Missing => {}
                error => return Err(failed(error.to_string())),
            },
        }
        let (there, key) = (remote.clone(), remote.key(digest));
        let mut file = object;
        let sent = if size <= PART as u64 {
            let mut content = Vec::with_capacity(size as usize);
            file.read_to_end(&mut content)
                .map_err(io("read", self.root()))?;
            remote.wait(async move {
                let put = there.client().put(&key, PutPayload::from(content)).await;
                put.map(|_| ()).map_err(|error| said(&error))
            })
        } else {
            remote.wait(async move {
                let said = |error: object_store::Error| said(&error);
                let upload = there.client().put_multipart(&key).await.map_err(said)?;
                let mut parts = WriteMultipart::new_with_chunk_size(upload, PART);
                let mut buffer = vec![0; PART];
                loop {
                    let read = file.read(&mut buffer).map_err(|error| error.to_string())?;
                    if read == 0 {
                        break;
                    }
                    parts.wait_for_capacity(PARTS).await.map_err(said)?;
                    parts.write(buffer.get(..read).unwrap_or_default());
                }
                parts.finish().await.map(|_| ()).map_err(said)
            })
        };
        sent.ok_or_else(panicked)?.map_err(failed)?;
        Ok(true)
    }

    /// Moves an object that is at a remote from what is kept for ever to what may give way. It stays
    /// when another process counts the cache.
    fn release(&self, digest: &Digest) -> Result<(), StoreError> {
        let from = self.own_path(digest);
        if !from.exists() {
            return Ok(());
        }
        let _alone = match cache::lock(self.root(), true) {
            Ok(lock) => lock,
            Err(StoreError::CacheInUse(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        let to = crate::objects::path_in(&cache::folder(self.root()), digest);
        if let Some(shelf) = to.parent() {
            fs::create_dir_all(shelf).map_err(io("create", shelf))?;
        }
        fs::rename(&from, &to).map_err(io("rename to", to))
    }
}
