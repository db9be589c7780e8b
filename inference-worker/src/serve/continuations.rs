//! Answers that used up their voucher and may go on under the next one.

use openledger_primitives::{ChannelId, Digest, LaneIndex, RevisionId};
use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Tokens remembered in all, 16 MiB of them; the oldest answers are forgotten first.
const REMEMBERED: usize = 4 << 20;

/// Where an answer stopped.
#[derive(Clone, Debug)]
pub struct Continuation {
    /// Channel that paid.
    pub channel: ChannelId,
    /// Lane of it.
    pub lane: LaneIndex,
    /// Revision that answered.
    pub revision: RevisionId,
    /// Prompt and everything generated so far.
    pub tokens: Vec<u32>,
    /// How many of them, at the end, were generated.
    pub answered: usize,
}

/// By the hash of the receipt that the answer stopped with. In memory only: after a restart the
/// client asks anew.
#[derive(Debug, Default)]
pub struct Continuations(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    answers: VecDeque<(Digest, Continuation)>,
    tokens: usize,
}

impl Continuations {
    /// Remembers where an answer stopped.
    pub fn keep(&self, receipt: Digest, continuation: Continuation) {
        let mut kept = self.lock();
        kept.tokens += continuation.tokens.len();
        kept.answers.push_back((receipt, continuation));
        while kept.tokens > REMEMBERED {
            match kept.answers.pop_front() {
                Some((_, oldest)) => kept.tokens -= oldest.tokens.len(),
                None => break,
            }
        }
    }

    /// Where the answer under `receipt` stopped.
    pub fn find(&self, receipt: &Digest) -> Option<Continuation> {
        let kept = self.lock();
        kept.answers
            .iter()
            .rev()
            .find(|(hash, _)| hash == receipt)
            .map(|(_, continuation)| continuation.clone())
    }

    /// Forgets an answer that goes on: it goes on once.
    pub fn forget(&self, receipt: &Digest) {
        let mut kept = self.lock();
        let Some(at) = kept.answers.iter().position(|(hash, _)| hash == receipt) else {
            return;
        };
        if let Some((_, gone)) = kept.answers.remove(at) {
            kept.tokens -= gone.tokens.len();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stopped(tokens: usize) -> Continuation {
        Continuation {
            channel: 1,
            lane: 0,
            revision: 7,
            tokens: vec![0; tokens],
            answered: 0,
        }
    }

    #[test]
    fn the_oldest_are_forgotten_when_memory_is_used_up() {
        let continuations = Continuations::default();
        continuations.keep([1; 32], stopped(REMEMBERED / 2));
        continuations.keep([2; 32], stopped(REMEMBERED / 2));
        assert!(continuations.find(&[1; 32]).is_some());
        continuations.keep([3; 32], stopped(1));
        assert!(continuations.find(&[1; 32]).is_none());
        assert!(continuations.find(&[2; 32]).is_some());
        continuations.forget(&[2; 32]);
        assert!(continuations.find(&[2; 32]).is_none());
        assert_eq!(continuations.lock().tokens, 1);
    }
}
