//! Manifests: JSON objects that list the files of a folder, with whatever else is to be said of it.
//!
//! `{"files": [{"bytes", "digest", "path"}], "kind": "adapter", …}`. Keys are sorted and there is no
//! white space, so equal folders with equal facts have equal digests. Paths are relative, with `/`
//! between names, and sorted.

use crate::{
    digest::{parse_digest, to_hex},
    error::StoreError,
    objects::Store,
};
use openledger_primitives::Digest;
use serde_json::{json, Map, Value};

/// Most bytes of a manifest.
pub const MAX_MANIFEST_BYTES: u64 = 4 << 20;
/// Most files of a folder.
pub const MAX_FILES: usize = 4_096;
const MAX_PATH_BYTES: usize = 255;
const MAX_DEPTH: usize = 8;

/// One file of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// Path relative to the folder.
    pub path: String,
    /// Digest of the bytes.
    pub digest: Digest,
    /// Number of bytes.
    pub bytes: u64,
}

/// A folder as the store keeps it.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// What it is: `base`, `adapter`, `index`, `training`, ….
    pub kind: String,
    /// Its files, sorted by path.
    pub files: Vec<FileEntry>,
    /// Everything else that is said of it.
    pub meta: Map<String, Value>,
}

impl Manifest {
    /// A manifest over `files`, which it sorts.
    ///
    /// # Errors
    /// [`StoreError::Manifest`] or [`StoreError::Path`] for an empty kind, a reserved key in `meta`,
    /// too many files, a path given twice or one that could leave the folder.
    pub fn new(
        kind: &str,
        mut files: Vec<FileEntry>,
        meta: Map<String, Value>,
    ) -> Result<Self, StoreError> {
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let manifest = Manifest {
            kind: kind.to_owned(),
            files,
            meta,
        };
        manifest.check()?;
        Ok(manifest)
    }

    /// The entry of a path.
    pub fn file(&self, path: &str) -> Option<&FileEntry> {
        self.files.iter().find(|entry| entry.path == path)
    }

    /// The bytes that are stored.
    pub fn to_bytes(&self) -> Vec<u8> {
        let files: Vec<Value> = self
            .files
            .iter()
            .map(|entry| {
                json!({
                    "bytes": entry.bytes,
                    "digest": to_hex(&entry.digest),
                    "path": entry.path,
                })
            })
            .collect();
        let mut fields = self.meta.clone();
        fields.insert("files".to_owned(), Value::Array(files));
        fields.insert("kind".to_owned(), Value::String(self.kind.clone()));
        sorted(Value::Object(fields)).to_string().into_bytes()
    }

    /// Reads what [`Manifest::to_bytes`] wrote, or any JSON of that shape.
    ///
    /// # Errors
    /// As [`Manifest::new`], and [`StoreError::Manifest`] for anything that is not a manifest.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, StoreError> {
        let refuse = |reason: &str| StoreError::Manifest(reason.to_owned());
        if bytes.len() as u64 > MAX_MANIFEST_BYTES {
            return Err(refuse("too large"));
        }
        let value: Value = serde_json::from_slice(bytes)
            .map_err(|error| StoreError::Manifest(format!("not JSON: {error}")))?;
        let Value::Object(mut meta) = value else {
            return Err(refuse("not a JSON object"));
        };
        let Some(Value::String(kind)) = meta.remove("kind") else {
            return Err(refuse("`kind` is not a string"));
        };
        let Some(Value::Array(listed)) = meta.remove("files") else {
            return Err(refuse("`files` is not a list"));
        };
        let mut files = Vec::with_capacity(listed.len().min(MAX_FILES));
        for entry in &listed {
            let text = |key: &str| entry.get(key).and_then(Value::as_str);
            let path = text("path").ok_or_else(|| refuse("a file without `path`"))?;
            let digest = text("digest").ok_or_else(|| refuse("a file without `digest`"))?;
            let bytes = entry.get("bytes").and_then(Value::as_u64);
            files.push(FileEntry {
                path: path.to_owned(),
                digest: parse_digest(digest)?,
                bytes: bytes.ok_or_else(|| refuse("a file without `bytes`"))?,
            });
        }
        Self::new(&kind, files, meta)
    }

    fn check(&self) -> Result<(), StoreError> {
        let refuse = |reason: &str| Err(StoreError::Manifest(reason.to_owned()));
        if self.kind.is_empty() {
            return refuse("`kind` is empty");
        }
        if self.meta.contains_key("kind") || self.meta.contains_key("files") {
            return refuse("`kind` and `files` are not free keys");
        }
        if self.files.len() > MAX_FILES {
            return refuse("too many files");
        }
        for entry in &self.files {
            check_path(&entry.path)?;
        }
        for pair in self.files.windows(2) {
            let [first, second] = pair else { continue };
            if first.path == second.path {
                return refuse("a path is listed twice");
            }
        }
        // Sorted paths do not put a folder next to what is in it (`a`, `a-b`, `a/c`), so look each up.
        for entry in &self.files {
            for (at, _) in entry.path.match_indices('/') {
                if self
                    .files
                    .binary_search_by(|other| other.path.as_str().cmp(&entry.path[..at]))
                    .is_ok()
                {
                    return refuse("a path is both a file and a folder");
                }
            }
        }
        Ok(())
    }
}

impl Store {
    /// Stores a manifest and returns its digest.
    ///
    /// # Errors
    /// As [`Store::put`]; [`StoreError::Manifest`] when it is too large.
    pub fn put_manifest(&self, manifest: &Manifest) -> Result<Digest, StoreError> {
        manifest.check()?;
        let bytes = manifest.to_bytes();
        if bytes.len() as u64 > MAX_MANIFEST_BYTES {
            return Err(StoreError::Manifest("too large".to_owned()));
        }
        self.put(&bytes)
    }

    /// The manifest that `digest` names.
    ///
    /// # Errors
    /// As [`Store::get`] and [`Manifest::from_bytes`].
    pub fn manifest(&self, digest: &Digest) -> Result<Manifest, StoreError> {
        Manifest::from_bytes(&self.get_bounded(digest, MAX_MANIFEST_BYTES)?)
    }

    /// [`Store::manifest`], refused unless it is of `kind`.
    ///
    /// # Errors
    /// As [`Store::manifest`], and [`StoreError::Kind`].
    pub fn manifest_of(&self, kind: &str, digest: &Digest) -> Result<Manifest, StoreError> {
        let manifest = self.manifest(digest)?;
        if manifest.kind == kind {
            Ok(manifest)
        } else {
            Err(StoreError::Kind {
                digest: *digest,
                wanted: kind.to_owned(),
                found: manifest.kind,
            })
        }
    }
}

/// Whether a path stays inside the folder it is relative to, on any system.
pub(crate) fn check_path(path: &str) -> Result<(), StoreError> {
    let refuse = |reason| {
        Err(StoreError::Path {
            path: path.to_owned(),
            reason,
        })
    };
    if path.is_empty() || path.len() > MAX_PATH_BYTES {
        return refuse("empty or too long");
    }
    if path
        .chars()
        .any(|c| c == '\\' || c == ':' || c.is_control())
    {
        return refuse("holds a character that paths may not");
    }
    let names: Vec<&str> = path.split('/').collect();
    if names.len() > MAX_DEPTH {
        return refuse("too deep");
    }
    if names
        .iter()
        .any(|name| name.is_empty() || *name == "." || *name == "..")
    {
        return refuse("leaves its folder");
    }
    Ok(())
}

/// The value with the keys of every object in order, however `serde_json` was built.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(String, Value)> = map.into_iter().collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(
                entries
                    .into_iter()
                    .map(|(key, value)| (key, sorted(value)))
                    .collect(),
            )
        }
        Value::Array(values) => Value::Array(values.into_iter().map(sorted).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str) -> FileEntry {
        FileEntry {
            path: path.to_owned(),
            digest: [7; 32],
            bytes: 3,
        }
    }

    fn manifest(paths: &[&str]) -> Result<Manifest, StoreError> {
        Manifest::new(
            "adapter",
            paths.iter().map(|p| entry(p)).collect(),
            Map::new(),
        )
    }

    #[test]
    fn a_manifest_survives_its_bytes() {
        let mut written = manifest(&["b/c.bin", "a.json"]).unwrap();
        written
            .meta
            .insert("facts".into(), json!({"z": 1, "a": [{"y": 2, "b": null}]}));
        let bytes = written.to_bytes();
        let read = Manifest::from_bytes(&bytes).unwrap();
        assert_eq!(read, written);
        assert_eq!(read.files[0].path, "a.json");
        assert!(String::from_utf8(bytes)
            .unwrap()
            .contains(r#""facts":{"a":[{"b":null,"y":2}],"z":1}"#));
    }

    #[test]
    fn paths_that_escape_are_refused() {
        let long = "x".repeat(256);
        for path in [
            "",
            "/etc/passwd",
            "../x",
            "a/../b",
            "a//b",
            "./a",
            "a/",
            "a\\b",
            "C:x",
            "a\0b",
            "1/2/3/4/5/6/7/8/9",
            &long,
        ] {
            assert!(
                matches!(manifest(&[path]), Err(StoreError::Path { .. })),
                "{path:?}"
            );
        }
    }

    #[test]
    fn ambiguous_lists_are_refused() {
        assert!(manifest(&["a", "a"]).is_err());
        assert!(manifest(&["a", "a-b", "a/c"]).is_err());
        assert!(Manifest::new("", vec![], Map::new()).is_err());
        let meta = json!({"kind": "base"}).as_object().unwrap().clone();
        assert!(Manifest::new("adapter", vec![], meta).is_err());
    }

    #[test]
    fn what_is_no_manifest_is_refused() {
        for text in [
            "",
            "[]",
            "{}",
            r#"{"kind":1,"files":[]}"#,
            r#"{"kind":"a"}"#,
            r#"{"kind":"a","files":[{"path":"x","digest":"12","bytes":1}]}"#,
            r#"{"kind":"a","files":[{"path":"x","bytes":1}]}"#,
        ] {
            assert!(Manifest::from_bytes(text.as_bytes()).is_err(), "{text}");
        }
    }
}
