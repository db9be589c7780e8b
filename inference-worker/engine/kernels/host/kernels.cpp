// Every kernel as a function `launch_NAME(grid, threads, reversed, arguments)` with the arguments of
// cuLaunchKernel, and three that show what the shim finds.
#include "cuda_shim.h"

#include "decode_attention.cu"
#include "gather.cu"
#include "gemm.cu"
#include "lora_expand.cu"
#include "lora_shrink.cu"
#include "merge_delta.cu"
#include "page_copy.cu"
#include "prefill_attention.cu"
#include "quantise.cu"
#include "rms_norm.cu"
#include "rope_kv.cu"
#include "sampling.cu"
#include "silu_mul.cu"

// Half of the block does not come to the barrier.
KERNEL(64)
shim_missed_barrier(u32* out) {
    if (threadIdx.x < 32) {
        __syncthreads();
    }
    out[threadIdx.x] = 1;
}

// Half of the warp does not take part in the shuffle.
KERNEL(64)
shim_missed_shuffle(u32* out) {
    u32 value = threadIdx.x;
    if (threadIdx.x % 32 < 16) {
        value = __shfl_xor_sync(ALL_LANES, value, 1);
    }
    out[threadIdx.x] = value;
}

// Reads a neighbour's value without waiting for it: right in one order of threads only.
KERNEL(64)
shim_race(u32* out) {
    __shared__ u32 values[64];
    values[threadIdx.x] = 0;
    __syncthreads();
    values[threadIdx.x] = threadIdx.x + 1;
    out[threadIdx.x] = values[63 - threadIdx.x];
}

#define LAUNCH(name)                                                                             \
    extern "C" int launch_##name(const uint32_t* grid, uint32_t threads, int reversed,           \
                                 void** arguments) {                                             \
        return shim::launch(name, grid, threads, reversed, arguments);                           \
    }

LAUNCH(add_rms_norm)
LAUNCH(decode_attention)
LAUNCH(decode_combine)
LAUNCH(gather_rows)
LAUNCH(gemm)
LAUNCH(gemm_fp8)
LAUNCH(gemm_int4)
LAUNCH(gemm_int8)
LAUNCH(gemm_logits)
LAUNCH(lora_expand)
LAUNCH(lora_shrink)
LAUNCH(lora_shrink_tiles)
LAUNCH(merge_delta)
LAUNCH(page_copy)
LAUNCH(prefill_attention)
LAUNCH(quantise_fp8)
LAUNCH(quantise_int4)
LAUNCH(quantise_int8)
LAUNCH(rms_norm)
LAUNCH(rope_kv)
LAUNCH(sampling_support)
LAUNCH(silu_mul)
LAUNCH(shim_missed_barrier)
LAUNCH(shim_missed_shuffle)
LAUNCH(shim_race)
