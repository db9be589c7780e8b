//! Which lane is free. Waiting is first come, first served, for a bounded number of requests and a
//! bounded time.

use crate::GatewayError;
use openledger_primitives::{ChannelId, LaneIndex};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        atomic::{AtomicUsize, Ordering},
        Arc, Mutex, MutexGuard, PoisonError,
    },
    time::Duration,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The lanes that can be used.
pub struct LanePool {
    channel: ChannelId,
    permits: Arc<Semaphore>,
    lanes: Mutex<Lanes>,
    waiting: AtomicUsize,
    queue: usize,
    patience: Duration,
}

#[derive(Default)]
struct Lanes {
    /// The one that was used longest ago is next: a lane that does not work is not met again until
    /// all others were.
    free: VecDeque<LaneIndex>,
    /// Why each parked lane is parked.
    parked: BTreeMap<LaneIndex, String>,
    usable: usize,
}

/// A lane in use; free again when dropped.
pub struct LaneGuard {
    pool: Arc<LanePool>,
    lane: LaneIndex,
    permit: Option<OwnedSemaphorePermit>,
    parked: Option<String>,
}

impl LanePool {
    /// A pool of `lanes`, of which those with a reason are parked. At most `queue` requests wait, each
    /// at most `patience`.
    pub fn new(
        channel: ChannelId,
        lanes: impl IntoIterator<Item = (LaneIndex, Option<String>)>,
        queue: usize,
        patience: Duration,
    ) -> Arc<Self> {
        let mut state = Lanes::default();
        for (lane, parked) in lanes {
            match parked {
                Some(reason) => {
                    state.parked.insert(lane, reason);
                }
                None => state.free.push_back(lane),
            }
        }
        state.free.make_contiguous().sort_unstable();
        state.usable = state.free.len();
        Arc::new(LanePool {
            channel,
            permits: Arc::new(Semaphore::new(state.usable)),
            lanes: Mutex::new(state),
            waiting: AtomicUsize::new(0),
            queue,
            patience,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lanes that are not parked.
    pub fn usable(&self) -> usize {
        self.lock().usable
    }

    /// Lanes that are parked, with the reason.
    pub fn parked(&self) -> BTreeMap<LaneIndex, String> {
        self.lock().parked.clone()
    }

    /// A free lane.
    ///
    /// # Errors
    /// [`GatewayError::AllParked`] when there is none to wait for, [`GatewayError::Busy`] when the
    /// queue is full or patience is over.
    pub async fn acquire(self: &Arc<Self>) -> Result<LaneGuard, GatewayError> {
        let usable = self.usable();
        if usable == 0 {
            return Err(GatewayError::AllParked {
                channel: self.channel,
                reason: self
                    .parked()
                    .into_values()
                    .next_back()
                    .unwrap_or_else(|| "the channel has no lanes".into()),
            });
        }
        let permit = match self.permits.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let _place = Place::take(&self.waiting, self.queue)
                    .ok_or(GatewayError::Busy { lanes: usable })?;
                match tokio::time::timeout(self.patience, self.permits.clone().acquire_owned())
                    .await
                {
                    Ok(Ok(permit)) => permit,
                    _ => return Err(GatewayError::Busy { lanes: usable }),
                }
            }
        };
        let lane = self
            .lock()
            .free
            .pop_front()
            .ok_or(GatewayError::Busy { lanes: usable })?;
        Ok(LaneGuard {
            pool: self.clone(),
            lane,
            permit: Some(permit),
            parked: None,
        })
    }
}

/// A place in the queue.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize, queue: usize) -> Option<Self> {
        waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| {
                (waiting < queue).then_some(waiting + 1)
            })
            .ok()
            .map(|_| Place(waiting))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl LaneGuard {
    /// Which lane.
    pub fn lane(&self) -> LaneIndex {
        self.lane
    }

    /// Takes the lane out of use when the guard is dropped.
    pub fn park(&mut self, reason: String) {
        self.parked = Some(reason);
    }
}

impl Drop for LaneGuard {
    fn drop(&mut self) {
        let mut lanes = self.pool.lock();
        match self.parked.take() {
            Some(reason) => {
                lanes.parked.insert(self.lane, reason);
                lanes.usable = lanes.usable.saturating_sub(1);
                if let Some(permit) = self.permit.take() {
                    permit.forget();
                }
            }
            None => lanes.free.push_back(self.lane),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(lanes: u16, queue: usize) -> Arc<LanePool> {
        LanePool::new(
            1,
            (0..lanes).map(|lane| (lane, None)),
            queue,
            Duration::from_secs(5),
        )
    }

    #[tokio::test]
    async fn a_lane_is_used_by_one_request_at_a_time() {
        let pool = pool(2, 0);
        let (a, b) = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
        assert_ne!(a.lane(), b.lane());
        assert!(matches!(
            pool.acquire().await,
            Err(GatewayError::Busy { lanes: 2 })
        ));
        let lane = a.lane();
        drop(a);
        assert_eq!(pool.acquire().await.unwrap().lane(), lane);
    }

    #[tokio::test]
    async fn a_lane_given_back_waits_for_its_turn() {
        let pool = pool(3, 0);
        let mut used = Vec::new();
        for _ in 0..4 {
            used.push(pool.acquire().await.unwrap().lane());
        }
        assert_eq!(used, [0, 1, 2, 0]);
    }

    #[tokio::test]
    async fn a_request_in_the_queue_gets_the_lane_that_is_freed() {
        let pool = pool(1, 1);
        let first = pool.acquire().await.unwrap();
        let waiting = tokio::spawn({
            let pool = pool.clone();
            async move { pool.acquire().await.map(|guard| guard.lane()) }
        });
        while pool.waiting.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        assert!(matches!(
            pool.acquire().await,
            Err(GatewayError::Busy { .. })
        ));
        drop(first);
        assert_eq!(waiting.await.unwrap().unwrap(), 0);
    }

    #[tokio::test]
    async fn a_parked_lane_is_not_given_out_again() {
        let pool = pool(1, 4);
        let mut guard = pool.acquire().await.unwrap();
        guard.park("wrong fee".into());
        drop(guard);
        assert!(matches!(
            pool.acquire().await,
            Err(GatewayError::AllParked { reason, .. }) if reason == "wrong fee"
        ));
    }
}
