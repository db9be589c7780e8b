//! Server-sent events.

use serde_json::Value;

/// The end of a stream.
pub const DONE: &str = "data: [DONE]\n\n";

/// A comment that keeps a connection from looking dead.
pub const KEEP_ALIVE: &str = ": \n\n";

/// One event. JSON has no raw line breaks, so it is one line.
pub fn event(value: &Value) -> String {
    format!("data: {value}\n\n")
}
