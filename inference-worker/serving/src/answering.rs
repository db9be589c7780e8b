//! All answers of one request while they are computed.

use crate::failure::{failed, stopped};
use crate::reader::{Delta, Ending, Reader};
use futures::stream::{self, BoxStream, SelectAll, StreamExt};
use openledger_engine::{AdapterId, Event, TokenStream};
use openledger_openai::answer::Usage;
use openledger_openai::{ApiError, Completion, Input, Prompt};
use openledger_text::TextModel;
use std::sync::Arc;

/// What happens to one of the answers.
pub(crate) enum Piece {
    /// More of it.
    Delta(usize, Delta),
    /// Its end.
    End(usize, Ending),
}

/// One answer.
struct Answer {
    /// Taken at the end.
    reader: Option<Reader>,
    prompt: Arc<[u32]>,
    /// Of an echo, the prompt as the client wrote it.
    shown: Option<String>,
    /// Whether the echo is still to come.
    echo: bool,
    /// Whether the engine gives log-probabilities of the prompt first.
    scored: bool,
}

/// The answers. Dropping it cancels those that still run.
pub(crate) struct Answering {
    events: SelectAll<BoxStream<'static, (usize, Option<Event>)>>,
    answers: Vec<Answer>,
    usage: Usage,
    /// Digits that name calls of tools.
    id: String,
    /// What was asked for.
    model: String,
    /// What that was when the engine was asked.
    adapter: Option<AdapterId>,
}

impl Answering {
    /// From the engine's streams, `n` for each prompt, and the adapter that they are of.
    pub fn new(
        text: &TextModel,
        request: &Completion,
        prompts: Vec<Vec<u32>>,
        (streams, adapter): (Vec<TokenStream>, Option<AdapterId>),
        id: String,
    ) -> Result<Self, ApiError> {
        let prompt_tokens = prompts.iter().map(|prompt| prompt.len() as u64).sum();
        let mut answers = Vec::with_capacity(streams.len());
        for (at, prompt) in prompts.into_iter().enumerate() {
            let prompt: Arc<[u32]> = prompt.into();
            let shown = match &request.prompt {
                Prompt::Inputs(inputs) => match inputs.get(at) {
                    Some(Input::Text(text)) => Some(text.clone()),
                    _ => None,
                },
                Prompt::Messages(_) => None,
            };
            for _ in 0..request.n {
                let reader = Reader::new(text, request)
                    .map_err(|error| ApiError::value("stop", error.to_string()))?;
                answers.push(Answer {
                    reader: Some(reader),
                    prompt: Arc::clone(&prompt),
                    shown: shown.clone().filter(|_| request.echo),
                    echo: request.echo,
                    scored: request.logprobs.is_some(),
                });
            }
        }
        let events = streams.into_iter().enumerate().map(|(index, stream)| {
            stream::unfold(Some(stream), move |stream| async move {
                let mut stream = stream?;
                let event = stream.next().await;
                let more = matches!(event, Some(Event::Token(_) | Event::Prompt(_)));
                Some(((index, event), more.then_some(stream)))
            })
            .boxed()
        });
        Ok(Answering {
            events: stream::select_all(events),
            answers,
            usage: Usage {
                prompt_tokens,
                completion_tokens: 0,
            },
            id,
            model: request.model.clone(),
            adapter,
        })
    }

    /// Tokens so far.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// What happens next; nothing after the last end.
    ///
    /// # Errors
    /// When an answer failed; the others are cancelled with it when this is dropped.
    pub async fn next(&mut self) -> Result<Option<Piece>, ApiError> {
        loop {
            let Some((index, event)) = self.events.next().await else {
                return Ok(None);
            };
            if let Some(piece) = self.read(index, event)? {
                return Ok(Some(piece));
            }
        }
    }

    fn read(&mut self, index: usize, event: Option<Event>) -> Result<Option<Piece>, ApiError> {
        let unreadable = |error: openledger_text::TextError| {
            tracing::error!(%error, "a token could not be decoded");
            ApiError::internal("The answer could not be turned into text.")
        };
        let Some(answer) = self.answers.get_mut(index) else {
            return Ok(None);
        };
        let Some(reader) = &mut answer.reader else {
            return Ok(None);
        };
        let mut delta = Delta::default();
        // Without log-probabilities of the prompt, its echo comes with the first that happens.
        let prompt_scores = match &event {
            Some(Event::Prompt(scores)) => Some(scores.as_slice()),
            _ => None,
        };
        if answer.echo && (prompt_scores.is_some() || !answer.scored) {
            answer.echo = false;
            delta = reader
                .echo(&answer.prompt, answer.shown.as_deref(), prompt_scores)
                .map_err(unreadable)?;
        }
        match event {
            Some(Event::Token(token)) => {
                self.usage.completion_tokens += 1;
                let more = reader.token(&token).map_err(unreadable)?;
                delta.text.push_str(&more.text);
                delta.logprobs.extend(more.logprobs);
            }
            Some(Event::Prompt(_)) => {}
            Some(Event::Finished(end)) => {
                let Some(reader) = answer.reader.take() else {
                    return Ok(None);
                };
                let id = &self.id;
                let mut ending = reader
                    .end(&end, |call| format!("call_{id}{index:02x}{call:02x}"))
                    .map_err(unreadable)?;
                delta.text.push_str(&ending.delta.text);
                delta.logprobs.append(&mut ending.delta.logprobs);
                ending.delta = delta;
                return Ok(Some(Piece::End(index, ending)));
            }
            Some(Event::Failed(error)) => {
                return Err(failed(&error, &self.model, self.adapter));
            }
            Some(Event::Embedding(_)) | None => return Err(stopped()),
        }
        Ok((!delta.is_empty()).then_some(Piece::Delta(index, delta)))
    }
}
