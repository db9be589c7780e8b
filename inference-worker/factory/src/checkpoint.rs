//! Saved states of a run, from which it goes on as if it had never stopped.

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::optim::AdamW;

const TENSORS: &str = "state.safetensors";
const HEADER: &str = "state.json";

/// What a checkpoint says about itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Optimizer steps done.
    pub step: usize,
    /// Digest of the run's configuration and data; another run cannot go on from here.
    pub run: String,
    /// Whatever else the trainer needs, such as the best held-out loss so far.
    pub extra: serde_json::Value,
}

/// Writes the optimizer's state into `dir`, replacing what was there only when all is written.
pub fn save(
    dir: &Path,
    header: &Header,
    optimizer: &AdamW,
    more: &[(String, Tensor)],
) -> Result<()> {
    let partial = sibling(dir, "partial");
    fs::create_dir_all(&partial).map_err(Error::io(&partial))?;
    let mut tensors: std::collections::HashMap<String, Tensor> =
        optimizer.state()?.into_iter().collect();
    tensors.extend(more.iter().cloned());
    candle_core::safetensors::save(&tensors, partial.join(TENSORS))?;
    let path = partial.join(HEADER);
    let text = serde_json::to_vec_pretty(header).map_err(Error::json("checkpoint"))?;
    fs::write(&path, text).map_err(Error::io(&path))?;
    if dir.exists() {
        fs::remove_dir_all(dir).map_err(Error::io(dir))?;
    }
    fs::rename(&partial, dir).map_err(Error::io(dir))
}

/// Reads a checkpoint of the run named `run` into the optimizer; returns its header and the further tensors.
pub fn load(
    dir: &Path,
    run: &str,
    optimizer: &mut AdamW,
) -> Result<(Header, std::collections::HashMap<String, Tensor>)> {
    let path = dir.join(HEADER);
    let text = fs::read(&path).map_err(Error::io(&path))?;
    let header: Header =
        serde_json::from_slice(&text).map_err(Error::json(path.display().to_string()))?;
    if header.run != run {
        return Err(Error::Invalid(format!(
            "{} belongs to another run: its data or settings differ",
            dir.display()
        )));
    }
    let tensors = candle_core::safetensors::load(dir.join(TENSORS), &Device::Cpu)?;
    optimizer.restore(&tensors, header.step)?;
    Ok((header, tensors))
}

/// Whether `dir` holds a checkpoint.
pub fn exists(dir: &Path) -> bool {
    dir.join(HEADER).is_file()
}

fn sibling(dir: &Path, suffix: &str) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{suffix}"));
    dir.with_file_name(name)
}
