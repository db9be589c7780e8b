// Rows of a matrix by number: the embedding of tokens, and the rows whose logits are wanted.
#include "common.cuh"

// out [count, width] = table[rows[count]] of table [limit, width]. A row that does not exist is filled
// with NaN, which no later step can hide. Grid (count, ceil(width / 256)).
KERNEL(256)
gather_rows(Scalar* out, const Scalar* table, const u32* rows, u32 width, u32 limit) {
    u32 i = blockIdx.y * blockDim.x + threadIdx.x;
    if (i >= width) {
        return;
    }
    u32 row = rows[blockIdx.x];
    out[(u64)blockIdx.x * width + i] =
        row < limit ? table[(u64)row * width + i] : from_float(NOT_A_NUMBER);
}
