//! As many connections as there may be open files for.

use fdlimit::{raise_fd_limit, Error, Outcome};

/// Files that the process may need to have open beside its connections: what it reads, what the runtime
/// needs, and connections that are told to go.
const OTHER_FILES: u64 = 256;

/// As many connections, of those wanted, as the process may have files open for, `files_each` for one. Raises
/// that limit first as far as it goes: a listener that runs out of files answers nobody, whoever may be idle.
pub fn room_for(wanted: usize, files_each: usize) -> usize {
    let limit = match raise_fd_limit() {
        Ok(Outcome::LimitRaised { to, .. }) => to,
        Ok(Outcome::Unsupported) => return wanted,
        Err(error) => {
            tracing::warn!(%error, "the number of open files cannot be raised");
            match error {
                Error::FailedToSetLimit { from, .. } => from,
                _ => return wanted,
            }
        }
    };
    let connections = connections_within(limit, wanted, files_each);
    if connections < wanted {
        tracing::warn!(
            open_files = limit,
            "there is room for {connections} connections only, not {wanted}: raise `ulimit -Hn`"
        );
    }
    connections
}

/// How many of `wanted` connections leave enough of `limit` files.
fn connections_within(limit: u64, wanted: usize, files_each: usize) -> usize {
    let most = usize::try_from(limit.saturating_sub(OTHER_FILES)).unwrap_or(usize::MAX);
    wanted.min(most / files_each.max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_everything_else() {
        assert_eq!(connections_within(1024, 1024, 1), 768);
        assert_eq!(connections_within(1024, 64, 1), 64);
        assert_eq!(connections_within(u64::MAX, 4096, 1), 4096);
        // One to the client, one to the worker.
        assert_eq!(connections_within(1024, 1024, 2), 384);
        // Too few for anything, and still something is answered.
        assert_eq!(connections_within(100, 64, 1), 1);
    }
}
