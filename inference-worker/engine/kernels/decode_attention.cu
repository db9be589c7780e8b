// Paged attention of single rows: each chunk of CHUNK_TOKENS tokens by a block of its own, then the
// chunks merged in order. A row's result depends on its own tokens only: the grid's last dimension is
// the longest context of the batch, and blocks past a row's end return.
#include "attention.cuh"

#define DECODE_QUERIES 8
#define PARTIAL (HEAD_DIM + 2)

// partial [rows, heads, chunks, PARTIAL]: largest score, sum of exponentials, weighted values.
// Grid (rows, kv_heads * head_tiles, chunks); a block has up to DECODE_QUERIES heads of one kv head.
KERNEL(128)
decode_attention(float* partial, const Scalar* q, const Scalar* kv, const u32* positions,
                 const u32* sequences, const u32* tables, u64 page_stride, u32 table_stride,
                 u32 heads, u32 kv_heads, float scale) {
    __shared__ Attention<DECODE_QUERIES> shared;
    u32 row = blockIdx.x;
    u32 visible = positions[row] + 1;
    u32 first = blockIdx.z * CHUNK_TOKENS;
    if (first >= visible) {
        return;
    }
    u32 group = heads / kv_heads;
    u32 head_tiles = (group + DECODE_QUERIES - 1) / DECODE_QUERIES;
    u32 kv_head = blockIdx.y / head_tiles;
    u32 offset = blockIdx.y % head_tiles * DECODE_QUERIES;
    u32 count = group - offset < DECODE_QUERIES ? group - offset : DECODE_QUERIES;
    u32 first_head = kv_head * group + offset;

    for (u32 i = threadIdx.x; i < DECODE_QUERIES * HEAD_DIM; i += ATTENTION_THREADS) {
        u32 query = i / HEAD_DIM;
        u64 at = ((u64)row * heads + first_head + query) * HEAD_DIM + i % HEAD_DIM;
        shared.query[query][i % HEAD_DIM] = query < count ? to_float(q[at]) : 0.0f;
    }
    if (threadIdx.x < DECODE_QUERIES) {
        shared.visible[threadIdx.x] = threadIdx.x < count ? visible : 0;
    }
    __syncthreads();

    float sums[DECODE_QUERIES][DIMS];
    attend_chunk(shared, sums, kv, tables + (u64)sequences[row] * table_stride, page_stride, kv_head,
                 kv_heads, first, scale);

#pragma unroll
    for (int i = 0; i < DECODE_QUERIES; i++) {
        if (i < count) {
            float* to = partial +
                        (((u64)row * heads + first_head + i) * gridDim.z + blockIdx.z) * PARTIAL;
            if (threadIdx.x == 0) {
                to[0] = shared.maximum[i];
                to[1] = shared.total[i];
            }
#pragma unroll
            for (int j = 0; j < DIMS; j++) {
                u32 d = threadIdx.x + j * ATTENTION_THREADS;
                if (d < HEAD_DIM) {
                    to[2 + d] = sums[i][j];
                }
            }
        }
    }
}

// out [rows, heads, HEAD_DIM] from the chunks of each row and head, in order. Grid (rows, heads).
KERNEL(128)
decode_combine(Scalar* out, const float* partial, const u32* positions, u32 heads, u32 chunks) {
    u32 row = blockIdx.x;
    u32 count = positions[row] / CHUNK_TOKENS + 1;
    const float* from = partial + ((u64)row * heads + blockIdx.y) * chunks * PARTIAL;
    for (u32 d = threadIdx.x; d < HEAD_DIM; d += ATTENTION_THREADS) {
        Softmax all = {from[0], from[1], from[2 + d]};
        for (u32 chunk = 1; chunk < count; chunk++) {
            const float* next = from + (u64)chunk * PARTIAL;
            all = merge(all, {next[0], next[1], next[2 + d]});
        }
        out[((u64)row * heads + blockIdx.y) * HEAD_DIM + d] = from_float(all.sum / all.total);
    }
}
