//! Saved states of a run, from which it goes on as if it had never stopped.

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::optim::AdamW;

const TENSORS: &str = "state.safetensors";
const HEADER: &str = "state.json";
const PREVIOUS: &str = "previous";

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
    for written in [partial.join(TENSORS), path, partial.clone()] {
        sync(&written)?;
    }
    // At every moment one whole checkpoint is there, under its own name or that of the one before.
    let previous = sibling(dir, PREVIOUS);
    if dir.exists() {
        if previous.exists() {
            fs::remove_dir_all(&previous).map_err(Error::io(&previous))?;
        }
        fs::rename(dir, &previous).map_err(Error::io(dir))?;
    }
    fs::rename(&partial, dir).map_err(Error::io(dir))?;
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        sync(parent)?;
    }
    if previous.exists() {
        fs::remove_dir_all(&previous).map_err(Error::io(&previous))?;
    }
    Ok(())
}

/// Brings back the checkpoint before when writing the last one was cut off between two names.
fn recover(dir: &Path) -> Result<()> {
    let previous = sibling(dir, PREVIOUS);
    if !dir.exists() && previous.join(HEADER).is_file() {
        fs::rename(&previous, dir).map_err(Error::io(dir))?;
    }
    Ok(())
}

fn sync(path: &Path) -> Result<()> {
    fs::File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(Error::io(path))
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

/// Whether `dir` holds a checkpoint, or did before writing the next was cut off.
///
/// # Errors
/// When the one before cannot be brought back.
pub fn exists(dir: &Path) -> Result<bool> {
    recover(dir)?;
    Ok(dir.join(HEADER).is_file())
}

fn sibling(dir: &Path, suffix: &str) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{suffix}"));
    dir.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::AdamWConfig;
    use candle_core::{DType, Var};

    fn header(step: usize) -> Header {
        Header {
            step,
            run: "run".into(),
            extra: serde_json::Value::Null,
        }
    }

    fn optimizer() -> AdamW {
        let var = Var::zeros(2, DType::F32, &Device::Cpu).unwrap();
        AdamW::new(vec![var], AdamWConfig::default())
    }

    #[test]
    fn power_may_go_between_any_two_steps_of_writing() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("checkpoint");
        assert!(!exists(&dir).unwrap());
        let step_found = || {
            assert!(exists(&dir).unwrap());
            load(&dir, "run", &mut optimizer()).unwrap().0.step
        };
        save(&dir, &header(1), &optimizer(), &[]).unwrap();
        save(&dir, &header(2), &optimizer(), &[]).unwrap();
        assert_eq!(step_found(), 2);
        // Cut off after the old one was set aside and before the new one had its name.
        fs::rename(&dir, sibling(&dir, PREVIOUS)).unwrap();
        assert_eq!(step_found(), 2);
        // Cut off before the one before was removed, and with a half-written next one.
        fs::create_dir(sibling(&dir, PREVIOUS)).unwrap();
        fs::create_dir(sibling(&dir, "partial")).unwrap();
        assert_eq!(step_found(), 2);
        save(&dir, &header(3), &optimizer(), &[]).unwrap();
        assert_eq!(step_found(), 3);
    }
}
