//! From the engine's tokens to text, log-probabilities and calls of tools.

use openledger_engine::{FinishReason, Finished, Logprobs, Token};
use openledger_openai::answer::{Choice, Finish};
use openledger_openai::logprobs::{Scored, TokenLogprobs};
use openledger_openai::CallSyntax;
use openledger_openai::{CallReader, Completion, ToolCall};
use openledger_text::{StopStrings, StreamDecoder, TextError, TextModel};

/// More of an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delta {
    /// Text to show; it may be empty.
    pub text: String,
    /// Tokens that came, if log-probabilities were asked for.
    pub logprobs: Vec<TokenLogprobs>,
}

impl Delta {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty() && self.logprobs.is_empty()
    }
}

/// The end of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Ending {
    /// What had been held back.
    pub delta: Delta,
    /// Calls of tools, in order.
    pub calls: Vec<ToolCall>,
    /// Why it ended.
    pub finish: Finish,
}

/// Reads one answer.
pub struct Reader {
    text: TextModel,
    decoder: StreamDecoder,
    stops: StopStrings,
    /// Whether a stop string came.
    stopped: bool,
    /// Whether log-probabilities were asked for.
    scored: bool,
    calls: CallReader,
    /// Characters decoded before the next token, echo included.
    offset: usize,
    /// Log-probabilities that were not shown yet.
    waiting: Vec<TokenLogprobs>,
}

impl Reader {
    /// At the beginning of an answer to `request`.
    ///
    /// # Errors
    /// If its stop strings are more or longer than any text is searched for.
    pub fn new(text: &TextModel, request: &Completion) -> Result<Self, TextError> {
        let syntax = text.template().map_or(CallSyntax::Unknown, |template| {
            CallSyntax::of_template(template.source())
        });
        Ok(Reader {
            decoder: text.stream(),
            stops: StopStrings::new(request.stop.clone())?,
            stopped: false,
            scored: request.logprobs.is_some(),
            calls: CallReader::new(request, syntax),
            text: text.clone(),
            offset: 0,
            waiting: Vec::new(),
        })
    }

    /// After `before`, which was shown already, of an answer from which somebody else takes out calls
    /// and stop strings. All text that was computed is shown, so that it can be charged.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn after(text: &TextModel, request: &Completion, before: &str) -> Result<Self, TextError> {
        let plain = Completion {
            tools: Vec::new(),
            stop: Vec::new(),
            ..request.clone()
        };
        let mut reader = Self::new(text, &plain)?;
        reader.offset = before.chars().count();
        Ok(reader)
    }

    /// The echo of a prompt, which comes before everything else. `shown` is its text where the client
    /// wrote it.
    ///
    /// # Errors
    /// If a token cannot be decoded.
    pub fn echo(
        &mut self,
        prompt: &[u32],
        shown: Option<&str>,
        logprobs: Option<&[Option<Logprobs>]>,
    ) -> Result<Delta, TextError> {
        let text = match shown {
            Some(text) => text.to_owned(),
            None => self.text.tokenizer().decode(prompt)?,
        };
        let mut delta = Delta {
            text,
            ..Delta::default()
        };
        if let (true, Some(logprobs)) = (self.scored, logprobs) {
            let mut decoder = self.text.stream();
            let mut offset = 0;
            for (token, scores) in prompt.iter().zip(logprobs) {
                delta
                    .logprobs
                    .push(self.score(*token, scores.as_ref(), offset));
                offset += decoder.push(*token)?.chars().count();
            }
        }
        self.offset = delta.text.chars().count();
        Ok(delta)
    }

    /// Takes the next token.
    ///
    /// # Errors
    /// If it cannot be decoded.
    pub fn token(&mut self, token: &Token) -> Result<Delta, TextError> {
        if self.scored {
            let scored = self.score(token.id, token.logprobs.as_ref(), self.offset);
            self.waiting.push(scored);
        }
        let piece = self.decoder.push(token.id)?;
        self.offset += piece.chars().count();
        let certain = self.scan(&piece);
        Ok(self.show(&certain))
    }

    /// What of a piece is before any stop string.
    fn scan(&mut self, piece: &str) -> String {
        if self.stopped {
            return String::new();
        }
        let scanned = self.stops.push(piece);
        self.stopped = scanned.stopped;
        scanned.text
    }

    /// Adds text to the answer; what of it may be shown.
    fn show(&mut self, certain: &str) -> Delta {
        let text = self.calls.push(certain);
        // Tokens stay with the text that they are of.
        let logprobs = match text.is_empty() {
            true => Vec::new(),
            false => std::mem::take(&mut self.waiting),
        };
        Delta { text, logprobs }
    }

    /// What is held back when no more tokens come, but for calls of tools.
    ///
    /// # Errors
    /// If it cannot be decoded.
    pub fn rest(&mut self) -> Result<Delta, TextError> {
        let decoder = std::mem::replace(&mut self.decoder, self.text.stream());
        let tail = decoder.finish()?;
        let mut certain = self.scan(&tail);
        if !self.stopped {
            certain.push_str(&self.stops.clone().finish());
        }
        let mut delta = self.show(&certain);
        delta.logprobs.append(&mut self.waiting);
        Ok(delta)
    }

    /// Ends the answer. `id` names each of its calls.
    ///
    /// # Errors
    /// If what was held back cannot be decoded.
    pub fn end(
        mut self,
        end: &Finished,
        id: impl FnMut(usize) -> String,
    ) -> Result<Ending, TextError> {
        let mut delta = self.rest()?;
        let (held, calls) = self.calls.end(id);
        delta.text.push_str(&held);
        let finish = match end.reason {
            _ if !calls.is_empty() => Finish::ToolCalls,
            FinishReason::Length => Finish::Length,
            _ => Finish::Stop,
        };
        Ok(Ending {
            delta,
            calls,
            finish,
        })
    }

    fn score(&self, token: u32, scores: Option<&Logprobs>, offset: usize) -> TokenLogprobs {
        let of = |id: u32, logprob: Option<f32>| Scored {
            bytes: self.text.tokenizer().bytes_of(id),
            logprob,
        };
        let top = scores.map_or(&[][..], |scores| &scores.top);
        TokenLogprobs {
            token: of(token, scores.map(|scores| scores.chosen)),
            top: top
                .iter()
                .map(|(id, logprob)| of(*id, Some(*logprob)))
                .collect(),
            offset,
        }
    }
}

/// An answer that is being put together.
#[derive(Debug, Default)]
pub struct Whole {
    text: String,
    logprobs: Vec<TokenLogprobs>,
}

impl Whole {
    /// Adds more of it.
    pub fn push(&mut self, delta: Delta) {
        self.text.push_str(&delta.text);
        self.logprobs.extend(delta.logprobs);
    }

    /// The choice, with log-probabilities where they were asked for.
    pub fn choice(mut self, index: usize, scored: bool, ending: Ending) -> Choice {
        self.push(ending.delta);
        Choice {
            index,
            text: self.text,
            tool_calls: ending.calls,
            logprobs: scored.then_some(self.logprobs),
            finish: ending.finish,
        }
    }
}
