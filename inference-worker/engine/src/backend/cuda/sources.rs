//! The kernels' text and the options it is compiled with.

/// A file of kernels.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// File name.
    pub name: &'static str,
    /// Contents.
    pub text: &'static str,
    /// Names of its kernels.
    pub kernels: &'static [&'static str],
}

macro_rules! file {
    ($name:literal) => {
        include_str!(concat!("../../../kernels/", $name))
    };
}

macro_rules! source {
    ($name:literal: $($kernel:literal),+) => {
        Source {
            name: $name,
            text: file!($name),
            kernels: &[$($kernel),+],
        }
    };
}

/// Every file of kernels.
pub const SOURCES: &[Source] = &[
    source!("decode_attention.cu": "decode_attention", "decode_combine"),
    source!("fill_random.cu": "fill_random"),
    source!("gather.cu": "gather_rows"),
    source!("gemm.cu": "gemm", "gemm_logits", "gemm_int8", "gemm_int4", "gemm_fp8"),
    source!(
        "gemm_tensor.cu":
        "gemm_tensor",
        "gemm_tensor_narrow",
        "gemm_tensor_logits",
        "gemm_tensor_logits_narrow"
    ),
    source!("lora_expand.cu": "lora_expand"),
    source!("lora_shrink.cu": "lora_shrink", "lora_shrink_tiles"),
    source!("lora_tensor.cu": "lora_shrink_tensor", "lora_expand_tensor"),
    source!("merge_delta.cu": "merge_delta"),
    source!("page_copy.cu": "page_copy"),
    source!("prefill_attention.cu": "prefill_attention"),
    source!("prefill_tensor.cu": "prefill_attention_tensor"),
    source!("quantise.cu": "quantise_int8", "quantise_int4", "quantise_fp8"),
    source!("rms_norm.cu": "rms_norm", "rms_norm_f32", "add_rms_norm"),
    source!("rope_kv.cu": "rope_kv"),
    source!("sampling.cu": "sampling_support"),
    source!("silu_mul.cu": "silu_mul"),
];

/// What the files include: name and contents.
pub const HEADERS: &[(&str, &str)] = &[
    ("attention.cuh", file!("attention.cuh")),
    ("common.cuh", file!("common.cuh")),
    ("fp8.cuh", file!("fp8.cuh")),
    ("lora.cuh", file!("lora.cuh")),
    ("paging.cuh", file!("paging.cuh")),
    ("spans.cuh", file!("spans.cuh")),
    ("tensor.cuh", file!("tensor.cuh")),
];

/// How tensors are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Storage {
    /// 32-bit floating point.
    F32,
    /// The upper half of it.
    Bf16,
}

/// What the text is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Options {
    /// How tensors are stored.
    pub storage: Storage,
    /// Dimensions of one attention head: an even number up to 256.
    pub head_dim: u32,
}

impl Options {
    /// As definitions on a compiler's command line.
    pub fn definitions(&self) -> [String; 2] {
        let bf16 = u32::from(self.storage == Storage::Bf16);
        [
            format!("-DSCALAR_BF16={bf16}"),
            format!("-DHEAD_DIM={}", self.head_dim),
        ]
    }
}
