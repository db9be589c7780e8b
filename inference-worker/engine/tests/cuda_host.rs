//! The CUDA backend's own code, its kernels run on the CPU: the same tests as of the CPU backend, in f32
//! and in the deterministic mode, and those of what it alone has. `common::place` knows this program by
//! its name.

#![allow(
    clippy::duplicate_mod,
    reason = "each of these is a program of its own elsewhere"
)]

mod common;
#[path = "goldens.rs"]
mod goldens;
#[path = "oracle.rs"]
mod oracle;
#[path = "parallel.rs"]
mod parallel;
#[path = "prompts.rs"]
mod prompts;
#[path = "serving.rs"]
mod serving;
#[path = "tiers.rs"]
mod tiers;
#[path = "waiting.rs"]
mod waiting;

use common::*;
use openledger_engine::adapters::image::AdapterImage;
use openledger_engine::backend::cuda::device::driver::Driver;
use openledger_engine::backend::cuda::device::host::HostDevice;
use openledger_engine::backend::cuda::device::DeviceError;
use openledger_engine::backend::cuda::{CudaOptions, DeviceChoice, Storage};
use openledger_engine::{
    AdapterError, BackendOptions, Engine, EngineError, EngineHandle, EngineOptions, Request,
};
use openledger_model::{ModelConfig, Targets};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Devices that stand in for GPUs.
type Devices = Vec<Arc<HostDevice>>;

fn start(options: CudaOptions) -> (EngineHandle, Devices) {
    start_model(&config(), options, 1)
}

fn start_model(
    config: &ModelConfig,
    options: CudaOptions,
    ranks: usize,
) -> (EngineHandle, Devices) {
    let devices: Devices = (0..ranks)
        .map(|_| Arc::new(HostDevice::new(96 << 20)))
        .collect();
    let options = EngineOptions {
        backend: BackendOptions::Cuda(CudaOptions {
            devices: devices
                .iter()
                .map(|device| DeviceChoice::Open(device.clone()))
                .collect(),
            ..options
        }),
        tensor_parallel: ranks,
        ..EngineOptions::default()
    };
    (
        Engine::start(config, weights(config), options).unwrap(),
        devices,
    )
}

/// Answers of the base and of an adapter, some at the same time.
fn answers(engine: &EngineHandle) -> Vec<Vec<u32>> {
    let adapter = adapter(&config(), 5, Targets::AllLinear, 3);
    let adapter = engine.load_adapter(&adapter).unwrap();
    let gate = Gate::close(engine);
    let streams: Vec<_> = (0..5)
        .map(|i| {
            let mut request = Request::new(prompt(7, i), 12);
            request.adapter = (i % 2 == 1).then_some(adapter);
            engine.submit(request).unwrap()
        })
        .collect();
    gate.open();
    streams.into_iter().map(tokens).collect()
}

#[test]
fn steps_that_were_written_down_should_give_the_same_answers_on_one_rank_and_on_two() {
    let options = cuda_options(&config(), Place::CudaHost);
    let (plain, devices) = start(CudaOptions {
        graphs: false,
        ..options.clone()
    });
    let expected = answers(&plain);
    assert_eq!(devices[0].graph_launches(), 0);
    for ranks in [1, 2] {
        let (written, devices) = start_model(&config(), options.clone(), ranks);
        assert_eq!(answers(&written), expected, "{ranks} ranks");
        for device in devices {
            // Twelve steps of five rows, of which the first two of a shape are not launched as a whole.
            assert!(device.graph_launches() >= 8, "{}", device.graph_launches());
        }
    }
}

#[test]
fn an_engine_should_give_the_memory_of_its_devices_back() {
    let options = cuda_options(&config(), Place::CudaHost);
    let (engine, devices) = start_model(&config(), options, 2);
    assert_eq!(answers(&engine).len(), 5);
    assert!(devices.iter().all(|device| device.taken() > 0));
    engine.shutdown();
    drop(engine);
    // The thread that copies adapters may be ending still.
    for _ in 0..1000 {
        if devices.iter().all(|device| device.taken() == 0) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("bytes are still taken");
}

#[test]
fn neither_steps_nor_adapters_should_take_more_memory_of_a_device_than_the_start() {
    let options = cuda_options(&config(), Place::CudaHost);
    let (engine, devices) = start_model(&config(), options, 2);
    let taken = || -> Vec<usize> { devices.iter().map(|device| device.taken()).collect() };
    let before = taken();
    assert_eq!(answers(&engine).len(), 5);
    assert_eq!(taken(), before);
}

#[test]
fn as_many_devices_as_ranks_should_be_asked_for_and_each_should_have_room() {
    let config = config();
    let refusal = |bytes: &[usize], ranks: usize| {
        let device = |bytes: &usize| DeviceChoice::Open(Arc::new(HostDevice::new(*bytes)));
        let options = EngineOptions {
            backend: BackendOptions::Cuda(CudaOptions {
                devices: bytes.iter().map(device).collect(),
                ..cuda_options(&config, Place::CudaHost)
            }),
            tensor_parallel: ranks,
            ..EngineOptions::default()
        };
        let refused = Engine::start(&config, weights(&config), options);
        refused.err().expect("it is refused")
    };
    let room = 96 << 20;
    for (devices, ranks) in [(1, 2), (2, 1)] {
        let error = refusal(&vec![room; devices], ranks).to_string();
        let expected =
            format!("tensor_parallel {ranks} takes as many devices; {devices} are named");
        assert!(error.contains(&expected), "{error}");
    }
    let error = refusal(&[room, 1 << 10], 2);
    let memory = matches!(error, EngineError::Device(DeviceError::Memory { .. }));
    assert!(memory, "{error}");
    let error = refusal(&[room; 3], 3).to_string();
    assert!(error.contains("num_key_value_heads of 2"), "{error}");
}

#[test]
fn a_model_kept_in_bf16_should_answer_nearly_as_in_f32_on_one_rank_and_on_two() {
    nearly_as_in_f32(false, false, 1);
    nearly_as_in_f32(false, false, 2);
}

#[test]
fn a_library_and_tensor_cores_should_answer_nearly_as_in_f32() {
    for deterministic in [false, true] {
        nearly_as_in_f32(deterministic, true, 1);
    }
}

fn nearly_as_in_f32(deterministic: bool, tensor_cores: bool, ranks: usize) {
    // Widths that tensor cores take.
    let config = ModelConfig {
        hidden_size: 48,
        intermediate_size: 80,
        head_dim: 8,
        ..config()
    };
    let options = CudaOptions {
        storage: Storage::Bf16,
        deterministic,
        tensor_cores,
        ..cuda_options(&config, Place::CudaHost)
    };
    let (engine, _) = start_model(&config, options, ranks);
    let logprobs = |engine: &EngineHandle, adapter| {
        let mut request = Request::new(prompt(30, 2), 1);
        request.adapter = adapter;
        request.logprobs = Some(20);
        let (tokens, end) = engine.submit(request).unwrap().blocking_collect().unwrap();
        end.unwrap();
        let top = tokens[0].logprobs.clone().unwrap().top;
        top.into_iter().collect::<BTreeMap<u32, f32>>()
    };
    // Of the tokens that are among the first of both.
    let apart = |a: &BTreeMap<u32, f32>, b: &BTreeMap<u32, f32>| {
        let shared = a.iter().filter_map(|(id, a)| Some((a - b.get(id)?).abs()));
        let shared: Vec<f32> = shared.collect();
        (shared.len(), shared.into_iter().fold(0.0, f32::max))
    };
    let (exact, _) = start_model(&config, cuda_options(&config, Place::CudaHost), 1);
    let adapter = adapter(&config, 5, Targets::AllLinear, 3);
    let ids = [&engine, &exact].map(|engine| Some(engine.load_adapter(&adapter).unwrap()));
    let exact = [logprobs(&exact, None), logprobs(&exact, ids[1])];
    let rounded = [logprobs(&engine, None), logprobs(&engine, ids[0])];
    for (exact, rounded) in exact.iter().zip(&rounded) {
        // Eight bits of mantissa, three layers, logits of some units.
        let (shared, error) = apart(exact, rounded);
        assert!(
            shared >= 16 && error > 0.0 && error < 0.2,
            "{shared} {error}"
        );
    }
    let (shared, effect) = apart(&exact[0], &exact[1]);
    assert!(shared < 16 || effect > 1.0, "{shared} {effect}");
}

#[test]
fn an_adapter_laid_out_for_another_device_should_be_refused() {
    let (engine, _) = start(cuda_options(&config(), Place::CudaHost));
    let image = AdapterImage::random(&config(), 4, 1);
    assert_eq!(engine.hold(image).unwrap_err(), AdapterError::Arrangement);
}

#[test]
fn a_model_without_room_should_be_refused_with_the_reason() {
    let options = cuda_options(&config(), Place::CudaHost);
    let config = config();
    for (bytes, pages) in [
        (1 << 10, Some(8)),
        (1 << 22, Some(1 << 20)),
        (150 << 10, None),
    ] {
        let options = EngineOptions {
            backend: BackendOptions::Cuda(CudaOptions {
                devices: vec![DeviceChoice::Open(Arc::new(HostDevice::new(bytes)))],
                ..options.clone()
            }),
            arena_pages: pages,
            ..EngineOptions::default()
        };
        let error = Engine::start(&config, weights(&config), options)
            .err()
            .unwrap();
        assert!(
            matches!(error, EngineError::Device(DeviceError::Memory { .. })),
            "{error}"
        );
    }
}

#[test]
fn a_machine_without_a_gpu_should_get_an_error_and_never_the_cpu() {
    let config = config();
    let options = EngineOptions {
        backend: BackendOptions::Cuda(CudaOptions {
            devices: vec![DeviceChoice::Ordinal(Driver::count().unwrap_or(0))],
            ..CudaOptions::default()
        }),
        ..EngineOptions::default()
    };
    let error = Engine::start(&config, weights(&config), options)
        .err()
        .unwrap();
    assert!(matches!(error, EngineError::Device(_)), "{error}");
    let text = error.to_string();
    assert!(text.contains("CUDA") || text.contains("NVIDIA"), "{text}");
}
