//! The store as the command line names it.

use anyhow::{ensure, Context, Result};
use clap::{Args, ValueEnum};
use openledger_model::{Checkpoint, LoraConfig, ModelConfig};
use openledger_spans::Index;
use openledger_store::{Remote, RemoteOptions, Store, StoreOptions};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The store's folder and what is behind it.
#[derive(Clone, Debug, Args)]
pub struct StoreArgs {
    /// Content-addressed store with bases, adapters, indexes and rows; made when it does not exist.
    #[arg(long = "store", value_name = "DIR")]
    pub folder: PathBuf,
    /// Remote store.
    #[command(flatten)]
    pub remote: RemoteArgs,
    /// Most MiB of fetched objects on this disk; what was used longest ago gives way. No bound when
    /// absent.
    #[arg(long, value_name = "MIB", requires = "remote")]
    pub disk_cache: Option<u64>,
}

/// A remote store.
#[derive(Clone, Debug, Args)]
pub struct RemoteArgs {
    /// Remote store, `s3://BUCKET/PREFIX`: what is not in the folder is fetched from there. Credentials
    /// and region are those of the usual variables, `AWS_ACCESS_KEY_ID` and so on.
    #[arg(long, value_name = "URL", env = "OPENLEDGER_REMOTE")]
    pub remote: Option<String>,
    /// Endpoint of the remote store, when it is not AWS: `https://…`, or `http://` on this machine.
    #[arg(long, value_name = "URL", requires = "remote")]
    pub remote_endpoint: Option<String>,
}

impl RemoteArgs {
    /// The remote store, if one is named.
    pub fn connect(&self) -> Result<Option<Remote>> {
        let Some(url) = &self.remote else {
            return Ok(None);
        };
        let options = RemoteOptions::new(url, self.remote_endpoint.clone());
        Ok(Some(Remote::connect(options)?))
    }
}

impl StoreArgs {
    /// Opens the store, with the remote one behind it.
    pub fn open(&self) -> Result<Store> {
        let options = StoreOptions {
            remote: self.remote.connect()?,
            cache_bytes: self.disk_cache.map(|mib| mib.saturating_mul(1 << 20)),
        };
        Ok(Store::open_with(&self.folder, options)?)
    }
}

/// What a folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A base model, in the layout of Hugging Face.
    Base,
    /// A LoRA adapter, in that of PEFT.
    Adapter,
    /// A span index.
    Index,
}

impl Kind {
    /// What manifests call it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Base => "base",
            Kind::Adapter => "adapter",
            Kind::Index => "index",
        }
    }

    /// Refuses a folder that is something else: whoever serves it would only find out later.
    pub fn check(self, folder: &Path) -> Result<()> {
        let checked = match self {
            Kind::Base => check_base(folder),
            Kind::Adapter => check_adapter(folder),
            Kind::Index => Index::open(folder).map(|_| ()).map_err(Into::into),
        };
        let (path, name) = (folder.display(), self.name());
        checked.with_context(|| format!("{path} is not the folder of an {name} (--kind {name})"))
    }
}

fn check_base(folder: &Path) -> Result<()> {
    there(folder, "tokenizer.json")?;
    let config = ModelConfig::from_dir(folder)?;
    // Names and shapes of all tensors; the values are not read.
    Checkpoint::open(folder, &config)?;
    Ok(())
}

fn check_adapter(folder: &Path) -> Result<()> {
    let config = there(folder, "adapter_config.json")?;
    LoraConfig::from_json(&fs::read_to_string(config)?)?;
    let weights = there(folder, "adapter_model.safetensors")?;
    let mut file = fs::File::open(weights)?;
    let mut length = [0; 8];
    std::io::Read::read_exact(&mut file, &mut length).context("adapter_model.safetensors")?;
    let rest = file.metadata()?.len().saturating_sub(8);
    ensure!(
        u64::from_le_bytes(length) <= rest,
        "adapter_model.safetensors is cut off"
    );
    Ok(())
}

fn there(folder: &Path, name: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    ensure!(path.is_file(), "it has no {name}");
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_another_kind_should_be_refused_with_what_it_lacks() {
        let base = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("factory/base");
        Kind::Base.check(&base).unwrap();
        let refusal = |kind: Kind| format!("{:#}", kind.check(&base).unwrap_err());
        assert!(refusal(Kind::Adapter).contains("it has no adapter_config.json"));
        assert!(refusal(Kind::Index).contains("index.json"));
        let folder = tempfile::tempdir().unwrap();
        let config = r#"{"peft_type":"LORA","r":4,"lora_alpha":8,"target_modules":["q_proj"]}"#;
        fs::write(folder.path().join("adapter_config.json"), config).unwrap();
        let error = Kind::Adapter.check(folder.path()).unwrap_err();
        assert!(format!("{error:#}").contains("no adapter_model.safetensors"));
        let weights = folder.path().join("adapter_model.safetensors");
        fs::write(&weights, 100u64.to_le_bytes()).unwrap();
        let error = Kind::Adapter.check(folder.path()).unwrap_err();
        assert!(format!("{error:#}").contains("cut off"));
        let header = b"{}";
        fs::write(&weights, [&2u64.to_le_bytes()[..], header].concat()).unwrap();
        Kind::Adapter.check(folder.path()).unwrap();
        assert!(Kind::Base.check(folder.path()).is_err());
    }
}
