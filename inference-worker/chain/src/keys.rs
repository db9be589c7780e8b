//! sr25519 keys: from a secret URI, from a seed file, or generated.

use crate::AccountId;
use openledger_primitives::{crypto::signing_payloads, Digest, PublicKey, Signature};
use std::{
    fmt,
    fs::OpenOptions,
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    str::FromStr,
};
use subxt_signer::{
    sr25519::{self, Keypair},
    SecretUri,
};

/// Why a key could not be had. Never holds the secret.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The secret URI is not one.
    #[error("not a secret URI (a phrase, 0x and 64 hex digits, or //Name): {0}")]
    Uri(String),
    /// The key file could not be read or written.
    #[error("key file {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// Others than the owner may read the key file.
    #[error("key file {path} has mode {mode:o}; make it 600 (`chmod 600 {path}`) so that only its owner can read it")]
    Readable {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The key file does not hold a secret URI.
    #[error("key file {path} holds no secret URI")]
    Content {
        /// The file.
        path: PathBuf,
    },
    /// The operating system gave no randomness.
    #[error("no randomness: {0}")]
    Randomness(std::io::Error),
}

/// A key pair that signs transactions, vouchers and receipts.
#[derive(Clone)]
pub struct Key {
    pair: Keypair,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.account())
    }
}

impl Key {
    /// The key of a secret URI: a phrase, `0x` and a 32-byte seed, or a development name such as
    /// `//Alice`; derivation junctions may follow.
    pub fn from_uri(uri: &str) -> Result<Self, KeyError> {
        let parsed = SecretUri::from_str(uri).map_err(|error| KeyError::Uri(error.to_string()))?;
        let pair = Keypair::from_uri(&parsed).map_err(|error| KeyError::Uri(error.to_string()))?;
        Ok(Key { pair })
    }

    /// The key of a 32-byte seed.
    pub fn from_seed(seed: [u8; 32]) -> Result<Self, KeyError> {
        let pair =
            Keypair::from_secret_key(seed).map_err(|error| KeyError::Uri(error.to_string()))?;
        Ok(Key { pair })
    }

    /// The key whose secret URI is the first line of `path`. The file must not be readable by
    /// others than its owner.
    pub fn from_file(path: &Path) -> Result<Self, KeyError> {
        let file = |source| KeyError::File {
            path: path.to_owned(),
            source,
        };
        let mode = std::fs::metadata(path).map_err(file)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Readable {
                path: path.to_owned(),
                mode,
            });
        }
        let text = std::fs::read_to_string(path).map_err(file)?;
        let uri = text.lines().next().unwrap_or_default().trim();
        Key::from_uri(uri).map_err(|_| KeyError::Content {
            path: path.to_owned(),
        })
    }

    /// A new key, written to `path` with mode 600. Fails when the file exists.
    pub fn generate(path: &Path) -> Result<Self, KeyError> {
        let mut seed = [0; 32];
        std::fs::File::open("/dev/urandom")
            .and_then(|mut source| std::io::Read::read_exact(&mut source, &mut seed))
            .map_err(KeyError::Randomness)?;
        let key = Key::from_seed(seed)?;
        let file = |source| KeyError::File {
            path: path.to_owned(),
            source,
        };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(file)?;
        }
        let mut out = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(file)?;
        writeln!(out, "0x{}", hex::encode(seed)).map_err(file)?;
        out.sync_all().map_err(file)?;
        Ok(key)
    }

    /// The key in `path`, generated there when the file is missing.
    pub fn load_or_generate(path: &Path) -> Result<Self, KeyError> {
        if path.exists() {
            Key::from_file(path)
        } else {
            Key::generate(path)
        }
    }

    /// The account of the key.
    pub fn account(&self) -> AccountId {
        AccountId(self.public())
    }

    /// The public key.
    pub fn public(&self) -> PublicKey {
        self.pair.public_key().0
    }

    /// Signature over a hash: what vouchers and receipts carry.
    pub fn sign_hash(&self, hash: &Digest) -> Signature {
        Signature(self.pair.sign(hash).0)
    }

    pub(crate) fn pair(&self) -> &Keypair {
        &self.pair
    }
}

/// Whether `signature` over `hash`, bare or as browser extensions wrap it, is by `key`.
pub fn verify_hash(key: &PublicKey, hash: &Digest, signature: &Signature) -> bool {
    signing_payloads(hash).iter().any(|payload| {
        sr25519::verify(
            &sr25519::Signature(signature.0),
            payload,
            &sr25519::PublicKey(*key),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_by_its_key_and_over_its_hash() {
        let (alice, bob) = (
            Key::from_uri("//Alice").unwrap(),
            Key::from_uri("//Bob").unwrap(),
        );
        let signature = alice.sign_hash(&[1; 32]);
        assert!(verify_hash(&alice.public(), &[1; 32], &signature));
        assert!(!verify_hash(&alice.public(), &[2; 32], &signature));
        assert!(!verify_hash(&bob.public(), &[1; 32], &signature));
    }

    #[test]
    fn a_generated_key_reads_back_and_is_for_its_owner_only() {
        let folder = std::env::temp_dir().join(format!("openledger-keys-{}", std::process::id()));
        let path = folder.join("key");
        let key = Key::generate(&path).unwrap();
        assert_eq!(Key::from_file(&path).unwrap().account(), key.account());
        assert!(matches!(Key::generate(&path), Err(KeyError::File { .. })));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            Key::from_file(&path),
            Err(KeyError::Readable { mode: 0o644, .. })
        ));
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_bad_uri_is_refused_without_showing_it() {
        let error = Key::from_uri("my secret words").unwrap_err().to_string();
        assert!(!error.contains("my secret words"), "{error}");
    }
}
