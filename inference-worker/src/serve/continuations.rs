//! Answers that used up their voucher and may go on under the next one.

use openledger_primitives::{Digest, RevisionId};
use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

/// Answers remembered; the oldest is forgotten first.
const REMEMBERED: usize = 1_024;

/// Where an answer stopped.
#[derive(Clone, Debug)]
pub struct Continuation {
    /// Revision that answered.
    pub revision: RevisionId,
    /// Prompt and everything generated so far.
    pub tokens: Vec<u32>,
}

/// By the hash of the receipt that the answer stopped with. In memory only: after a restart the
/// client asks anew.
#[derive(Debug, Default)]
pub struct Continuations(Mutex<VecDeque<(Digest, Continuation)>>);

impl Continuations {
    /// Remembers where an answer stopped.
    pub fn keep(&self, receipt: Digest, continuation: Continuation) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == REMEMBERED {
            kept.pop_front();
        }
        kept.push_back((receipt, continuation));
    }

    /// Where the answer under `receipt` stopped.
    pub fn find(&self, receipt: &Digest) -> Option<Continuation> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter()
            .rev()
            .find(|(hash, _)| hash == receipt)
            .map(|(_, continuation)| continuation.clone())
    }
}
