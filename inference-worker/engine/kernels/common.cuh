// Types, conversions and ordered reductions that every kernel shares. No header of CUDA is needed: the
// run-time compiler gets this file as text, and the host shim stands in for the built-ins on a CPU.
//
// Options: SCALAR_BF16 (1: tensors are stored as BF16, 0: as f32), HEAD_DIM.
// Compiled without contraction: a fused multiply-add happens where fmaf is written and nowhere else, so
// two kernels that write the same chain give the same bits.
#pragma once

typedef signed char i8;
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#if HEAD_DIM % 2 != 0 || HEAD_DIM < 2 || HEAD_DIM > 256
#error "HEAD_DIM is an even number up to 256"
#endif

#ifndef KERNEL
#define KERNEL(threads) extern "C" __global__ void __launch_bounds__(threads)
#endif

#define WARP 32u
#define ALL_LANES 0xffffffffu
#define NEGATIVE_INFINITY __uint_as_float(0xff800000u)
#define NOT_A_NUMBER __uint_as_float(0x7fc00000u)

__device__ inline float bf16_value(u16 bits) {
    return __uint_as_float((u32)bits << 16);
}

// To the nearest, ties to even.
__device__ inline u16 bf16_bits(float f) {
    u32 bits = __float_as_uint(f);
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        return (u16)((bits >> 16) | 0x40u);
    }
    return (u16)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

#if SCALAR_BF16
struct Scalar {
    u16 bits;
};

__device__ inline float to_float(Scalar s) {
    return bf16_value(s.bits);
}

__device__ inline Scalar from_float(float f) {
    Scalar s;
    s.bits = bf16_bits(f);
    return s;
}

// Eight values from an address divisible by 16.
__device__ inline void load8(const Scalar* from, float (&to)[8]) {
    uint4 word = *reinterpret_cast<const uint4*>(from);
    u32 pairs[4] = {word.x, word.y, word.z, word.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        to[2 * i] = __uint_as_float(pairs[i] << 16);
        to[2 * i + 1] = __uint_as_float(pairs[i] & 0xffff0000u);
    }
}
#else
typedef float Scalar;

__device__ inline float to_float(Scalar s) {
    return s;
}

__device__ inline Scalar from_float(float f) {
    return f;
}

// Eight values from an address divisible by 16.
__device__ inline void load8(const Scalar* from, float (&to)[8]) {
    const float4* words = reinterpret_cast<const float4*>(from);
#pragma unroll
    for (int i = 0; i < 2; i++) {
        float4 word = words[i];
        to[4 * i] = word.x;
        to[4 * i + 1] = word.y;
        to[4 * i + 2] = word.z;
        to[4 * i + 3] = word.w;
    }
}
#endif

// Storing a result: rounded to the storage of tensors, or as the f32 it is.
struct Rounded {};

struct Exact {};

__device__ inline void put(Scalar* to, float value, Rounded) {
    *to = from_float(value);
}

__device__ inline void put(float* to, float value, Exact) {
    *to = value;
}

// Sum over a warp: a butterfly, so every lane gets the same bits.
__device__ inline float warp_sum(float value) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
        value += __shfl_xor_sync(ALL_LANES, value, distance);
    }
    return value;
}

__device__ inline float warp_max(float value) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
        value = fmaxf(value, __shfl_xor_sync(ALL_LANES, value, distance));
    }
    return value;
}

// Sum over a block: butterflies, then the warps in order. `parts` holds one float for each warp and may
// be used again at once.
__device__ inline float block_sum(float value, float* parts) {
    value = warp_sum(value);
    if (threadIdx.x % WARP == 0) {
        parts[threadIdx.x / WARP] = value;
    }
    __syncthreads();
    float sum = 0.0f;
    for (u32 warp = 0; warp < blockDim.x / WARP; warp++) {
        sum += parts[warp];
    }
    __syncthreads();
    return sum;
}

__device__ inline float block_max(float value, float* parts) {
    value = warp_max(value);
    if (threadIdx.x % WARP == 0) {
        parts[threadIdx.x / WARP] = value;
    }
    __syncthreads();
    float largest = NEGATIVE_INFINITY;
    for (u32 warp = 0; warp < blockDim.x / WARP; warp++) {
        largest = fmaxf(largest, parts[warp]);
    }
    __syncthreads();
    return largest;
}
