//! Identifiers. None is ever reused.

/// Planck: 10^-12 OPEN.
pub type Balance = u128;
/// Number of a block.
pub type BlockNumber = u32;
/// A Datanet.
pub type DatanetId = u32;
/// What one account added to a Datanet in one submission.
pub type ContributionId = u64;
/// A sealed version of a Datanet, counted from 1 within the Datanet.
pub type VersionIndex = u32;
/// A base model.
pub type BaseId = u32;
/// An adapter: a lineage of revisions on one base model.
pub type AdapterId = u32;
/// An immutable version of an adapter, or of a base served without one.
pub type RevisionId = u64;
/// Index of an entry in the append-only list of a model's terms.
pub type TermsIndex = u32;
/// A payment channel.
pub type ChannelId = u64;
/// A lane of a channel: one request in flight at a time.
pub type LaneIndex = u16;
/// Position of a voucher and its receipt on a lane, counted from 1.
pub type Sequence = u64;
/// Position of a batch among a worker's batches, counted from 1.
pub type BatchSequence = u64;
/// An AI agent.
pub type AgentId = u32;
/// Index of a worker's service key.
pub type KeyIndex = u16;
