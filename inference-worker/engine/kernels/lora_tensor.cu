// The LoRA kernels for tiles of rows on tensor cores, for BF16. A row's result does not depend on the
// other rows of its tile, so these may serve all rows of a step, or those of long prompts only.
#include "lora.cuh"
#include "spans.cuh"
#include "tensor.cuh"

#define SHRINK_INPUTS 128u
#define SHRINK_RANKS 32u
#define SHRINK_STAGES 3u
#define LORA_WARPS 4u

// h = A x for tiles of rows, as lora_shrink_tiles; inputs divisible by 8. A block has 32 ranks; each warp
// takes two of every eight blocks of sixteen inputs, and the four sums are added in order of warps.
// Grid (tiles, sites, ceil(rank_stride / 32)).
KERNEL(128)
lora_shrink_tensor(float* h, const u16* x, const LoraEntry* table, const LoraTile* tiles,
                   const u32* order, u32 inputs, u32 rank_stride, u32 slot_stride,
                   u32 first_entry) {
    constexpr u32 CHUNKS = SHRINK_INPUTS / 8;
    constexpr u32 LINES = TILE_ROWS + SHRINK_RANKS;
    typedef Tile<CHUNKS> Place;
    __shared__ uint4 memory[SHRINK_STAGES * LINES * CHUNKS];
    __shared__ float parts[LORA_WARPS][TILE_ROWS][SHRINK_RANKS];
    __shared__ u32 numbers[TILE_ROWS];
    LoraTile tile = tiles[blockIdx.x];
    if (tile.rows == 0) {
        return;
    }
    LoraEntry entry = table[(u64)tile.slot * slot_stride + first_entry + blockIdx.y];
    u32 first_rank = blockIdx.z * SHRINK_RANKS;
    if (first_rank >= entry.rank) {
        return;
    }
    const u16* a = reinterpret_cast<const u16*>(entry.a);
    u16* lines = reinterpret_cast<u16*>(memory);
    if (threadIdx.x < TILE_ROWS) {
        numbers[threadIdx.x] = threadIdx.x < tile.rows ? order[tile.first + threadIdx.x] : 0;
    }
    __syncthreads();

    u32 steps = (inputs + SHRINK_INPUTS - 1) / SHRINK_INPUTS;
    // Rows of x, then ranks of A.
    auto load = [&](u32 step) {
        u16* to = lines + step % SHRINK_STAGES * LINES * SHRINK_INPUTS;
        for (u32 i = threadIdx.x; i < LINES * CHUNKS; i += blockDim.x) {
            u32 line = i / CHUNKS;
            u32 input = step * SHRINK_INPUTS + i % CHUNKS * 8;
            bool is_row = line < TILE_ROWS;
            u32 rank = first_rank + line - TILE_ROWS;
            bool there =
                step < steps && input < inputs && (is_row ? line < tile.rows : rank < entry.rank);
            const u16* from =
                is_row ? x + (u64)numbers[line] * inputs : a + (u64)rank * inputs;
            copy_async16(to + Place::at(line, i % CHUNKS), there ? from + input : x, there);
        }
        copy_commit();
    };

    u32 lane = threadIdx.x % WARP;
    u32 warp = threadIdx.x / WARP;
    float sums[SHRINK_RANKS / 8][4] = {};
    for (u32 step = 0; step + 1 < SHRINK_STAGES; step++) {
        load(step);
    }
    for (u32 step = 0; step < steps; step++) {
        copy_wait<SHRINK_STAGES - 2>();
        __syncthreads();
        load(step + SHRINK_STAGES - 1);
        const u16* from = lines + step % SHRINK_STAGES * LINES * SHRINK_INPUTS;
#pragma unroll
        for (u32 chunk = 0; chunk < 4; chunk += 2) {
            u32 at = warp * 4 + chunk;
            u32 left[4];
            ldmatrix(left, from + Place::at(lane % 16, at + lane / 16));
#pragma unroll
            for (u32 j = 0; j < SHRINK_RANKS / 8; j += 2) {
                u32 line = TILE_ROWS + j * 8 + lane % 8 + lane / 16 * 8;
                u32 rights[4];
                ldmatrix(rights, from + Place::at(line, at + lane / 8 % 2));
                u32 one[2] = {rights[0], rights[1]};
                u32 two[2] = {rights[2], rights[3]};
                mma_m16n8k16(sums[j], left, one);
                mma_m16n8k16(sums[j + 1], left, two);
            }
        }
    }
#pragma unroll
    for (u32 j = 0; j < SHRINK_RANKS / 8; j++) {
#pragma unroll
        for (u32 k = 0; k < 4; k++) {
            parts[warp][lane / 4 + k / 2 * 8][j * 8 + lane % 4 * 2 + k % 2] = sums[j][k];
        }
    }
    __syncthreads();
    for (u32 i = threadIdx.x; i < TILE_ROWS * SHRINK_RANKS; i += blockDim.x) {
        u32 row = i / SHRINK_RANKS;
        u32 rank = i % SHRINK_RANKS;
        if (row < tile.rows && first_rank + rank < entry.rank) {
            float sum = parts[0][row][rank];
            for (u32 other = 1; other < LORA_WARPS; other++) {
                sum += parts[other][row][rank];
            }
            h[((u64)numbers[row] * gridDim.y + blockIdx.y) * rank_stride + first_rank + rank] = sum;
        }
    }
}

#define EXPAND_RANKS 64u
#define EXPAND_OUTPUTS 128u

// y = gain * y + scale * B h, as lora_expand. h goes to the tensor cores in two halves of BF16, the
// rounded value and what the rounding left, so that it keeps sixteen bits. A warp has 32 outputs.
// Grid (tiles, sites, ceil(largest width / 128)).
KERNEL(128)
lora_expand_tensor(u16* y, const float* h, const LoraEntry* table, const LoraTile* tiles,
                   const u32* order, Spans spans, u32 y_stride, u32 rank_stride, u32 slot_stride,
                   u32 first_entry) {
    constexpr u32 CHUNKS = EXPAND_RANKS / 8;
    typedef Tile<CHUNKS> Place;
    __shared__ uint4 memory[(2 * TILE_ROWS + EXPAND_OUTPUTS) * CHUNKS];
    LoraTile tile = tiles[blockIdx.x];
    u32 site = blockIdx.y;
    u32 width = spans.width[site];
    u32 first_output = blockIdx.z * EXPAND_OUTPUTS;
    if (tile.rows == 0 || first_output >= width) {
        return;
    }
    LoraEntry entry = table[(u64)tile.slot * slot_stride + first_entry + site];
    if (entry.rank == 0) {
        return;
    }
    const u16* b = reinterpret_cast<const u16*>(entry.b);
    u16* high = reinterpret_cast<u16*>(memory);
    u16* low = high + TILE_ROWS * EXPAND_RANKS;
    u16* right = low + TILE_ROWS * EXPAND_RANKS;
    u32 lane = threadIdx.x % WARP;
    u32 warp = threadIdx.x / WARP;
    float sums[4][4] = {};
    for (u32 start = 0; start < entry.rank; start += EXPAND_RANKS) {
        u32 ranks = entry.rank - start < EXPAND_RANKS ? entry.rank - start : EXPAND_RANKS;
        // Up to whole blocks of sixteen.
        u32 chunks = (ranks + 15) / 16 * 2;
        for (u32 i = threadIdx.x; i < EXPAND_OUTPUTS * chunks; i += blockDim.x) {
            u32 line = i / chunks;
            u32 chunk = i % chunks;
            u32 output = first_output + line;
            u16* to = right + Place::at(line, chunk);
            const u16* from = b + (u64)output * entry.rank + start + chunk * 8;
            if (entry.rank % 8 == 0) {
                bool there = output < width && chunk * 8 < ranks;
                copy_async16(to, there ? from : b, there);
            } else {
                for (u32 j = 0; j < 8; j++) {
                    to[j] = output < width && chunk * 8 + j < ranks ? from[j] : (u16)0;
                }
            }
        }
        copy_commit();
        for (u32 i = threadIdx.x; i < TILE_ROWS * chunks * 8; i += blockDim.x) {
            u32 row = i / (chunks * 8);
            u32 rank = i % (chunks * 8);
            float value = 0.0f;
            if (row < tile.rows && rank < ranks) {
                u64 from = (u64)order[tile.first + row] * gridDim.y + site;
                value = h[from * rank_stride + start + rank];
            }
            u32 at = Place::at(row, rank / 8) + rank % 8;
            u16 rounded = bf16_bits(value);
            high[at] = rounded;
            low[at] = bf16_bits(value - bf16_value(rounded));
        }
        copy_wait<0>();
        __syncthreads();
        for (u32 chunk = 0; chunk < chunks; chunk += 2) {
            u32 upper[4];
            u32 lower[4];
            ldmatrix(upper, high + Place::at(lane % 16, chunk + lane / 16));
            ldmatrix(lower, low + Place::at(lane % 16, chunk + lane / 16));
#pragma unroll
            for (u32 j = 0; j < 4; j += 2) {
                u32 line = warp * 32 + j * 8 + lane % 8 + lane / 16 * 8;
                u32 rights[4];
                ldmatrix(rights, right + Place::at(line, chunk + lane / 8 % 2));
                u32 one[2] = {rights[0], rights[1]};
                u32 two[2] = {rights[2], rights[3]};
                mma_m16n8k16(sums[j], upper, one);
                mma_m16n8k16(sums[j], lower, one);
                mma_m16n8k16(sums[j + 1], upper, two);
                mma_m16n8k16(sums[j + 1], lower, two);
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (u32 j = 0; j < 4; j++) {
#pragma unroll
        for (u32 k = 0; k < 4; k++) {
            u32 row = lane / 4 + k / 2 * 8;
            u32 output = first_output + warp * 32 + j * 8 + lane % 4 * 2 + k % 2;
            if (row < tile.rows && output < width) {
                float gain = entry.gain ? entry.gain[output] : 1.0f;
                u64 at = (u64)order[tile.first + row] * y_stride + spans.offset[site] + output;
                y[at] = bf16_bits(fmaf(entry.scale, sums[j][k], bf16_value(y[at]) * gain));
            }
        }
    }
}
