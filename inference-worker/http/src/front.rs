//! The listener and its connections, from before there is anything to serve to the end.

use crate::connections::{Answered, Asked, Asking, Connection, Connections};
use crate::failure::Failure;
use crate::limits::Limits;
use crate::stall::{Stalling, Unsent};
use axum::body::Body;
use axum::http::{header, StatusCode};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::Router;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use openledger_openai::ApiError;
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch, Semaphore};
use tower::ServiceExt;

/// Bytes that a connection reads ahead at most, headers included.
const READ_AHEAD: usize = 64 << 10;

/// Headers of a request at most.
const HEADERS: usize = 64;

/// Connections at a time that have no place, or lost theirs, and are told so; others are only hung up on.
/// Those that are still to get the rest of an answer are counted apart: whoever opens thousands and says
/// nothing takes nobody's answer.
const LEAVING: usize = 64;

/// How many connections may still be on their way out.
struct Farewells {
    silent: Arc<Semaphore>,
    answered: Semaphore,
}

impl Farewells {
    fn new() -> Self {
        Farewells {
            silent: Arc::new(Semaphore::new(LEAVING)),
            answered: Semaphore::new(LEAVING),
        }
    }
}

/// An open listener. What it answers changes once there is a model.
pub struct Front {
    listener: TcpListener,
    limits: Limits,
    connections: Connections,
    farewells: Arc<Farewells>,
    /// Looked up for each request: a connection outlives the loading.
    routes: watch::Sender<Router>,
    drain: watch::Sender<bool>,
    /// None once the server stops: who comes then is not waited for.
    living: Option<mpsc::Sender<()>>,
    all_ended: Option<mpsc::Receiver<()>>,
}

impl Front {
    /// Over a listener, with what it answers until there is more.
    pub fn new(listener: TcpListener, limits: Limits, routes: Router) -> Self {
        let (living, all_ended) = mpsc::channel(1);
        Front {
            listener,
            connections: Connections::new(limits.connections),
            farewells: Arc::new(Farewells::new()),
            routes: watch::Sender::new(routes),
            limits,
            drain: watch::Sender::new(false),
            living: Some(living),
            all_ended: Some(all_ended),
        }
    }

    /// Answers by the routes that it began with until `loaded` resolves.
    pub async fn wait_for<T>(&self, loaded: impl Future<Output = T>) -> T {
        self.accept_until(loaded).await
    }

    /// Serves other routes from now on, until `stop` resolves. Then nothing new is taken, and what runs may
    /// end within [`Limits::grace`]; who asks meanwhile is told that the server is shutting down.
    pub async fn serve(mut self, routes: Router, stop: impl Future<Output = ()>) {
        self.routes.send_modify(|current| *current = routes);
        self.accept_until(stop).await;
        self.routes.send_modify(|current| *current = stopping());
        self.drain.send_replace(true);
        drop(self.living.take());
        let all_ended = self.all_ended.take();
        let ended = async {
            if let Some(mut all_ended) = all_ended {
                // Nobody sends: it ends when the last connection does.
                all_ended.recv().await;
            }
        };
        let rest = tokio::time::timeout(self.limits.grace, ended);
        if self.accept_until(rest).await.is_err() {
            tracing::warn!("some answers did not end in time and are cut off");
        }
    }

    /// Takes connections until `end` resolves.
    async fn accept_until<T>(&self, end: impl Future<Output = T>) -> T {
        tokio::pin!(end);
        loop {
            let accepted = tokio::select! {
                ended = &mut end => return ended,
                accepted = self.listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, most likely: they come back as connections end.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let Some(connection) = self.connections.open() else {
                if let Ok(permit) = Arc::clone(&self.farewells.silent).try_acquire_owned() {
                    let patience = self.limits.farewell;
                    tokio::spawn(async move {
                        let told = tokio::time::timeout(patience, turn_away(stream)).await;
                        tracing::debug!(?told, "there was no place for a connection");
                        drop(permit);
                    });
                }
                continue;
            };
            // Who comes while the server stops is answered all the same.
            let draining = self.living.is_some().then(|| self.drain.subscribe());
            let routes = self.routes.subscribe();
            let (limits, living) = (self.limits.clone(), self.living.clone());
            let farewells = Arc::clone(&self.farewells);
            tokio::spawn(async move {
                let connection = Arc::new(connection);
                attend(stream, connection, routes, &limits, draining, &farewells).await;
                drop(living);
            });
        }
    }
}

/// Seconds after which somebody else may answer in the place of a server that stops.
const ELSEWHERE: u64 = 5;

/// What is answered while the server stops.
fn stopping() -> Router {
    let ready = || async {
        let body = r#"{"ready":false,"why":"the server is shutting down"}"#;
        let json = [(header::CONTENT_TYPE, "application/json")];
        (StatusCode::SERVICE_UNAVAILABLE, json, body)
    };
    let refuse = || async {
        let mut error = ApiError::unavailable("The server is shutting down.");
        error.retry_after = Some(ELSEWHERE);
        Failure(error)
    };
    Router::new()
        .route("/health", get(|| async { "ok\n" }))
        .route("/ready", get(ready))
        .fallback(refuse)
}

/// Said to a client that has no place.
fn no_place() -> ApiError {
    let message = "Too many connections. Try again.";
    let mut error = ApiError::new(503, "server_error", "too_many_connections", message);
    error.retry_after = Some(1);
    error
}

/// Tells a client that there is no place, once it asks: clients take nothing for an answer that comes
/// before. The rest of what it sends is read and forgotten: closing at once would take the answer from it.
async fn turn_away(mut stream: TcpStream) -> std::io::Result<()> {
    let mut ignored = [0; 4096];
    if stream.read(&mut ignored).await? == 0 {
        return Ok(());
    }
    let body = no_place().body().to_string();
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    while stream.read(&mut ignored).await? > 0 {}
    Ok(())
}

/// Resolves when the server stops; never on a connection that came after.
async fn begun(draining: &mut Option<watch::Receiver<bool>>) {
    let Some(draining) = draining else {
        return std::future::pending().await;
    };
    // An error means that the server is gone, which is the same.
    let _ = draining.wait_for(|draining| *draining).await.is_ok();
}

/// Answers one request, as soon as all of it that is wanted is there.
async fn respond(
    connection: &Arc<Connection>,
    router: Router,
    request: hyper::Request<Incoming>,
) -> hyper::Response<Answered> {
    let asking = Arc::new(Asking::new(connection));
    if request.body().is_end_stream() {
        asking.complete();
    }
    let request = request.map(|body| Body::new(Asked::new(body, Arc::clone(&asking))));
    let response = tokio::select! {
        biased;
        () = asking.lost() => Failure(no_place()).into_response(),
        response = router.oneshot(request) => match response {
            Ok(response) => response,
            Err(never) => match never {},
        },
    };
    response.map(|body| asking.answer(body))
}

/// Answers the requests of one connection.
async fn attend(
    stream: TcpStream,
    connection: Arc<Connection>,
    routes: watch::Receiver<Router>,
    limits: &Limits,
    mut draining: Option<watch::Receiver<bool>>,
    farewells: &Farewells,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "nodelay");
    }
    let place = connection.place();
    let answer = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let connection = Arc::clone(&connection);
        let router = routes.borrow().clone();
        async move { Ok::<_, Infallible>(respond(&connection, router, request).await) }
    });
    let unsent = Unsent::default();
    let io = Stalling::new(TokioIo::new(stream), limits.slow_reader, unsent.clone());
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle_timeout)
        .max_buf_size(READ_AHEAD)
        .max_headers(HEADERS)
        .serve_connection(io, answer);
    tokio::pin!(served);
    let result = tokio::select! {
        result = served.as_mut() => result,
        // Somebody else needs the place. The end of an answer may still be on its way, or a request have
        // come just now, which is told so.
        () = place.lost() => {
            served.as_mut().graceful_shutdown();
            let leaving = match unsent.is_there() {
                true => &farewells.answered,
                false => &*farewells.silent,
            };
            let permit = leaving.try_acquire();
            let patience = match permit {
                Ok(_) => limits.farewell,
                // Whoever opens thousands is not to hold as many files open by this.
                Err(_) => Duration::ZERO,
            };
            match tokio::time::timeout(patience, served).await {
                Ok(result) => result,
                Err(_) => return,
            }
        }
        () = begun(&mut draining) => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended");
    }
}
