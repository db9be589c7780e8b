//! What can go wrong.

use std::fmt;

/// A call, event or runtime API that the node lacks or has in another shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// What is meant, as `call Settlement.open_channel`.
    pub item: String,
    /// How it differs.
    pub difference: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.item, self.difference)
    }
}

/// A read that failed.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// The node cannot be reached.
    #[error("node {url} cannot be reached: {reason}")]
    Unreachable {
        /// Its WebSocket address.
        url: String,
        /// Why.
        reason: String,
    },
    /// After a reconnection the node serves another chain.
    #[error("node {url} now serves the chain with genesis 0x{found}, not 0x{expected}")]
    OtherChain {
        /// Its WebSocket address.
        url: String,
        /// Genesis hash at first, hex.
        expected: String,
        /// Genesis hash now, hex.
        found: String,
    },
    /// The runtime does not fit this client.
    #[error("the node's runtime (spec version {spec_version}) does not fit this client:\n  {}", .mismatches.iter().map(|m| m.to_string()).collect::<Vec<_>>().join("\n  "))]
    Incompatible {
        /// Version of the runtime.
        spec_version: u32,
        /// All that differs.
        mismatches: Vec<Mismatch>,
    },
    /// The node refused a request.
    #[error("the node refused {what}: {reason}")]
    Refused {
        /// What was asked.
        what: String,
        /// What it says.
        reason: String,
    },
    /// Bytes from the node do not decode.
    #[error("{what} does not decode: {reason}")]
    Decode {
        /// What was decoded.
        what: String,
        /// Why.
        reason: String,
    },
    /// Something asked for is not there.
    #[error("{0} is not on chain")]
    Missing(String),
}

/// A call that was included and failed: the pallet's error in the pallet's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pallet}::{error}: {docs} (call {call} in block 0x{})", hex::encode(.block))]
pub struct DispatchFailure {
    /// The call, as `Settlement.open_channel`.
    pub call: String,
    /// Pallet that failed it, or `Runtime`.
    pub pallet: String,
    /// Name of the error.
    pub error: String,
    /// What the pallet's documentation says about it.
    pub docs: String,
    /// Block in which it failed.
    pub block: [u8; 32],
}

/// A call that was not applied, or whose fate cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The call was included and failed.
    #[error(transparent)]
    Dispatch(#[from] Box<DispatchFailure>),
    /// The node did not take the transaction: it is not, and will not be, applied.
    #[error("{call} was not accepted: {reason}")]
    Invalid {
        /// The call, as `Settlement.open_channel`.
        call: String,
        /// What the node says.
        reason: String,
    },
    /// The call was included, but the node no longer has the state that tells how it went.
    #[error("{call} is in block 0x{}, whose events the node no longer keeps", hex::encode(.block))]
    EventsPruned {
        /// The call, as `Settlement.open_channel`.
        call: String,
        /// Block in which it is.
        block: [u8; 32],
    },
    /// The call could not be built, or what happened could not be read.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The submitter was shut down first.
    #[error("the submitter was shut down before {0} was resolved")]
    Closed(String),
}

impl SubmitError {
    /// Whether the call failed with this error of this pallet.
    pub fn is(&self, pallet_name: &str, error_name: &str) -> bool {
        matches!(self, SubmitError::Dispatch(failure) if failure.pallet == pallet_name && failure.error == error_name)
    }
}
