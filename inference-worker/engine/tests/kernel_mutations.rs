//! The checks of the kernels, checked: each kernel is broken in the ways that are easy to get wrong, and
//! some check has to notice.

use openledger_engine::backend::cuda::host::{HostError, HostKernels, Order};
use openledger_engine::backend::cuda::selftest::on_host::HostMachine;
use openledger_engine::backend::cuda::selftest::{checks, Check, Extent, TensorKernels};
use openledger_engine::backend::cuda::sources::{Source, HEADERS};
use openledger_engine::backend::cuda::{Options, Storage, SOURCES};
use std::sync::Arc;

const OPTIONS: Options = Options {
    storage: Storage::Bf16,
    head_dim: 48,
};

/// A file, what of it is replaced, by what, and the files whose kernels are then checked.
type Mutation = (
    &'static str,
    &'static str,
    &'static str,
    &'static [&'static str],
);

const ATTENTION: &[&str] = &["decode_attention.cu", "prefill_attention.cu"];
const PREFILL: &[&str] = &["prefill_tensor.cu"];
const GEMM: &[&str] = &["gemm.cu"];
const GEMM_TENSOR: &[&str] = &["gemm_tensor.cu"];
const SHRINK: &[&str] = &["lora_shrink.cu"];
const EXPAND: &[&str] = &["lora_expand.cu"];
const LORA_TENSOR: &[&str] = &["lora_tensor.cu"];
const NORM: &[&str] = &["rms_norm.cu"];
const ROPE: &[&str] = &["rope_kv.cu"];
const SAMPLING: &[&str] = &["sampling.cu"];
const QUANTISE: &[&str] = &["quantise.cu"];

const MUTATIONS: &[Mutation] = &[
    // Attention: what a row sees, chunks, barriers.
    ("decode_attention.cu", "positions[row] + 1", "positions[row]", ATTENTION),
    ("decode_attention.cu", "u32 chunk = 1;", "u32 chunk = 2;", ATTENTION),
    ("decode_attention.cu", "% head_tiles * DECODE_QUERIES", "% head_tiles", ATTENTION),
    ("attention.cuh", "chunk.total, new_weight, before.total * old_weight", "chunk.total, new_weight, before.total", ATTENTION),
    ("attention.cuh", "largest = warp_max(largest);", "", ATTENTION),
    ("attention.cuh", "    __syncthreads();\n\n    u32 lane", "    u32 lane", ATTENTION),
    ("attention.cuh", "    __syncthreads();\n\n#pragma", "#pragma", ATTENTION),
    ("attention.cuh", "token < shared.visible[i] ?", "token <= shared.visible[i] ?", ATTENTION),
    ("prefill_attention.cu", "        __syncthreads();\n    }\n\n#pragma", "    }\n\n#pragma", ATTENTION),
    (
        "prefill_attention.cu",
        "query % span) * HEAD_DIM + i",
        "query / span) * HEAD_DIM + i",
        ATTENTION,
    ),
    // Attention on tensor cores.
    ("prefill_tensor.cu", "token < visible[half]", "token <= visible[half]", PREFILL),
    ("prefill_tensor.cu", "fmaf(total[half], before[half], sum)", "total[half] + sum", PREFILL),
    ("prefill_tensor.cu", "sums[j][k] *= before[k / 2];", "", PREFILL),
    ("prefill_tensor.cu", "most = fmaxf(most, __shfl_xor_sync(ALL_LANES, most, 2));", "", PREFILL),
    ("prefill_tensor.cu", "sum += __shfl_xor_sync(ALL_LANES, sum, 1);", "", PREFILL),
    ("prefill_tensor.cu", "token < end && chunk", "chunk", PREFILL),
    ("prefill_tensor.cu", "copy_wait<1>();", "copy_wait<2>();", PREFILL),
    ("prefill_tensor.cu", "        __syncthreads();\n    }\n\n#pragma", "    }\n\n#pragma", PREFILL),
    ("prefill_tensor.cu", "positions[tile.first + query / span] + 1", "positions[tile.first] + 1", PREFILL),
    ("prefill_tensor.cu", "t * 16 + lane % 16, d * 2 + lane / 16", "t * 16 + lane % 8 + lane / 16 * 8, d * 2 + lane / 8 % 2", PREFILL),
    ("prefill_tensor.cu", "bf16_pair(scores[2 * t][2], scores[2 * t][3])", "bf16_pair(scores[2 * t + 1][0], scores[2 * t + 1][1])", PREFILL),
    // Products.
    ("gemm.cu", "        __syncthreads();\n        u32 steps", "        u32 steps", GEMM),
    ("gemm.cu", "        __syncthreads();\n    }\n#pragma", "    }\n#pragma", GEMM),
    ("gemm.cu", "nibble >= 8", "nibble > 8", GEMM),
    ("gemm.cu", "input % 2 * 4", "(1 - input % 2) * 4", GEMM),
    ("gemm.cu", "scales[output]", "scales[0]", GEMM),
    ("fp8.cuh", "exponent + 120u) << 23", "exponent + 121u) << 23", GEMM),
    ("fp8.cuh", "(float)mantissa / 512.0f", "(float)mantissa / 256.0f", GEMM),
    ("gemm_tensor.cu", "copy_wait<STAGES - 2>();", "copy_wait<STAGES - 1>();", GEMM_TENSOR),
    ("gemm_tensor.cu", "        __syncthreads();\n", "", GEMM_TENSOR),
    ("gemm_tensor.cu", "chunk + lane / 16)", "chunk + lane / 8 % 2)", GEMM_TENSOR),
    ("gemm_tensor.cu", "j * 8 + lane % 8 + lane / 16 * 8", "j * 8 + lane % 16", GEMM_TENSOR),
    ("gemm_tensor.cu", "lane / 4 + k / 2 * 8", "lane / 4 + k % 2 * 8", GEMM_TENSOR),
    ("gemm_tensor.cu", "input < inputs && ", "", GEMM_TENSOR),
    ("gemm_tensor.cu", "put_bf16(u16* to, float value) {\n    *to = bf16_bits(value);", "put_bf16(u16* to, float value) {\n    *to = (u16)(__float_as_uint(value) >> 16);", GEMM_TENSOR),
    // Adapters.
    ("lora_shrink.cu", "first_entry + blockIdx.y];\n    u32 rank = blockIdx.z * 4 + threadIdx.x / WARP;\n    if (rank >= entry.rank) {\n        return;\n    }\n    u32 lane = threadIdx.x % WARP;\n    const", "first_entry];\n    u32 rank = blockIdx.z * 4 + threadIdx.x / WARP;\n    if (rank >= entry.rank) {\n        return;\n    }\n    u32 lane = threadIdx.x % WARP;\n    const", SHRINK),
    ("lora_shrink.cu", "order[tile.first + i]", "tile.first + i", SHRINK),
    ("lora.cuh", "start += AHEAD * WARP * 8", "start += WARP * 8", SHRINK),
    ("lora.cuh", "i < inputs; i += WARP)", "i + WARP < inputs; i += WARP)", SHRINK),
    ("lora_expand.cu", "entry.gain ? entry.gain[output] : 1.0f", "1.0f", EXPAND),
    ("lora_expand.cu", "fmaf(entry.scale,", "fmaf(1.0f,", EXPAND),
    ("lora_expand.cu", "load8(b + start + rank", "load8(b + rank", EXPAND),
    ("lora_expand.cu", "        __syncthreads();\n        if", "        if", EXPAND),
    ("lora_expand.cu", "        __syncthreads();\n    }\n    if", "    }\n    if", EXPAND),
    ("lora_tensor.cu", "at + lane / 16)", "at + lane / 8 % 2)", LORA_TENSOR),
    ("lora_tensor.cu", "warp * 4 + chunk", "chunk", LORA_TENSOR),
    ("lora_tensor.cu", "copy_wait<SHRINK_STAGES - 2>();", "copy_wait<SHRINK_STAGES - 1>();", LORA_TENSOR),
    ("lora_tensor.cu", "other = 1; other", "other = 2; other", LORA_TENSOR),
    ("lora_tensor.cu", "low[at] = bf16_bits(value - bf16_value(rounded));", "low[at] = 0;", LORA_TENSOR),
    ("lora_tensor.cu", "        copy_wait<0>();\n", "", LORA_TENSOR),
    ("lora_tensor.cu", "        __syncthreads();\n    }\n#pragma", "    }\n#pragma", LORA_TENSOR),
    // The rest.
    ("rms_norm.cu", "+ epsilon)", ")", NORM),
    ("rms_norm.cu", "residual[first + i] = sum;", "", NORM),
    ("common.cuh", "    __syncthreads();\n    float sum", "    float sum", NORM),
    ("rope_kv.cu", "-(high * sine)", "high * sine", ROPE),
    ("rope_kv.cu", "norm && !is_value", "norm", ROPE),
    ("rope_kv.cu", "HEAD_DIM + d + HALF]);\n        }", "HEAD_DIM + d]);\n        }", ROPE),
    ("paging.cuh", "kv_head * PAGE_TOKENS + token % PAGE_TOKENS", "kv_head * PAGE_TOKENS + token % 8", ROPE),
    ("sampling.cu", "a.id < b.id", "a.id > b.id", SAMPLING),
    ("sampling.cu", "expf(below * inverse)", "expf(below)", SAMPLING),
    ("sampling.cu", "before(last, next)", "true", SAMPLING),
    ("silu_mul.cu", "expf(-gate)", "expf(gate)", &["silu_mul.cu"]),
    ("gather.cu", "rows[blockIdx.x]", "rows[0]", &["gather.cu"]),
    ("page_copy.cu", "i += stride", "i += 2 * stride", &["page_copy.cu"]),
    ("merge_delta.cu", "(gain ? gain[output] : 1.0f)", "1.0f", &["merge_delta.cu"]),
    ("quantise.cu", "rintf(value / scale)", "truncf(value / scale)", QUANTISE),
    ("quantise.cu", "width - start < group ? width - start : group;\n    u64 first = (u64)blockIdx.x * width + start;\n    float scale = group_max(w + first, count, parts) / 7.0f", "group;\n    u64 first = (u64)blockIdx.x * width + start;\n    float scale = group_max(w + first, count, parts) / 7.0f", QUANTISE),
    ("fp8.cuh", "rounded += 0x7ffffu + ((rounded >> 20) & 1u);", "", QUANTISE),
];

/// The text with its one occurrence of something replaced. Leaked: a source's text is there for good.
fn replaced(text: &'static str, from: &str, to: &str) -> &'static str {
    assert_eq!(text.matches(from).count(), 1, "{from:?} is not there once");
    Box::leak(text.replacen(from, to, 1).into_boxed_str())
}

/// Kernels of some files with one text changed. None where there is no compiler.
fn mutant(file: &str, from: &str, to: &str, files: &[&str]) -> Option<Arc<HostKernels>> {
    let mut sources: Vec<Source> = SOURCES
        .iter()
        .filter(|source| files.contains(&source.name))
        .copied()
        .collect();
    let mut headers = HEADERS.to_vec();
    match sources.iter_mut().find(|source| source.name == file) {
        Some(source) => source.text = replaced(source.text, from, to),
        None => {
            let header = headers.iter_mut().find(|header| header.0 == file).unwrap();
            header.1 = replaced(header.1, from, to);
        }
    }
    match HostKernels::compile(&OPTIONS, &sources, &headers) {
        Ok(kernels) => Some(Arc::new(kernels)),
        Err(HostError::NoCompiler) => None,
        Err(error) => panic!("{file}, {from:?} to {to:?}: {error}"),
    }
}

fn noticed(kernels: &Arc<HostKernels>, checks: &[&Check]) -> bool {
    [Order::Forward, Order::Reversed].iter().any(|order| {
        let mut machine = HostMachine::new(Arc::clone(kernels), *order);
        checks
            .iter()
            .any(|check| check.run(&mut machine, OPTIONS.storage, 3).is_err())
    })
}

#[test]
fn a_broken_kernel_should_be_noticed() {
    let all = checks(&OPTIONS, Extent::Small);
    let mut unnoticed = Vec::new();
    for (file, from, to, files) in MUTATIONS {
        let Some(kernels) = mutant(file, from, to, files) else {
            println!("skipped: no C++ compiler");
            return;
        };
        let names: Vec<&str> = SOURCES
            .iter()
            .filter(|source| files.contains(&source.name))
            .flat_map(|source| source.kernels)
            .copied()
            .collect();
        let of_files = |check: &&Check| names.contains(&check.kernel);
        let checks: Vec<&Check> = all.iter().filter(of_files).collect();
        if !noticed(&kernels, &checks) {
            unnoticed.push(format!("{file}: {from:?} to {to:?}"));
        }
    }
    assert!(unnoticed.is_empty(), "{}", unnoticed.join("\n"));
}

#[test]
fn only_families_that_are_right_should_be_proven() {
    let names: Vec<&str> = SOURCES.iter().map(|source| source.name).collect();
    let proven = |file, from, to| {
        let kernels = mutant(file, from, to, &names)?;
        let mut machine = HostMachine::new(kernels, Order::Forward);
        Some(TensorKernels::proven(&mut machine, &OPTIONS).unwrap())
    };
    // Broken beside the path of each, then one after the other.
    let all = TensorKernels {
        gemm: true,
        lora: true,
        prefill: true,
    };
    let Some(whole) = proven("silu_mul.cu", "expf(-gate)", "expf(gate)") else {
        println!("skipped: no C++ compiler");
        return;
    };
    assert_eq!(whole, all);
    let scale = proven("lora_tensor.cu", "fmaf(entry.scale,", "fmaf(1.0f,");
    assert_eq!(scale, Some(TensorKernels { lora: false, ..all }));
    let total = proven("prefill_tensor.cu", "? score * scale :", "? score :");
    let without = TensorKernels {
        prefill: false,
        ..all
    };
    assert_eq!(total, Some(without));

    let f32 = Options {
        storage: Storage::F32,
        ..OPTIONS
    };
    let kernels = HostKernels::load(&f32).unwrap();
    let mut machine = HostMachine::new(kernels, Order::Forward);
    let none = TensorKernels::proven(&mut machine, &f32).unwrap();
    assert_eq!(none, TensorKernels::default());
}
