// Weights of a model that is only measured: uniform, from a seed and each value's number (the mixing of
// SplitMix64, Steele, Lea and Flood 2014).
#include "common.cuh"

// out [count] in [middle - spread, middle + spread). Grid (blocks), each thread taking every
// blocks * 256th value.
KERNEL(256)
fill_random(Scalar* out, u64 count, u64 seed, float middle, float spread) {
    u64 stride = (u64)gridDim.x * blockDim.x;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += stride) {
        u64 bits = seed + (i + 1) * 0x9e3779b97f4a7c15ull;
        bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9ull;
        bits = (bits ^ (bits >> 27)) * 0x94d049bb133111ebull;
        bits ^= bits >> 31;
        float unit = (float)(u32)(bits >> 40) / 8388608.0f - 1.0f;
        out[i] = from_float(fmaf(unit, spread, middle));
    }
}
