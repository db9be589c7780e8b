//! A command of the node that ends by itself.

use super::wait_until;
use std::{
    fs::File,
    process::{Child, Command, Stdio},
};

/// What a command left.
pub struct Finished {
    /// Whether it ended with success.
    pub success: bool,
    /// Its standard output.
    pub output: String,
    /// Its log and its errors.
    pub log: String,
}

impl Finished {
    /// Itself, where it ended with success; panics with the log where it did not.
    pub fn expect_success(self) -> Finished {
        assert!(self.success, "the command failed:\n{}", self.log);
        self
    }
}

/// Ends the process also when the test panics while it waits.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the node's program with these arguments until it ends.
pub fn run(arguments: &[&str]) -> Finished {
    // Into files: nobody has to read them for the program to go on.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (output, log) = (folder.path().join("output"), folder.path().join("log"));
    let mut running = Running(
        Command::new(env!("CARGO_BIN_EXE_openledger-node"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(File::create(&output).expect("a file"))
            .stderr(File::create(&log).expect("a file"))
            .spawn()
            .expect("the command starts"),
    );
    let mut status = None;
    wait_until(&format!("{arguments:?} has ended"), || {
        status = running.0.try_wait().expect("a child can be asked");
        status.is_some()
    });
    Finished {
        success: status.expect("it has ended").success(),
        output: std::fs::read_to_string(output).expect("text"),
        log: std::fs::read_to_string(log).expect("text"),
    }
}
