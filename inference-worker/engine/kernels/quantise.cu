// Symmetric quantisation of weights [rows, width]: integers per group of a row's values, FP8 per row.
// A value is round-to-even(w / scale), the scale being the largest magnitude over the largest code; a
// group of zeros has scale 0. One block of 128 threads per group: grid (rows, groups).
#include "fp8.cuh"

__device__ inline float group_max(const Scalar* from, u32 count, float* parts) {
    float largest = 0.0f;
    for (u32 i = threadIdx.x; i < count; i += blockDim.x) {
        largest = fmaxf(largest, fabsf(to_float(from[i])));
    }
    return block_max(largest, parts);
}

__device__ inline int code(float value, float scale, float limit) {
    if (scale == 0.0f) {
        return 0;
    }
    return (int)fminf(fmaxf(rintf(value / scale), -limit), limit);
}

KERNEL(128)
quantise_int8(i8* out, float* scales, const Scalar* w, u32 width, u32 group) {
    __shared__ float parts[4];
    u32 start = blockIdx.y * group;
    u32 count = width - start < group ? width - start : group;
    u64 first = (u64)blockIdx.x * width + start;
    float scale = group_max(w + first, count, parts) / 127.0f;
    for (u32 i = threadIdx.x; i < count; i += blockDim.x) {
        out[first + i] = (i8)code(to_float(w[first + i]), scale, 127.0f);
    }
    if (threadIdx.x == 0) {
        scales[(u64)blockIdx.x * gridDim.y + blockIdx.y] = scale;
    }
}

// Two values in a byte, the even one in the low half; width and group are even.
KERNEL(128)
quantise_int4(u8* out, float* scales, const Scalar* w, u32 width, u32 group) {
    __shared__ float parts[4];
    u32 start = blockIdx.y * group;
    u32 count = width - start < group ? width - start : group;
    u64 first = (u64)blockIdx.x * width + start;
    float scale = group_max(w + first, count, parts) / 7.0f;
    for (u32 i = threadIdx.x; i < count / 2; i += blockDim.x) {
        int low = code(to_float(w[first + 2 * i]), scale, 7.0f);
        int high = code(to_float(w[first + 2 * i + 1]), scale, 7.0f);
        out[first / 2 + i] = (u8)((low & 15) | ((high & 15) << 4));
    }
    if (threadIdx.x == 0) {
        scales[(u64)blockIdx.x * gridDim.y + blockIdx.y] = scale;
    }
}

// Grid (rows).
KERNEL(128)
quantise_fp8(u8* out, float* scales, const Scalar* w, u32 width) {
    __shared__ float parts[4];
    u64 first = (u64)blockIdx.x * width;
    float scale = group_max(w + first, width, parts) / FP8_LARGEST;
    for (u32 i = threadIdx.x; i < width; i += blockDim.x) {
        out[first + i] = scale == 0.0f ? 0 : fp8_encode(to_float(w[first + i]) / scale);
    }
    if (threadIdx.x == 0) {
        scales[blockIdx.x] = scale;
    }
}
