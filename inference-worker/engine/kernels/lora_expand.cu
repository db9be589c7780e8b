// y = gain * y + scale * B h of each row's own adapter, for all sites that wrote h in one launch. The
// sum over ranks is one f32 chain in order; y is rounded to storage once, after the addition.
#include "lora.cuh"
#include "spans.cuh"

#define RANK_STEP 32u

// The next link of each row's chain.
__device__ inline void take(float (&sums)[TILE_ROWS], float weight,
                            const float (&hidden)[TILE_ROWS][RANK_STEP], u32 rank, u32 rows) {
#pragma unroll
    for (int row = 0; row < TILE_ROWS; row++) {
        if (row < rows) {
            sums[row] = fmaf(weight, hidden[row][rank], sums[row]);
        }
    }
}

// y [rows, y_stride]; h [rows, sites, rank_stride]. A thread has one output of all rows of a tile, so a
// row of B is read once per tile. Grid (tiles, sites, ceil(largest width / 128)).
KERNEL(128)
lora_expand(Scalar* y, const float* h, const LoraEntry* table, const LoraTile* tiles,
            const u32* order, Spans spans, u32 y_stride, u32 rank_stride, u32 slot_stride,
            u32 first_entry) {
    __shared__ float hidden[TILE_ROWS][RANK_STEP];
    LoraTile tile = tiles[blockIdx.x];
    u32 site = blockIdx.y;
    u32 width = spans.width[site];
    u32 first_output = blockIdx.z * blockDim.x;
    if (tile.rows == 0 || first_output >= width) {
        return;
    }
    LoraEntry entry = table[(u64)tile.slot * slot_stride + first_entry + site];
    if (entry.rank == 0) {
        return;
    }
    u32 output = first_output + threadIdx.x;
    const Scalar* b = entry.b + (u64)output * entry.rank;
    float sums[TILE_ROWS] = {};
    for (u32 start = 0; start < entry.rank; start += RANK_STEP) {
        u32 steps = entry.rank - start < RANK_STEP ? entry.rank - start : RANK_STEP;
        for (u32 i = threadIdx.x; i < tile.rows * RANK_STEP; i += blockDim.x) {
            u32 row = i / RANK_STEP;
            u32 rank = i % RANK_STEP;
            if (rank < steps) {
                u64 from = (u64)order[tile.first + row] * gridDim.y + site;
                hidden[row][rank] = h[from * rank_stride + start + rank];
            }
        }
        __syncthreads();
        if (output < width) {
            // Where rows of B begin on 16 bytes, eight ranks in one load.
            if (entry.rank % 8 == 0) {
                for (u32 rank = 0; rank < steps; rank += 8) {
                    float weights[8];
                    load8(b + start + rank, weights);
#pragma unroll
                    for (u32 j = 0; j < 8; j++) {
                        take(sums, weights[j], hidden, rank + j, tile.rows);
                    }
                }
            } else {
                for (u32 rank = 0; rank < steps; rank++) {
                    take(sums, to_float(b[start + rank]), hidden, rank, tile.rows);
                }
            }
        }
        __syncthreads();
    }
    if (output >= width) {
        return;
    }
    float gain = entry.gain ? entry.gain[output] : 1.0f;
#pragma unroll
    for (int row = 0; row < TILE_ROWS; row++) {
        if (row < tile.rows) {
            u64 at = (u64)order[tile.first + row] * y_stride + spans.offset[site] + output;
            y[at] = from_float(fmaf(entry.scale, sums[row], to_float(y[at]) * gain));
        }
    }
}
