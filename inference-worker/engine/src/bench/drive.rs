//! Asks an engine as planned, and notes when each token reached the client.
//!
//! In an open loop a thread of its own sends each request when it is due and waits for no answer; what
//! it sends late counts as waiting, as times are taken from when the request was due. (Tene's coordinated
//! omission: taken from when it was sent, a server that stalls its clients would look fast.)

use super::workload::{Asked, Pace};
use super::BenchError;
use crate::adapters::AdapterId;
use crate::engine::EngineHandle;
use crate::error::SubmitError;
use crate::request::{Event, Request, TokenStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{unbounded_channel, UnboundedReceiver};
use tokio::task::JoinSet;

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// With its last token.
    Finished,
    /// It was not taken in.
    Refused,
    /// Midway.
    Failed(String),
}

/// One request as its client saw it.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// When it should have been sent.
    pub due: Instant,
    /// When it was.
    pub sent: Instant,
    /// When each token came.
    pub tokens: Vec<Instant>,
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Whether it asked for an adapter.
    pub adapter: bool,
    /// How it ended.
    pub outcome: Outcome,
}

/// One request ready to be sent.
struct Ready {
    due: Option<Duration>,
    request: Request,
}

/// Makes all requests and waits for all answers. `salt` is another for each run: keys and values of
/// another run's prompts are not found again.
///
/// # Errors
/// When a request is refused for another reason than a full queue, or a thread cannot be had.
pub(super) fn drive(
    engine: &EngineHandle,
    pace: Pace,
    asked: &[Asked],
    adapters: &[AdapterId],
    salt: u64,
) -> Result<(Vec<Record>, Duration), BenchError> {
    // Before the clock starts, so that building them makes none late.
    let ready = asked
        .iter()
        .enumerate()
        .map(|(n, asked)| Ready {
            due: asked.due,
            request: request(asked, adapters, salt, n),
        })
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(|e| BenchError::Thread(e.to_string()))?;
    let started = Instant::now();
    // On a thread of its own, whatever runtime the caller belongs to.
    let records = std::thread::scope(|scope| {
        let driven = match pace {
            Pace::Closed { clients } => {
                scope.spawn(move || runtime.block_on(closed(engine, clients, ready)))
            }
            Pace::Open { .. } => scope.spawn(move || open(engine, started, ready, &runtime)),
        };
        driven
            .join()
            .unwrap_or_else(|_| Err(BenchError::Thread("it panicked".to_owned())))
    })?;
    Ok((records, started.elapsed()))
}

fn request(asked: &Asked, adapters: &[AdapterId], salt: u64, number: usize) -> Request {
    let mut request = Request::new(asked.prompt.clone(), asked.output);
    request.adapter = asked.adapter.and_then(|n| adapters.get(n).copied());
    request.cache_salt[..8].copy_from_slice(&salt.to_le_bytes());
    request.cache_salt[8..16].copy_from_slice(&(number as u64).to_le_bytes());
    request
}

/// Each client takes the next request when it has an answer.
async fn closed(
    engine: &EngineHandle,
    clients: usize,
    ready: Vec<Ready>,
) -> Result<Vec<Record>, BenchError> {
    let queue = Arc::new(Mutex::new(ready.into_iter()));
    let mut tasks: JoinSet<Result<Vec<Record>, BenchError>> = JoinSet::new();
    for _ in 0..clients {
        let (engine, queue) = (engine.clone(), Arc::clone(&queue));
        tasks.spawn(async move {
            let mut records = Vec::new();
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some(Ready { request, .. }) = next else {
                    return Ok(records);
                };
                let (record, stream) = send(&engine, None, request)?;
                records.push(match stream {
                    Some(stream) => follow(record, stream).await,
                    None => {
                        // Others end meanwhile.
                        tokio::time::sleep(Duration::from_millis(1)).await;
                        record
                    }
                });
            }
        });
    }
    let mut all = Vec::new();
    while let Some(records) = tasks.join_next().await {
        all.extend(joined(records)??);
    }
    Ok(all)
}

/// Sends each request when it is due.
fn open(
    engine: &EngineHandle,
    started: Instant,
    ready: Vec<Ready>,
    runtime: &Runtime,
) -> Result<Vec<Record>, BenchError> {
    let (streams, sent) = unbounded_channel();
    std::thread::scope(|scope| {
        let follower = scope.spawn(|| runtime.block_on(follow_all(sent)));
        for Ready { due, request } in ready {
            let due = started + due.unwrap_or_default();
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            // An error means that the follower is gone, which is told below.
            let _ = streams.send(send(engine, Some(due), request)?);
        }
        drop(streams);
        follower
            .join()
            .unwrap_or_else(|_| Err(BenchError::Thread("it panicked".to_owned())))
    })
}

async fn follow_all(
    mut sent: UnboundedReceiver<(Record, Option<TokenStream>)>,
) -> Result<Vec<Record>, BenchError> {
    let mut tasks = JoinSet::new();
    let mut all = Vec::new();
    while let Some((record, stream)) = sent.recv().await {
        match stream {
            Some(stream) => {
                tasks.spawn(follow(record, stream));
            }
            None => all.push(record),
        }
    }
    while let Some(record) = tasks.join_next().await {
        all.push(joined(record)?);
    }
    Ok(all)
}

fn joined<T>(task: Result<T, tokio::task::JoinError>) -> Result<T, BenchError> {
    task.map_err(|e| BenchError::Thread(e.to_string()))
}

fn send(
    engine: &EngineHandle,
    due: Option<Instant>,
    request: Request,
) -> Result<(Record, Option<TokenStream>), BenchError> {
    let sent = Instant::now();
    let mut record = Record {
        due: due.unwrap_or(sent),
        sent,
        tokens: Vec::with_capacity(request.max_new_tokens),
        prompt: request.prompt.len(),
        adapter: request.adapter.is_some(),
        outcome: Outcome::Refused,
    };
    match engine.submit(request) {
        Ok(stream) => {
            record.outcome = Outcome::Finished;
            Ok((record, Some(stream)))
        }
        Err(SubmitError::QueueFull { .. }) => Ok((record, None)),
        Err(error) => Err(error.into()),
    }
}

async fn follow(mut record: Record, mut stream: TokenStream) -> Record {
    loop {
        match stream.next().await {
            Some(Event::Token(_)) => record.tokens.push(Instant::now()),
            // Neither is asked for.
            Some(Event::Prompt(_) | Event::Embedding(_)) => {}
            Some(Event::Finished(_)) => return record,
            Some(Event::Failed(error)) => {
                record.outcome = Outcome::Failed(error.to_string());
                return record;
            }
            None => {
                record.outcome = Outcome::Failed("the engine's stop".to_owned());
                return record;
            }
        }
    }
}
