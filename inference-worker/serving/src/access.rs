//! Who is answered: whoever has a key, where there are keys.

use axum::http::{header, HeaderMap};
use blake2::{digest::consts::U32, Blake2b, Digest};
use std::{os::unix::fs::PermissionsExt, path::Path};

/// Characters of a key at least.
const SHORTEST: usize = 16;

/// A file of keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// It cannot be read.
    #[error("the key file {path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Others may read it.
    #[error("the key file {path} can be read by others (mode {mode:o}); `chmod 600` it")]
    Open {
        /// The file.
        path: String,
        /// Its permissions.
        mode: u32,
    },
    /// It has no key, or something that is none.
    #[error(
        "the key file {path}: a key is one line of at least {SHORTEST} letters, digits and signs; make \
         one with `openssl rand -hex 32`"
    )]
    Key {
        /// The file.
        path: String,
    },
}

/// Keys that are sent as bearer tokens. Only their digests are kept, which makes comparing them take
/// the same time whatever is sent.
#[derive(Clone, Default)]
pub struct Keys(Vec<[u8; 32]>);

impl Keys {
    /// The keys of a file, one a line, that only its owner can read.
    ///
    /// # Errors
    /// When there is none.
    pub fn from_file(path: &Path) -> Result<Self, AccessError> {
        let name = || path.display().to_string();
        let io = |source| AccessError::Io {
            path: name(),
            source,
        };
        let mode = std::fs::metadata(path).map_err(io)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(AccessError::Open { path: name(), mode });
        }
        let text = std::fs::read_to_string(path).map_err(io)?;
        let lines: Vec<&str> = text
            .lines()
            .map(str::trim)
            .filter(|l| !l.is_empty())
            .collect();
        Self::new(&lines).ok_or_else(|| AccessError::Key { path: name() })
    }

    /// Keys as they are written; none if one of them is no key, or there is none.
    pub fn new(keys: &[&str]) -> Option<Self> {
        let is_key =
            |key: &&str| key.len() >= SHORTEST && key.bytes().all(|b| b.is_ascii_graphic());
        (!keys.is_empty() && keys.iter().all(is_key))
            .then(|| Keys(keys.iter().map(|key| digest(key)).collect()))
    }

    /// The digest of the key that a request carries, if it is one of these.
    pub fn holder(&self, headers: &HeaderMap) -> Option<[u8; 32]> {
        let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, key) = value.split_once(' ')?;
        let sent = digest(key.trim());
        (scheme.eq_ignore_ascii_case("bearer") && self.0.contains(&sent)).then_some(sent)
    }
}

fn digest(key: &str) -> [u8; 32] {
    Blake2b::<U32>::digest(key.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef";

    #[test]
    fn only_holders_of_a_key_should_be_let_in() {
        let keys = Keys::new(&[KEY, "another-key-of-some-length"]).unwrap();
        let sent = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            keys.holder(&headers)
        };
        assert!(sent(&format!("Bearer {KEY}")).is_some());
        assert_ne!(
            sent(&format!("Bearer {KEY}")),
            sent("bearer another-key-of-some-length")
        );
        for wrong in [
            "Bearer 0123456789abcdeX",
            KEY,
            "Bearer ",
            "Basic 0123456789abcdef",
        ] {
            assert!(sent(wrong).is_none(), "{wrong}");
        }
        assert!(keys.holder(&HeaderMap::new()).is_none());
    }

    #[test]
    fn a_file_that_others_can_read_or_without_a_key_should_be_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let write = |text: &str, mode| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        write(KEY, 0o644);
        assert!(matches!(
            Keys::from_file(&path),
            Err(AccessError::Open { .. })
        ));
        for wrong in ["", "\n\n", "short", "a key with spaces"] {
            write(wrong, 0o600);
            assert!(matches!(
                Keys::from_file(&path),
                Err(AccessError::Key { .. })
            ));
        }
        write(&format!("{KEY}\n\n{KEY}x\n"), 0o600);
        assert_eq!(Keys::from_file(&path).unwrap().0.len(), 2);
    }
}
