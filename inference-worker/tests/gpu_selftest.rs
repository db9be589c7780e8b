//! `openledger-worker gpu-selftest` as a process, where it finds no GPU.

use std::process::{Command, Output};

fn run(options: &[&str]) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(env!("CARGO_BIN_EXE_openledger-worker"))
        .arg("gpu-selftest")
        .args(options)
        // Hides those that this machine may have.
        .env("CUDA_VISIBLE_DEVICES", "")
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn without_a_gpu_it_should_say_so_and_that_nothing_was_tested() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.json");
    let (status, _, said) = run(&["--json", report.to_str().unwrap()]);
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("no GPU was tested"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn it_should_name_its_stages_and_refuse_others() {
    let (status, listed, said) = run(&["--list"]);
    assert_eq!(status, Some(0), "{said}");
    let kinds = ["kernels", "goldens", "ranks", "speed"];
    assert!(kinds.iter().all(|kind| listed.contains(kind)), "{listed}");
    let (status, _, said) = run(&["--only", "everything"]);
    assert!(status.is_some_and(|status| status != 0), "{said}");
    assert!(said.contains("no stage everything"), "{said}");
}
