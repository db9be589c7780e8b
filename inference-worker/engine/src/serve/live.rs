//! A request on its way through the engine.

use super::guide::Guide;
use crate::adapters::registry::Registered;
use crate::adjust::History;
use crate::embedding::{Pool, Pooling};
use crate::fingerprint::Fingerprint;
use crate::memory::prefix::BlockNames;
use crate::queue_room::Place;
use crate::request::{Event, Logprobs, Request, Sharing};
use crate::scheduler::{Arrival, Wanted};
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc::UnboundedSender;

/// A checked request.
pub(crate) struct Submission {
    pub request: Request,
    /// The lease.
    pub adapter: Option<Arc<Registered>>,
    /// Prompt and output.
    pub tokens: Vec<u32>,
    /// Length of `tokens` at which the answer ends.
    pub limit: usize,
    pub pooling: Option<Pooling>,
    pub fingerprint: Fingerprint,
    pub widest_step: Sharing,
    pub sink: UnboundedSender<Event>,
    pub submitted: Instant,
    pub last_token: Instant,
    _place: Place,
}

impl Submission {
    /// `pooling` for a text to embed.
    pub fn new(
        mut request: Request,
        pooling: Option<Pooling>,
        adapter: Option<Arc<Registered>>,
        context: usize,
        sink: UnboundedSender<Event>,
        place: Place,
    ) -> Self {
        let tokens = std::mem::take(&mut request.prompt);
        let limit = tokens
            .len()
            .saturating_add(request.max_new_tokens)
            .min(context);
        let now = Instant::now();
        Self {
            fingerprint: Fingerprint::new(request.adapter, &tokens),
            request,
            adapter,
            tokens,
            limit,
            pooling,
            widest_step: Sharing::default(),
            sink,
            submitted: now,
            last_token: now,
            _place: place,
        }
    }
}

/// What is gathered from the rows of a prompt.
pub(super) enum Reading {
    /// Nothing.
    Nothing,
    /// Log-probabilities of its tokens, the first none.
    Scores(Vec<Option<Logprobs>>),
    /// Hidden states.
    States(Pool),
}

/// A request in the loop.
pub(super) struct Live {
    pub submission: Submission,
    /// Tokens of the prompt.
    pub prompt: usize,
    pub names: BlockNames,
    /// What it is to join the queue with, while it waits for another that begins alike.
    pub held: Option<Arrival>,
    pub reading: Reading,
    /// Positions whose outputs are still to be read.
    pub unread: Range<usize>,
    pub history: Option<History>,
    pub guide: Option<Guide>,
    /// Whether its adapter was not there when it came near the head of the queue.
    pub waited: bool,
    /// Whether it ran once.
    pub begun: bool,
}

impl Live {
    pub fn new(submission: Submission, names: BlockNames) -> Self {
        let prompt = submission.tokens.len();
        let request = &submission.request;
        let (reading, unread) = match submission.pooling {
            Some(pooling) => {
                let pool = Pool::new(pooling);
                let first = pool.first(prompt);
                (Reading::States(pool), first..prompt)
            }
            None if request.prompt_logprobs.is_some() => {
                (Reading::Scores(vec![None]), 0..prompt.saturating_sub(1))
            }
            None => (Reading::Nothing, 0..0),
        };
        let penalties = request.sampling.has_penalties();
        Self {
            history: penalties.then(|| History::of(&submission.tokens, request.answered)),
            submission,
            prompt,
            names,
            held: None,
            reading,
            unread,
            guide: None,
            waited: false,
            begun: false,
        }
    }

    /// What the scheduler has to know of the rows that are read.
    pub fn wanted(&self) -> Wanted {
        Wanted {
            positions: self.unread.clone(),
            scored: matches!(self.reading, Reading::Scores(_)),
        }
    }

    /// The positions of a chunk that are to be read.
    pub fn unread_in(&self, start: usize, rows: usize) -> Range<usize> {
        let from = self.unread.start.max(start);
        from..self.unread.end.min(start + rows).max(from)
    }

    /// Records that everything before a position was read.
    pub fn read_to(&mut self, position: usize) {
        let unread = &mut self.unread;
        unread.start = unread.start.max(position).min(unread.end);
    }

    /// Whether tokens are drawn for it at all.
    pub fn draws(&self) -> bool {
        self.submission.limit > self.prompt && self.submission.pooling.is_none()
    }
}
