use super::*;
use crate::backend::cuda::calls::{PageCopy, RmsNorm, SiluMul};
use crate::backend::cuda::{Address, Storage};

const F32: Options = Options {
    storage: Storage::F32,
    head_dim: 16,
};

/// What a test needs, or none where there is no compiler.
fn available<T>(result: Result<T, HostError>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(HostError::NoCompiler) => {
            println!("skipped: no C++ compiler");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn address<T>(values: &mut [T]) -> Address {
    Address(values.as_mut_ptr() as u64)
}

#[test]
fn a_kernel_should_compute_in_memory_of_the_host() {
    let Some(kernels) = available(HostKernels::load(&F32)) else {
        return;
    };
    let (rows, width) = (3, 300);
    let mut x: Vec<f32> = (0..2 * rows * width).map(|i| (i as f32).sin()).collect();
    let mut results = [Order::Forward, Order::Reversed].map(|order| {
        let mut out = vec![0.0f32; rows * width];
        let call = SiluMul {
            out: address(&mut out),
            gate_up: address(&mut x),
            width: width as u32,
            rows: rows as u32,
        };
        // SAFETY: both tensors have the sizes of the call.
        unsafe { kernels.launch(&call, order) }.unwrap();
        out
    });
    let (gate, up) = (x[width + width + 7], x[width + width + width + 7]);
    let expected = gate / (1.0 + (-gate).exp()) * up;
    assert!((results[0][width + 7] - expected).abs() < 1e-6);
    let [forward, reversed] = &mut results;
    assert_eq!(forward, reversed);
}

#[test]
fn threads_should_meet_in_barriers_and_shuffles() {
    let Some(kernels) = available(HostKernels::load(&F32)) else {
        return;
    };
    let width = 777;
    let mut x: Vec<f32> = (0..width).map(|i| (i as f32).cos()).collect();
    let mut weight = vec![1.0f32; width];
    let mut out = vec![0.0f32; width];
    let call = RmsNorm {
        out: address(&mut out),
        x: address(&mut x),
        weight: address(&mut weight),
        width: width as u32,
        epsilon: 0.0,
        rows: 1,
    };
    // SAFETY: one row of `width` values each.
    unsafe { kernels.launch(&call, Order::Forward) }.unwrap();
    let rms = (x.iter().map(|v| v * v).sum::<f32>() / width as f32).sqrt();
    assert!((out[0] - x[0] / rms).abs() < 1e-5, "{} {}", out[0], rms);
}

#[test]
fn an_empty_grid_should_do_nothing() {
    let Some(kernels) = available(HostKernels::load(&F32)) else {
        return;
    };
    let call = PageCopy {
        pool: Address::NULL,
        pairs: Address::NULL,
        words: 1,
        count: 0,
    };
    // SAFETY: no thread runs.
    unsafe { kernels.launch(&call, Order::Forward) }.unwrap();
}

struct Finding {
    out: Address,
    kernel: &'static str,
    threads: u32,
}

impl Call for Finding {
    fn launch(&self) -> Launch {
        Launch {
            kernel: self.kernel,
            grid: [1, 1, 1],
            threads: self.threads,
        }
    }

    fn arguments(&self) -> Vec<*mut c_void> {
        vec![std::ptr::from_ref(&self.out).cast_mut().cast()]
    }
}

#[test]
fn what_is_wrong_with_a_kernel_should_be_found() {
    let Some(kernels) = available(HostKernels::compile(&F32, &[FINDINGS], HEADERS)) else {
        return;
    };
    let mut out = [0u32; 64];
    let mut run = |kernel, threads, order| {
        let finding = Finding {
            out: address(&mut out),
            kernel,
            threads,
        };
        // SAFETY: the kernels write one word per thread of 64 at most.
        unsafe { kernels.launch(&finding, order) }.map(|()| out)
    };
    let not_met = |result| matches!(result, Err(HostError::NotMet(_)));
    assert!(not_met(run("missed_barrier", 64, Order::Forward)));
    assert!(not_met(run("missed_shuffle", 64, Order::Forward)));
    assert!(matches!(
        run("race", 33, Order::Forward),
        Err(HostError::Block { threads: 33, .. })
    ));
    assert!(matches!(
        run("absent", 64, Order::Forward),
        Err(HostError::Unknown("absent"))
    ));
    let forward = run("race", 64, Order::Forward).unwrap();
    let reversed = run("race", 64, Order::Reversed).unwrap();
    assert_ne!(forward, reversed);
}

#[test]
fn text_that_is_not_cpp_should_be_refused_with_its_line() {
    let broken = Source {
        name: "broken.cu",
        text:
            "#include \"common.cuh\"\nKERNEL(32)\nbroken(float* out) {\n    out[0] = absent;\n}\n",
        kernels: &["broken"],
    };
    match HostKernels::compile(&F32, &[broken], HEADERS) {
        Err(HostError::NoCompiler) => println!("skipped: no C++ compiler"),
        Err(HostError::Rejected(log)) => assert!(log.contains("broken.cu:4"), "{log}"),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it compiled"),
    }
}
