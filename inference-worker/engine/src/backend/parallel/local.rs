//! Ranks that are threads of one process.

use super::{Communicator, CommunicatorError, Gather};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What all ranks brought to one exchange, in order of rank.
type Round = Arc<Vec<Vec<f32>>>;

struct Group {
    ranks: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// What was brought to the exchange under way.
    brought: Vec<Option<Vec<f32>>>,
    arrived: usize,
    /// Exchanges completed, and the last of them. The next cannot complete before every rank has left
    /// this one: a rank that has not brings nothing.
    rounds: u64,
    last: Round,
    failure: Option<CommunicatorError>,
}

/// One rank of a group of threads.
pub struct LocalRank {
    group: Arc<Group>,
    rank: usize,
}

impl LocalRank {
    /// The ranks of a new group.
    pub fn group(ranks: usize) -> Vec<Self> {
        let group = Arc::new(Group {
            ranks,
            state: Mutex::new(State {
                brought: vec![None; ranks],
                ..State::default()
            }),
            changed: Condvar::new(),
        });
        let rank = |rank| Self {
            group: Arc::clone(&group),
            rank,
        };
        (0..ranks).map(rank).collect()
    }

    /// The state is whole whatever panicked: no panic can come between its changes.
    fn lock(&self) -> MutexGuard<'_, State> {
        let state = self.group.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings `values` and waits for those of the others.
    fn exchange(&self, values: &[f32]) -> Result<Round, CommunicatorError> {
        let mut state = self.lock();
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        let round = state.rounds;
        state.brought[self.rank] = Some(values.to_vec());
        state.arrived += 1;
        if state.arrived == self.group.ranks {
            let all = state
                .brought
                .iter_mut()
                .map(|v| v.take().unwrap_or_default());
            state.last = Arc::new(all.collect());
            state.arrived = 0;
            state.rounds += 1;
            self.group.changed.notify_all();
            return Ok(Arc::clone(&state.last));
        }
        loop {
            if state.rounds > round {
                return Ok(Arc::clone(&state.last));
            }
            if let Some(failure) = &state.failure {
                return Err(failure.clone());
            }
            state = self
                .group
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Communicator for LocalRank {
    type Buffer = [f32];

    fn rank(&self) -> usize {
        self.rank
    }

    fn ranks(&self) -> usize {
        self.group.ranks
    }

    fn all_reduce(&self, values: &mut [f32]) -> Result<(), CommunicatorError> {
        if self.group.ranks == 1 {
            return Ok(());
        }
        let all = self.exchange(values)?;
        for (rank, theirs) in all.iter().enumerate() {
            if theirs.len() != values.len() {
                return Err(CommunicatorError::Length {
                    expected: values.len(),
                    found: theirs.len(),
                });
            }
            if rank == 0 {
                values.copy_from_slice(theirs);
            } else {
                values.iter_mut().zip(theirs).for_each(|(sum, v)| *sum += v);
            }
        }
        Ok(())
    }

    fn abort(&self, reason: &str) {
        let failure = CommunicatorError::Aborted {
            rank: self.rank,
            reason: reason.to_owned(),
        };
        // The first one is why the others failed.
        self.lock().failure.get_or_insert(failure);
        self.group.changed.notify_all();
    }
}

impl Gather for LocalRank {
    fn all_gather(&self, part: &[f32], whole: &mut [f32]) -> Result<(), CommunicatorError> {
        if whole.len() != part.len() * self.group.ranks {
            return Err(CommunicatorError::Length {
                expected: part.len() * self.group.ranks,
                found: whole.len(),
            });
        }
        if part.is_empty() {
            return Ok(());
        }
        let all = self.exchange(part)?;
        for (theirs, into) in all.iter().zip(whole.chunks_exact_mut(part.len())) {
            if theirs.len() != part.len() {
                return Err(CommunicatorError::Length {
                    expected: part.len(),
                    found: theirs.len(),
                });
            }
            into.copy_from_slice(theirs);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `rank` on a thread for each rank and gives the results in order of rank.
    fn all<T: Send>(ranks: usize, run: impl Fn(LocalRank) -> T + Sync) -> Vec<T> {
        std::thread::scope(|scope| {
            let threads: Vec<_> = LocalRank::group(ranks)
                .into_iter()
                .map(|rank| scope.spawn(|| run(rank)))
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        })
    }

    #[test]
    fn sums_should_be_taken_in_order_of_rank_whoever_comes_first() {
        // The order shows: large values swallow small ones that come late.
        let parts = [1e8f32, -1e8, 3.3, 1e-3];
        let expected = parts.iter().fold(None, |sum: Option<f32>, v| {
            Some(sum.map_or(*v, |sum| sum + v))
        });
        for late in 0..4 {
            let sums = all(4, |rank| {
                let mut sums = Vec::new();
                for _ in 0..20 {
                    if rank.rank() == late {
                        std::thread::yield_now();
                    }
                    let mut values = [parts[rank.rank()], rank.rank() as f32];
                    rank.all_reduce(&mut values).unwrap();
                    sums.push(values);
                }
                sums
            });
            for sum in sums.into_iter().flatten() {
                assert_eq!(sum, [expected.unwrap(), 6.0]);
            }
        }
    }

    #[test]
    fn parts_should_be_gathered_in_order_of_rank() {
        let wholes = all(3, |rank| {
            let mut whole = [0.0; 6];
            let part = [rank.rank() as f32, 10.0];
            rank.all_gather(&part, &mut whole).unwrap();
            whole
        });
        assert_eq!(wholes, [[0.0, 10.0, 1.0, 10.0, 2.0, 10.0]; 3]);
    }

    #[test]
    fn a_rank_that_gives_up_should_free_those_that_wait_for_it() {
        let errors = all(4, |rank| {
            rank.all_reduce(&mut [1.0]).unwrap();
            if rank.rank() == 2 {
                rank.abort("no memory");
                return None;
            }
            rank.all_reduce(&mut [1.0]).err()
        });
        let expected = CommunicatorError::Aborted {
            rank: 2,
            reason: "no memory".to_owned(),
        };
        for (rank, error) in errors.into_iter().enumerate() {
            assert_eq!(error, (rank != 2).then(|| expected.clone()));
        }
    }

    #[test]
    fn buffers_of_different_lengths_should_be_an_error() {
        let errors = all(2, |rank| {
            let mut values = vec![0.0; 2 + rank.rank()];
            rank.all_reduce(&mut values).is_err()
        });
        assert_eq!(errors, [true, true]);
    }
}
