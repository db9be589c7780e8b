// Copies whole pages within a pool, for a shared prefix that is about to be written to.
#include "common.cuh"

// pairs [count, 2]: from, to; no page is written twice or both read and written. words: 16-byte words
// of a page. Grid (count, 8).
KERNEL(256)
page_copy(uint4* pool, const u32* pairs, u64 words) {
    const uint4* from = pool + pairs[2 * blockIdx.x] * words;
    uint4* to = pool + pairs[2 * blockIdx.x + 1] * words;
    u64 stride = (u64)gridDim.y * blockDim.x;
    for (u64 i = (u64)blockIdx.y * blockDim.x + threadIdx.x; i < words; i += stride) {
        to[i] = from[i];
    }
}
