//! The self-test of a GPU, run on the CPU: that it finds what is right right, and all its parts end.

use openledger_engine::backend::cuda::device::host::HostDevice;
use openledger_engine::backend::cuda::device::Device;
use openledger_engine::backend::cuda::host::{HostError, HostKernels};
use openledger_engine::backend::cuda::selftest::speed::Scale;
use openledger_engine::backend::cuda::selftest::whole::{run, Plan};
use openledger_engine::backend::cuda::selftest::Extent;
use openledger_engine::backend::cuda::{Options, Storage};
use openledger_model::ModelConfig;
use std::sync::Arc;

#[test]
fn the_self_test_should_pass_on_the_cpu_and_measure_all_that_it_names() {
    let options = Options {
        storage: Storage::F32,
        head_dim: 16,
    };
    if let Err(HostError::NoCompiler) = HostKernels::load(&options) {
        println!("skipped: no C++ compiler");
        return;
    }
    let device: Arc<dyn Device> = Arc::new(HostDevice::new(1 << 30));
    let full = Scale::llama_8b();
    let scale = Scale {
        config: ModelConfig {
            vocab_size: 64,
            hidden_size: 32,
            intermediate_size: 48,
            num_hidden_layers: 2,
            num_attention_heads: 2,
            num_key_value_heads: 1,
            head_dim: 16,
            ..full.config.clone()
        },
        storage: Storage::F32,
        deterministic: true,
        context: 20,
        batches: vec![1, 2],
        adapters: 2,
        repeats: 2,
        bandwidth_bytes: 1 << 20,
    };
    let plan = Plan {
        extent: Extent::Small,
        heads: vec![options],
        library: false,
        speed: Some(scale),
    };
    let folder = tempfile::tempdir().unwrap();
    let report = run(&device, &plan, folder.path(), &mut |part| {
        println!("{part}")
    });
    println!("{report}");
    assert!(report.passed());
    assert!(report.kernels.len() > 20 && report.goldens.len() == 8);
    let named = |part: &str| {
        report
            .figures
            .iter()
            .filter(|f| f.name.contains(part))
            .count()
    };
    for (part, figures) in [
        ("bandwidth of the device", 1),
        ("bytes read per second / bandwidth", 2),
        ("all linear / base alone", 2),
        ("q,k,v,o / base alone", 1),
        ("host memory to device", 2),
        ("files to device", 1),
        ("p99 of a step", 1),
        ("bytes of its pages", 2),
        ("deterministic mode / usual mode", 2),
    ] {
        assert_eq!(named(part), figures, "{part}");
    }
    assert!(report
        .figures
        .iter()
        .all(|f| f.achieved.is_finite() && f.achieved > 0.0));
    let json: serde_json::Value = serde_json::to_value(&report).unwrap();
    assert_eq!(json["device"]["name"], "cpu with CUDA kernels");
    assert_eq!(
        json["figures"].as_array().unwrap().len(),
        report.figures.len()
    );
}
