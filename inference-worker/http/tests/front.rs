//! Connections that give way, bodies, and the page of metrics.

use axum::body::{to_bytes, Body};
use axum::extract::Request;
use axum::routing::get;
use axum::Router;
use metrics_exporter_prometheus::PrometheusBuilder;
use openledger_http::{metrics, read, Front, Limits};
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;

/// Far longer than anything here takes, and than any machine's hiccup.
const LONG: Duration = Duration::from_secs(600);

/// Bytes of an answer that no buffer on its way holds.
const LARGE: usize = 32 << 20;

/// Connections that may be on their way out while they say nothing.
const LEAVING: usize = 64;

/// What comes of an answer that a test drives.
type Driven = mpsc::Receiver<Result<String, Infallible>>;

/// A front with room for one connection.
async fn narrow(driven: Option<Driven>) -> (SocketAddr, JoinHandle<()>) {
    let limits = Limits {
        connections: 1,
        idle_timeout: LONG,
        slow_reader: LONG,
        farewell: LONG,
        ..Limits::default()
    };
    serving(limits, driven).await
}

/// A front, which sends at `/driven` what comes.
async fn serving(limits: Limits, driven: Option<Driven>) -> (SocketAddr, JoinHandle<()>) {
    serving_until(limits, driven, std::future::pending()).await
}

/// [`serving`] until it is told to stop.
async fn serving_until(
    limits: Limits,
    driven: Option<Driven>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> (SocketAddr, JoinHandle<()>) {
    let driven = Arc::new(Mutex::new(driven));
    let driven = move || {
        let driven = driven.lock().unwrap().take().unwrap();
        async { Body::from_stream(ReceiverStream::new(driven)) }
    };
    let routes = Router::new()
        .route("/large", get(|| async { vec![b'x'; LARGE] }))
        .route("/small", get(|| async { "small" }))
        .route("/driven", get(driven));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let front = Front::new(listener, limits, Router::new());
    let serving = front.serve(routes, stop);
    (address, tokio::spawn(serving))
}

/// A connection on which this was sent.
async fn send(address: SocketAddr, sent: &str) -> TcpStream {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(sent.as_bytes()).await.unwrap();
    socket
}

/// A connection that is being answered.
async fn ask(address: SocketAddr, path: &str) -> TcpStream {
    let mut socket = send(address, &format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
    let mut begin = [0; 12];
    let read = tokio::time::timeout(LONG, socket.read_exact(&mut begin));
    read.await.expect("it is answered").unwrap();
    assert_eq!(&begin, b"HTTP/1.1 200");
    socket
}

/// What still comes, to the end.
async fn rest(mut socket: TcpStream) -> usize {
    let mut all = Vec::new();
    // It may also be reset.
    let _ = socket.read_to_end(&mut all).await.is_ok();
    all.len()
}

#[tokio::test]
async fn an_answer_on_its_way_should_arrive_when_its_connection_gives_way() {
    let (address, serving) = narrow(None).await;
    let large = ask(address, "/large").await;
    // The server is through with it, and most of it has not left: the place is another's.
    let _small = ask(address, "/small").await;
    assert!(rest(large).await > LARGE);
    serving.abort();
}

#[tokio::test]
async fn silent_connections_on_their_way_out_should_cut_no_answer() {
    let (address, serving) = narrow(None).await;
    let mut silent = Vec::new();
    for _ in 0..=LEAVING {
        // Each takes the place of the one before, which waits for headers that never end.
        silent.push(send(address, "GET /small HTTP/1.1\r\nhost: x\r\n").await);
        // Accepted in turn.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let large = ask(address, "/large").await;
    let _small = ask(address, "/small").await;
    assert!(rest(large).await > LARGE);
    serving.abort();
}

/// Reads until this has come.
async fn until(socket: &mut TcpStream, what: &str) {
    let mut answer = String::new();
    while !answer.contains(what) {
        let mut more = [0; 256];
        let read = socket.read(&mut more).await.unwrap();
        assert!(read > 0, "it is cut off after {answer}");
        answer.push_str(std::str::from_utf8(&more[..read]).unwrap());
    }
}

#[tokio::test]
async fn an_answer_that_pauses_should_go_on() {
    let limits = Limits {
        idle_timeout: Duration::from_millis(50),
        slow_reader: Duration::from_millis(50),
        ..Limits::default()
    };
    let (more, driven) = mpsc::channel(1);
    let (address, serving) = serving(limits, Some(driven)).await;
    let mut socket = ask(address, "/driven").await;
    more.send(Ok("first".into())).await.unwrap();
    until(&mut socket, "first").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    more.send(Ok("second".into())).await.unwrap();
    until(&mut socket, "second").await;
    serving.abort();
}

#[tokio::test]
async fn a_connection_that_is_being_answered_should_keep_its_place() {
    let (more, driven) = mpsc::channel(1);
    let (address, serving) = narrow(Some(driven)).await;
    let mut busy = ask(address, "/driven").await;
    let mut crowd = Vec::new();
    for _ in 0..500 {
        crowd.push(send(address, "GET /small HTTP/1.1\r\nhost: x\r\n").await);
    }
    more.send(Ok("still here".into())).await.unwrap();
    until(&mut busy, "still here").await;
    serving.abort();
}

#[tokio::test]
async fn the_page_of_metrics_should_be_there_whoever_says_nothing() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let address = ([127, 0, 0, 1], 0).into();
    let address = metrics::serve(address, recorder.handle()).await.unwrap();
    let mut silent = Vec::new();
    for _ in 0..500 {
        silent.push(send(address, "GET /metrics HTTP/1.1\r\n").await);
    }
    ask(address, "/metrics").await;
    // Those that came first have made room.
    assert_eq!(rest(silent.swap_remove(0)).await, 0);
}

#[tokio::test]
async fn a_body_should_be_read_within_its_bounds() {
    let request = |body: Body| Request::new(body);
    let whole = read(request("four".into()), 4, LONG).await.unwrap();
    assert_eq!(to_bytes(whole.into_body(), 9).await.unwrap(), "four");
    let large = read(request("fives".into()), 4, LONG).await.unwrap_err();
    assert_eq!(large.status, 413);
    let never = Body::from_stream(futures::stream::pending::<Result<String, Infallible>>());
    let slow = read(request(never), 4, Duration::from_millis(1))
        .await
        .unwrap_err();
    assert_eq!(slow.status, 408);
}

/// Asks on a connection of its own; the whole answer.
async fn answer(address: SocketAddr, request: &str) -> String {
    let more = "host: x\r\nconnection: close\r\n\r\n";
    let mut socket = send(address, &format!("{request} HTTP/1.1\r\n{more}")).await;
    let mut all = String::new();
    let read = tokio::time::timeout(LONG, socket.read_to_string(&mut all));
    read.await.expect("it is answered").unwrap();
    all
}

#[tokio::test]
async fn who_comes_while_the_server_stops_should_be_told_so() {
    let (more, driven) = mpsc::channel(1);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let limits = Limits {
        grace: LONG,
        ..Limits::default()
    };
    let stopped = async {
        let _ = stopped.await;
    };
    let (address, serving) = serving_until(limits, Some(driven), stopped).await;
    let idle = ask(address, "/small").await;
    let under_way = ask(address, "/driven").await;
    drop(stop);
    // It is hung up on, after its answer.
    assert!(rest(idle).await > 0);
    let ready = answer(address, "GET /ready").await;
    assert!(ready.starts_with("HTTP/1.1 503"), "{ready}");
    assert!(ready.contains("shutting down"), "{ready}");
    for request in ["GET /small", "POST /driven"] {
        let refused = answer(address, request).await;
        assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
        assert!(refused.contains("retry-after"), "{refused}");
    }
    assert!(answer(address, "GET /health")
        .await
        .starts_with("HTTP/1.1 200"));
    // What was under way ends, and with it the server.
    more.send(Ok("the end".to_owned())).await.unwrap();
    drop(more);
    assert!(rest(under_way).await > 0);
    let ended = tokio::time::timeout(LONG, serving).await;
    ended.expect("it ends").unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}
