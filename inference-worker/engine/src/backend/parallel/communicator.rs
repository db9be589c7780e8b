//! What ranks need of each other.

use std::fmt::Display;
use thiserror::Error;

/// Why ranks could not exchange what they have.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CommunicatorError {
    /// A rank gave up; the others stop waiting for it.
    #[error("rank {rank} gave up: {reason}")]
    Aborted {
        /// The rank.
        rank: usize,
        /// Why.
        reason: String,
    },
    /// Ranks brought buffers of different lengths, or one that does not fit the others.
    #[error("a rank brought {found} values where {expected} were expected")]
    Length {
        /// Values expected.
        expected: usize,
        /// Values brought.
        found: usize,
    },
    /// The library or the device failed.
    #[error("{0}")]
    Device(String),
}

/// One rank's end of a group. Every rank calls the same operations in the same order.
///
/// A buffer is what the ranks' device computes on: f32 in host memory, or a handle to f32 in the memory
/// of a device, whose operations may return before they are done if the device keeps their order.
pub trait Communicator: Send + Sync {
    /// What is exchanged.
    type Buffer: ?Sized;

    /// Number of this rank, from 0.
    fn rank(&self) -> usize;

    /// Number of ranks.
    fn ranks(&self) -> usize;

    /// Replaces `values` by the sum over all ranks. The order of the sum does not depend on who comes
    /// first, so that every rank has the same bits in every run.
    ///
    /// # Errors
    /// When a rank gave up or the device failed.
    fn all_reduce(&self, values: &mut Self::Buffer) -> Result<(), CommunicatorError>;

    /// Gives up: ranks that wait for this one, now or later, get an error instead.
    fn abort(&self, reason: &str);
}

/// What ranks need whose results are not put together elsewhere.
pub trait Gather: Communicator {
    /// Puts the parts of all ranks, which are equally long, side by side in order of rank.
    ///
    /// # Errors
    /// When a rank gave up or the device failed.
    fn all_gather(
        &self,
        part: &Self::Buffer,
        whole: &mut Self::Buffer,
    ) -> Result<(), CommunicatorError>;
}

/// Does one rank's part of what all ranks do together. If it fails or panics, the rank gives up.
///
/// # Errors
/// Those of the part.
pub fn together<C: Communicator + ?Sized, T, E: Display>(
    end: &C,
    part: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    struct Unfinished<'a, C: Communicator + ?Sized>(&'a C);
    impl<C: Communicator + ?Sized> Drop for Unfinished<'_, C> {
        fn drop(&mut self) {
            self.0.abort("it panicked");
        }
    }
    let unfinished = Unfinished(end);
    let result = part();
    std::mem::forget(unfinished);
    if let Err(error) = &result {
        end.abort(&error.to_string());
    }
    result
}
