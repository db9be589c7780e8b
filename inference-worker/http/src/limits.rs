//! How connections are treated.

use std::time::Duration;

/// How connections are treated.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at most; the one idle longest gives way to a new one.
    pub connections: usize,
    /// How long a client may take to send a request's headers, and to stay idle before them.
    pub idle_timeout: Duration,
    /// How long a connection may take to end that has no place, or gave its place to another.
    pub farewell: Duration,
    /// How long a client may read nothing of what waits for it.
    pub slow_reader: Duration,
    /// How long requests under way may take to end when the server stops.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 1024,
            idle_timeout: Duration::from_secs(60),
            farewell: Duration::from_secs(1),
            slow_reader: Duration::from_secs(30),
            grace: Duration::from_secs(30),
        }
    }
}
