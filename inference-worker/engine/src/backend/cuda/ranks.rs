//! Several devices that compute each layer together ([`crate::backend::parallel`]).
//!
//! Each rank is a [`CudaBackend`] over its part of the model, on a thread of its own. The ranks add up what
//! the row-parallel products give, on their devices; the logits of each rank's part of the vocabulary are put
//! side by side on the host, where they are wanted.

use super::arena::CudaCopier;
use super::backend::{CudaBackend, Room};
use super::device::DeviceError;
use super::model::Filler;
use super::options::CudaOptions;
use super::start::start;
use crate::backend::{Backend, Copier, StepBatch, StepOutput};
use crate::error::{EngineError, StepError};
use openledger_model::ModelConfig;
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A model on several devices.
pub struct CudaRanks {
    name: String,
    /// Each is locked by its own thread during a step, and by whoever has all of this between steps.
    ranks: Vec<Mutex<CudaBackend>>,
    /// A thread for each rank.
    threads: ThreadPool,
    vocabulary: usize,
    pages: u32,
    page_bytes: usize,
    copier: Arc<CudaCopier>,
    logits: Vec<f32>,
    hidden: Vec<f32>,
}

/// A rank is whole whatever panicked: a step writes what the next one reads before it reads it.
fn lock(rank: &Mutex<CudaBackend>) -> MutexGuard<'_, CudaBackend> {
    rank.lock().unwrap_or_else(PoisonError::into_inner)
}

impl CudaRanks {
    /// Opens a device for each rank and divides the weights among them; pages are the same on all.
    ///
    /// # Errors
    /// As [`CudaBackend::new`]; also when the model cannot be divided into so many parts, the devices cannot
    /// reach each other, or there is no thread for them.
    pub fn new(
        config: &ModelConfig,
        filler: &mut dyn Filler,
        options: &CudaOptions,
        room: Room,
    ) -> Result<Self, EngineError> {
        let ranks = start(config, filler, options, room)?;
        let threads = ThreadPoolBuilder::new()
            .num_threads(ranks.len())
            .thread_name(|rank| format!("rank-{rank}"))
            .build()
            .map_err(|error| EngineError::Thread(error.to_string()))?;
        let first = ranks.first();
        let all = Self {
            name: format!(
                "{}, {} ranks",
                first.map_or("", |rank| rank.name.as_str()),
                ranks.len()
            ),
            pages: first.map_or(0, CudaBackend::pages),
            page_bytes: ranks.iter().map(Backend::page_bytes).sum(),
            copier: Arc::new(CudaCopier {
                config: config.clone(),
                storage: options.storage,
                ranks: ranks.iter().map(CudaBackend::place).collect(),
            }),
            vocabulary: config.vocab_size,
            ranks: ranks.into_iter().map(Mutex::new).collect(),
            threads,
            logits: Vec::new(),
            hidden: Vec::new(),
        };
        let met = all.on_all(|_, rank| rank.meet());
        met.map_err(|error| DeviceError::Refused {
            what: "trying the ranks",
            reason: error.to_string(),
        })?;
        Ok(all)
    }

    /// Pages of the arena.
    pub fn pages(&self) -> u32 {
        self.pages
    }

    /// Sets the arenas to zeros, as [`CudaBackend::clear_arena`] does.
    ///
    /// # Errors
    /// When a device fails.
    pub fn clear_arena(&mut self) -> Result<(), DeviceError> {
        self.ranks
            .iter()
            .try_for_each(|rank| lock(rank).clear_arena())
    }

    /// Computes a step of single rows `repeats` times and gives the seconds that the slowest rank's device
    /// took for each, as [`CudaBackend::time_steps`] does.
    ///
    /// # Errors
    /// As there.
    pub fn time_steps(&mut self, batch: &StepBatch, repeats: usize) -> Result<Vec<f64>, StepError> {
        for _ in 0..2 {
            self.step(batch)?;
        }
        let settled = self.ranks.iter().all(|rank| lock(rank).is_settled(batch));
        let prepared = self.on_all(|_, rank| rank.prepare(batch, settled))?;
        let of_ranks = self.on_all(|number, rank| rank.time_prepared(prepared[number], repeats))?;
        let mut slowest = vec![0.0; repeats];
        for seconds in of_ranks {
            for (slowest, seconds) in slowest.iter_mut().zip(seconds) {
                *slowest = f64::max(*slowest, seconds);
            }
        }
        Ok(slowest)
    }

    /// Does something on all ranks at once, each on its own thread. Gives the results in order of rank, or
    /// the error that says most.
    fn on_all<T: Send>(
        &self,
        part: impl Fn(usize, &mut CudaBackend) -> Result<T, StepError> + Sync,
    ) -> Result<Vec<T>, StepError> {
        let results = self.threads.broadcast(|thread| {
            let rank = thread.index();
            part(rank, &mut lock(&self.ranks[rank]))
        });
        let mut failed = None;
        let mut done = Vec::with_capacity(results.len());
        for result in results {
            match result {
                Ok(value) => done.push(value),
                // Who asks for an adapter is told its failure apart from the devices'.
                Err(error) if failed.is_none() || matches!(error, StepError::Adapter(_)) => {
                    failed = Some(error);
                }
                Err(_) => {}
            }
        }
        failed.map_or(Ok(done), Err)
    }
}

impl Backend for CudaRanks {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn page_bytes(&self) -> usize {
        self.page_bytes
    }

    fn copier(&self) -> Arc<dyn Copier> {
        Arc::clone(&self.copier) as Arc<dyn Copier>
    }

    fn move_page(&mut self, from: u32, to: u32) -> Result<(), StepError> {
        self.on_all(|_, rank| rank.move_page(from, to)).map(drop)
    }

    fn step(&mut self, batch: &StepBatch) -> Result<StepOutput<'_>, StepError> {
        // An adapter may have arrived on one device and not on the next.
        let settled = self.ranks.iter().all(|rank| lock(rank).is_settled(batch));
        // Memory of the host is taken and given back before any rank waits on its device for another: the
        // driver may wait for all devices then.
        let prepared = self.on_all(|_, rank| rank.prepare(batch, settled))?;
        self.on_all(|number, rank| rank.compute(batch, prepared[number]))?;
        let ranks: Vec<_> = self.ranks.iter().map(lock).collect();
        let outputs = ranks
            .iter()
            .map(|rank| Ok((rank.tokens.clone(), rank.output(batch)?)));
        let outputs: Vec<_> = outputs.collect::<Result<_, StepError>>()?;
        self.logits
            .resize(batch.wanted.len() * self.vocabulary, 0.0);
        let rows = self
            .logits
            .par_chunks_exact_mut(self.vocabulary)
            .enumerate();
        rows.for_each(|(row, logits)| {
            for (tokens, output) in &outputs {
                let part = &output.logits[row * tokens.len()..][..tokens.len()];
                logits[tokens.clone()].copy_from_slice(part);
            }
        });
        self.hidden.clear();
        // Every rank has them whole.
        if let Some((_, output)) = outputs.first() {
            self.hidden.extend_from_slice(output.hidden);
        }
        drop(outputs);
        drop(ranks);
        Ok(StepOutput {
            logits: &self.logits,
            hidden: &self.hidden,
        })
    }
}
