//! Places for requests that wait or run, in all and for each tenant, and when one is likely to be free.

use crate::error::SubmitError;
use crate::scheduler::queue::Tenant;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Weight of the latest answer in the pace of answers.
const PACE_WEIGHT: f64 = 0.1;

/// The longest wait that is asked of anybody.
const LONGEST: Duration = Duration::from_secs(60);

/// The places.
pub(crate) struct QueueRoom {
    limit: usize,
    tenant_limit: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    taken: usize,
    tenants: HashMap<Tenant, usize>,
    freed: Option<Instant>,
    /// Seconds from one place given back to the next, as of late.
    pace: f64,
}

impl QueueRoom {
    /// `limit` places, at most `tenant_limit` of them one tenant's.
    pub fn new(limit: usize, tenant_limit: usize) -> Self {
        Self {
            limit,
            tenant_limit,
            state: Mutex::default(),
        }
    }

    /// Places that one tenant may have at most, when there is nobody else.
    pub fn most(&self) -> usize {
        self.limit.min(self.tenant_limit)
    }

    /// A panic elsewhere leaves the counts whole: nothing below can panic between two changes.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of the places, given back when dropped.
pub(crate) struct Place {
    room: Arc<QueueRoom>,
    tenant: Tenant,
}

impl Place {
    /// Takes a place, if there is one for this tenant.
    pub fn take(room: &Arc<QueueRoom>, tenant: Tenant) -> Result<Self, SubmitError> {
        let mut state = room.state();
        let full = state.taken >= room.limit;
        let own = state.tenants.get(&tenant).copied().unwrap_or(0);
        if full || own >= room.tenant_limit {
            // A place of one's own comes as often as one's share of all.
            let places = if full {
                1.0
            } else {
                state.taken as f64 / own as f64
            };
            let wait = Duration::try_from_secs_f64(state.pace * places).unwrap_or(LONGEST);
            let seconds = wait.min(LONGEST).as_secs_f64().ceil().max(1.0);
            return Err(SubmitError::QueueFull {
                limit: if full { room.limit } else { room.tenant_limit },
                own: !full,
                retry_after: Duration::from_secs(seconds as u64),
            });
        }
        state.taken += 1;
        *state.tenants.entry(tenant).or_default() += 1;
        drop(state);
        Ok(Self {
            room: Arc::clone(room),
            tenant,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.room.state();
        state.taken -= 1;
        if let Some(own) = state.tenants.get_mut(&self.tenant) {
            *own -= 1;
            if *own == 0 {
                state.tenants.remove(&self.tenant);
            }
        }
        if state.taken == 0 {
            // Nobody waits: the time to the next end says nothing of how fast places come free.
            state.freed = None;
            return;
        }
        let now = Instant::now();
        if let Some(freed) = state.freed.replace(now) {
            let seconds = now.saturating_duration_since(freed).as_secs_f64();
            state.pace += PACE_WEIGHT * (seconds - state.pace);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_should_be_counted_in_all_and_for_each_tenant() {
        let room = Arc::new(QueueRoom::new(3, 2));
        let (a, b) = (Tenant([1; 32]), Tenant([2; 32]));
        let refused = |tenant| match Place::take(&room, tenant) {
            Err(SubmitError::QueueFull {
                limit,
                own,
                retry_after,
            }) => {
                assert!(retry_after >= Duration::from_secs(1));
                Some((limit, own))
            }
            _ => None,
        };
        let first = Place::take(&room, a).unwrap();
        let _second = Place::take(&room, a).unwrap();
        assert_eq!(refused(a), Some((2, true)));
        let _third = Place::take(&room, b).unwrap();
        assert_eq!(refused(b), Some((3, false)));
        drop(first);
        assert_eq!(
            refused(a),
            None,
            "the place is taken and given back at once"
        );
        assert_eq!(room.state().taken, 2);
    }
}
