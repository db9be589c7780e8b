//! Adapters in folders as PEFT writes them, with seeded random weights.

use super::BenchError;
use crate::adapters::{AdapterId, AdapterSource, FolderSource};
use crate::engine::EngineHandle;
use openledger_model::{Adapter, LoraConfig, ModelConfig, Site, Targets};
use rustix::fs::{fadvise, statvfs, Advice};
use serde::Serialize;
use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes that a file system may take for the headers and the ends of an adapter's files.
const FILE_ALLOWANCE: u64 = 16 << 10;

/// Bytes that are left free on the disk.
const SPARE_BYTES: u64 = 1 << 30;

/// The longest that an idle engine may take to let adapters go.
const LEAVING: Duration = Duration::from_secs(10);

/// What adapters change, and at which rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Adapted {
    /// Rank.
    pub rank: usize,
    /// Which matrices.
    pub sites: Sites,
}

/// Which matrices an adapter changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sites {
    /// All linear ones of each layer.
    AllLinear,
    /// Those of queries and values.
    QueryValue,
}

/// One adapter in its folder.
#[derive(Clone, Debug)]
pub struct Member {
    /// Digest of its files.
    pub id: AdapterId,
    /// Where they are.
    pub folder: PathBuf,
    /// Bytes of both files.
    pub bytes: u64,
}

impl Adapted {
    fn targets(self) -> Targets {
        match self.sites {
            Sites::AllLinear => Targets::AllLinear,
            Sites::QueryValue => {
                Targets::Names([Site::Q, Site::V].map(|s| s.module().to_owned()).into())
            }
        }
    }

    /// About the bytes of one adapter's files, in f32.
    fn bytes(self, config: &ModelConfig) -> u64 {
        let sites: &[Site] = match self.sites {
            Sites::AllLinear => &Site::ALL,
            Sites::QueryValue => &[Site::Q, Site::V],
        };
        let widths: usize = sites
            .iter()
            .map(|site| site.shape(config))
            .map(|(outputs, inputs)| outputs + inputs)
            .sum();
        let values = config.num_hidden_layers * self.rank * widths;
        (values * size_of::<f32>()) as u64 + FILE_ALLOWANCE
    }

    /// Draws adapter `number`.
    fn draw(self, config: &ModelConfig, seed: u64) -> Result<Adapter, BenchError> {
        let alpha = 2.0 * self.rank as f64;
        let lora = LoraConfig::new(self.rank, alpha, self.targets());
        // A fresh adapter's `B` is zero; a trained one's is not, and is not shorter for it.
        Ok(Adapter::random(config, lora, 0.02, seed)?)
    }
}

/// Writes the adapters with these numbers into folders of `dir`. The same numbers and seed write the
/// same bytes.
///
/// # Errors
/// When they do not fit the disk, or cannot be written.
pub fn write(
    dir: &Path,
    config: &ModelConfig,
    adapted: Adapted,
    numbers: Range<usize>,
    seed: u64,
) -> Result<Vec<Member>, BenchError> {
    let io = |path: &Path, source| BenchError::Io {
        path: path.to_owned(),
        source,
    };
    fs::create_dir_all(dir).map_err(|e| io(dir, e))?;
    let disk = statvfs(dir).map_err(|e| io(dir, e.into()))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let needed = adapted.bytes(config) * numbers.len() as u64;
    if needed + SPARE_BYTES > free {
        return Err(BenchError::Disk {
            path: dir.to_owned(),
            needed,
            free,
        });
    }
    numbers
        .map(|number| {
            let seed = seed.wrapping_mul(1_000_003).wrapping_add(number as u64);
            let adapter = adapted.draw(config, seed)?;
            let (json, weights) = adapter.to_bytes()?;
            let folder = dir.join(format!("adapter-{number:06}"));
            fs::create_dir_all(&folder).map_err(|e| io(&folder, e))?;
            for (name, bytes) in [
                ("adapter_config.json", &json),
                ("adapter_model.safetensors", &weights),
            ] {
                let path = folder.join(name);
                fs::write(&path, bytes).map_err(|e| io(&path, e))?;
            }
            Ok(Member {
                id: AdapterId(openledger_model::peft::digest(&json, &weights)),
                folder,
                bytes: (json.len() + weights.len()) as u64,
            })
        })
        .collect()
}

/// Takes adapters out of an engine's memory and leaves them known. No others may be in its memory.
///
/// # Errors
/// When they do not leave, as others are there or requests run, or are not taken again.
pub fn forget(engine: &EngineHandle, members: &[Member]) -> Result<(), BenchError> {
    for member in members {
        engine.unload_adapter(member.id);
    }
    // What is registered again before the engine took note would stay.
    let until = Instant::now() + LEAVING;
    loop {
        let stats = engine.stats();
        if stats.device_adapters == 0 && stats.host_adapters == 0 {
            break;
        }
        if Instant::now() > until {
            return Err(BenchError::Request(
                "adapters in memory that nobody asks for".to_owned(),
            ));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    members.iter().try_for_each(|m| m.register(engine))
}

impl Member {
    /// Makes it known to an engine, to be read when it is asked for.
    ///
    /// # Errors
    /// When the engine does not take it.
    pub fn register(&self, engine: &EngineHandle) -> Result<(), BenchError> {
        let source: Arc<dyn AdapterSource> = Arc::new(FolderSource(self.folder.clone()));
        Ok(engine.register_adapter(self.id, source)?)
    }

    /// Has the operating system drop its files from the page cache, so that the next reading is one of
    /// the disk's.
    ///
    /// # Errors
    /// When a file cannot be opened, written out or dropped.
    pub fn drop_pages(&self) -> Result<(), BenchError> {
        for name in ["adapter_config.json", "adapter_model.safetensors"] {
            let path = self.folder.join(name);
            let drop = || -> std::io::Result<()> {
                let file = File::open(&path)?;
                // What is not on the disk yet would stay.
                file.sync_all()?;
                Ok(fadvise(&file, 0, None, Advice::DontNeed)?)
            };
            drop().map_err(|source| BenchError::Io {
                path: path.clone(),
                source,
            })?;
        }
        Ok(())
    }
}
