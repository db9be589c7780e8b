//! The listener and its connections, from before there is anything to serve to the end.

use crate::connections::{Answered, Connection, Connections};
use crate::routes;
use crate::server::{Options, Server};
use crate::stall::Stalling;
use axum::body::Body;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
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

/// Clients at a time that are told that there is no place; others are only hung up on.
const TURNED_AWAY: usize = 64;

/// How long it may take to tell one of them.
const FAREWELL: Duration = Duration::from_secs(1);

/// An open listener. What it answers changes once there is a model.
pub struct Front {
    listener: TcpListener,
    options: Options,
    connections: Connections,
    farewells: Arc<Semaphore>,
    /// Looked up for each request: a connection outlives the loading.
    routes: watch::Sender<Router>,
    drain: watch::Sender<bool>,
    living: mpsc::Sender<()>,
    all_ended: mpsc::Receiver<()>,
}

impl Front {
    /// Over a listener. Of the options, those about connections hold here.
    pub fn new(listener: TcpListener, options: Options) -> Self {
        let (living, all_ended) = mpsc::channel(1);
        Front {
            listener,
            connections: Connections::new(options.connections),
            farewells: Arc::new(Semaphore::new(TURNED_AWAY)),
            routes: watch::Sender::new(routes::loading(&options)),
            options,
            drain: watch::Sender::new(false),
            living,
            all_ended,
        }
    }

    /// Tells who asks that the model is being loaded, until `loaded` resolves.
    pub async fn wait_for<T>(&self, loaded: impl Future<Output = T>) -> T {
        self.accept_until(loaded).await
    }

    /// Serves until `stop` resolves or the engine's thread ends. Then nothing new is taken, and what
    /// runs may end within [`Options::grace`].
    pub async fn serve(mut self, server: &Server, stop: impl Future<Output = ()>) {
        let service = server.service();
        self.routes.send_modify(|routes| *routes = server.router());
        let end = async {
            tokio::select! {
                () = stop => {}
                panic = service.engine().ended() => {
                    tracing::error!(?panic, "the engine's thread has ended");
                }
            }
        };
        self.accept_until(end).await;
        service.stop();
        drop(self.listener);
        self.drain.send_replace(true);
        drop(self.living);
        // Nobody sends: it ends when the last connection does.
        let rest = tokio::time::timeout(self.options.grace, self.all_ended.recv());
        if rest.await.is_err() {
            tracing::warn!("some answers did not end in time and are cut off");
        }
        let engine = service.engine().clone();
        if let Err(error) = tokio::task::spawn_blocking(move || engine.shutdown()).await {
            tracing::error!(%error, "stopping the engine");
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
                if let Ok(permit) = Arc::clone(&self.farewells).try_acquire_owned() {
                    tokio::spawn(async move {
                        let told = tokio::time::timeout(FAREWELL, turn_away(stream)).await;
                        tracing::debug!(?told, "there was no place for a connection");
                        drop(permit);
                    });
                }
                continue;
            };
            let (routes, draining) = (self.routes.subscribe(), self.drain.subscribe());
            let (options, living) = (self.options.clone(), self.living.clone());
            tokio::spawn(async move {
                attend(stream, Arc::new(connection), routes, &options, draining).await;
                drop(living);
            });
        }
    }
}

/// Tells a client that there is no place, once it asks: clients take nothing for an answer that comes
/// before. The rest of what it sends is read and forgotten: closing at once would take the answer from it.
async fn turn_away(mut stream: TcpStream) -> std::io::Result<()> {
    let mut ignored = [0; 4096];
    if stream.read(&mut ignored).await? == 0 {
        return Ok(());
    }
    let body = concat!(
        r#"{"error":{"message":"Too many connections. Try again.","type":"server_error","#,
        r#""param":null,"code":"too_many_connections"}}"#,
    );
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

/// Resolves when the server stops.
async fn begun(draining: &mut watch::Receiver<bool>) {
    // An error means that the server is gone, which is the same.
    let _ = draining.wait_for(|draining| *draining).await.is_ok();
}

/// Answers the requests of one connection.
async fn attend(
    stream: TcpStream,
    connection: Arc<Connection>,
    routes: watch::Receiver<Router>,
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
            let router = routes.borrow().clone();
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
