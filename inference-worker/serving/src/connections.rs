//! Which connections are open, and which of them wait for nothing.
//!
//! There is room for a number of connections. When it is full, the one that has been idle longest makes
//! room for a new one: whoever opens thousands and says nothing loses those, and harms nobody.

use axum::body::{Body, HttpBody};
use http_body::{Frame, SizeHint};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tokio::sync::Notify;

/// The open connections.
#[derive(Clone)]
pub(crate) struct Connections {
    most: usize,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    open: usize,
    next: u64,
    /// By when they became idle, earliest first.
    idle: BTreeMap<u64, Arc<Place>>,
}

/// A place among the connections.
#[derive(Default)]
pub(crate) struct Place {
    taken: AtomicBool,
    told: Notify,
}

impl Place {
    /// Resolves when another connection has taken it.
    pub async fn lost(&self) {
        self.told.notified().await;
    }

    fn is_lost(&self) -> bool {
        self.taken.load(Ordering::Acquire)
    }

    fn give_away(&self) {
        self.taken.store(true, Ordering::Release);
        self.told.notify_one();
    }
}

impl Connections {
    pub fn new(most: usize) -> Self {
        Connections {
            most,
            state: Arc::default(),
        }
    }

    /// A panic elsewhere leaves the counts whole: nothing below can panic between two changes.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a new connection, if need be that of an idle one; none when all are busy.
    pub fn open(&self) -> Option<Connection> {
        let mut state = self.state();
        if state.open >= self.most {
            let (_, idle) = state.idle.pop_first()?;
            idle.give_away();
        } else {
            state.open += 1;
        }
        drop(state);
        let connection = Connection {
            connections: self.clone(),
            place: Arc::default(),
            idle: Mutex::default(),
        };
        connection.rest();
        Some(connection)
    }

    /// Connections that have a place.
    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.state().open
    }
}

/// A connection's place.
pub(crate) struct Connection {
    connections: Connections,
    place: Arc<Place>,
    /// Since when it is idle, as a key of [`State::idle`]; none while it is busy.
    idle: Mutex<Option<u64>>,
}

impl Connection {
    /// The place, which may be lost.
    pub fn place(&self) -> Arc<Place> {
        Arc::clone(&self.place)
    }

    fn idle(&self) -> MutexGuard<'_, Option<u64>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks the connection as idle from now on.
    fn rest(&self) {
        let mut idle = self.idle();
        let mut state = self.connections.state();
        if self.place.is_lost() {
            return;
        }
        let key = state.next;
        state.next += 1;
        state.idle.insert(key, Arc::clone(&self.place));
        *idle = Some(key);
    }

    /// Marks the connection as busy until the guard is dropped.
    pub fn busy(self: &Arc<Self>) -> Busy {
        if let Some(key) = self.idle().take() {
            self.connections.state().idle.remove(&key);
        }
        Busy(Arc::clone(self))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let key = self.idle().take();
        let mut state = self.connections.state();
        if let Some(key) = key {
            state.idle.remove(&key);
        }
        if !self.place.is_lost() {
            state.open -= 1;
        }
    }
}

/// While it lives, the connection is answering.
pub(crate) struct Busy(Arc<Connection>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.rest();
    }
}

/// A response's body that keeps its connection busy to its end.
pub(crate) struct Answered {
    body: Body,
    _busy: Busy,
}

impl Answered {
    pub fn new(body: Body, busy: Busy) -> Self {
        Answered { body, _busy: busy }
    }
}

impl HttpBody for Answered {
    type Data = <Body as HttpBody>::Data;
    type Error = <Body as HttpBody>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_idle_longest_should_make_room_and_no_busy_one() {
        let connections = Connections::new(2);
        let first = Arc::new(connections.open().unwrap());
        let second = Arc::new(connections.open().unwrap());
        let busy = first.busy();
        // The second is idle and gives way.
        let third = Arc::new(connections.open().unwrap());
        assert_eq!(connections.count(), 2);
        drop(second);
        assert_eq!(connections.count(), 2, "its place is the third's");
        let also = third.busy();
        assert!(connections.open().is_none(), "all are busy");
        drop(busy);
        let fourth = connections.open().unwrap();
        drop((first, fourth));
        drop(also);
        drop(third);
        assert_eq!(connections.count(), 0);
    }
}
