//! Puts the commit into the version string.

use std::process::Command;

const COMMIT: &str = "SUBSTRATE_CLI_GIT_COMMIT_HASH";

fn main() {
    println!("cargo:rerun-if-env-changed={COMMIT}");
    if in_repository() {
        substrate_build_script_utils::rerun_if_git_head_changed();
    } else if std::env::var_os(COMMIT).is_none() {
        // Sources without history have no commit: better no word about it than a row of zeros.
        std::env::set_var(COMMIT, "");
    }
    substrate_build_script_utils::generate_cargo_keys();
}

fn in_repository() -> bool {
    Command::new("git")
        .args(["rev-parse", "--verify", "--quiet", "HEAD"])
        .output()
        .is_ok_and(|output| output.status.success())
}
