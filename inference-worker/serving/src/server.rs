//! Starting and stopping: the listener, its connections, and what all requests share.

use crate::access::Keys;
use crate::connections::{Answered, Connections};
use crate::guide::Guides;
use crate::models::Models;
use crate::routes::router;
use crate::stall::Stalling;
use axum::body::Body;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::PrometheusHandle;
use openledger_engine::{EngineHandle, Event, Request};
use openledger_text::TextModel;
use std::convert::Infallible;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tower::ServiceExt;

/// Bytes that a connection reads ahead at most, headers included.
const READ_AHEAD: usize = 64 << 10;

/// Headers of a request at most.
const HEADERS: usize = 64;

/// How clients are treated.
#[derive(Clone)]
pub struct Options {
    /// Who may ask; none lets everybody.
    pub keys: Option<Keys>,
    /// Who may load and unload adapters; none lets nobody.
    pub admin: Option<Keys>,
    /// Rendered at `/metrics`, if there is one.
    pub metrics: Option<PrometheusHandle>,
    /// Connections at most; the one idle longest gives way to a new one.
    pub connections: usize,
    /// How long a client may take to send a request's headers, and to stay idle before them.
    pub idle_timeout: Duration,
    /// How long a client may take to send a body.
    pub body_timeout: Duration,
    /// How long a client may read nothing of what waits for it.
    pub slow_reader: Duration,
    /// How long a request waits for its first step.
    pub queue_timeout: Duration,
    /// How long requests under way may take to end when the server stops.
    pub grace: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            keys: None,
            admin: None,
            metrics: None,
            connections: 1024,
            idle_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(30),
            slow_reader: Duration::from_secs(30),
            queue_timeout: Duration::from_secs(120),
            grace: Duration::from_secs(30),
        }
    }
}

/// The server cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The engine computed no token when it was tried.
    #[error("the engine cannot compute: {0}")]
    Engine(String),
}

/// What requests share; clones are the same.
#[derive(Clone)]
pub struct Service {
    inner: Arc<Inner>,
}

struct Inner {
    engine: EngineHandle,
    text: TextModel,
    guides: Guides,
    models: Models,
    options: Options,
    computed: AtomicBool,
    stopping: AtomicBool,
}

impl Service {
    pub(crate) fn engine(&self) -> &EngineHandle {
        &self.inner.engine
    }

    pub(crate) fn text(&self) -> &TextModel {
        &self.inner.text
    }

    pub(crate) fn guides(&self) -> &Guides {
        &self.inner.guides
    }

    pub(crate) fn models(&self) -> &Models {
        &self.inner.models
    }

    pub(crate) fn options(&self) -> &Options {
        &self.inner.options
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.inner.stopping.load(Ordering::Relaxed)
    }

    /// What a request would lack now.
    pub(crate) fn not_ready(&self) -> Option<&'static str> {
        if !self.inner.engine.is_running() {
            Some("the engine has stopped; the server must be started again")
        } else if self.is_stopping() {
            Some("the server is shutting down")
        } else if !self.inner.computed.load(Ordering::Relaxed) {
            Some("the engine has not computed a token yet")
        } else {
            None
        }
    }
}

/// An engine behind the API.
#[derive(Clone)]
pub struct Server {
    service: Service,
}

impl Server {
    /// An engine with its tokenizer and names.
    pub fn new(engine: EngineHandle, text: TextModel, models: Models, options: Options) -> Self {
        let text = text.with_clock();
        Server {
            service: Service {
                inner: Arc::new(Inner {
                    guides: Guides::new(&text, engine.config()),
                    engine,
                    text,
                    models,
                    options,
                    computed: AtomicBool::new(false),
                    stopping: AtomicBool::new(false),
                }),
            },
        }
    }

    /// The routes alone, for a listener of one's own.
    pub fn router(&self) -> Router {
        router(self.service.clone())
    }

    /// Computes one token. The server is ready only after that.
    ///
    /// # Errors
    /// When none comes.
    pub async fn warm_up(&self) -> Result<(), ServerError> {
        let failed = |why: String| ServerError::Engine(why);
        let mut stream = self
            .service
            .engine()
            .submit(Request::new(vec![0], 1))
            .map_err(|error| failed(error.to_string()))?;
        loop {
            match stream.next().await {
                Some(Event::Failed(error)) => return Err(failed(error.to_string())),
                Some(Event::Finished(_)) => break,
                Some(_) => {}
                None => return Err(failed("it has stopped".into())),
            }
        }
        self.service.inner.computed.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Serves until `stop` resolves or the engine's thread ends. Then nothing new is taken, and what
    /// runs may end within [`Options::grace`].
    pub async fn serve(&self, listener: TcpListener, stop: impl Future<Output = ()>) {
        let service = &self.service;
        let router = self.router();
        let connections = Connections::new(service.options().connections);
        let (drain, draining) = watch::channel(false);
        let (living, mut all_ended) = mpsc::channel::<()>(1);
        tokio::pin!(stop);
        let ended = service.engine().ended();
        tokio::pin!(ended);
        loop {
            let accepted = tokio::select! {
                () = &mut stop => break,
                panic = &mut ended => {
                    tracing::error!(?panic, "the engine's thread has ended");
                    break;
                }
                accepted = listener.accept() => accepted,
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
            let Some(connection) = connections.open() else {
                full(stream);
                continue;
            };
            let (router, draining) = (router.clone(), draining.clone());
            let (options, living) = (service.options().clone(), living.clone());
            tokio::spawn(async move {
                attend(stream, Arc::new(connection), router, &options, draining).await;
                drop(living);
            });
        }
        service.inner.stopping.store(true, Ordering::Relaxed);
        drop(listener);
        drain.send_replace(true);
        drop(living);
        // Nobody sends: it ends when the last connection does.
        let rest = tokio::time::timeout(service.options().grace, all_ended.recv());
        if rest.await.is_err() {
            tracing::warn!("some answers did not end in time and are cut off");
        }
        let engine = service.engine().clone();
        if let Err(error) = tokio::task::spawn_blocking(move || engine.shutdown()).await {
            tracing::error!(%error, "stopping the engine");
        }
    }
}

/// Tells a client that there is no place, as well as a full server can.
fn full(stream: TcpStream) {
    let answer = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n\
                  content-type: application/json\r\ncontent-length: 110\r\n\r\n\
                  {\"error\":{\"message\":\"Too many connections.\",\"type\":\"server_error\",\"param\":null,\
                  \"code\":\"too_many_connections\"}}";
    // It fits into the socket's buffer or is lost.
    let _ = stream.try_write(answer.as_bytes());
}

/// Resolves when the server stops.
async fn begun(draining: &mut watch::Receiver<bool>) {
    // An error means that the server is gone, which is the same.
    let _ = draining.wait_for(|draining| *draining).await.is_ok();
}

/// Answers the requests of one connection.
async fn attend(
    stream: TcpStream,
    connection: Arc<crate::connections::Connection>,
    router: Router,
    options: &Options,
    mut draining: watch::Receiver<bool>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "nodelay");
    }
    let place = connection.place();
    let answer =
        hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let busy = connection.busy();
            let router = router.clone();
            async move {
                let response = match router.oneshot(request.map(Body::new)).await {
                    Ok(response) => response,
                    Err(never) => match never {},
                };
                Ok::<_, Infallible>(response.map(|body| Answered::new(body, busy)))
            }
        });
    let io = Stalling::new(TokioIo::new(stream), options.slow_reader);
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(options.idle_timeout)
        .max_buf_size(READ_AHEAD)
        .max_headers(HEADERS)
        .serve_connection(io, answer);
    tokio::pin!(served);
    let result = tokio::select! {
        result = served.as_mut() => result,
        // Idle, and somebody else needs the place.
        () = place.lost() => return,
        () = begun(&mut draining) => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended");
    }
}
