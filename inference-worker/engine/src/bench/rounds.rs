//! Batches of requests on demand, from folders that another program reads too: for comparison with it.

use super::BenchError;
use crate::adapters::AdapterId;
use crate::backend::cpu::CpuBackend;
use crate::engine::{Engine, EngineHandle};
use crate::options::EngineOptions;
use crate::request::Request;
use openledger_model::{Adapter, Checkpoint, ModelConfig};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes of the arena; what is not used takes no room.
const ARENA_BYTES: usize = 1 << 30;

/// One request of a round.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoundRequest {
    /// Token ids.
    pub prompt: Vec<u32>,
    /// Name of the adapter's folder; none for the base model.
    pub adapter: Option<String>,
    /// Tokens to generate, greedily.
    pub max_tokens: usize,
}

/// What came of a round.
#[derive(Clone, Debug, Serialize)]
pub struct RoundAnswer {
    /// From the first request's submission to the last token.
    pub seconds: f64,
    /// Token ids of each answer, in the order of the requests.
    pub outputs: Vec<Vec<u32>>,
}

/// An engine on a base model's folder, with all adapters of another folder in host memory.
pub struct Rounds {
    engine: EngineHandle,
    adapters: BTreeMap<String, AdapterId>,
    asked: u64,
}

impl Rounds {
    /// Loads the model and every adapter, which are the folders in `adapters`. Without `threads` all
    /// cores are taken.
    ///
    /// # Errors
    /// When a folder cannot be read or does not fit the model.
    pub fn open(base: &Path, adapters: &Path, threads: Option<usize>) -> Result<Self, BenchError> {
        let config = ModelConfig::from_dir(base)?;
        let engine = Engine::start(
            &config,
            Checkpoint::open(base, &config)?,
            EngineOptions {
                threads,
                batch_window: Duration::from_millis(5),
                arena_pages: u32::try_from(ARENA_BYTES / CpuBackend::page_bytes_of(&config)).ok(),
                ..EngineOptions::default()
            },
        )?;
        let io = |source| BenchError::Io {
            path: adapters.to_owned(),
            source,
        };
        let mut known = BTreeMap::new();
        for entry in std::fs::read_dir(adapters).map_err(io)? {
            let entry = entry.map_err(io)?;
            if !entry.file_type().map_err(io)?.is_dir() {
                continue;
            }
            let adapter = Adapter::load(&entry.path(), &config)?;
            let id = engine.load_adapter(&adapter)?;
            known.insert(entry.file_name().to_string_lossy().into_owned(), id);
        }
        Ok(Self {
            engine,
            adapters: known,
            asked: 0,
        })
    }

    /// Names of the adapters.
    pub fn adapters(&self) -> impl Iterator<Item = &str> {
        self.adapters.keys().map(String::as_str)
    }

    /// Backend and instruction set.
    pub fn backend(&self) -> &str {
        self.engine.backend()
    }

    /// Answers all requests together.
    ///
    /// # Errors
    /// When one names an adapter that is not there, or fails.
    pub fn ask(&mut self, requests: &[RoundRequest]) -> Result<RoundAnswer, BenchError> {
        self.asked += 1;
        let requests = requests
            .iter()
            .map(|asked| {
                let mut request = Request::new(asked.prompt.clone(), asked.max_tokens);
                request.adapter = match &asked.adapter {
                    None => None,
                    Some(name) => Some(self.adapters.get(name).copied().ok_or_else(|| {
                        BenchError::Workload(format!("there is no adapter named {name}"))
                    })?),
                };
                // Nothing of an earlier round is used again.
                request.cache_salt[..8].copy_from_slice(&self.asked.to_le_bytes());
                Ok(request)
            })
            .collect::<Result<Vec<_>, BenchError>>()?;
        let started = Instant::now();
        let streams = requests
            .into_iter()
            .map(|request| self.engine.submit(request))
            .collect::<Result<Vec<_>, _>>()?;
        let outputs = streams
            .into_iter()
            .map(|stream| match stream.blocking_collect() {
                Some((tokens, Ok(_))) => Ok(tokens.into_iter().map(|t| t.id).collect()),
                Some((_, Err(error))) => Err(BenchError::Request(error.to_string())),
                None => Err(BenchError::Request("the engine's stop".to_owned())),
            })
            .collect::<Result<_, _>>()?;
        Ok(RoundAnswer {
            seconds: started.elapsed().as_secs_f64(),
            outputs,
        })
    }
}
