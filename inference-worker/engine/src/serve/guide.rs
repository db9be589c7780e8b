//! Constraints at work: the mask of each answer's next position, computed beside the steps.

use super::Command;
use crate::constraint::{ConstraintError, TokenConstraint, TokenMask};
use crate::scheduler::SequenceId;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The threads that compute masks. The engine's own would have to finish a slow mask before they can go
/// on with a step.
pub(super) struct Guides {
    threads: usize,
    /// Started for the first constraint.
    pool: Option<rayon::ThreadPool>,
    vocabulary: usize,
    commands: Sender<Command>,
}

impl Guides {
    pub fn new(threads: usize, vocabulary: usize, commands: Sender<Command>) -> Self {
        Self {
            threads,
            pool: None,
            vocabulary,
            commands,
        }
    }

    /// Begins with a constraint: its first mask is computed from now on.
    pub fn begin(
        &mut self,
        id: SequenceId,
        constraint: Box<dyn TokenConstraint>,
    ) -> Result<Guide, ConstraintError> {
        if self.pool.is_none() {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(self.threads)
                .thread_name(|i| format!("constraint-{i}"))
                .build()
                .map_err(|e| ConstraintError::Busy(format!("no thread for it: {e}")))?;
            self.pool = Some(pool);
        }
        let guide = Guide {
            id,
            slot: Arc::default(),
        };
        let turn = Turn {
            constraint,
            mask: TokenMask::new(self.vocabulary),
            outcome: Ok(false),
        };
        self.compute(&guide, turn, None);
        Ok(guide)
    }

    /// Goes on by a token.
    pub fn go_on(&self, guide: &Guide, turn: Turn, token: u32) {
        self.compute(guide, turn, Some(token));
    }

    fn compute(&self, guide: &Guide, mut turn: Turn, token: Option<u32>) {
        let Some(pool) = &self.pool else {
            return;
        };
        let (id, slot, commands) = (guide.id, Arc::clone(&guide.slot), self.commands.clone());
        pool.spawn(move || {
            turn.advance(token);
            let mut progress = slot.lock();
            progress.turn = Some(turn);
            let awaited = std::mem::take(&mut progress.awaited);
            drop(progress);
            slot.ready.notify_one();
            if awaited {
                // An error means that the engine is gone.
                let _ = commands.send(Command::Guided(id));
            }
        });
    }
}

/// A constraint between two tokens.
pub(super) struct Turn {
    constraint: Box<dyn TokenConstraint>,
    /// What may be next.
    pub mask: TokenMask,
    /// Whether the answer is complete, so that nothing may follow.
    pub outcome: Result<bool, ConstraintError>,
}

impl Turn {
    /// Takes a token in, and finds what may be next.
    fn advance(&mut self, token: Option<u32>) {
        let Self {
            constraint, mask, ..
        } = self;
        mask.clear();
        let advance = || {
            if let Some(token) = token {
                constraint.accept(token)?;
            }
            let finished = constraint.is_finished();
            if !finished {
                constraint.mask(mask)?;
                if mask.is_empty() {
                    return Err(ConstraintError::Stuck("no token may follow".to_owned()));
                }
            }
            Ok(finished)
        };
        // Somebody else's code.
        let caught = catch_unwind(AssertUnwindSafe(advance));
        self.outcome =
            caught.unwrap_or_else(|_| Err(ConstraintError::Stuck("it panicked".to_owned())));
    }

    /// Whether a last token makes the answer complete.
    pub fn ends_with(mut self, token: u32) -> bool {
        let constraint = &mut self.constraint;
        let ends = || constraint.accept(token).is_ok() && constraint.is_finished();
        catch_unwind(AssertUnwindSafe(ends)).unwrap_or(false)
    }
}

#[derive(Default)]
struct Slot {
    progress: Mutex<Progress>,
    ready: Condvar,
}

#[derive(Default)]
struct Progress {
    turn: Option<Turn>,
    /// Whether the loop is to be told.
    awaited: bool,
}

impl Slot {
    /// Nothing panics between two changes.
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A constraint of one answer, here or on its thread.
pub(super) struct Guide {
    id: SequenceId,
    slot: Arc<Slot>,
}

impl Guide {
    /// Takes the turn if it is ready by then; if not, the loop is told once it is.
    pub fn take(&self, until: Instant) -> Option<Turn> {
        let mut progress = self.slot.lock();
        loop {
            if let Some(turn) = progress.turn.take() {
                return Some(turn);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                progress.awaited = true;
                return None;
            }
            let waited = self.slot.ready.wait_timeout(progress, left);
            progress = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether nothing is to be drawn any more: the answer is complete, or cannot go on.
    pub fn ended(&self) -> Option<Result<(), ConstraintError>> {
        let progress = self.slot.lock();
        match &progress.turn.as_ref()?.outcome {
            Ok(false) => None,
            Ok(true) => Some(Ok(())),
            Err(error) => Some(Err(error.clone())),
        }
    }
}
