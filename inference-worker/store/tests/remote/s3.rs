//! A bucket on this machine that speaks as much of S3 as a store needs, and misbehaves on request.

use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    http::{header, HeaderMap, Method, StatusCode},
    response::{IntoResponse, Response},
    Router,
};
use futures::{stream, StreamExt};
use openledger_store::{to_hex, Digest, Remote, RemoteOptions};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::sync::{oneshot, watch};

/// What the next request for an object meets.
#[derive(Clone)]
pub enum Fault {
    /// A status of its own.
    Status(u16),
    /// Half of the bytes, then the connection breaks.
    Cut,
    /// No answer, ever.
    Hang,
    /// Half of the bytes, and then nothing.
    Stall,
    /// The answer, once the gate is open.
    Gate(watch::Receiver<bool>),
}

#[derive(Default)]
struct Inside {
    objects: HashMap<String, Vec<u8>>,
    parts: HashMap<String, Vec<(usize, Vec<u8>)>>,
    faults: HashMap<String, Vec<Fault>>,
    log: Vec<String>,
}

/// The bucket and its server, which ends when this is dropped.
pub struct Bucket {
    inside: Arc<Mutex<Inside>>,
    pub address: String,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

pub const PREFIX: &str = "some/models";
const KEY: &str = "test-key";

impl Bucket {
    pub fn start() -> Self {
        let inside = Arc::<Mutex<Inside>>::default();
        let (stop, stopped) = oneshot::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        let served = Arc::clone(&inside);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                let router = Router::new().fallback(answer).with_state(served);
                tokio::select! {
                    served = axum::serve(listener, router) => served.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        Bucket {
            inside,
            address: format!("http://{}", told.recv().unwrap()),
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// How a store is told of it; impatient.
    pub fn options(&self) -> RemoteOptions {
        RemoteOptions {
            url: format!("s3://bucket/{PREFIX}"),
            endpoint: Some(self.address.clone()),
            environment: vec![
                ("AWS_ACCESS_KEY_ID".into(), KEY.into()),
                ("AWS_SECRET_ACCESS_KEY".into(), "secret".into()),
                ("AWS_REGION".into(), "eu-central-1".into()),
            ],
            patience: Duration::from_secs(30),
            stall: Duration::from_secs(5),
            retries: 3,
            downloads: 4,
        }
    }

    pub fn remote(&self) -> Remote {
        Remote::connect(self.options()).unwrap()
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap()
    }

    /// Puts bytes under the name of a digest, whatever they are.
    pub fn set(&self, digest: &Digest, bytes: &[u8]) {
        self.inside().objects.insert(name(digest), bytes.to_vec());
    }

    /// Puts bytes under their own digest.
    pub fn add(&self, bytes: &[u8]) -> Digest {
        let digest = openledger_store::digest_of(bytes);
        self.set(&digest, bytes);
        digest
    }

    pub fn bytes(&self, digest: &Digest) -> Option<Vec<u8>> {
        self.inside().objects.get(&name(digest)).cloned()
    }

    /// What the next requests for an object meet, one after the other.
    pub fn fault(&self, digest: &Digest, faults: &[Fault]) {
        self.inside().faults.insert(name(digest), faults.to_vec());
    }

    /// Requests so far of a method for an object.
    pub fn requests(&self, method: &str, digest: &Digest) -> usize {
        let wanted = format!("{method} {}", name(digest));
        let inside = self.inside();
        inside.log.iter().filter(|line| **line == wanted).count()
    }

    /// All requests so far, in order.
    pub fn log(&self) -> Vec<String> {
        self.inside().log.clone()
    }

    /// Ends the server: nobody listens at its address any more.
    pub fn stop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The key of an object, as the page on formats says.
pub fn name(digest: &Digest) -> String {
    let hex = to_hex(digest);
    format!("{PREFIX}/objects/{}/{}", &hex[..2], &hex[2..])
}

fn status(code: u16) -> Response {
    let code = StatusCode::from_u16(code).unwrap();
    (code, "<Error><Code>Oops</Code></Error>").into_response()
}

async fn answer(State(inside): State<Arc<Mutex<Inside>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    let Some(key) = path.strip_prefix("/bucket/").map(str::to_owned) else {
        return status(400);
    };
    let signed = parts
        .headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with(&format!("AWS4-HMAC-SHA256 Credential={KEY}/")));
    if !signed {
        return status(403);
    }
    let fault = {
        let mut inside = inside.lock().unwrap();
        inside.log.push(format!("{} {key}", parts.method));
        let faults = inside.faults.get_mut(&key);
        faults.and_then(|faults| (!faults.is_empty()).then(|| faults.remove(0)))
    };
    match &fault {
        Some(Fault::Status(code)) => return status(*code),
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Gate(open)) => {
            let mut open = open.clone();
            open.wait_for(|open| *open).await.unwrap();
        }
        _ => {}
    }
    let query: HashMap<&str, &str> = parts
        .uri
        .query()
        .unwrap_or_default()
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .collect();
    if parts.method == Method::GET || parts.method == Method::HEAD {
        let bytes = inside.lock().unwrap().objects.get(&key).cloned();
        return match bytes {
            Some(bytes) => give(&parts.method, &parts.headers, bytes, fault),
            None => status(404),
        };
    }
    let sent = axum::body::to_bytes(body, usize::MAX)
        .await
        .unwrap()
        .to_vec();
    let mut inside = inside.lock().unwrap();
    if parts.method == Method::PUT {
        match query.get("partNumber") {
            None => drop(inside.objects.insert(key, sent)),
            Some(number) => {
                let number = number.parse().unwrap();
                inside.parts.entry(key).or_default().push((number, sent));
            }
        }
        return [(header::ETAG, "\"put\"")].into_response();
    }
    if query.contains_key("uploads") {
        return "<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>"
            .into_response();
    }
    let mut pieces = inside.parts.remove(&key).unwrap_or_default();
    pieces.sort();
    let whole = pieces.into_iter().flat_map(|(_, bytes)| bytes).collect();
    inside.objects.insert(key, whole);
    "<CompleteMultipartUploadResult><ETag>\"whole\"</ETag></CompleteMultipartUploadResult>"
        .into_response()
}

fn give(method: &Method, headers: &HeaderMap, bytes: Vec<u8>, fault: Option<Fault>) -> Response {
    let all = bytes.len();
    let from = headers
        .get(header::RANGE)
        .and_then(|value| {
            value
                .to_str()
                .ok()?
                .strip_prefix("bytes=")?
                .split('-')
                .next()
        })
        .and_then(|from| from.parse::<usize>().ok());
    let first = from.unwrap_or(0);
    let rest = bytes[first..].to_vec();
    let mut response = Response::builder()
        .header(header::ETAG, "\"same\"")
        .header(header::LAST_MODIFIED, "Sat, 21 Nov 2026 12:00:00 GMT")
        .header(header::CONTENT_LENGTH, rest.len());
    if from.is_some() {
        let range = format!("bytes {first}-{}/{all}", all - 1);
        response = response.status(206).header(header::CONTENT_RANGE, range);
    }
    if method == Method::HEAD {
        return response.body(Body::empty()).unwrap();
    }
    let half = Bytes::copy_from_slice(&rest[..rest.len() / 2]);
    let body = match fault {
        Some(Fault::Cut) => {
            let broken = std::io::Error::other("broken");
            Body::from_stream(stream::iter([Ok(half), Err(broken)]))
        }
        Some(Fault::Stall) => {
            let half = stream::iter([Ok::<_, std::io::Error>(half)]);
            Body::from_stream(half.chain(stream::pending()))
        }
        _ => Body::from(rest),
    };
    response.body(body).unwrap()
}
