// Paged causal attention of many rows on tensor cores, for BF16 and heads of a width divisible by 8
// (FlashAttention-2, Dao 2023): a warp has
// sixteen queries in registers and goes over keys and values KEYS at a time, whatever the row, so a row's
// result depends on its own tokens only. Weights are rounded to BF16 before they meet the values, and
// their sum is of the rounded ones.
#include "paging.cuh"
#include "tensor.cuh"

#define TENSOR_QUERIES 64u
#define TENSOR_WARPS 4u
// Dimensions of a head up to whole blocks of sixteen.
#define DIM_BLOCKS ((HEAD_DIM + 15) / 16)
#define DIM_CHUNKS (DIM_BLOCKS * 2)
#define KEYS (HEAD_DIM > 128 ? 16u : 32u)

// As prefill_attention; tiles have rows * min(heads of a kv head, 64) <= 64.
// Grid (tiles, kv_heads, ceil(heads of a kv head / 64)).
KERNEL(128)
prefill_attention_tensor(u16* out, const u16* q, const u16* kv, const RowTile* tiles,
                         const u32* positions, const u32* tables, u64 page_stride,
                         u32 table_stride, u32 heads, u32 kv_heads, float scale) {
    typedef Tile<DIM_CHUNKS> Place;
    constexpr u32 LINE = DIM_CHUNKS * 8;
    constexpr u32 STAGE = 2 * KEYS * LINE;
    // First the queries, then two stages of keys and values.
    __shared__ uint4 memory[2 * 2 * KEYS * DIM_CHUNKS > TENSOR_QUERIES * DIM_CHUNKS
                                ? 2 * 2 * KEYS * DIM_CHUNKS
                                : TENSOR_QUERIES * DIM_CHUNKS];
    RowTile tile = tiles[blockIdx.x];
    if (tile.rows == 0) {
        return;
    }
    u16* shared = reinterpret_cast<u16*>(memory);
    u32 group = heads / kv_heads;
    u32 width = group < TENSOR_QUERIES ? group : TENSOR_QUERIES;
    u32 offset = blockIdx.z * TENSOR_QUERIES;
    u32 span = group - offset < width ? group - offset : width;
    u32 count = tile.rows * span;
    u32 first_head = blockIdx.y * group + offset;
    const u32* pages = tables + (u64)tile.sequence * table_stride;
    u32 lane = threadIdx.x % WARP;
    u32 warp = threadIdx.x / WARP;

    for (u32 i = threadIdx.x; i < TENSOR_QUERIES * DIM_CHUNKS; i += blockDim.x) {
        u32 query = i / DIM_CHUNKS;
        u32 chunk = i % DIM_CHUNKS;
        bool there = query < count && chunk * 8 < HEAD_DIM;
        u64 row = tile.first + query / span;
        u64 from = (row * heads + first_head + query % span) * HEAD_DIM + chunk * 8;
        copy_async16(shared + Place::at(query, chunk), there ? q + from : q, there);
    }
    copy_commit();
    copy_wait<0>();
    __syncthreads();
    u32 queries[DIM_BLOCKS][4];
#pragma unroll
    for (u32 d = 0; d < DIM_BLOCKS; d++) {
        ldmatrix(queries[d], shared + Place::at(warp * 16 + lane % 16, d * 2 + lane / 16));
    }
    __syncthreads();

    // This thread's two queries, lane / 4 and eight further.
    u32 visible[2];
#pragma unroll
    for (u32 half = 0; half < 2; half++) {
        u32 query = warp * 16 + lane / 4 + half * 8;
        visible[half] = query < count ? positions[tile.first + query / span] + 1 : 0;
    }
    u32 end = positions[tile.first + tile.rows - 1] + 1;
    u32 steps = (end + KEYS - 1) / KEYS;

    // Tokens that do not exist are zeros: what is in their pages could be no number.
    auto load = [&](u32 step) {
        u16* to = shared + step % 2 * STAGE;
        for (u32 i = threadIdx.x; step < steps && i < 2 * KEYS * DIM_CHUNKS; i += blockDim.x) {
            u32 line = i / DIM_CHUNKS;
            u32 chunk = i % DIM_CHUNKS;
            u32 token = step * KEYS + line % KEYS;
            bool there = token < end && chunk * 8 < HEAD_DIM;
            u64 from = 0;
            if (there) {
                from = key_index(pages, page_stride, blockIdx.y, token) + chunk * 8;
                from += line < KEYS ? 0 : value_offset(kv_heads);
            }
            copy_async16(to + Place::at(line, chunk), kv + from, there);
        }
        copy_commit();
    };

    float largest[2] = {NEGATIVE_INFINITY, NEGATIVE_INFINITY};
    float total[2] = {0.0f, 0.0f};
    float sums[DIM_BLOCKS * 2][4] = {};
    load(0);
    for (u32 step = 0; step < steps; step++) {
        load(step + 1);
        copy_wait<1>();
        __syncthreads();
        const u16* keys = shared + step % 2 * STAGE;

        float scores[KEYS / 8][4] = {};
#pragma unroll
        for (u32 d = 0; d < DIM_BLOCKS; d++) {
#pragma unroll
            for (u32 j = 0; j < KEYS / 8; j += 2) {
                u32 pair[4];
                ldmatrix(pair, keys + Place::at(j * 8 + lane % 8 + lane / 16 * 8,
                                                d * 2 + lane / 8 % 2));
                u32 one[2] = {pair[0], pair[1]};
                u32 two[2] = {pair[2], pair[3]};
                mma_m16n8k16(scores[j], queries[d], one);
                mma_m16n8k16(scores[j + 1], queries[d], two);
            }
        }

        float before[2];
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            float most = largest[half];
#pragma unroll
            for (u32 j = 0; j < KEYS / 8; j++) {
#pragma unroll
                for (u32 k = 0; k < 2; k++) {
                    u32 token = step * KEYS + j * 8 + lane % 4 * 2 + k;
                    float& score = scores[j][half * 2 + k];
                    score = token < visible[half] ? score * scale : NEGATIVE_INFINITY;
                    most = fmaxf(most, score);
                }
            }
            // The four lanes of a row.
            most = fmaxf(most, __shfl_xor_sync(ALL_LANES, most, 1));
            most = fmaxf(most, __shfl_xor_sync(ALL_LANES, most, 2));
            // A query that sees nothing has no largest score to subtract.
            float base = most == NEGATIVE_INFINITY ? 0.0f : most;
            before[half] = expf(largest[half] - base);
            float sum = 0.0f;
#pragma unroll
            for (u32 j = 0; j < KEYS / 8; j++) {
#pragma unroll
                for (u32 k = 0; k < 2; k++) {
                    float& score = scores[j][half * 2 + k];
                    score = bf16_value(bf16_bits(expf(score - base)));
                    sum += score;
                }
            }
            sum += __shfl_xor_sync(ALL_LANES, sum, 1);
            sum += __shfl_xor_sync(ALL_LANES, sum, 2);
            total[half] = fmaf(total[half], before[half], sum);
            largest[half] = most;
        }
#pragma unroll
        for (u32 j = 0; j < DIM_BLOCKS * 2; j++) {
#pragma unroll
            for (u32 k = 0; k < 4; k++) {
                sums[j][k] *= before[k / 2];
            }
        }

        // The scores lie as the left argument of the next product has to.
        const u16* values = keys + KEYS * LINE;
#pragma unroll
        for (u32 t = 0; t < KEYS / 16; t++) {
            u32 weights[4] = {bf16_pair(scores[2 * t][0], scores[2 * t][1]),
                              bf16_pair(scores[2 * t][2], scores[2 * t][3]),
                              bf16_pair(scores[2 * t + 1][0], scores[2 * t + 1][1]),
                              bf16_pair(scores[2 * t + 1][2], scores[2 * t + 1][3])};
#pragma unroll
            for (u32 d = 0; d < DIM_BLOCKS; d++) {
                u32 pair[4];
                ldmatrix_transposed(pair,
                                    values + Place::at(t * 16 + lane % 16, d * 2 + lane / 16));
                u32 one[2] = {pair[0], pair[1]};
                u32 two[2] = {pair[2], pair[3]};
                mma_m16n8k16(sums[2 * d], weights, one);
                mma_m16n8k16(sums[2 * d + 1], weights, two);
            }
        }
        // The load after the next writes over these keys and values.
        __syncthreads();
    }

#pragma unroll
    for (u32 j = 0; j < DIM_BLOCKS * 2; j++) {
#pragma unroll
        for (u32 k = 0; k < 4; k++) {
            u32 query = warp * 16 + lane / 4 + k / 2 * 8;
            u32 d = j * 8 + lane % 4 * 2 + k % 2;
            if (query < count && d < HEAD_DIM) {
                u64 row = tile.first + query / span;
                u64 at = (row * heads + first_head + query % span) * HEAD_DIM + d;
                out[at] = bf16_bits(sums[j][k] / total[k / 2]);
            }
        }
    }
}
