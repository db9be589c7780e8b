// h = A x of each row's own adapter, for all sites that share x (q, k, v; gate, up) in one launch.
// h [rows, sites, rank_stride] f32; what lies beyond a pair's rank is not written. A warp computes one
// rank of a row, or of a tile of rows: the lanes' chains, then a butterfly. Both give the same bits.
// slot_stride: entries of one adapter, layers * sites. first_entry: of this layer and the first site.
#include "lora.cuh"

// One row per block, for decode. slots [rows]: NO_ADAPTER for rows of the base model.
// Grid (rows, sites, ceil(rank_stride / 4)).
KERNEL(128)
lora_shrink(float* h, const Scalar* x, const LoraEntry* table, const u32* slots, u32 inputs,
            u32 rank_stride, u32 slot_stride, u32 first_entry) {
    u32 row = blockIdx.x;
    u32 slot = slots[row];
    if (slot == NO_ADAPTER) {
        return;
    }
    LoraEntry entry = table[(u64)slot * slot_stride + first_entry + blockIdx.y];
    u32 rank = blockIdx.z * 4 + threadIdx.x / WARP;
    if (rank >= entry.rank) {
        return;
    }
    u32 lane = threadIdx.x % WARP;
    const Scalar* const rows[1] = {x + (u64)row * inputs};
    float sums[1];
    lane_products<1>(sums, entry.a + (u64)rank * inputs, rows, 1, inputs, lane);
    float sum = warp_sum(sums[0]);
    if (lane == 0) {
        h[((u64)row * gridDim.y + blockIdx.y) * rank_stride + rank] = sum;
    }
}

// Tiles of rows of one adapter, for prefill. order: rows sorted by adapter.
// Grid (tiles, sites, ceil(rank_stride / 4)).
KERNEL(128)
lora_shrink_tiles(float* h, const Scalar* x, const LoraEntry* table, const LoraTile* tiles,
                  const u32* order, u32 inputs, u32 rank_stride, u32 slot_stride,
                  u32 first_entry) {
    LoraTile tile = tiles[blockIdx.x];
    if (tile.rows == 0) {
        return;
    }
    LoraEntry entry = table[(u64)tile.slot * slot_stride + first_entry + blockIdx.y];
    u32 rank = blockIdx.z * 4 + threadIdx.x / WARP;
    if (rank >= entry.rank) {
        return;
    }
    u32 lane = threadIdx.x % WARP;
    u32 numbers[TILE_ROWS];
    const Scalar* rows[TILE_ROWS];
#pragma unroll
    for (int i = 0; i < TILE_ROWS; i++) {
        numbers[i] = i < tile.rows ? order[tile.first + i] : 0;
        rows[i] = x + (u64)numbers[i] * inputs;
    }
    float sums[TILE_ROWS];
    lane_products<TILE_ROWS>(sums, entry.a + (u64)rank * inputs, rows, tile.rows, inputs, lane);
#pragma unroll
    for (int i = 0; i < TILE_ROWS; i++) {
        float sum = warp_sum(sums[i]);
        if (lane == 0 && i < tile.rows) {
            h[((u64)numbers[i] * gridDim.y + blockIdx.y) * rank_stride + rank] = sum;
        }
    }
}
