//! The engine behind the API, and what all requests share.

use crate::access::Keys;
use crate::guide::Guides;
use crate::models::Models;
use crate::routes::router;
use axum::Router;
use metrics_exporter_prometheus::PrometheusHandle;
use openledger_engine::{EngineHandle, Event, Request};
use openledger_http::{Front, Limits};
use openledger_text::TextModel;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

/// How clients are treated.
#[derive(Clone)]
pub struct Options {
    /// Who may ask; none lets everybody.
    pub keys: Option<Keys>,
    /// Who may load and unload adapters; none lets nobody.
    pub admin: Option<Keys>,
    /// Rendered at `/metrics`, if there is one.
    pub metrics: Option<PrometheusHandle>,
    /// How connections are treated.
    pub limits: Limits,
    /// How long a client may take to send a body.
    pub body_timeout: Duration,
    /// How long a request waits for its first step.
    pub queue_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            keys: None,
            admin: None,
            metrics: None,
            limits: Limits::default(),
            body_timeout: Duration::from_secs(30),
            queue_timeout: Duration::from_secs(120),
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

    /// From now on nothing new is taken.
    pub(crate) fn stop(&self) {
        self.inner.stopping.store(true, Ordering::Relaxed);
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

    /// Serves until `stop` resolves or the engine's thread ends. Then nothing new is taken, and what runs
    /// may end within [`Limits::grace`].
    pub async fn serve(&self, front: Front, stop: impl Future<Output = ()>) {
        let engine = self.service.engine().clone();
        let end = async {
            tokio::select! {
                () = stop => {}
                panic = engine.ended() => {
                    tracing::error!(?panic, "the engine's thread has ended");
                }
            }
            self.service.stop();
        };
        front.serve(self.router(), end).await;
        let engine = engine.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || engine.shutdown()).await {
            tracing::error!(%error, "stopping the engine");
        }
    }
}
