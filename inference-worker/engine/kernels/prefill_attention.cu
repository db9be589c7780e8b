// Paged causal attention of many rows of a sequence, in one pass over its chunks (FlashAttention, Dao
// et al. 2022). A block has up to PREFILL_QUERIES queries, which are adjacent rows times heads of one
// kv head, and reads each key and value once for all of them. The bits are those of decode_attention.
#include "attention.cuh"

#define PREFILL_QUERIES 16

// out, q [rows, heads, HEAD_DIM]; the keys and values of the rows are already in their pages.
// Grid (tiles, kv_heads, head tiles of a kv head). A tile without rows returns.
KERNEL(128)
prefill_attention(Scalar* out, const Scalar* q, const Scalar* kv, const RowTile* tiles,
                  const u32* positions, const u32* tables, u64 page_stride, u32 table_stride,
                  u32 heads, u32 kv_heads, float scale) {
    __shared__ Attention<PREFILL_QUERIES> shared;
    RowTile tile = tiles[blockIdx.x];
    if (tile.rows == 0) {
        return;
    }
    u32 group = heads / kv_heads;
    u32 width = group < PREFILL_QUERIES ? group : PREFILL_QUERIES;
    u32 offset = blockIdx.z * PREFILL_QUERIES;
    u32 span = group - offset < width ? group - offset : width;
    u32 count = tile.rows * span;
    u32 first_head = blockIdx.y * group + offset;

    for (u32 i = threadIdx.x; i < PREFILL_QUERIES * HEAD_DIM; i += ATTENTION_THREADS) {
        u32 query = i / HEAD_DIM;
        u64 row = tile.first + query / span;
        u64 at = (row * heads + first_head + query % span) * HEAD_DIM + i % HEAD_DIM;
        shared.query[query][i % HEAD_DIM] = query < count ? to_float(q[at]) : 0.0f;
    }
    if (threadIdx.x < PREFILL_QUERIES) {
        u32 query = threadIdx.x;
        shared.visible[query] = query < count ? positions[tile.first + query / span] + 1 : 0;
    }
    __syncthreads();

    Softmax all[PREFILL_QUERIES][DIMS];
    u32 last = positions[tile.first + tile.rows - 1];
    for (u32 first = 0; first <= last; first += CHUNK_TOKENS) {
        float sums[PREFILL_QUERIES][DIMS];
        attend_chunk(shared, sums, kv, tables + (u64)tile.sequence * table_stride, page_stride,
                     blockIdx.y, kv_heads, first, scale);
#pragma unroll
        for (int i = 0; i < PREFILL_QUERIES; i++) {
#pragma unroll
            for (int j = 0; j < DIMS; j++) {
                Softmax chunk = {shared.maximum[i], shared.total[i], sums[i][j]};
                if (first == 0) {
                    all[i][j] = chunk;
                } else if (first < shared.visible[i]) {
                    all[i][j] = merge(all[i][j], chunk);
                }
            }
        }
        // The next chunk writes over the scores that the sums were made of.
        __syncthreads();
    }

#pragma unroll
    for (int i = 0; i < PREFILL_QUERIES; i++) {
        if (i < count) {
            u64 row = tile.first + i / span;
            Scalar* to = out + (row * heads + first_head + i % span) * HEAD_DIM;
#pragma unroll
            for (int j = 0; j < DIMS; j++) {
                u32 d = threadIdx.x + j * ATTENTION_THREADS;
                if (d < HEAD_DIM) {
                    to[d] = from_float(all[i][j].sum / all[i][j].total);
                }
            }
        }
    }
}
