//! How much one request may ask for. What is beyond is refused before any work is done for it.
//!
//! JSON that is nested deeper than 128 levels is refused by the parser itself.

/// Bytes of a body at most.
pub const BODY_BYTES: usize = 1 << 20;
/// Messages of a conversation at most.
pub const MESSAGES: usize = 2048;
/// Prompts of one text completion at most.
pub const PROMPTS: usize = 64;
/// Answers to one prompt at most.
pub const ANSWERS: u64 = 16;
/// Answers to one request, over all its prompts, at most.
pub const ANSWERS_OF_ALL: usize = 128;
/// Texts of one request for embeddings at most.
pub const INPUTS: usize = 512;
/// Tools at most.
pub const TOOLS: usize = 128;
/// Stop strings at most.
pub const STOPS: usize = 4;
/// Bytes of a stop string at most.
pub const STOP_BYTES: usize = 1024;
/// Tokens with a bias at most.
pub const BIASED_TOKENS: usize = 1024;
/// Alternatives beside each token's log-probability at most.
pub const ALTERNATIVES: u64 = 20;
/// Bytes of a name (model, tool, user) at most.
pub const NAME_BYTES: usize = 256;
/// Bytes of a JSON schema or regular expression at most.
pub const GRAMMAR_BYTES: usize = 128 << 10;
