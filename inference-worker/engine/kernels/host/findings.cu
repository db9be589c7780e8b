// Kernels that are wrong on purpose, each in one way that the shim finds.
#include "common.cuh"

// Half of the block does not come to the barrier.
KERNEL(64)
missed_barrier(u32* out) {
    if (threadIdx.x < 32) {
        __syncthreads();
    }
    out[threadIdx.x] = 1;
}

// Half of the warp does not take part in the shuffle.
KERNEL(64)
missed_shuffle(u32* out) {
    u32 value = threadIdx.x;
    if (threadIdx.x % 32 < 16) {
        value = __shfl_xor_sync(ALL_LANES, value, 1);
    }
    out[threadIdx.x] = value;
}

// Reads a neighbour's value without waiting for it: right in one order of threads only.
KERNEL(64)
race(u32* out) {
    __shared__ u32 values[64];
    values[threadIdx.x] = 0;
    __syncthreads();
    values[threadIdx.x] = threadIdx.x + 1;
    out[threadIdx.x] = values[63 - threadIdx.x];
}
