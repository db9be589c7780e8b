//! What figures were measured on.

use serde::Serialize;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// The machine and the program. What the system does not tell is empty or 0.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Name of the processor.
    pub processor: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// Version of the kernel.
    pub kernel: String,
    /// Processes that wanted to run on average over the last minute, before the bench began.
    pub load_average: f64,
    /// Version of this program.
    pub version: &'static str,
    /// When, in seconds since 1970.
    pub unix_time: u64,
}

impl Machine {
    /// This one, now.
    pub fn here() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let load = read("/proc/loadavg");
        Self {
            processor: field(&read("/proc/cpuinfo"), "model name").unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            memory_bytes: kibibytes(&read("/proc/meminfo"), "MemTotal").unwrap_or(0),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_average: load
                .split(' ')
                .next()
                .and_then(|l| l.parse().ok())
                .unwrap_or(0.0),
            version: env!("CARGO_PKG_VERSION"),
            unix_time: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |t| t.as_secs()),
        }
    }
}

/// Bytes of this process that are in memory now, where the system tells.
pub fn resident_bytes() -> Option<u64> {
    kibibytes(&std::fs::read_to_string("/proc/self/status").ok()?, "VmRSS")
}

/// Bytes that this process had storage read so far, where the system tells.
pub(super) fn storage_bytes_read() -> Option<u64> {
    let io = std::fs::read_to_string("/proc/self/io").ok()?;
    field(&io, "read_bytes")?.parse().ok()
}

/// Bytes that this process holds from the allocator, by the allocator's own account: its bookkeeping for
/// each piece is counted. None where the C library gives none.
pub(super) fn allocated_bytes() -> Option<u64> {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: it takes nothing and only reads the allocator's counts, under its locks.
        let info = unsafe { libc::mallinfo2() };
        Some((info.uordblks + info.hblkhd) as u64)
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    None
}

/// The value after `name:`, as in the files of `/proc`.
fn field(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found.trim() == name).then(|| value.trim().to_owned())
    })
}

fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let value = field(text, name)?;
    let number: u64 = value.strip_suffix("kB")?.trim().parse().ok()?;
    Some(number << 10)
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} cores of {}, {:.0} GiB, Linux {}, load {:.2}; version {}",
            self.cores,
            self.processor,
            self.memory_bytes as f64 / (1u64 << 30) as f64,
            self.kernel,
            self.load_average,
            self.version
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_proc_should_be_found_by_their_whole_names() {
        let text = "MemTotalish:  1 kB\nMemTotal:       24 kB\nread_bytes: 512\n";
        assert_eq!(kibibytes(text, "MemTotal"), Some(24 << 10));
        assert_eq!(field(text, "read_bytes").as_deref(), Some("512"));
        assert_eq!(field(text, "missing"), None);
    }
}
