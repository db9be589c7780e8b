//! Every kernel on the CPU, against references in f64.

use openledger_engine::backend::cuda::device::host::HostDevice;
use openledger_engine::backend::cuda::host::{HostError, HostKernels, Order};
use openledger_engine::backend::cuda::selftest::on_device::DeviceMachine;
use openledger_engine::backend::cuda::selftest::on_host::HostMachine;
use openledger_engine::backend::cuda::selftest::{checks, head_checks, Check, Extent};
use openledger_engine::backend::cuda::{Options, Storage, SOURCES};
use std::sync::Arc;

const SEED: u64 = 7;

/// None where there is no compiler.
fn kernels(options: &Options) -> Option<Arc<HostKernels>> {
    match HostKernels::load(options) {
        Ok(kernels) => Some(kernels),
        Err(HostError::NoCompiler) => {
            println!("skipped: no C++ compiler");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn run_all(options: Options, checks: &[Check]) {
    let Some(kernels) = kernels(&options) else {
        return;
    };
    let mut wrong = Vec::new();
    for order in [Order::Forward, Order::Reversed] {
        let mut machine = HostMachine::new(Arc::clone(&kernels), order);
        for check in checks {
            if let Err(failure) = check.run(&mut machine, options.storage, SEED) {
                wrong.push(format!("{check:?}, {order:?}: {failure}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{options:?}:\n{}", wrong.join("\n"));
}

#[test]
fn kernels_should_give_what_the_reference_gives() {
    for storage in [Storage::F32, Storage::Bf16] {
        let options = Options {
            storage,
            head_dim: 64,
        };
        run_all(options, &checks(&options, Extent::Small));
    }
}

#[test]
fn kernels_should_give_what_the_reference_gives_for_heads_of_any_width() {
    for (storage, head_dim) in [
        (Storage::F32, 8),
        (Storage::Bf16, 8),
        (Storage::Bf16, 80),
        (Storage::Bf16, 36),
        (Storage::Bf16, 128),
        (Storage::F32, 200),
        (Storage::Bf16, 256),
    ] {
        let options = Options { storage, head_dim };
        run_all(options, &head_checks(&options, Extent::Small));
    }
}

#[test]
fn every_kernel_should_have_a_check() {
    let options = Options {
        storage: Storage::Bf16,
        head_dim: 64,
    };
    let checks = checks(&options, Extent::Small);
    for kernel in SOURCES.iter().flat_map(|source| source.kernels) {
        assert!(
            checks.iter().any(|check| check.kernel == *kernel),
            "{kernel}"
        );
    }
}

#[test]
fn checks_should_run_on_what_the_backend_runs_on() {
    let options = Options {
        storage: Storage::Bf16,
        head_dim: 16,
    };
    if kernels(&options).is_none() {
        return;
    }
    let device = Arc::new(HostDevice::new(1 << 30));
    let mut machine = DeviceMachine::new(device.clone(), &options).unwrap();
    for check in head_checks(&options, Extent::Small) {
        if let Err(failure) = check.run(&mut machine, options.storage, SEED) {
            panic!("{check:?}: {failure}");
        }
    }
    // A check gives back what it took.
    assert_eq!(device.taken(), 0);
}
