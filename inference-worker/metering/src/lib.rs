//! Vouchers, counting, receipts and the crash-safe journal.
//!
//! This crate is the bookkeeping of an answer, with no model and no network inside:
//!
//! - [`admission`]: whether a voucher pays for a request (the worker's side);
//! - [`receipts`]: making, signing and checking receipts (both sides run the same code);
//! - [`journal`]: what the worker delivered, on disk before the client sees the end of its answer;
//! - [`selection`]: which delivered receipts the chain would take now;
//! - [`batching`]: turning them into the next batch;
//! - [`consumer`]: the consumer's side of a lane: the next voucher stands on the last receipt it
//!   accepted.
//!
//! **What a crash can cost.** A receipt is on disk, synced, before the last event of its stream is
//! sent, so what the consumer could acknowledge is never lost. An answer that was interrupted before
//! that has no receipt: the consumer presents the same voucher again and the work is done once more.
//! The same voucher presented after its receipt was journaled gets that receipt, not new work.

pub mod admission;
pub mod batching;
pub mod consumer;
pub mod journal;
pub mod receipts;
pub mod record;
pub mod selection;
pub mod signature;

pub use admission::{admit, LaneHead, Refusal, VoucherContext};
pub use batching::PreparedBatch;
pub use consumer::{ConsumerLane, ConsumerLanes};
pub use journal::{Journal, JournalError};
pub use receipts::{verify_receipt, Charge, Expected, ReceiptFault, SignedReceipt};
pub use record::DeliveredReceipt;
pub use selection::{BatchLimits, ChainLane};
pub use signature::{verify, SignedVoucher};
