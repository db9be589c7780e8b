//! Loss and gradients of a batch, lane by lane.
//!
//! Each lane runs on one thread from end to end. Two threads that share nothing until the end of a step use two
//! cores better than two threads that meet after every operation, above all when other programs use the cores too;
//! and since lanes are summed in order, the result does not depend on how they were scheduled.

use candle_core::{Tensor, Var};
use openledger_model::{Adapter, ModelConfig, Weights};
use rayon::ThreadPool;

use crate::batch::Shard;
use crate::error::{Error, Result};

/// A model, and the adapter on it if there is one.
#[derive(Clone, Copy)]
pub struct Model<'a> {
    /// Shape and constants.
    pub config: &'a ModelConfig,
    /// Weights of the base.
    pub weights: &'a Weights,
    /// The adapter.
    pub adapter: Option<&'a Adapter>,
}

impl Model<'_> {
    /// Logits `[rows, seq, vocab]` of ids `[rows, seq]`.
    pub fn logits(&self, ids: &Tensor) -> Result<Tensor> {
        Ok(openledger_model::forward(
            self.config,
            self.weights,
            self.adapter,
            ids,
        )?)
    }
}

/// Keeps candle's element-wise operations on the lane that asks for them; call it first in a process that only trains.
///
/// candle spreads large element-wise operations over a pool of spinning threads of its own, one job at a time, which
/// two lanes fight for: a training took 48 s of processor time with the pool and 31 s without. The pool's size is read
/// from this variable when it is first used.
pub fn one_thread_per_lane() {
    std::env::set_var("RAYON_NUM_THREADS", "1");
}

/// Threads on which lanes run, one each.
pub struct Lanes {
    pools: Vec<ThreadPool>,
}

impl Lanes {
    /// `count` lanes; two suit two cores.
    pub fn new(count: usize) -> Result<Self> {
        let pools = (0..count.max(1))
            .map(|_| rayon::ThreadPoolBuilder::new().num_threads(1).build())
            .collect::<std::result::Result<_, _>>()
            .map_err(|e| Error::Invalid(format!("threads: {e}")))?;
        Ok(Self { pools })
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.pools.len()
    }

    /// Runs `work` on each item, item `i` on lane `i mod count`, and returns the results in order.
    pub fn map<T: Sync, R: Send>(&self, items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
        let mut slots: Vec<Option<R>> = (0..items.len()).map(|_| None).collect();
        std::thread::scope(|scope| {
            let mut shares: Vec<Vec<(&T, &mut Option<R>)>> =
                self.pools.iter().map(|_| Vec::new()).collect();
            for (i, pair) in items.iter().zip(slots.iter_mut()).enumerate() {
                shares[i % self.pools.len()].push(pair);
            }
            for (pool, share) in self.pools.iter().zip(shares) {
                let work = &work;
                scope.spawn(move || {
                    pool.install(|| {
                        for (item, slot) in share {
                            *slot = Some(work(item));
                        }
                    })
                });
            }
        });
        slots.into_iter().flatten().collect()
    }
}

/// Mean loss over the learned tokens of a batch, and its gradient.
pub struct Gradients {
    /// Nats per learned token.
    pub loss: f64,
    /// One flat vector per variable.
    pub flat: Vec<Vec<f32>>,
}

/// Loss and gradients with respect to `vars`, of a batch divided by [`crate::batch::lanes`].
pub fn gradients(
    lanes: &Lanes,
    model: Model<'_>,
    vars: &[Var],
    batch: &[Vec<Shard>],
) -> Result<Gradients> {
    let learned: f32 = batch.iter().flatten().map(Shard::learned).sum();
    if learned == 0.0 {
        return Err(Error::Invalid("a batch without anything to learn".into()));
    }
    let parts = lanes.map(batch, |lane| lane_gradients(model, vars, lane, learned));
    let mut total: Option<Gradients> = None;
    for part in parts {
        let part = part?;
        match &mut total {
            None => total = Some(part),
            Some(total) => {
                total.loss += part.loss;
                for (sum, grad) in total.flat.iter_mut().zip(&part.flat) {
                    add(sum, grad);
                }
            }
        }
    }
    total.ok_or_else(|| Error::Invalid("an empty batch".into()))
}

fn lane_gradients(
    model: Model<'_>,
    vars: &[Var],
    lane: &[Shard],
    learned: f32,
) -> Result<Gradients> {
    let mut out = Gradients {
        loss: 0.0,
        flat: vars.iter().map(|v| vec![0.0; v.elem_count()]).collect(),
    };
    for shard in lane {
        let share = shard.learned();
        if share == 0.0 {
            continue;
        }
        let dims = shard.ids.dims2()?;
        let device = shard.ids.device();
        let targets = Tensor::from_slice(&shard.targets, dims, device)?;
        let mask = Tensor::from_slice(&shard.weights, dims, device)?;
        let mean = openledger_model::loss(&model.logits(&shard.ids)?, &targets, &mask)?;
        let loss = (mean * f64::from(share / learned))?;
        out.loss += f64::from(loss.to_scalar::<f32>()?);
        let mut grads = loss.backward()?;
        for (var, sum) in vars.iter().zip(&mut out.flat) {
            if let Some(grad) = grads.remove(var.as_tensor()) {
                add(sum, &grad.flatten_all()?.to_vec1::<f32>()?);
            }
        }
    }
    Ok(out)
}

fn add(sum: &mut [f32], more: &[f32]) {
    for (a, b) in sum.iter_mut().zip(more) {
        *a += b;
    }
}
