//! Which connections are open, and which of them wait for nothing.
//!
//! There is room for a number of connections. When it is full, the one that has been idle longest makes
//! room for a new one: whoever opens thousands and says nothing loses those, and harms nobody.

use axum::body::{Body, HttpBody};
use http_body::{Frame, SizeHint};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{ready, Context, Poll};
use tokio::sync::watch;

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
    taken: watch::Sender<bool>,
}

impl Place {
    /// Resolves when another connection has taken it.
    pub async fn lost(&self) {
        // The sender is here, so that it cannot be gone.
        let _ = self
            .taken
            .subscribe()
            .wait_for(|taken| *taken)
            .await
            .is_ok();
    }

    fn is_lost(&self) -> bool {
        *self.taken.borrow()
    }

    fn give_away(&self) {
        self.taken.send_replace(true);
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
        if let Some(before) = idle.take() {
            state.idle.remove(&before);
        }
        let key = state.next;
        state.next += 1;
        state.idle.insert(key, Arc::clone(&self.place));
        *idle = Some(key);
    }

    /// Marks the connection as busy until the guard is dropped; none when its place is lost already.
    fn busy(self: &Arc<Self>) -> Option<Busy> {
        let mut idle = self.idle();
        let mut state = self.connections.state();
        if self.place.is_lost() {
            return None;
        }
        if let Some(key) = idle.take() {
            state.idle.remove(&key);
        }
        Some(Busy(Arc::clone(self)))
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
struct Busy(Arc<Connection>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.rest();
    }
}

/// A request. Its connection is busy only once all of it is there: whoever sends one slowly, with or
/// without a key, keeps no place from others.
pub(crate) struct Asking {
    connection: Arc<Connection>,
    busy: Mutex<Option<Busy>>,
}

impl Asking {
    pub fn new(connection: &Arc<Connection>) -> Self {
        Asking {
            connection: Arc::clone(connection),
            busy: Mutex::default(),
        }
    }

    fn guard(&self) -> MutexGuard<'_, Option<Busy>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of the request is there. False when the place was lost before.
    pub fn complete(&self) -> bool {
        let mut busy = self.guard();
        if busy.is_none() {
            *busy = self.connection.busy();
        }
        busy.is_some()
    }

    /// Resolves when the place is lost, which it never is once the request is complete.
    pub async fn lost(&self) {
        self.connection.place.lost().await;
    }

    /// The answer, which keeps the connection busy to its end, whether or not all was read that was sent.
    pub fn answer(&self, body: Body) -> Answered {
        self.complete();
        Answered {
            body,
            _busy: self.guard().take(),
        }
    }
}

/// A request's body.
pub(crate) struct Asked<B> {
    body: B,
    asking: Arc<Asking>,
}

impl<B> Asked<B> {
    pub fn new(body: B, asking: Arc<Asking>) -> Self {
        Asked { body, asking }
    }
}

impl<B: HttpBody + Unpin> HttpBody for Asked<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let ends = frame.is_none() || self.body.is_end_stream();
        if ends && !self.asking.complete() {
            // Nothing is to begin that will be cut off: `Asking::lost` has resolved.
            return Poll::Pending;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A response's body that keeps its connection busy to its end.
pub(crate) struct Answered {
    body: Body,
    _busy: Option<Busy>,
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
        let busy = first.busy().unwrap();
        // The second is idle and gives way.
        let third = Arc::new(connections.open().unwrap());
        assert_eq!(connections.count(), 2);
        assert!(second.busy().is_none(), "too late");
        drop(second);
        assert_eq!(connections.count(), 2, "its place is the third's");
        let also = third.busy().unwrap();
        assert!(connections.open().is_none(), "all are busy");
        drop(busy);
        let fourth = connections.open().unwrap();
        drop((first, fourth));
        drop(also);
        drop(third);
        assert_eq!(connections.count(), 0);
    }

    #[tokio::test]
    async fn a_request_should_keep_its_place_from_its_end_to_its_answers() {
        let connections = Connections::new(1);
        let first = Arc::new(connections.open().unwrap());
        let asking = Arc::new(Asking::new(&first));
        let mut body = Asked::new(Body::from("all of it"), Arc::clone(&asking));
        let second = Arc::new(connections.open().unwrap());
        assert!(!asking.complete(), "the second has taken the place");
        asking.lost().await;
        let context = &mut Context::from_waker(std::task::Waker::noop());
        assert!(Pin::new(&mut body).poll_frame(context).is_pending());

        let asking = Arc::new(Asking::new(&second));
        let mut body = Asked::new(Body::from("all of it"), Arc::clone(&asking));
        assert!(Pin::new(&mut body).poll_frame(context).is_ready());
        assert!(connections.open().is_none(), "all of the request is there");
        let answer = asking.answer(Body::empty());
        drop((asking, body));
        assert!(connections.open().is_none(), "it is being answered");
        drop(answer);
        assert!(connections.open().is_some());
    }
}
