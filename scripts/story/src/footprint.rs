//! How much memory the programs take: what was promised, and what the kernel says.

use anyhow::{ensure, Context, Result};

/// Bytes that an idle node stays below.
const NODE_IDLE: u64 = 300_000_000;
/// Bytes that a serving worker stays below.
const WORKER_SERVING: u64 = 1_000_000_000;

/// Memory of one process, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Resident now.
    pub now: u64,
    /// Resident at most since it started.
    pub most: u64,
}

impl Memory {
    /// Reads `/proc/<pid>/status`.
    pub fn of(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/status");
        let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
        Self::parse(&text).with_context(|| format!("{path} has no VmRSS and VmHWM"))
    }

    fn parse(status: &str) -> Option<Self> {
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            let number: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
            number.checked_mul(1_024)
        };
        Some(Memory {
            now: kib("VmRSS:")?,
            most: kib("VmHWM:")?,
        })
    }
}

/// Memory of node and worker at the story's end.
#[derive(Clone, Copy, Debug)]
pub struct Footprint {
    /// The node, idle by then.
    pub node: Memory,
    /// The worker, which has served.
    pub worker: Memory,
}

impl Footprint {
    /// Fails when more is taken than was promised: by the node now, when it is idle, and by the
    /// worker at any time so far.
    pub fn check(&self) -> Result<()> {
        let Footprint { node, worker } = self;
        ensure!(
            node.now < NODE_IDLE,
            "the idle node takes {}, promised are less than {}",
            megabytes(node.now),
            megabytes(NODE_IDLE)
        );
        ensure!(
            worker.most < WORKER_SERVING,
            "the worker took {}, promised are less than {}",
            megabytes(worker.most),
            megabytes(WORKER_SERVING)
        );
        Ok(())
    }
}

impl std::fmt::Display for Footprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "memory: node {} idle ({} at most), worker {} ({} at most)",
            megabytes(self.node.now),
            megabytes(self.node.most),
            megabytes(self.worker.now),
            megabytes(self.worker.most)
        )
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes.div_ceil(1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_page_is_read() {
        let page = "Name:\tnode\nVmPeak:\t  90 kB\nVmHWM:\t   20 kB\nVmRSS:\t   10 kB\n";
        let expected = Memory {
            now: 10_240,
            most: 20_480,
        };
        assert_eq!(Memory::parse(page), Some(expected));
        assert_eq!(Memory::parse("Name:\tgone\n"), None);
    }

    #[test]
    fn more_than_was_promised_is_an_error() {
        let small = Memory { now: 1, most: 1 };
        let at = |now, most| Memory { now, most };
        let check = |node, worker| Footprint { node, worker }.check();
        check(small, small).unwrap();
        // What the node took while it synchronized or built blocks is not what it idles at.
        check(at(1, NODE_IDLE), small).unwrap();
        check(at(NODE_IDLE, NODE_IDLE), small).unwrap_err();
        check(small, at(1, WORKER_SERVING)).unwrap_err();
    }
}
