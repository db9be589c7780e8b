//! From the engine's tokens to the text that is delivered, and how it ended.

use super::{answer::Piece, catalog::Opened, silence::Silence};
use anyhow::anyhow;
use openledger_engine::{Event, FinishReason, StepError, TokenStream};
use openledger_primitives::{receipt::Outcome, Digest};
use openledger_serving::reader::Reader;
use openledger_text::TextModel;
use std::{
    future::Future,
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, task::JoinHandle};

/// How long a request waits for its first token, and a piece of an answer for its reader. Shorter than
/// the time after which a gateway gives up.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// What the model has answered.
pub(super) struct Computed {
    pub outcome: Outcome,
    pub text: String,
    pub generated: u32,
    pub fingerprint_root: Digest,
    pub first_token_ms: u32,
    /// Index and rows, if they were needed.
    pub data: Option<Opened>,
    /// Why they could not be had.
    pub lacking: Option<anyhow::Error>,
    /// Whether the weights computed no numbers and the answer is free for it.
    pub is_numberless: bool,
}

/// A revision's data on its way.
pub(super) type Loading = JoinHandle<anyhow::Result<Opened>>;

/// An answer that is being computed.
pub(super) struct Computing {
    pub text: TextModel,
    /// Prompt, then what is generated.
    pub tokens: Vec<u32>,
    pub reader: Reader,
    pub started: Instant,
    pub stream: TokenStream,
    /// Whether what is delivered has sources.
    pub is_attributed: bool,
    /// Index and rows, loaded while the model computes; none for a base.
    pub data: Option<Loading>,
}

impl Computing {
    /// Reads the engine's tokens to their end, or until the receiver of the pieces is gone.
    pub async fn run(&mut self, pieces: &mpsc::Sender<Piece>) -> Computed {
        let mut data = None;
        let (mut lacking, mut is_numberless) = (None, false);
        let mut text = String::new();
        let mut generated = 0u32;
        let mut first_token_ms = None;
        let mut silence = Silence::new(&self.text);
        let latest_start = tokio::time::Instant::from_std(self.started) + PATIENCE;
        let (mut outcome, fingerprint) = loop {
            let event = tokio::select! {
                event = self.stream.next() => event,
                () = pieces.closed() => break (Outcome::Cancelled, [0; 32]),
                // It waited for its turn longer than a client should have to: it costs nothing.
                () = tokio::time::sleep_until(latest_start), if generated == 0 => {
                    tracing::warn!("a request found no place in time; serve fewer or add capacity");
                    break (Outcome::Failed, [0; 32]);
                }
            };
            match event {
                Some(Event::Token(token)) => {
                    first_token_ms.get_or_insert_with(|| millis(self.started));
                    generated = generated.saturating_add(1);
                    self.tokens.push(token.id);
                    if silence.lasts_too_long(token.id) {
                        break (Outcome::Cancelled, [0; 32]);
                    }
                    match self.reader.token(&token) {
                        Ok(delta) if delta.is_empty() => {}
                        Ok(delta) => {
                            // Nothing is delivered whose sources could not be told afterwards.
                            if self.data.is_some() {
                                match self.opened(pieces).await {
                                    Ok(opened) => data = Some(opened),
                                    Err((outcome, why)) => {
                                        lacking = why;
                                        break (outcome, [0; 32]);
                                    }
                                }
                            }
                            text.push_str(&delta.text);
                            // A client that stops reading must not hold lane and bond for ever.
                            let piece = Piece::Delta(delta);
                            if pieces.send_timeout(piece, PATIENCE).await.is_err() {
                                break (Outcome::Cancelled, [0; 32]);
                            }
                        }
                        Err(error) => {
                            tracing::error!(%error, "a token could not be decoded");
                            break (Outcome::Failed, [0; 32]);
                        }
                    }
                }
                // Neither is asked for here.
                Some(Event::Prompt(_) | Event::Embedding(_)) => {}
                Some(Event::Finished(end)) => {
                    let outcome = match end.reason {
                        FinishReason::Length => Outcome::Length,
                        _ => Outcome::Complete,
                    };
                    break (outcome, end.fingerprint);
                }
                Some(Event::Failed(error)) => {
                    tracing::error!(%error, "the engine failed a request");
                    let outcome = failed(&error, !text.is_empty());
                    is_numberless =
                        outcome == Outcome::Failed && matches!(error, StepError::NotFinite);
                    break (outcome, [0; 32]);
                }
                None => break (Outcome::Failed, [0; 32]),
            }
        };
        if let Ok(tail) = self.reader.rest() {
            if !tail.is_empty() && self.data.is_some() && outcome != Outcome::Failed {
                match self.opened(pieces).await {
                    Ok(opened) => data = Some(opened),
                    Err((ended, why)) => (outcome, lacking) = (ended, why),
                }
            }
            let is_told = data.is_some() || !self.is_attributed;
            if !tail.is_empty() && outcome != Outcome::Failed && is_told {
                text.push_str(&tail.text);
                let _ = pieces.send_timeout(Piece::Delta(tail), PATIENCE).await;
            }
        }
        Computed {
            outcome,
            text,
            generated,
            fingerprint_root: fingerprint,
            first_token_ms: first_token_ms.unwrap_or_else(|| millis(self.started)),
            data,
            lacking,
            is_numberless,
        }
    }

    /// The revision's data, waited for as long as a client is; or how the answer ends without, and why.
    async fn opened(
        &mut self,
        pieces: &mpsc::Sender<Piece>,
    ) -> Result<Opened, (Outcome, Option<anyhow::Error>)> {
        let Some(loading) = self.data.take() else {
            return Err((Outcome::Failed, None));
        };
        match in_time(loading, self.started + PATIENCE, pieces.closed()).await {
            None => Err((Outcome::Cancelled, None)),
            Some(Ok(opened)) => Ok(opened),
            Some(Err(error)) => Err((Outcome::Failed, Some(error))),
        }
    }
}

/// How an answer ends that the engine could not go on with.
///
/// A form comes with the request: where it lets the answer go no further, or holds with the forms of the same
/// consumer's other answers more memory than one may, the answer is not whole, and costs its prompt and what
/// there is of it, be it nothing. Weights that compute no numbers come with the model, which anybody may
/// publish, and memory for forms may be held by several accounts of one owner: these make nothing free that
/// has been delivered, and who asked pays for nothing that has not. Everything else is this worker's own
/// failure.
fn failed(error: &StepError, is_delivered: bool) -> Outcome {
    match error {
        StepError::Constraint(_) => Outcome::Cancelled,
        StepError::NotFinite | StepError::ConstraintBusy(_) if is_delivered => Outcome::Cancelled,
        _ => Outcome::Failed,
    }
}

/// What is being loaded, if it comes by `latest`; nothing when the client is gone before. What is there
/// is taken, however late it is asked for: the first token may come after `latest`.
async fn in_time<T>(
    loading: JoinHandle<anyhow::Result<T>>,
    latest: Instant,
    gone: impl Future<Output = ()>,
) -> Option<anyhow::Result<T>> {
    tokio::select! {
        biased;
        loaded = loading => Some(loaded.map_err(Into::into).and_then(|loaded| loaded)),
        () = gone => None,
        () = tokio::time::sleep_until(latest.into()) => Some(Err(anyhow!("it takes too long"))),
    }
}

pub(super) fn millis(since: Instant) -> u32 {
    u32::try_from(since.elapsed().as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use openledger_engine::{Engine, EngineHandle, EngineOptions};
    use openledger_metering::Charge;
    use openledger_model::{Checkpoint, ModelConfig, Weights};
    use openledger_openai::{Completion, Endpoint};
    use openledger_serving::{ask, guide::Guides};
    use serde_json::{json, Value};
    use std::future::{pending, ready};
    use std::path::{Path, PathBuf};

    #[test]
    fn what_a_request_brings_should_not_make_free_what_was_delivered() {
        let form = StepError::Constraint("no token may follow".into());
        assert_eq!(failed(&form, true), Outcome::Cancelled);
        assert_eq!(failed(&form, false), Outcome::Cancelled);
        assert_eq!(failed(&StepError::NotFinite, true), Outcome::Cancelled);
        // Who asked did not publish the model, and has nothing of it.
        assert_eq!(failed(&StepError::NotFinite, false), Outcome::Failed);
        // Nor did it fill the memory for forms; but several accounts of one owner may, and would read on.
        let busy = StepError::ConstraintBusy("the forms of others hold the memory".into());
        assert_eq!(failed(&busy, true), Outcome::Cancelled);
        assert_eq!(failed(&busy, false), Outcome::Failed);
        // The prompt is charged where nothing else is.
        let charge = |outcome| Charge::of(outcome, 7, 0, 0, 1_000, 1_000).unwrap();
        assert_eq!(charge(Outcome::Cancelled).tokens_in, 7);
        assert_eq!(charge(Outcome::Cancelled).fee, 7);
        assert_eq!(charge(Outcome::Failed).fee, 0);
        for ours in [
            StepError::Backend("lost".into()),
            StepError::Adapter("gone".into()),
            StepError::Expired,
            StepError::StopCheck,
        ] {
            assert_eq!(failed(&ours, true), Outcome::Failed);
        }
    }

    fn base() -> (PathBuf, ModelConfig) {
        let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("factory/base");
        let config = ModelConfig::from_dir(&base).unwrap();
        (base, config)
    }

    fn engine() -> EngineHandle {
        let (base, config) = base();
        let weights = Checkpoint::open(&base, &config).unwrap();
        Engine::start(&config, weights, EngineOptions::default()).unwrap()
    }

    /// A paid request to an engine of the base's shape.
    fn asked(engine: &EngineHandle, more: Value) -> Computing {
        let (base, config) = base();
        let text = TextModel::from_dir(&base).unwrap();
        let mut body = json!({"model": "m", "prompt": "The harbour", "max_tokens": 100});
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        let body = body.to_string();
        let request = Completion::parse(Endpoint::Text, body.as_bytes()).unwrap();
        let prompt = ask::prompts(&text, &request).unwrap().remove(0);
        let guides = Guides::new(&text, &config);
        let asked = ask::engine_request(engine, &text, &guides, &request, prompt.clone(), 0, None);
        Computing {
            reader: Reader::after(&text, &request, "").unwrap(),
            stream: engine.submit(asked.unwrap()).unwrap(),
            text,
            tokens: prompt,
            started: Instant::now(),
            is_attributed: false,
            data: None,
        }
    }

    /// A paid answer of the base, and the pieces in which it is delivered.
    async fn answered(more: Value) -> (Computed, String, usize) {
        let engine = engine();
        let mut computing = asked(&engine, more);
        let (pieces, mut delivered) = mpsc::channel(1_000);
        let computed = computing.run(&pieces).await;
        drop(pieces);
        let (mut shown, mut scores) = (String::new(), 0);
        while let Some(piece) = delivered.recv().await {
            let Piece::Delta(delta) = piece else {
                panic!("the end is not told here");
            };
            shown.push_str(&delta.text);
            scores += delta.logprobs.len();
        }
        assert_eq!(shown, computed.text);
        (computed, shown, scores)
    }

    /// Output tokens that are charged.
    fn charged(computed: &Computed) -> u32 {
        charge(computed).tokens_out
    }

    /// What an answer to a prompt of three tokens costs, at a planck for each.
    fn charge(computed: &Computed) -> Charge {
        let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("factory/base");
        let text = TextModel::from_dir(&base).unwrap();
        let canonical = text.tokenizer().encode(&computed.text, false).unwrap();
        let canonical = u32::try_from(canonical.len()).unwrap();
        Charge::of(
            computed.outcome,
            3,
            computed.generated,
            canonical,
            1_000,
            1_000,
        )
        .unwrap()
    }

    #[tokio::test]
    async fn a_stop_string_that_is_the_answer_should_be_delivered_and_charged() {
        let form = "the harbour is maintained";
        let asked = json!({"guided_regex": form, "stop": [form], "logprobs": 1});
        let (computed, shown, scores) = answered(asked).await;
        assert_eq!(computed.outcome, Outcome::Complete);
        assert_eq!(shown, form);
        assert_eq!(scores, computed.generated as usize);
        assert!(charged(&computed) > 3);
    }

    #[tokio::test]
    async fn an_answer_of_marks_without_end_should_end_and_cost_its_text() {
        // `<|end|>` of the base, again and again.
        let asked = json!({"logit_bias": {"2": 100}, "ignore_eos": true});
        let (computed, shown, _) = answered(asked).await;
        assert_eq!(computed.outcome, Outcome::Cancelled);
        assert!((33..100).contains(&computed.generated));
        assert!(charged(&computed) < 10, "{shown}");
    }

    #[tokio::test]
    async fn an_answer_whose_client_hangs_up_should_be_cancelled_and_cost_what_was_delivered() {
        let engine = engine();
        let mut computing = asked(&engine, json!({"max_tokens": 400, "ignore_eos": true}));
        let (pieces, mut delivered) = mpsc::channel(1);
        let client = tokio::spawn(async move { delivered.recv().await.is_some() });
        let computed = computing.run(&pieces).await;
        assert!(client.await.unwrap());
        assert_eq!(computed.outcome, Outcome::Cancelled);
        assert!((1..400).contains(&computed.generated));
        assert!((1..400).contains(&charged(&computed)));
    }

    #[tokio::test]
    async fn an_answer_whose_client_is_gone_before_it_begins_should_cost_its_prompt_alone() {
        let engine = engine();
        let mut computing = asked(&engine, json!({"max_tokens": 400, "ignore_eos": true}));
        let (pieces, delivered) = mpsc::channel(1);
        drop(delivered);
        let computed = computing.run(&pieces).await;
        assert_eq!(computed.outcome, Outcome::Cancelled);
        assert!(computed.generated < 400);
        let charge = charge(&computed);
        assert_eq!((charge.tokens_in, charge.tokens_out, charge.fee), (3, 0, 3));
    }

    #[tokio::test]
    async fn weights_that_compute_no_numbers_should_be_told_of_and_cost_nothing() {
        let (_, config) = base();
        let weights = Weights::random(&config, 7).unwrap();
        // Finite themselves, or they would not be loaded.
        let large = weights.map(|name, tensor| match name.contains("norm") {
            true => Ok((tensor * 3e38)?),
            false => Ok(tensor.clone()),
        });
        let weights = large.unwrap();
        let broken = Engine::start(&config, weights, EngineOptions::default()).unwrap();
        let (pieces, _delivered) = mpsc::channel(1_000);
        let computed = asked(&broken, json!({})).run(&pieces).await;
        assert_eq!(computed.outcome, Outcome::Failed);
        assert!(computed.is_numberless);
        assert_eq!(charged(&computed), 0);
    }

    #[tokio::test]
    async fn data_that_is_there_should_be_taken_however_late_the_first_token_comes() {
        for _ in 0..100 {
            let loaded = tokio::spawn(async { Ok(7) });
            while !loaded.is_finished() {
                tokio::task::yield_now().await;
            }
            let past = Instant::now();
            let taken = in_time(loaded, past, ready(())).await;
            assert_eq!(taken.unwrap().unwrap(), 7);
        }
    }

    #[tokio::test]
    async fn data_that_comes_too_late_or_not_at_all_is_an_error() {
        let never = || tokio::spawn(pending::<anyhow::Result<u8>>());
        let far = Instant::now() + Duration::from_secs(3600);
        let late = in_time(never(), Instant::now(), pending()).await;
        assert_eq!(late.unwrap().unwrap_err().to_string(), "it takes too long");
        assert!(in_time(never(), far, ready(())).await.is_none());
        let loaded = in_time(tokio::spawn(async { Ok(7) }), far, pending()).await;
        assert_eq!(loaded.unwrap().unwrap(), 7);
        let broken = tokio::spawn(async { Err::<u8, _>(anyhow!("no file")) });
        let broken = in_time(broken, far, pending()).await;
        assert_eq!(broken.unwrap().unwrap_err().to_string(), "no file");
        let panicked = tokio::spawn(async { panic!("the loader") });
        let panicked: Option<anyhow::Result<u8>> = in_time(panicked, far, pending()).await;
        assert!(panicked.unwrap().is_err());
    }
}
