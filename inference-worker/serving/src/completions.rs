//! `/v1/chat/completions` and `/v1/completions`.

use crate::answering::{Answering, Piece};
use crate::ask::{client_seed, engine_request, prompts};
use crate::failure::{refused, within_places};
use crate::reader::Whole;
use crate::server::Service;
use axum::body::{Body, Bytes};
use axum::extract::{Extension, State};
use axum::http::{header, HeaderValue};
use axum::response::{IntoResponse, Response};
use axum::Json;
use futures::stream::unfold;
use openledger_engine::sampling::answer_seed;
use openledger_engine::{Request, Tenant};
use openledger_http::Failure;
use openledger_openai::answer::Head;
use openledger_openai::{sse, ApiError, Completion, Endpoint};
use std::convert::Infallible;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;

/// Events that may wait for a slow reader.
const EVENTS: usize = 64;

/// Time without an event after which a comment says that the answer is still coming.
const QUIET: Duration = Duration::from_secs(15);

pub(crate) async fn chat(
    State(service): State<Service>,
    Extension(tenant): Extension<Tenant>,
    body: Bytes,
) -> Result<Response, Failure> {
    complete(service, Endpoint::Chat, tenant, body).await
}

pub(crate) async fn text(
    State(service): State<Service>,
    Extension(tenant): Extension<Tenant>,
    body: Bytes,
) -> Result<Response, Failure> {
    complete(service, Endpoint::Text, tenant, body).await
}

async fn complete(
    service: Service,
    endpoint: Endpoint,
    tenant: Tenant,
    body: Bytes,
) -> Result<Response, Failure> {
    // Reading, encoding and grammars take their time, which the threads of connections do not have.
    let begun = {
        let service = service.clone();
        tokio::task::spawn_blocking(move || begin(&service, endpoint, tenant, &body))
    };
    let (request, answering) = begun.await.map_err(|error| {
        tracing::error!(%error, "a request could not be begun");
        ApiError::internal("The request could not be begun.")
    })??;
    let head = Head {
        endpoint,
        id: Head::id_of(endpoint, &hex::encode(rand::random::<[u8; 12]>())),
        created: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
        model: request.model.clone(),
        fingerprint: None,
    };
    if request.stream {
        let limit = service.options().limits.slow_reader;
        Ok(stream(head, request, answering, limit).await?)
    } else {
        Ok(whole(&head, &request, answering).await?)
    }
}

/// Reads a request and gives it to the engine.
fn begin(
    service: &Service,
    endpoint: Endpoint,
    tenant: Tenant,
    body: &[u8],
) -> Result<(Completion, Answering), ApiError> {
    let request = Completion::parse(endpoint, body)?;
    // Said first, before what is wrong with the rest.
    if service.models().find(&request.model).is_none() {
        return Err(service.models().unknown(&request.model));
    }
    let (engine, text) = (service.engine(), service.text());
    // Several prompts are several answers, too.
    let param = if request.n > 1 { "n" } else { "prompt" };
    within_places(engine, answering_len(&request), param)?;
    let prompts = prompts(text, &request)?;
    let seed = match request.sampling.seed {
        Some(seed) => client_seed(seed),
        None => rand::random(),
    };
    let start_by = Instant::now() + service.options().queue_timeout;
    let guides = &service.guides().on_behalf_of(tenant);
    let mut asked = Vec::with_capacity(prompts.len());
    for (at, prompt) in prompts.iter().enumerate() {
        let one = |index: u32| -> Result<Request, ApiError> {
            let mut asked =
                engine_request(engine, text, guides, &request, prompt.clone(), 0, None)?;
            asked.seed = answer_seed(&seed, index);
            asked.tenant = tenant;
            asked.cache_salt = tenant.0;
            asked.start_by = Some(start_by);
            Ok(asked)
        };
        let first = at as u32 * request.n;
        let answers: Result<Vec<_>, _> = (first..first + request.n).map(one).collect();
        asked.push(answers?);
    }
    let streams = service.models().ask(&request.model, |target| {
        let mut streams = Vec::new();
        for mut answers in asked {
            answers
                .iter_mut()
                .for_each(|answer| answer.adapter = target.adapter());
            let taken = engine.submit_many(answers);
            streams.extend(taken.map_err(|error| refused(error, &request.model))?);
        }
        Ok((streams, target.adapter()))
    })?;
    let id = hex::encode(rand::random::<[u8; 8]>());
    let answering = Answering::new(text, &request, prompts, streams, id)?;
    Ok((request, answering))
}

async fn whole(
    head: &Head,
    request: &Completion,
    mut answering: Answering,
) -> Result<Response, ApiError> {
    let mut parts: Vec<Whole> = Vec::new();
    let mut choices = Vec::new();
    let scored = request.logprobs.is_some();
    while let Some(piece) = answering.next().await? {
        let (Piece::Delta(index, _) | Piece::End(index, _)) = &piece;
        let index = *index;
        while parts.len() <= index {
            parts.push(Whole::default());
        }
        let Some(part) = parts.get_mut(index) else {
            continue;
        };
        match piece {
            Piece::Delta(_, delta) => part.push(delta),
            Piece::End(_, ending) => {
                choices.push(std::mem::take(part).choice(index, scored, ending));
            }
        }
    }
    choices.sort_by_key(|choice| choice.index);
    Ok(Json(head.whole(&choices, answering.usage())).into_response())
}

/// Streams the answers. What goes wrong before the first piece is an ordinary error with its status;
/// after it, an event with `error`, and the stream ends without `[DONE]`. Who does not read for `limit`
/// is left alone, and the answers are cancelled.
async fn stream(
    head: Head,
    request: Completion,
    mut answering: Answering,
    limit: Duration,
) -> Result<Response, ApiError> {
    let mut next = answering.next().await;
    if let Err(error) = next {
        return Err(error);
    }
    let (out, events) = mpsc::channel::<String>(EVENTS);
    tokio::spawn(async move {
        let scored = request.logprobs.is_some();
        let mut opened = vec![false; answering_len(&request)];
        loop {
            let mut text = String::new();
            let mut last = false;
            match next {
                Ok(Some(piece)) => write(&head, scored, &mut opened, piece, &mut text),
                Ok(None) => {
                    if request.include_usage {
                        text.push_str(&sse::event(&head.usage(answering.usage())));
                    }
                    text.push_str(sse::DONE);
                    last = true;
                }
                Err(error) => {
                    text.push_str(&sse::event(&error.body()));
                    last = true;
                }
            }
            if out.send_timeout(text, limit).await.is_err() || last {
                return;
            }
            next = loop {
                tokio::select! {
                    next = answering.next() => break next,
                    () = out.closed() => return,
                    () = tokio::time::sleep(QUIET) => {
                        let quiet = sse::KEEP_ALIVE.to_owned();
                        if out.send_timeout(quiet, limit).await.is_err() {
                            return;
                        }
                    }
                }
            };
        }
    });
    let body = unfold(events, |mut events| async move {
        let event = events.recv().await?;
        Some((Ok::<_, Infallible>(Bytes::from(event)), events))
    });
    let mut response = Response::new(Body::from_stream(body));
    for (name, value) in [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-cache"),
    ] {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

/// Answers to a request.
fn answering_len(request: &Completion) -> usize {
    let prompts = match &request.prompt {
        openledger_openai::Prompt::Messages(_) => 1,
        openledger_openai::Prompt::Inputs(inputs) => inputs.len(),
    };
    prompts * request.n as usize
}

/// Writes a piece as events.
fn write(head: &Head, scored: bool, opened: &mut [bool], piece: Piece, text: &mut String) {
    let (Piece::Delta(index, _) | Piece::End(index, _)) = &piece;
    let index = *index;
    if let Some(opened @ false) = opened.get_mut(index) {
        *opened = true;
        if let Some(opening) = head.opening(index) {
            text.push_str(&sse::event(&opening));
        }
    }
    let (delta, ending) = match piece {
        Piece::Delta(_, delta) => (delta, None),
        Piece::End(_, ending) => (ending.delta.clone(), Some(ending)),
    };
    if !delta.is_empty() {
        let logprobs = scored.then_some(delta.logprobs.as_slice());
        text.push_str(&sse::event(&head.delta(index, &delta.text, logprobs)));
    }
    if let Some(ending) = ending {
        for (position, call) in ending.calls.iter().enumerate() {
            text.push_str(&sse::event(&head.call(index, position, call)));
        }
        text.push_str(&sse::event(&head.ending(index, ending.finish)));
    }
}
